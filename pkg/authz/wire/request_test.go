package wire

import (
	"bytes"
	"maps"
	"reflect"
	"slices"
	"strings"
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
		"empty":                     nil,
		"whole":                     example(func(*authv3.AttributeContext_HttpRequest) {}),
		"bare":                      example(func(h *authv3.AttributeContext_HttpRequest) { proto.Reset(h) }),
		"the last of two counts":    join(method("GET"), method("POST")),
		"two parts are merged":      join(method("GET"), inside(textField(4, "/a"), 1, 4, 2)),
		"merged deeper down":        inside(join(inside(textField(2, "GET"), 2), inside(textField(4, "/a"), 2)), 1, 4),
		"header maps are merged":    join(inside(textField(1, "a"), 1, 4, 2, 13, 1), inside(textField(1, "b"), 1, 4, 2, 13, 1)),
		"an empty header map":       inside(nil, 1, 4, 2, 13),
		"a header's last value":     inside(join(textField(1, "a"), textField(2, "x"), textField(2, "y"), textField(1, "b")), 1, 4, 2, 13, 1),
		"an entry without a key":    inside(textField(2, "x"), 1, 4, 2, 3),
		"an entry without a value":  inside(textField(1, "x"), 1, 4, 2, 3),
		"an entry's last key":       inside(join(textField(1, "x"), textField(1, "y"), textField(2, "v")), 1, 4, 2, 3),
		"an entry's second value":   join(inside(join(textField(1, "x"), textField(2, "1")), 1, 4, 2, 3), inside(join(textField(1, "x"), textField(2, "2")), 1, 4, 2, 3)),
		"an entry of another field": inside(join(textField(1, "x"), textField(3, "y"), varint(1, 7)), 1, 4, 2, 3),
		"a text as a number":        inside(varint(2, 1), 1, 4, 2),
		"a number as a text":        inside(textField(9, "7"), 1, 4, 2),
		"a message as a number":     inside(varint(4, 1), 1),
		"a negative size":           inside(varint(9, 1<<63), 1, 4, 2),
		"an overlong varint":        inside([]byte{9 << 3, 0x81, 0x80, 0x80, 0x00}, 1, 4, 2),
		"a varint of eleven bytes":  inside([]byte{9 << 3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}, 1, 4, 2),
		"a long form of a length":   inside([]byte{4<<3 | 2, 0x82, 0x00, '/', 'a', 4<<3 | 2, 0x80, 0x80, 0x00}, 1, 4, 2),
		"a length that is cut":      inside([]byte{4<<3 | 2, 0x80}, 1, 4, 2),
		"a long length that is cut": inside([]byte{4<<3 | 2, 0x80, 0x80}, 1, 4, 2),
		"a long form of a tag":      inside([]byte{4<<3 | 2 | 0x80, 0x00, 3, 'G', 'E', 'T'}, 1, 4, 2),
		"an empty text at the end":  inside(join(textField(4, "/a"), textField(4, "")), 1, 4, 2),
		"bad UTF-8 in the path":     inside(textField(4, "/\xff"), 1, 4, 2),
		"bad UTF-8 in a header":     inside(join(textField(1, "a"), textField(2, "\xff")), 1, 4, 2, 13, 1),
		"bad UTF-8 in a name":       inside(textField(1, "\xed\xa0\x80"), 1, 4, 2, 13, 1),
		"bad UTF-8 in an entry":     inside(join(textField(1, "a"), textField(2, "\xc0\x80")), 1, 4, 2, 3),
		"bad UTF-8 in an extension": inside(join(textField(1, "\xff"), textField(2, "x")), 1, 10),
		"bad UTF-8 in a body":       inside(textField(11, "\xff"), 1, 4, 2),
		"a group":                   inside([]byte{2<<3 | 3, 1 << 3, 1, 2<<3 | 4}, 1, 4, 2),
		"a group that does not end": inside([]byte{2<<3 | 3, 1 << 3, 1}, 1, 4, 2),
		"the end of a group":        inside([]byte{2<<3 | 4}, 1, 4, 2),
		"a fixed number":            inside([]byte{2<<3 | 5, 1, 2, 3, 4}, 1, 4, 2),
		"field number zero":         inside([]byte{0<<3 | 2, 0}, 1, 4, 2),
		"field number zero, a text": inside([]byte{0<<3 | 2, 1, 'x'}, 1, 4, 2),
		"a length past the end":     {1<<3 | 2, 5, 0},
		"a length past its parent":  {1<<3 | 2, 2, 4<<3 | 2, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		"a tag that is cut":         {0x80},
		"wire type seven":           inside([]byte{2<<3 | 7}, 1, 4, 2),
		"something nobody knows":    join(inside(textField(2000, "x"), 1, 4, 2), method("GET")),
		unseen:                      inside([]byte{0xff}, 1, 1),
	}
}

// unseen is the case that only the generated code refuses.
const unseen = "wrong inside what is passed"

// compareWhole is compare for a message without errors in what is passed by: here both must refuse the same.
func compareWhole(t *testing.T, data []byte) {
	t.Helper()
	compare(t, data)
	_, err := UnmarshalRequest(data)
	if refused := proto.Unmarshal(data, &authv3.CheckRequest{}); (err == nil) != (refused == nil) {
		t.Fatalf("%x: %v, and of the generated code %v", data, err, refused)
	}
}

func TestAgreesWithTheGeneratedCode(t *testing.T) {
	for name, data := range cases() {
		t.Run(name, func(t *testing.T) {
			if name == unseen {
				compare(t, data)
			} else {
				compareWhole(t, data)
			}
		})
	}
}

// header wraps the fields of a header into a HeaderMap's.
func header(fields ...[]byte) []byte { return inside(join(fields...), 1) }

func headerMap(headers ...[]byte) []byte { return inside(join(headers...), 1, 4, 2, 13) }

// headerMaps are HeaderMaps around the form in which nearly all headers come: a name, then a raw value.
func headerMaps() map[string][]byte {
	plain := header(textField(1, "accept"), textField(3, "*/*"))
	// The first byte of its length, 1280, is 128: in as many bytes there is a plain header too, an odd name's part.
	twice := header(textField(1, "aaaaaaaaa\x1ar"), textField(3, strings.Repeat("b", 1264)))
	return map[string][]byte{
		"plain":                        headerMap(plain, plain),
		"after one that is not plain":  headerMap(header(textField(1, "a"), textField(2, "b")), plain),
		"before one that is not plain": headerMap(plain, header(textField(1, "a"), textField(2, "b")), plain),
		"with another field between":   headerMap(plain, inside(textField(1, "x"), 2), varint(1, 7), plain),
		"another field first":          headerMap(inside(join(textField(1, "a"), textField(3, "b")), 2), plain),
		"another field as long":        headerMap(plain, inside(join(textField(1, "a"), textField(3, "b")), 3)),
		"nothing in it":                headerMap(header(), plain),
		"a name alone":                 headerMap(header(textField(1, "a")), plain),
		"a raw value alone":            headerMap(header(textField(3, "a")), plain),
		"an empty name":                headerMap(header(textField(1, ""), textField(3, "a")), plain),
		"an empty raw value":           headerMap(header(textField(1, "a"), textField(3, "")), plain),
		"both empty":                   headerMap(header(textField(1, ""), textField(3, "")), plain),
		"the raw value first":          headerMap(header(textField(3, "b"), textField(1, "a")), plain),
		"a value, no raw one":          headerMap(header(textField(1, "a"), textField(2, "b")), plain),
		"a value that is not UTF-8":    headerMap(header(textField(1, "a"), textField(2, "\xff")), plain),
		"a value instead of the name":  headerMap(header(textField(2, "a"), textField(3, "b")), plain),
		"a value after the raw one":    headerMap(header(textField(1, "a"), textField(3, "b"), textField(2, "c")), plain),
		"a value before the raw one":   headerMap(header(textField(1, "a"), textField(2, "c"), textField(3, "b")), plain),
		"two values that are equal":    headerMap(header(textField(1, "a"), textField(3, "b"), textField(2, "b")), plain),
		"two raw values":               headerMap(header(textField(1, "a"), textField(3, "b"), textField(3, "c")), plain),
		"two names":                    headerMap(header(textField(1, "a"), textField(3, "b"), textField(1, "c")), plain),
		"a fourth field":               headerMap(header(textField(1, "a"), textField(4, "b")), plain),
		"a field more":                 headerMap(header(textField(1, "a"), textField(3, "b"), textField(4, "c")), plain),
		"a byte more":                  headerMap(header(textField(1, "a"), textField(3, "b"), []byte{0x1a}), plain),
		"a number for a name":          headerMap(header(varint(1, 1), textField(3, "b")), plain),
		"a number for a raw value":     headerMap(header(textField(1, "a"), varint(3, 1)), plain),
		"a name past the end":          headerMap([]byte{0x0a, 4, 0x0a, 0x7f, 'a', 'b'}),
		"a name past the header":       headerMap([]byte{0x0a, 6, 0x0a, 6, 'a', 'b', 'c', 'd'}, plain),
		"a raw value past the header":  headerMap([]byte{0x0a, 6, 0x0a, 1, 'a', 0x1a, 3, 'b'}, plain),
		"a raw value past the end":     headerMap([]byte{0x0a, 6, 0x0a, 1, 'a', 0x1a, 3, 'b'}),
		"a long form of a length":      headerMap([]byte{0x0a, 0x88, 0x00, 0x0a, 0x81, 0x00, 'a', 0x1a, 0x82, 0x00, 'b', 'c'}, plain),
		"a raw value's long form":      headerMap([]byte{0x0a, 7, 0x0a, 1, 'a', 0x1a, 0x81, 0x00, 'b'}, plain),
		"a name's long form":           headerMap([]byte{0x0a, 7, 0x0a, 0x81, 0x00, 'a', 0x1a, 1, 'b'}, plain),
		"a long length read as short":  headerMap(twice, plain),
	}
}

// A length takes one more byte from 128 and from 16384 on.
func TestLengths(t *testing.T) {
	for _, most := range []int{140, 16400} {
		for n := most - 40; n < most; n++ {
			long := strings.Repeat("x", n)
			compareWhole(t, inside(join(textField(4, long), textField(5, "a"), textField(12, long)), 1, 4, 2))
			compareWhole(t, inside(join(textField(4, long), textField(5, long), []byte{12<<3 | 2}), 1, 4, 2))
			compareWhole(t, headerMap(header(textField(1, "a"), textField(3, long)), header(textField(1, long), textField(3, "a")), header(textField(1, long), textField(3, long))))
		}
	}
}

func TestHeaderMap(t *testing.T) {
	for name, data := range headerMaps() {
		t.Run(name, func(t *testing.T) { compareWhole(t, data) })
	}
	t.Run("cut anywhere", func(t *testing.T) {
		whole := join(header(textField(1, "accept"), textField(3, "*/*")), header(textField(1, "a"), textField(2, "b")), header(textField(1, ""), textField(3, "")))
		for n := range whole {
			compareWhole(t, headerMap(whole[:n:n]))
			compareWhole(t, join(headerMap(whole[:n]), inside(textField(4, "/a path, in the memory behind"), 1, 4, 2)))
		}
	})
}

// The text is not UTF-8, or not ASCII, at any of its places, in all of its lengths that are looked at in another way.
func TestUTF8Everywhere(t *testing.T) {
	for length := range 36 {
		for at := range length + 1 {
			for _, odd := range []string{"", "\x7f", "\x80", "\xff", "é", "\xc3"} {
				text := strings.Repeat("a", at) + odd + strings.Repeat("a", length-at)
				compareWhole(t, inside(textField(4, text), 1, 4, 2))
				compareWhole(t, headerMap(header(textField(1, text), textField(3, "\xff"))))
			}
		}
	}
}

// FuzzUnmarshalRequest reads data as a whole and as a HeaderMap.
func TestPlain(t *testing.T) {
	for name, odd := range map[string]bool{
		"": false, "x-request-id": false, ":path": false, "a": false, "x-stainless-retry-count": false,
		"X-Request-Id": true, "x_request_id": true, "x-stainless-retry-counT": true, "x-stainless-retry_count": true, "x-\u00e9": true, "\u212a": true,
	} {
		for what, value := range map[string]*corev3.HeaderValue{
			"a value": {Key: name, Value: "v"}, "a raw value": {Key: name, RawValue: []byte("v")}, "a long one": {Key: name, RawValue: bytes.Repeat([]byte("v"), 200)},
		} {
			data := example(func(h *authv3.AttributeContext_HttpRequest) {
				h.HeaderMap = &corev3.HeaderMap{Headers: []*corev3.HeaderValue{{Key: "a", RawValue: []byte("b")}, value, {Key: "c", RawValue: []byte("d")}}}
			})
			compareWhole(t, data)
			if got, err := UnmarshalRequest(data); err != nil || got.Plain == odd {
				t.Errorf("%q with %s: plain is %t, want %t (%v)", name, what, got.Plain, !odd, err)
			}
		}
	}
}

func FuzzUnmarshalRequest(f *testing.F) {
	for _, data := range cases() {
		f.Add(data)
	}
	for _, data := range headerMaps() {
		f.Add(data)
	}
	f.Add(header(textField(1, "accept"), textField(3, "*/*")))
	f.Fuzz(func(t *testing.T, data []byte) {
		compare(t, data)
		compare(t, headerMap(data))
	})
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
