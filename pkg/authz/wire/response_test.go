package wire

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// answer is what a response says.
type answer struct {
	allow      bool
	kind       Kind
	code       int32
	message    string
	httpStatus int32
	body       string
	headers    [][2]string
	remove     []string
	texts      map[string]string
	limits     map[string]int64
	stale      bool
}

func (a *answer) bytes() []byte {
	r := NewResponse([]byte("before"))
	if a.allow {
		r.Allow()
	} else {
		r.Deny(a.kind, a.code, a.message, a.httpStatus)
	}
	for _, h := range a.headers {
		r.Header(h[0], h[1])
	}
	if a.allow {
		r.Remove(NewRemoval(a.remove...))
	} else {
		r.Body(a.body)
	}
	r.Metadata()
	for name, value := range a.texts {
		r.Text(name, value)
	}
	for name, limit := range a.limits {
		r.Limit(name, limit)
	}
	if a.stale {
		r.True("stale")
	}
	return r.Bytes()
}

// proto is the answer as the generated code has it.
func (a *answer) proto() *authv3.CheckResponse {
	fields := make(map[string]*structpb.Value)
	for name, value := range a.texts {
		fields[name] = structpb.NewStringValue(value)
	}
	for name, limit := range a.limits {
		fields[name] = structpb.NewStructValue(&structpb.Struct{Fields: map[string]*structpb.Value{
			"requests_per_unit": structpb.NewNumberValue(float64(limit)), "unit": structpb.NewStringValue("MINUTE"),
		}})
	}
	if a.stale {
		fields["stale"] = structpb.NewBoolValue(true)
	}
	var headers []*corev3.HeaderValueOption
	for _, h := range a.headers {
		headers = append(headers, &corev3.HeaderValueOption{
			Header: &corev3.HeaderValue{Key: h[0], Value: h[1]},
			Append: wrapperspb.Bool(false), AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
		})
	}
	denied := &authv3.DeniedHttpResponse{Status: &typev3.HttpStatus{Code: typev3.StatusCode(a.httpStatus)}, Headers: headers, Body: a.body}
	out := &authv3.CheckResponse{Status: &rpcstatus.Status{Code: a.code, Message: a.message}, DynamicMetadata: &structpb.Struct{Fields: fields}}
	switch {
	case a.allow:
		out.Status = &rpcstatus.Status{}
		out.HttpResponse = &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{Headers: headers, HeadersToRemove: a.remove}}
	case a.kind == Error:
		out.HttpResponse = &authv3.CheckResponse_ErrorResponse{ErrorResponse: denied}
	default:
		out.HttpResponse = &authv3.CheckResponse_DeniedResponse{DeniedResponse: denied}
	}
	if !a.allow && a.code == 0 {
		out.Status.Code = 2 // UNKNOWN
	}
	return out
}

// compareResponse requires that the bytes are those of the message, and allow only if that was meant.
func compareResponse(t *testing.T, a *answer) {
	t.Helper()
	data, want := a.bytes(), a.proto()
	var read authv3.CheckResponse
	if err := proto.Unmarshal(data, &read); err != nil {
		t.Fatalf("the generated code cannot read %x: %v", data, err)
	}
	if !proto.Equal(&read, want) {
		t.Fatalf("wrote\n%v\nfor\n%v", &read, want)
	}
	if (read.GetStatus().GetCode() == 0) != a.allow {
		t.Fatalf("Envoy would allow on %v: %t", &read, !a.allow)
	}
	if len(data) != proto.Size(want) {
		t.Fatalf("%d bytes, and the generated code writes %d", len(data), proto.Size(want))
	}
}

func TestResponse(t *testing.T) {
	long := strings.Repeat("x", 300)
	headers := [][2]string{{"x-extauthz-key-id", long}, {"x-extauthz-team-id", "a"}, {"", ""}, {"x-empty", ""}}
	texts := map[string]string{"decision": "allow", "empty": "", long: long, "": "nameless", "just": strings.Repeat("x", 113), "over": strings.Repeat("x", 114)}
	limits := map[string]int64{"key_rpm_limit": 60, "zero": 0, "large": 1<<63 - 1}
	borders := &answer{allow: true, texts: make(map[string]string), limits: make(map[string]int64)}
	for _, most := range []int{140, 16400} { // where a length takes one more byte
		for n := most - 90; n < most; n++ {
			text := strings.Repeat("x", n)
			borders.headers = append(borders.headers, [2]string{"a", text}, [2]string{text, "a"}, [2]string{text, ""}, [2]string{"", text}, [2]string{text, text})
			borders.texts[strconv.Itoa(n)], borders.texts[text], borders.limits["limit"+text] = text, "a", int64(n)
			borders.remove = append(borders.remove, text)
		}
	}
	for name, a := range map[string]*answer{
		"allow":               {allow: true, headers: headers, remove: []string{"authorization", "", long}, texts: texts, limits: limits, stale: true},
		"borders of lengths":  borders,
		"bare allow":          {allow: true},
		"denial":              {code: 7, message: "no_mapping", httpStatus: 403, headers: headers, body: `{"error":{}}`, texts: texts, limits: limits},
		"bare denial":         {code: 16},
		"a denial without":    {},
		"error":               {kind: Error, code: 14, message: long, httpStatus: 503, body: long},
		"a negative code":     {code: -1, httpStatus: -1},
		"status 0, no answer": {headers: headers},
		"more than 16 KiB":    {code: 7, body: strings.Repeat(long, 60)},
		"more than 2 MiB":     {code: 7, body: strings.Repeat(long, 7200)},
	} {
		t.Run(name, func(t *testing.T) { compareResponse(t, a) })
	}
	t.Run("nothing was written", func(t *testing.T) {
		var read authv3.CheckResponse
		if err := proto.Unmarshal((&Response{}).Bytes(), &read); err != nil || read.GetStatus().GetCode() == 0 || read.GetDeniedResponse() == nil {
			t.Fatalf("%v, %v", &read, err)
		}
	})
}

func FuzzResponse(f *testing.F) {
	f.Add(byte(3), int32(0), "m", "name", "value", "body", int64(60), byte(3))
	f.Add(byte(2), int32(7), "", "", "", "", int64(-1), byte(0))
	f.Fuzz(func(t *testing.T, kind byte, code int32, message, name, value, body string, limit int64, count byte) {
		valid := func(text string) string { return strings.ToValidUTF8(text, "�") }
		a := &answer{allow: kind%3 == 0, kind: Kind(kind % 2), texts: make(map[string]string), limits: make(map[string]int64), stale: kind > 127}
		for n := range count % 16 {
			a.headers = append(a.headers, [2]string{valid(name[:len(name)*int(n)/16]), valid(value)})
			a.texts[fmt.Sprint(n, valid(name))], a.limits[fmt.Sprint("l", n)] = valid(value), limit
			if a.allow {
				a.remove = append(a.remove, valid(value[:len(value)*int(n)/16]))
			}
		}
		if !a.allow {
			a.code, a.message, a.httpStatus, a.body = code, valid(message), code, valid(body)
		}
		compareResponse(t, a)
	})
}
