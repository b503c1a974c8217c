package wire

import (
	"bytes"
	"maps"
	"reflect"
	"slices"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// compare reads data in both ways. What the generated code accepts, this package must read alike; what this package
// refuses, the generated code must refuse.
func compare(t *testing.T, data []byte) {
	t.Helper()
	var generated authv3.CheckRequest
	refused := proto.Unmarshal(data, &generated)
	got, err := UnmarshalRequest(data)
	switch {
	case refused == nil && err != nil:
		t.Fatalf("refused (%v), and the generated code reads %v", err, &generated)
	case refused == nil && !same(got, RequestOf(&generated)):
		t.Fatalf("read\n%+v\nand the generated code\n%+v", got, RequestOf(&generated))
	}
}

// same compares requests. No map and no list are as good as empty ones.
func same(a, b *Request) bool {
	if !bytes.Equal(a.RawBody, b.RawBody) || !maps.Equal(a.Headers, b.Headers) || !maps.Equal(a.Extensions, b.Extensions) || !slices.Equal(a.HeaderMap, b.HeaderMap) {
		return false
	}
	x, y := *a, *b
	for _, r := range []*Request{&x, &y} {
		r.RawBody, r.Headers, r.Extensions, r.HeaderMap = nil, nil, nil, nil
	}
	return reflect.DeepEqual(x, y)
}

func example(change func(*authv3.AttributeContext_HttpRequest)) []byte {
	h := &authv3.AttributeContext_HttpRequest{
		Id: "1", Method: "POST", Path: "/v1/chat/completions?x=%20", Host: "llm.example.com", Scheme: "https", Protocol: "HTTP/2", Size: 3,
		Headers: map[string]string{"authorization": "Bearer a.b.c", "x-empty": "", "": "nameless"}, RawBody: []byte("{}\xff"), Body: "{}",
		HeaderMap: &corev3.HeaderMap{Headers: []*corev3.HeaderValue{{Key: "a", RawValue: []byte("\xff\x00")}, {Key: "a", Value: "b"}, {Key: "c", Value: "d", RawValue: []byte("e")}, {}}},
	}
	change(h)
	data, err := proto.Marshal(&authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Source: &authv3.AttributeContext_Peer{Principal: "spiffe://x", Labels: map[string]string{"a": "b"}}, Request: &authv3.AttributeContext_Request{Http: h},
		ContextExtensions: map[string]string{"profile": "batch", "": ""}, TlsSession: &authv3.AttributeContext_TLSSession{Sni: "x"},
	}})
	if err != nil {
		panic(err)
	}
	return data
}

// inside wraps a message into the messages that lead to it.
func inside(data []byte, numbers ...protowire.Number) []byte {
	for n := len(numbers) - 1; n >= 0; n-- {
		data = protowire.AppendBytes(protowire.AppendTag(nil, numbers[n], protowire.BytesType), data)
	}
	return data
}

func textField(number protowire.Number, value string) []byte {
	return protowire.AppendString(protowire.AppendTag(nil, number, protowire.BytesType), value)
}

func varint(number protowire.Number, n uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, number, protowire.VarintType), n)
}

func join(parts ...[]byte) (all []byte) {
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

// cases are messages that two readers might read in two ways.
func cases() map[string][]byte {
	method := func(value string) []byte { return inside(textField(2, value), 1, 4, 2) }
	return map[string][]byte{
		"empty":                       nil,
		"whole":                       example(func(*authv3.AttributeContext_HttpRequest) {}),
		"bare":                        example(func(h *authv3.AttributeContext_HttpRequest) { proto.Reset(h) }),
		"the last of two counts":      join(method("GET"), method("POST")),
		"two parts are merged":        join(method("GET"), inside(textField(4, "/a"), 1, 4, 2)),
		"merged deeper down":          inside(join(inside(textField(2, "GET"), 2), inside(textField(4, "/a"), 2)), 1, 4),
		"header maps are merged":      join(inside(textField(1, "a"), 1, 4, 2, 13, 1), inside(textField(1, "b"), 1, 4, 2, 13, 1)),
		"an empty header map":         inside(nil, 1, 4, 2, 13),
		"a header's last value":       inside(join(textField(1, "a"), textField(2, "x"), textField(2, "y"), textField(1, "b")), 1, 4, 2, 13, 1),
		"an entry without a key":      inside(textField(2, "x"), 1, 4, 2, 3),
		"an entry without a value":    inside(textField(1, "x"), 1, 4, 2, 3),
		"an entry's last key":         inside(join(textField(1, "x"), textField(1, "y"), textField(2, "v")), 1, 4, 2, 3),
		"an entry's second value":     join(inside(join(textField(1, "x"), textField(2, "1")), 1, 4, 2, 3), inside(join(textField(1, "x"), textField(2, "2")), 1, 4, 2, 3)),
		"an entry of another field":   inside(join(textField(1, "x"), textField(3, "y"), varint(1, 7)), 1, 4, 2, 3),
		"a text as a number":          inside(varint(2, 1), 1, 4, 2),
		"a number as a text":          inside(textField(9, "7"), 1, 4, 2),
		"a message as a number":       inside(varint(4, 1), 1),
		"a negative size":             inside(varint(9, 1<<63), 1, 4, 2),
		"an overlong varint":          inside([]byte{9 << 3, 0x81, 0x80, 0x80, 0x00}, 1, 4, 2),
		"a varint of eleven bytes":    inside([]byte{9 << 3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}, 1, 4, 2),
		"bad UTF-8 in the path":       inside(textField(4, "/\xff"), 1, 4, 2),
		"bad UTF-8 in a header":       inside(join(textField(1, "a"), textField(2, "\xff")), 1, 4, 2, 13, 1),
		"bad UTF-8 in a name":         inside(textField(1, "\xed\xa0\x80"), 1, 4, 2, 13, 1),
		"bad UTF-8 in an entry":       inside(join(textField(1, "a"), textField(2, "\xc0\x80")), 1, 4, 2, 3),
		"bad UTF-8 in an extension":   inside(join(textField(1, "\xff"), textField(2, "x")), 1, 10),
		"bad UTF-8 in a body":         inside(textField(11, "\xff"), 1, 4, 2),
		"a group":                     inside([]byte{2<<3 | 3, 1 << 3, 1, 2<<3 | 4}, 1, 4, 2),
		"a group that does not end":   inside([]byte{2<<3 | 3, 1 << 3, 1}, 1, 4, 2),
		"the end of a group":          inside([]byte{2<<3 | 4}, 1, 4, 2),
		"a fixed number":              inside([]byte{2<<3 | 5, 1, 2, 3, 4}, 1, 4, 2),
		"field number zero":           inside([]byte{0<<3 | 2, 0}, 1, 4, 2),
		"a length past the end":       {1<<3 | 2, 5, 0},
		"a length past its parent":    {1<<3 | 2, 2, 4<<3 | 2, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		"a tag that is cut":           {0x80},
		"wire type seven":             inside([]byte{2<<3 | 7}, 1, 4, 2),
		"something nobody knows":      join(inside(textField(2000, "x"), 1, 4, 2), method("GET")),
		"wrong inside what is passed": inside([]byte{0xff}, 1, 1),
	}
}

func TestAgreesWithTheGeneratedCode(t *testing.T) {
	for name, data := range cases() {
		t.Run(name, func(t *testing.T) { compare(t, data) })
	}
}

func FuzzUnmarshalRequest(f *testing.F) {
	for _, data := range cases() {
		f.Add(data)
	}
	f.Fuzz(compare)
}

// What is read must not follow a buffer that is used again: the codec gives UnmarshalRequest bytes of its own. Here
// the sharing itself is pinned down, so that a copy, or its absence, is a decision.
func TestTextsShareTheBytes(t *testing.T) {
	data := example(func(h *authv3.AttributeContext_HttpRequest) { h.Method = "POST" })
	if n := testing.AllocsPerRun(100, func() {
		if _, err := UnmarshalRequest(data); err != nil {
			t.Fatal(err)
		}
	}); n > 10 {
		t.Errorf("%v allocations: the texts are copied", n)
	}
}

func BenchmarkUnmarshalRequest(b *testing.B) {
	data := example(func(h *authv3.AttributeContext_HttpRequest) {
		h.Headers = nil
		for range 20 {
			h.HeaderMap.Headers = append(h.HeaderMap.Headers, &corev3.HeaderValue{Key: "x-stainless-arch", RawValue: []byte("x64")})
		}
	})
	b.Run("generated", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var in authv3.CheckRequest
			if err := proto.Unmarshal(data, &in); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("wire", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := UnmarshalRequest(data); err != nil {
				b.Fatal(err)
			}
		}
	})
}
