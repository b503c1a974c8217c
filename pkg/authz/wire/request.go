// Package wire reads CheckRequests and writes CheckResponses without the generated code: protobuf in, protobuf
// out, nothing in between. Unmarshalling a whole CheckRequest costs more than deciding it.
//
// It decides nothing. The generated code is its specification: on what it reads and writes it agrees with that
// code, which its fuzz tests compare it with. Parts that the decision does not look at (peers, ids, TLS, other
// extensions) are skipped by their length, so what is wrong inside them goes unnoticed.
package wire

import (
	"errors"
	"unicode/utf8"
	"unsafe"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/encoding/protowire"
)

var (
	errMalformed = errors.New("wire: malformed CheckRequest")
	errUTF8      = errors.New("wire: a text of the CheckRequest is not UTF-8")
)

// request is the messages of one CheckRequest, in one piece of memory.
type request struct {
	check      authv3.CheckRequest
	attributes authv3.AttributeContext
	request    authv3.AttributeContext_Request
	http       authv3.AttributeContext_HttpRequest
	headers    corev3.HeaderMap
}

// UnmarshalRequest returns a CheckRequest with the parts that a decision looks at: method, path, host, size,
// headers in either form, body in either form, and the context extensions. Its texts share data's memory, which
// must not be changed afterwards.
func UnmarshalRequest(data []byte) (*authv3.CheckRequest, error) {
	r := &request{}
	err := fields(data, func(number protowire.Number, kind protowire.Type, value []byte, _ uint64) error {
		if number == 1 && kind == protowire.BytesType {
			r.check.Attributes = &r.attributes
			return r.readAttributes(value)
		}
		return nil
	})
	return &r.check, err
}

// fields calls found with each field of a message: a length-delimited one's content, or a varint's number. A group or a
// fixed-size number is passed by, as the generated code does for a field that it knows by another type.
func fields(data []byte, found func(number protowire.Number, kind protowire.Type, value []byte, n uint64) error) error {
	for len(data) > 0 {
		number, kind, length := protowire.ConsumeTag(data)
		if length < 0 {
			return errMalformed
		}
		data = data[length:]
		var value []byte
		var n uint64
		switch kind {
		case protowire.BytesType:
			value, length = protowire.ConsumeBytes(data)
		case protowire.VarintType:
			n, length = protowire.ConsumeVarint(data)
		default:
			length = protowire.ConsumeFieldValue(number, kind, data)
		}
		if length < 0 {
			return errMalformed
		}
		data = data[length:]
		if err := found(number, kind, value, n); err != nil {
			return err
		}
	}
	return nil
}

func (r *request) readAttributes(data []byte) error {
	return fields(data, func(number protowire.Number, kind protowire.Type, value []byte, _ uint64) error {
		switch {
		case kind != protowire.BytesType:
		case number == 4:
			r.attributes.Request = &r.request
			return r.readRequest(value)
		case number == 10:
			if r.attributes.ContextExtensions == nil {
				r.attributes.ContextExtensions = make(map[string]string)
			}
			return readEntry(value, r.attributes.ContextExtensions)
		}
		return nil
	})
}

func (r *request) readRequest(data []byte) error {
	return fields(data, func(number protowire.Number, kind protowire.Type, value []byte, _ uint64) error {
		if number == 2 && kind == protowire.BytesType {
			r.request.Http = &r.http
			return r.readHTTP(value)
		}
		return nil
	})
}

func (r *request) readHTTP(data []byte) (err error) {
	h := &r.http
	return fields(data, func(number protowire.Number, kind protowire.Type, value []byte, n uint64) error {
		if kind == protowire.VarintType && number == 9 {
			h.Size = int64(n) //nolint:gosec // as the generated code reads an int64
		}
		if kind != protowire.BytesType {
			return nil
		}
		switch number {
		case 2:
			h.Method, err = text(value)
		case 3:
			if h.Headers == nil {
				h.Headers = make(map[string]string)
			}
			err = readEntry(value, h.Headers)
		case 4:
			h.Path, err = text(value)
		case 5:
			h.Host, err = text(value)
		case 11:
			h.Body, err = text(value)
		case 12:
			h.RawBody = value
		case 13:
			h.HeaderMap = &r.headers
			err = r.readHeaders(value)
		}
		return err
	})
}

// readHeaders reads a HeaderMap, whose headers are made in one piece of memory.
func (r *request) readHeaders(data []byte) error {
	count := 0
	if err := fields(data, func(number protowire.Number, kind protowire.Type, _ []byte, _ uint64) error {
		if number == 1 && kind == protowire.BytesType {
			count++
		}
		return nil
	}); err != nil {
		return err
	}
	values := make([]corev3.HeaderValue, count)
	list := r.headers.Headers
	if list == nil {
		list = make([]*corev3.HeaderValue, 0, count)
	}
	err := fields(data, func(number protowire.Number, kind protowire.Type, value []byte, _ uint64) error {
		if number != 1 || kind != protowire.BytesType {
			return nil
		}
		header := &values[0]
		values, list = values[1:], append(list, header)
		return readHeader(value, header)
	})
	r.headers.Headers = list
	return err
}

func readHeader(data []byte, header *corev3.HeaderValue) (err error) {
	return fields(data, func(number protowire.Number, kind protowire.Type, value []byte, _ uint64) error {
		if kind != protowire.BytesType {
			return nil
		}
		switch number {
		case 1:
			header.Key, err = text(value)
		case 2:
			header.Value, err = text(value)
		case 3:
			header.RawValue = value
		}
		return err
	})
}

// readEntry reads an entry of a map. A key or value that is missing is empty; of several, the last counts.
func readEntry(data []byte, into map[string]string) error {
	var entry [2]string
	err := fields(data, func(number protowire.Number, kind protowire.Type, value []byte, _ uint64) (err error) {
		if kind == protowire.BytesType && (number == 1 || number == 2) {
			entry[number-1], err = text(value)
		}
		return err
	})
	if err == nil {
		into[entry[0]] = entry[1]
	}
	return err
}

func text(value []byte) (string, error) {
	if !utf8.Valid(value) {
		return "", errUTF8
	}
	return Text(value), nil
}

// Text returns the bytes of a message as a text, without a copy: nobody may change them any more.
func Text(value []byte) string {
	return unsafe.String(unsafe.SliceData(value), len(value)) //nolint:gosec // the callers of UnmarshalRequest leave the bytes alone
}
