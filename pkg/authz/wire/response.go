package wire

import (
	"encoding/binary"
	"math"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/protobuf/encoding/protowire"
)

// Response is a CheckResponse that is being written. First comes Allow or Deny, then its headers and the rest of the
// answer, then Metadata and its fields: a method that comes too early or too late writes something else. All texts must
// be UTF-8: nothing else can be sent. The zero value is a denial, because Envoy takes an empty CheckResponse for an
// ALLOW.
type Response struct {
	b []byte
	// open is where the length of the message begins that is being written; 0: nothing was written.
	open int
}

// NewResponse returns a response that is written into the capacity of b.
func NewResponse(b []byte) *Response { return &Response{b: b[:0]} }

// Kind is which of CheckResponse's answers a refusal is.
type Kind int

// The kinds.
const (
	Denied Kind = iota
	Error
)

// The numbers of fields.
const (
	fieldStatus   = 1 // CheckResponse
	fieldDenied   = 2
	fieldOK       = 3
	fieldMetadata = 4
	fieldError    = 5
	fieldHeaders  = 2 // OkHttpResponse and DeniedHttpResponse
	fieldBody     = 3
	fieldRemove   = 5
)

// Allow begins an ALLOW.
func (r *Response) Allow() {
	r.status(int32(code.Code_OK), "")
	r.begin(fieldOK)
}

// Deny begins a refusal, with the gRPC status code and what goes with it, and the status of the client's answer. Envoy
// allows on code 0 whatever else the answer says: then UNKNOWN is written.
func (r *Response) Deny(kind Kind, grpcCode int32, message string, httpStatus int32) {
	if grpcCode == int32(code.Code_OK) {
		grpcCode = int32(code.Code_UNKNOWN)
	}
	r.status(grpcCode, message)
	if kind == Error {
		r.begin(fieldError)
	} else {
		r.begin(fieldDenied)
	}
	at := r.message(1)
	r.integer(1, int64(httpStatus))
	r.close(at)
}

func (r *Response) status(grpcCode int32, message string) {
	at := r.message(fieldStatus)
	r.integer(1, int64(grpcCode))
	r.b = appendUnlessEmpty(r.b, 2, message)
	r.close(at)
}

// overwrite is `append: false` and `append_action: OVERWRITE_IF_EXISTS_OR_ADD`: Envoy versions disagree on which of the
// two they read, and together they mean the same to all.
const overwrite = "\x12\x00" + "\x18\x02"

// Header writes a header that replaces every copy of its own: in the upstream's request on an allow, in the client's
// answer otherwise.
func (r *Response) Header(name, value string) {
	header := sizeUnlessEmpty(name) + sizeUnlessEmpty(value)
	b := appendLength(r.b, fieldHeaders, size(header)+len(overwrite))
	b = appendLength(b, 1, header)
	b = appendUnlessEmpty(b, 1, name)
	b = appendUnlessEmpty(b, 2, value)
	r.b = append(b, overwrite...)
}

// Remove names headers that do not reach the upstream. On an allow only.
func (r *Response) Remove(names Removal) { r.b = append(r.b, names...) }

// Removal is names of headers as a Response has them.
type Removal []byte

// NewRemoval returns a removal of the names.
func NewRemoval(names ...string) Removal {
	var b []byte
	for _, name := range names {
		b = appendText(b, fieldRemove, name)
	}
	return b
}

// Body writes the body of the client's answer. Not on an allow.
func (r *Response) Body(body string) { r.b = appendUnlessEmpty(r.b, fieldBody, body) }

// Metadata begins Envoy's dynamic metadata. No two fields may have one name.
func (r *Response) Metadata() {
	r.close(r.open)
	r.begin(fieldMetadata)
}

// The one field of a google.protobuf.Struct, and that of a google.protobuf.Value which is a text.
const (
	structField = 1
	valueText   = 3
)

// Values of the metadata as they stand in their entry: the boolean, and what is around the number of a limit. In front of
// each part are its tag and its length; a number has no length.
const (
	valueTrue   = "\x12\x02" + "\x20\x01"
	beforeLimit = "\x12\x34" + "\x2a\x32" + "\x0a\x1e" + "\x0a\x11requests_per_unit" + "\x12\x09" + "\x11"
	afterLimit  = "\x0a\x10" + "\x0a\x04unit" + "\x12\x08" + "\x1a\x06MINUTE"
)

// Text writes a field of the metadata.
func (r *Response) Text(name, value string) {
	text := size(len(value))
	b := appendName(r.b, name, size(text))
	b = appendLength(b, 2, text)
	r.b = appendText(b, valueText, value)
}

// True writes a field of the metadata that is the boolean.
func (r *Response) True(name string) {
	r.b = append(appendName(r.b, name, len(valueTrue)), valueTrue...)
}

// Limit writes a field of the metadata that has the form of Envoy's RateLimit.Override.
func (r *Response) Limit(name string, perMinute int64) {
	b := appendName(r.b, name, len(beforeLimit)+8+len(afterLimit))
	b = append(b, beforeLimit...)
	b = binary.LittleEndian.AppendUint64(b, math.Float64bits(float64(perMinute)))
	r.b = append(b, afterLimit...)
}

// appendName begins an entry of a google.protobuf.Struct, whose value takes so many bytes.
func appendName(b []byte, name string, value int) []byte {
	return appendText(appendLength(b, structField, size(len(name))+value), 1, name)
}

// Bytes returns the response in protobuf's wire format. Nothing must be written to it afterwards.
func (r *Response) Bytes() []byte {
	if r.open == 0 {
		r.Deny(Denied, int32(code.Code_UNKNOWN), "", 0)
	}
	r.close(r.open)
	return r.b
}

func (r *Response) begin(number byte) { r.open = r.message(number) }

// message begins a message and returns where its length is to be. One byte is kept for it, which most need.
func (r *Response) message(number byte) int {
	r.b = appendLength(r.b, number, 0)
	return len(r.b) - 1
}

// close writes the length of a message, now that it is known.
func (r *Response) close(at int) {
	length := len(r.b) - at - 1
	if more := protowire.SizeVarint(uint64(length)) - 1; more > 0 { //nolint:gosec // a length
		r.b = append(r.b, make([]byte, more)...)
		copy(r.b[at+1+more:], r.b[at+1:])
	}
	binary.PutUvarint(r.b[at:], uint64(length)) //nolint:gosec // a length
}

func (r *Response) integer(number byte, n int64) {
	if n != 0 {
		r.b = binary.AppendUvarint(append(r.b, number<<3|byte(protowire.VarintType)), uint64(n)) //nolint:gosec // as protobuf encodes an int32
	}
}

// appendLength appends what is in front of the content of a field. Its tag is a byte: none of the numbers is above 15.
func appendLength(b []byte, number byte, length int) []byte {
	if length < 0x80 {
		return append(b, number<<3|byte(protowire.BytesType), byte(length)) //nolint:gosec // less than 128
	}
	return binary.AppendUvarint(append(b, number<<3|byte(protowire.BytesType)), uint64(length))
}

// appendText appends a text where an empty one counts as well: in lists, maps and oneofs.
func appendText(b []byte, number byte, text string) []byte {
	return append(appendLength(b, number, len(text)), text...)
}

func appendUnlessEmpty(b []byte, number byte, text string) []byte {
	if text == "" {
		return b
	}
	return appendText(b, number, text)
}

// size is how many bytes a field takes whose content takes so many.
func size(content int) int { return 1 + protowire.SizeBytes(content) }

func sizeUnlessEmpty(text string) int {
	if text == "" {
		return 0
	}
	return size(len(text))
}
