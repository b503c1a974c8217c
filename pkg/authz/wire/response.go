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
	r.text(2, message)
	r.close(at)
}

// overwrite is `append: false` and `append_action: OVERWRITE_IF_EXISTS_OR_ADD`: Envoy versions disagree on which of the
// two they read, and together they mean the same to all.
const overwrite = "\x12\x00" + "\x18\x02"

// Header writes a header that replaces every copy of its own: in the upstream's request on an allow, in the client's
// answer otherwise.
func (r *Response) Header(name, value string) {
	option := r.message(fieldHeaders)
	header := r.message(1)
	r.text(1, name)
	r.text(2, value)
	r.close(header)
	r.b = append(r.b, overwrite...)
	r.close(option)
}

// Remove names headers that do not reach the upstream. On an allow only.
func (r *Response) Remove(names Removal) { r.b = append(r.b, names...) }

// Removal is names of headers as a Response has them.
type Removal []byte

// NewRemoval returns a removal of the names.
func NewRemoval(names ...string) Removal {
	var b []byte
	for _, name := range names {
		b = protowire.AppendString(protowire.AppendTag(b, fieldRemove, protowire.BytesType), name)
	}
	return b
}

// Body writes the body of the client's answer. Not on an allow.
func (r *Response) Body(body string) { r.text(fieldBody, body) }

// Metadata begins Envoy's dynamic metadata. No two fields may have one name.
func (r *Response) Metadata() {
	r.close(r.open)
	r.begin(fieldMetadata)
}

// The kinds of a google.protobuf.Value, and the one field of a google.protobuf.Struct.
const (
	valueNumber = 2
	valueText   = 3
	valueBool   = 4
	valueStruct = 5
	structField = 1
)

// Text writes a field of the metadata.
func (r *Response) Text(name, value string) {
	entry, inside := r.entry(name)
	r.literal(valueText, value)
	r.close(inside)
	r.close(entry)
}

// True writes a field of the metadata that is the boolean.
func (r *Response) True(name string) {
	entry, inside := r.entry(name)
	r.integer(valueBool, 1)
	r.close(inside)
	r.close(entry)
}

// Limit writes a field of the metadata that has the form of Envoy's RateLimit.Override.
func (r *Response) Limit(name string, perMinute int64) {
	entry, inside := r.entry(name)
	limit := r.message(valueStruct)
	field, number := r.entry("requests_per_unit")
	r.b = protowire.AppendFixed64(protowire.AppendTag(r.b, valueNumber, protowire.Fixed64Type), math.Float64bits(float64(perMinute)))
	r.close(number)
	r.close(field)
	r.Text("unit", "MINUTE")
	r.close(limit)
	r.close(inside)
	r.close(entry)
}

// entry begins a field of a google.protobuf.Struct, and its value.
func (r *Response) entry(name string) (entry, value int) {
	entry = r.message(structField)
	r.literal(1, name)
	return entry, r.message(2)
}

// Bytes returns the response in protobuf's wire format. Nothing must be written to it afterwards.
func (r *Response) Bytes() []byte {
	if r.open == 0 {
		r.Deny(Denied, int32(code.Code_UNKNOWN), "", 0)
	}
	r.close(r.open)
	return r.b
}

func (r *Response) begin(number protowire.Number) { r.open = r.message(number) }

// message begins a message and returns where its length is to be. One byte is kept for it, which most need.
func (r *Response) message(number protowire.Number) int {
	r.b = append(protowire.AppendTag(r.b, number, protowire.BytesType), 0)
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

// literal writes a text where an empty one counts as well: in lists, maps and oneofs.
func (r *Response) literal(number protowire.Number, text string) {
	r.b = protowire.AppendString(protowire.AppendTag(r.b, number, protowire.BytesType), text)
}

func (r *Response) text(number protowire.Number, text string) {
	if text != "" {
		r.literal(number, text)
	}
}

func (r *Response) integer(number protowire.Number, n int64) {
	if n != 0 {
		r.b = protowire.AppendVarint(protowire.AppendTag(r.b, number, protowire.VarintType), uint64(n)) //nolint:gosec // as protobuf encodes an int32
	}
}
