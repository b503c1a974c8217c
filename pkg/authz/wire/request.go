// Package wire reads CheckRequests and writes CheckResponses without the generated code: protobuf in, protobuf
// out, nothing in between. Unmarshalling a whole CheckRequest costs more than deciding it.
//
// It decides nothing. The generated code is its specification: on what it reads and writes it agrees with that
// code, which its fuzz tests compare it with. Parts that the decision does not look at (peers, ids, TLS, other
// extensions) are skipped by their length, so what is wrong inside them goes unnoticed.
package wire

import (
	"cmp"
	"errors"
	"unsafe"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/extauthz/extauthz/internal/ascii"
)

var (
	errMalformed = errors.New("wire: malformed CheckRequest")
	errUTF8      = errors.New("wire: a text of the CheckRequest is not UTF-8")
)

// Request is the parts of a CheckRequest that a decision looks at. The zero value is that of an empty message, but for Plain.
type Request struct {
	// HTTP is whether there are HTTP attributes. Without them, all but Extensions is empty.
	HTTP               bool
	Method, Path, Host string
	Size               int64
	Body               string
	RawBody            []byte
	// Headers are the headers in the joined form, HeaderMap those in the raw form, in their order.
	Headers   map[string]string
	HeaderMap []Header
	// Plain is whether each name in HeaderMap is ASCII in lower case, without a "_".
	Plain bool
	// Contradiction is whether a header of HeaderMap has a value and, as bytes, another one; the former is kept.
	Contradiction bool
	Extensions    map[string]string // context extensions
}

// Header is a header of a HeaderMap.
type Header struct{ Name, Value string }

// RequestOf returns the parts of a CheckRequest that the generated code has read; of nil, those of an empty one.
func RequestOf(in *authv3.CheckRequest) *Request {
	r := &Request{Plain: true, Extensions: in.GetAttributes().GetContextExtensions()}
	h := in.GetAttributes().GetRequest().GetHttp()
	if h == nil {
		return r
	}
	r.HTTP, r.Method, r.Path, r.Host, r.Size = true, h.GetMethod(), h.GetPath(), h.GetHost(), h.GetSize()
	r.Body, r.RawBody, r.Headers = h.GetBody(), h.GetRawBody(), h.GetHeaders()
	for _, header := range h.GetHeaderMap().GetHeaders() {
		r.add(header.GetKey(), header.GetValue(), string(header.GetRawValue()))
	}
	return r
}

// add adds a header with its value in either form.
func (r *Request) add(name, value, raw string) {
	r.HeaderMap = append(r.HeaderMap, Header{name, cmp.Or(value, raw)})
	r.Plain = r.Plain && ascii.Dashed(name)
	r.Contradiction = r.Contradiction || value != "" && raw != "" && value != raw
}

// UnmarshalRequest reads a CheckRequest. Its texts share data's memory, which must not be changed afterwards.
func UnmarshalRequest(data []byte) (*Request, error) {
	r := &Request{Plain: true}
	return r, r.readCheck(data)
}

// fields walks over the fields of a message:
//
//	for f := (fields{rest: data}); f.next(); {}
type fields struct {
	rest []byte
	err  error

	// The field that next has found. value is the content of a length-delimited one, and n the number of a varint. A
	// group or a fixed-size number has neither, as the generated code passes it by where it knows the field by another
	// type.
	id    protowire.Number
	kind  protowire.Type
	value []byte
	n     uint64
}

// next reports whether there is one more field, and reads it. At the end err says whether the message was whole.
func (f *fields) next() bool {
	if len(f.rest) == 0 || f.err != nil {
		return false
	}
	if f.short() {
		return true
	}
	length := 0
	if f.id, f.kind, length = protowire.ConsumeTag(f.rest); length < 0 {
		return f.malformed()
	}
	f.rest, f.value = f.rest[length:], nil
	switch f.kind {
	case protowire.BytesType:
		f.value, length = protowire.ConsumeBytes(f.rest)
	case protowire.VarintType:
		f.n, length = protowire.ConsumeVarint(f.rest)
	default:
		length = protowire.ConsumeFieldValue(f.id, f.kind, f.rest)
	}
	if length < 0 {
		return f.malformed()
	}
	f.rest = f.rest[length:]
	return true
}

// short reads a length-delimited field whose tag takes a byte, and its length one or two, as nearly all do.
func (f *fields) short() bool {
	if len(f.rest) < 3 {
		return false
	}
	tag, length, begin := f.rest[0], int(f.rest[1]), 2
	if length >= 0x80 {
		length, begin = length-0x80+int(f.rest[2])<<7, 3
	}
	end := begin + length
	if tag>>3 == 0 || tag&7 != byte(protowire.BytesType) || tag >= 0x80 || length >= 1<<14 || end > len(f.rest) {
		return false
	}
	f.id, f.kind, f.value, f.rest = protowire.Number(tag>>3), protowire.BytesType, f.rest[begin:end], f.rest[end:]
	return true
}

func (f *fields) malformed() bool {
	f.err = errMalformed
	return false
}

// is reports whether the field is length-delimited and has the number.
func (f *fields) is(id protowire.Number) bool { return f.id == id && f.kind == protowire.BytesType }

func (r *Request) readCheck(data []byte) error {
	f := fields{rest: data}
	for f.next() {
		if f.is(1) {
			f.err = r.readAttributes(f.value)
		}
	}
	return f.err
}

func (r *Request) readAttributes(data []byte) error {
	f := fields{rest: data}
	for f.next() {
		switch {
		case f.is(4):
			f.err = r.readRequest(f.value)
		case f.is(10):
			r.Extensions, f.err = readEntry(f.value, r.Extensions)
		}
	}
	return f.err
}

func (r *Request) readRequest(data []byte) error {
	f := fields{rest: data}
	for f.next() {
		if f.is(2) {
			f.err = r.readHTTP(f.value)
		}
	}
	return f.err
}

func (r *Request) readHTTP(data []byte) error {
	r.HTTP = true
	f := fields{rest: data}
	for f.next() {
		switch {
		case f.is(2):
			r.Method, f.err = text(f.value)
		case f.is(3):
			r.Headers, f.err = readEntry(f.value, r.Headers)
		case f.is(4):
			r.Path, f.err = text(f.value)
		case f.is(5):
			r.Host, f.err = text(f.value)
		case f.id == 9 && f.kind == protowire.VarintType:
			r.Size = int64(f.n) //nolint:gosec // as the generated code reads an int64
		case f.is(11):
			r.Body, f.err = text(f.value)
		case f.is(12):
			r.RawBody = f.value
		case f.is(13):
			f.err = r.readHeaders(f.value)
		}
	}
	return f.err
}

// manyHeaders is more than most requests have: then their list is made once, without counting first.
const manyHeaders = 24

// readHeaders reads a HeaderMap.
func (r *Request) readHeaders(data []byte) error {
	if r.HeaderMap == nil {
		r.HeaderMap = make([]Header, 0, manyHeaders)
	}
	f := fields{rest: r.readPlain(data)}
	for f.next() {
		if f.is(1) {
			f.err = r.readHeader(f.value)
			f.rest = r.readPlain(f.rest)
		}
	}
	return f.err
}

// The tags of a header in a HeaderMap, and of its name and its raw value.
const (
	tagHeader = 1<<3 | byte(protowire.BytesType)
	tagName   = 1<<3 | byte(protowire.BytesType)
	tagRaw    = 3<<3 | byte(protowire.BytesType)
)

// readPlain reads headers of a HeaderMap as long as they are plain, as nearly all are: less than 128 bytes, a name of
// which Plain is true and then a raw value, and nothing else. It returns the rest.
func (r *Request) readPlain(data []byte) (rest []byte) {
	for len(data) >= 6 && data[0] == tagHeader && data[1] < 0x80 && data[2] == tagName {
		end, raw := 2+int(data[1]), 4+int(data[3])+2
		if end > len(data) || raw > end || data[raw-2] != tagRaw || raw+int(data[raw-1]) != end || !ascii.Dashed(share(data[4:raw-2])) {
			break
		}
		r.HeaderMap = append(r.HeaderMap, Header{share(data[4 : raw-2]), share(data[raw:end])})
		data = data[end:]
	}
	return data
}

func (r *Request) readHeader(data []byte) error {
	name, value, raw, f := "", "", "", fields{rest: data}
	for f.next() {
		switch {
		case f.is(1):
			name, f.err = text(f.value)
		case f.is(2):
			value, f.err = text(f.value)
		case f.is(3):
			raw = share(f.value)
		}
	}
	r.add(name, value, raw)
	return f.err
}

// readEntry adds an entry to a map. A key or value that is missing is empty; of several, the last counts.
func readEntry(data []byte, entries map[string]string) (map[string]string, error) {
	key, value, f := "", "", fields{rest: data}
	for f.next() {
		switch {
		case f.is(1):
			key, f.err = text(f.value)
		case f.is(2):
			value, f.err = text(f.value)
		}
	}
	if f.err != nil {
		return entries, f.err
	}
	if entries == nil {
		entries = make(map[string]string)
	}
	entries[key] = value
	return entries, nil
}

func text(value []byte) (string, error) {
	text := share(value)
	if !ascii.UTF8(text) {
		return "", errUTF8
	}
	return text, nil
}

// share returns bytes as a text, without a copy: nobody may change them any more.
func share(value []byte) string {
	return unsafe.String(unsafe.SliceData(value), len(value)) //nolint:gosec // the callers of UnmarshalRequest leave the bytes alone
}
