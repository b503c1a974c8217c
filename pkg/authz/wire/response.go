package wire

import (
	"math"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/genproto/googleapis/rpc/code"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Response is a CheckResponse before it is written. All texts must be UTF-8: nothing else can be sent. The zero value
// is a bare denial.
type Response struct {
	Kind Kind
	// Code is the gRPC status code of a denial or an error, and Message what goes with it. Envoy allows on 0 whatever
	// else the answer says: then UNKNOWN is written.
	Code    int32
	Message string
	// Headers replace every copy of theirs: in the upstream's request on an allow, in the client's answer otherwise.
	Headers []Header
	// Remove names the headers that do not reach the upstream. On an allow only.
	Remove []string
	// HTTPStatus and Body are the client's answer. Not on an allow.
	HTTPStatus int32
	Body       string
	// Metadata is Envoy's dynamic metadata, no name twice.
	Metadata []Field
}

// Kind is which of CheckResponse's answers it is.
type Kind int

// The kinds.
const (
	Denied Kind = iota
	OK
	Error
)

// field is the number of the kind's field in CheckResponse.
func (k Kind) field() protowire.Number {
	switch k {
	case OK:
		return 3
	case Error:
		return 5
	}
	return 2
}

// Header is a header's name and value.
type Header struct{ Name, Value string }

// Field is a field of the metadata.
type Field struct {
	Name      string
	Kind      FieldKind
	Text      string // of a String
	PerMinute int64  // of a Limit
}

// FieldKind is what a field holds.
type FieldKind int

// The kinds of fields. A Limit has the form of Envoy's RateLimit.Override, True is the boolean.
const (
	String FieldKind = iota
	Limit
	True
)

const minute = "MINUTE"

// Append appends the response to b in protobuf's wire format.
func (r *Response) Append(b []byte) []byte {
	b = appendSize(b, 1, r.statusSize())
	b = appendInt(b, 1, int64(r.code()))
	b = appendText(b, 2, r.Message)
	b = r.appendAnswer(b)
	b = appendSize(b, 4, r.metadataSize())
	for i := range r.Metadata {
		b = r.Metadata[i].append(b)
	}
	return b
}

// Size returns the length of what Append appends.
func (r *Response) Size() int {
	return sizeOf(1, r.statusSize()) + sizeOf(r.Kind.field(), r.answerSize()) + sizeOf(4, r.metadataSize())
}

func (r *Response) statusSize() int { return intSize(1, int64(r.code())) + textSize(2, r.Message) }

func (r *Response) code() int32 {
	switch {
	case r.Kind == OK:
		return int32(code.Code_OK)
	case r.Code == int32(code.Code_OK):
		return int32(code.Code_UNKNOWN)
	}
	return r.Code
}

func (r *Response) appendAnswer(b []byte) []byte {
	b = appendSize(b, r.Kind.field(), r.answerSize())
	if r.Kind != OK {
		b = appendSize(b, 1, intSize(1, int64(r.HTTPStatus)))
		b = appendInt(b, 1, int64(r.HTTPStatus))
	}
	for _, h := range r.Headers {
		b = h.append(b)
	}
	if r.Kind != OK {
		return appendText(b, 3, r.Body)
	}
	for _, name := range r.Remove {
		b = protowire.AppendString(protowire.AppendTag(b, 5, protowire.BytesType), name)
	}
	return b
}

func (r *Response) answerSize() (size int) {
	for _, h := range r.Headers {
		size += sizeOf(2, h.optionSize())
	}
	if r.Kind != OK {
		return size + sizeOf(1, intSize(1, int64(r.HTTPStatus))) + textSize(3, r.Body)
	}
	for _, name := range r.Remove {
		size += sizeOf(5, len(name))
	}
	return size
}

func (r *Response) metadataSize() (size int) {
	for i := range r.Metadata {
		size += sizeOf(1, r.Metadata[i].entrySize())
	}
	return size
}

// overwrite is `append: false` and `append_action: OVERWRITE_IF_EXISTS_OR_ADD`: Envoy versions disagree on which of the
// two they read, and together they mean the same to all.
const overwrite = "\x12\x00" + "\x18\x02"

func (h Header) size() int { return textSize(1, h.Name) + textSize(2, h.Value) }

func (h Header) optionSize() int { return sizeOf(1, h.size()) + len(overwrite) }

func (h Header) append(b []byte) []byte {
	b = appendSize(b, 2, h.optionSize())
	b = appendSize(b, 1, h.size())
	b = appendText(b, 1, h.Name)
	b = appendText(b, 2, h.Value)
	return append(b, overwrite...)
}

// The limit's struct has the two fields requests_per_unit and unit.
const (
	limitNumber = "requests_per_unit"
	limitUnit   = "unit"
	doubleSize  = 1 + 8 // a tag and a double
)

func limitSize() int {
	return sizeOf(1, sizeOf(1, len(limitNumber))+sizeOf(2, doubleSize)) + sizeOf(1, sizeOf(1, len(limitUnit))+sizeOf(2, sizeOf(3, len(minute))))
}

// valueSize is that of a google.protobuf.Value, in which a text is there even if it is empty.
func (f *Field) valueSize() int {
	switch f.Kind {
	case Limit:
		return sizeOf(5, limitSize())
	case True:
		return intSize(4, 1)
	}
	return sizeOf(3, len(f.Text))
}

func (f *Field) entrySize() int { return sizeOf(1, len(f.Name)) + sizeOf(2, f.valueSize()) }

func (f *Field) append(b []byte) []byte {
	b = appendSize(b, 1, f.entrySize())
	b = appendString(b, 1, f.Name)
	b = appendSize(b, 2, f.valueSize())
	switch f.Kind {
	case String:
		return appendString(b, 3, f.Text)
	case True:
		return appendInt(b, 4, 1)
	}
	b = appendSize(b, 5, limitSize())
	b = appendSize(b, 1, sizeOf(1, len(limitNumber))+sizeOf(2, doubleSize))
	b = appendString(b, 1, limitNumber)
	b = appendSize(b, 2, doubleSize)
	b = protowire.AppendFixed64(protowire.AppendTag(b, 2, protowire.Fixed64Type), math.Float64bits(float64(f.PerMinute)))
	b = appendSize(b, 1, sizeOf(1, len(limitUnit))+sizeOf(2, sizeOf(3, len(minute))))
	b = appendString(b, 1, limitUnit)
	b = appendSize(b, 2, sizeOf(3, len(minute)))
	return appendString(b, 3, minute)
}

// sizeOf is the size of a length-delimited field with so many bytes inside; all field numbers here take one byte.
func sizeOf(_ protowire.Number, inside int) int { return 1 + protowire.SizeBytes(inside) }

func appendSize(b []byte, number protowire.Number, inside int) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, number, protowire.BytesType), uint64(inside)) //nolint:gosec // a length
}

func appendString(b []byte, number protowire.Number, text string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, number, protowire.BytesType), text)
}

// appendText leaves an empty text out, as proto3 does outside lists, maps and oneofs.
func appendText(b []byte, number protowire.Number, text string) []byte {
	if text == "" {
		return b
	}
	return appendString(b, number, text)
}

func textSize(number protowire.Number, text string) int {
	if text == "" {
		return 0
	}
	return sizeOf(number, len(text))
}

func appendInt(b []byte, number protowire.Number, n int64) []byte {
	if n == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, number, protowire.VarintType), uint64(n)) //nolint:gosec // as protobuf encodes an int32
}

func intSize(_ protowire.Number, n int64) int {
	if n == 0 {
		return 0
	}
	return 1 + protowire.SizeVarint(uint64(n)) //nolint:gosec // as protobuf encodes an int32
}

// Proto returns the response as the generated code has it: what that reads in the bytes of Append.
func (r *Response) Proto() *authv3.CheckResponse {
	out := &authv3.CheckResponse{
		Status:          &rpcstatus.Status{Code: r.code(), Message: r.Message},
		DynamicMetadata: &structpb.Struct{Fields: make(map[string]*structpb.Value)},
	}
	for _, f := range r.Metadata {
		out.DynamicMetadata.Fields[f.Name] = f.proto()
	}
	var headers []*corev3.HeaderValueOption
	for _, h := range r.Headers {
		headers = append(headers, &corev3.HeaderValueOption{
			Header: &corev3.HeaderValue{Key: h.Name, Value: h.Value},
			Append: wrapperspb.Bool(false), AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
		})
	}
	denied := &authv3.DeniedHttpResponse{
		Status: &typev3.HttpStatus{Code: typev3.StatusCode(r.HTTPStatus)}, Headers: headers, Body: r.Body,
	}
	switch r.Kind {
	case OK:
		out.HttpResponse = &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{Headers: headers, HeadersToRemove: r.Remove}}
	case Error:
		out.HttpResponse = &authv3.CheckResponse_ErrorResponse{ErrorResponse: denied}
	default:
		out.HttpResponse = &authv3.CheckResponse_DeniedResponse{DeniedResponse: denied}
	}
	return out
}

func (f *Field) proto() *structpb.Value {
	switch f.Kind {
	case String:
		return structpb.NewStringValue(f.Text)
	case True:
		return structpb.NewBoolValue(true)
	}
	return structpb.NewStructValue(&structpb.Struct{Fields: map[string]*structpb.Value{
		limitNumber: structpb.NewNumberValue(float64(f.PerMinute)), limitUnit: structpb.NewStringValue(minute),
	}})
}
