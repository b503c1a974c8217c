package token

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzCompact holds what is checked before a key is looked for against plain readings of the same text: what it
// accepts must be three segments of strict base64url with one spelling, and encoding/json must read the same header.
func FuzzCompact(f *testing.F) {
	for _, seed := range []string{
		`{"alg":"ES256","kid":"a","typ":"JWT"}`, `{"alg":"ES256","crit":["b64"],"b64":false}`, `{"alg":"none"}`, `{"alg":1}`,
		`{"alg":"ES256","alg":"none"}`, `{"ALG":"ES256"}`, `{"alg":"ES256","kid":null}`, "{\"alg\":\"\xff\"}", `{}`, `[]`,
	} {
		f.Add(base64.RawURLEncoding.EncodeToString([]byte(seed)) + ".e30.AA")
	}
	for _, seed := range []string{
		"", ".", "..", "...", "a.b.c", "eyJhbGciOiJhIn0.e30.AB", "eyJhbGciOiJhIn0.e30.A\nA", "eyJhbGciOiJhIn0..AA", "e30.e30.e30.e30.e30",
		"eyJhbGciOiJhIn0=.e30.AA", "eyJhbGciOiJhIn0.e30.AA\x00", strings.Repeat(".", maxTokenBytes+1), `{"payload":"e30"}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		got, err := parseCompact(raw)
		if err != nil {
			return
		}
		segments := strings.Split(raw, ".")
		if len(raw) > maxTokenBytes || len(segments) != 3 || strings.Trim(raw, alphabet+".") != "" {
			t.Fatalf("accepted the form of %q", raw)
		}
		if got.signed+"."+base64.RawURLEncoding.EncodeToString(got.signature) != raw || got.signed != segments[0]+"."+got.payload {
			t.Errorf("%q was taken apart as %+v", raw, got)
		}
		text, err := base64.RawURLEncoding.Strict().DecodeString(segments[0])
		var members map[string]any
		if err != nil || !utf8.Valid(text) || json.Unmarshal(text, &members) != nil {
			t.Fatalf("accepted the header %q: %v", text, err)
		}
		wantHeader(t, got.header, members)
	})
}

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

func wantHeader(t *testing.T, got header, members map[string]any) {
	t.Helper()
	for _, name := range []string{"crit", "b64"} {
		if _, ok := members[name]; ok {
			t.Errorf("accepted %s in %v", name, members)
		}
	}
	_, hasKid := members["kid"]
	_, hasTyp := members["typ"]
	kid, _ := members["kid"].(string)
	typ, _ := members["typ"].(string)
	if alg, ok := members["alg"].(string); !ok || got != (header{alg: alg, kid: kid, hasKid: hasKid, typ: typ, hasTyp: hasTyp}) {
		t.Errorf("header %+v of %v", got, members)
	}
	if len(kid) > maxKidBytes {
		t.Errorf("accepted a kid of %d bytes", len(kid))
	}
}
