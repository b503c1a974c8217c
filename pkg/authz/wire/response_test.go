package wire

import (
	"fmt"
	"strings"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/proto"
)

// compareResponse requires that the bytes are those of the message, and allow only if that was meant.
func compareResponse(t *testing.T, r *Response) {
	t.Helper()
	data := r.Append([]byte("before"))
	if len(data) != len("before")+r.Size() {
		t.Fatalf("%d bytes, and Size says %d", len(data)-len("before"), r.Size())
	}
	var read authv3.CheckResponse
	if err := proto.Unmarshal(data[len("before"):], &read); err != nil {
		t.Fatalf("the generated code cannot read %x: %v", data, err)
	}
	if want := r.Proto(); !proto.Equal(&read, want) {
		t.Fatalf("wrote\n%v\nfor\n%v", &read, want)
	}
	if (read.GetStatus().GetCode() == 0) != (r.Kind == OK) {
		t.Fatalf("Envoy would allow on %v: %t", &read, r.Kind != OK)
	}
	if proto.Size(r.Proto()) != r.Size() {
		t.Fatalf("%d bytes, and the generated code writes %d", r.Size(), proto.Size(r.Proto()))
	}
}

func TestResponse(t *testing.T) {
	long := strings.Repeat("x", 300)
	headers := []Header{{"x-extauthz-key-id", long}, {"x-extauthz-team-id", "a"}, {"", ""}, {"x-empty", ""}}
	metadata := []Field{
		{Name: "decision", Text: "allow"}, {Name: "empty"}, {Name: long, Text: long},
		{Name: "stale", Kind: True}, {Name: "key_rpm_limit", PerMinute: 60, Kind: Limit}, {Name: "zero", Kind: Limit}, {Name: "large", PerMinute: 1<<63 - 1, Kind: Limit},
	}
	for name, r := range map[string]*Response{
		"allow":               {Kind: OK, Headers: headers, Remove: []string{"authorization", "", long}, Metadata: metadata},
		"bare allow":          {Kind: OK},
		"denial":              {Kind: Denied, Code: 7, Message: "no_mapping", HTTPStatus: 403, Headers: headers, Body: `{"error":{}}`, Metadata: metadata},
		"bare denial":         {Kind: Denied, Code: 16},
		"error":               {Kind: Error, Code: 14, Message: long, HTTPStatus: 503, Body: long},
		"a negative code":     {Kind: Denied, Code: -1, HTTPStatus: -1},
		"status 0, no answer": {Kind: Denied, HTTPStatus: 0, Headers: headers},
	} {
		t.Run(name, func(t *testing.T) { compareResponse(t, r) })
	}
}

func FuzzResponse(f *testing.F) {
	f.Add(byte(3), int32(0), "m", "name", "value", "body", int64(60), byte(3))
	f.Add(byte(2), int32(7), "", "", "", "", int64(-1), byte(0))
	f.Fuzz(func(t *testing.T, kind byte, code int32, message, name, value, body string, limit int64, count byte) {
		valid := func(text string) string { return strings.ToValidUTF8(text, "�") }
		r := &Response{Code: code, Message: valid(message), Kind: []Kind{Denied, OK, Error}[kind%3], HTTPStatus: code, Body: valid(body)}
		for n := range count % 16 {
			r.Headers = append(r.Headers, Header{valid(name[:len(name)*int(n)/16]), valid(value)})
			r.Metadata = append(r.Metadata, Field{Name: fmt.Sprint(n, valid(name)), Text: valid(value)}, Field{Name: fmt.Sprint("l", n), PerMinute: limit, Kind: Limit})
			r.Remove = append(r.Remove, valid(value[:len(value)*int(n)/16]))
		}
		if r.Kind == OK {
			r.HTTPStatus, r.Body = 0, ""
		} else {
			r.Remove = nil
		}
		compareResponse(t, r)
	})
}
