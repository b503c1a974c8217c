package token_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/extauthz/extauthz/internal/extauthztest/issuertest/localissuer"
)

// tokenCase is one token and the class of its verdict. The token is a good one of ES256 but for what the
// case says.
type tokenCase struct {
	name    string
	want    string
	claims  map[string]any           // over the good ones
	payload string                   // instead of them: JSON text; $iss $aud $now and $exp are filled in
	opts    []localissuer.MintOption // for the header and the signature
	edit    func(string) string      // of the minted text
}

// good are the members of a good payload.
const good = `"iss":"$iss","aud":"$aud","iat":$now,"exp":$exp`

func (c tokenCase) mint(r *rig) string {
	opts := c.opts
	if c.payload != "" {
		text := strings.NewReplacer("$iss", r.URL(), "$aud", r.Audience(),
			"$now", fmt.Sprint(r.Now().Unix()), "$exp", fmt.Sprint(r.Now().Unix()+300)).Replace(c.payload)
		opts = append([]localissuer.MintOption{localissuer.RawClaims(text)}, opts...)
	}
	raw := r.Mint(c.claims, opts...)
	if c.edit != nil {
		raw = c.edit(raw)
	}
	return raw
}

func runTokenCases(t *testing.T, r *rig, cases []tokenCase) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			raw := c.mint(r)
			r.wantVerdict(t, raw, c.want)
			wantQuietError(t, r, raw)
		})
	}
}

// wantQuietError checks that an error repeats no segment and no claim value of the token.
func wantQuietError(t *testing.T, r *rig, raw string) {
	t.Helper()
	_, err := r.verifier.Verify(t.Context(), raw)
	if err == nil {
		return
	}
	for _, secret := range append(strings.Split(raw, "."), "alice", "somebody", "tom\x00") {
		if len(secret) > 4 && strings.Contains(err.Error(), secret) {
			t.Errorf("error %q repeats %q of the token", err, secret)
		}
	}
}

func TestVerifyReturnsClaims(t *testing.T) {
	r := newRig(t, localissuer.Algorithms("ES256", "RS256", "EdDSA"))
	for _, alg := range []string{"RS256", "ES256", "EdDSA"} {
		raw := r.Mint(map[string]any{"n": 12345678901234567, "list": []any{"a", 1.5, nil, true}}, localissuer.Alg(alg))
		claims, err := r.verifier.Verify(t.Context(), raw)
		if err != nil {
			t.Fatalf("%s: %v", alg, err)
		}
		if string(claims.Issuer) != r.URL() || !claims.Expiry.Equal(r.Now().Add(5*time.Minute)) {
			t.Errorf("%s: issuer %q, expiry %v", alg, claims.Issuer, claims.Expiry)
		}
		if claims.Values["sub"] != "alice" || claims.Values["n"] != json.Number("12345678901234567") {
			t.Errorf("%s: values %v", alg, claims.Values)
		}
		if got := fmt.Sprint(claims.Values["list"]); got != "[a 1.5 <nil> true]" {
			t.Errorf("%s: list %s", alg, got)
		}
	}
}

func TestVerifyShape(t *testing.T) {
	text := func(s string) func(string) string { return func(string) string { return s } }
	insertAt := func(segment int, s string) func(string) string {
		return func(raw string) string {
			parts := strings.Split(raw, ".")
			parts[segment] = parts[segment][:3] + s + parts[segment][3:]
			return strings.Join(parts, ".")
		}
	}
	runTokenCases(t, newRig(t), []tokenCase{
		{name: "good"},
		{name: "empty", want: "malformed", edit: text("")},
		{name: "one segment", want: "malformed", edit: text("abc")},
		{name: "one dot", want: "malformed", edit: text(".")},
		{name: "two dots", want: "malformed", edit: text("..")},
		{name: "two segments", want: "malformed", edit: func(raw string) string { return raw[:strings.LastIndex(raw, ".")] }},
		{name: "four segments", want: "malformed", edit: func(raw string) string { return raw + ".e30" }},
		{name: "five segments, a JWE", want: "malformed", edit: func(raw string) string { return raw + ".e30.e30" }},
		{name: "trailing dot", want: "malformed", edit: func(raw string) string { return raw + "." }},
		{name: "leading dot", want: "malformed", edit: func(raw string) string { return "." + raw }},
		{name: "16384 dots", want: "malformed", edit: text(strings.Repeat(".", 16384))},
		{name: "no header", want: "malformed", edit: func(raw string) string { return raw[strings.Index(raw, "."):] }},
		{name: "no claims", want: "malformed", edit: func(raw string) string {
			parts := strings.Split(raw, ".")
			return parts[0] + ".." + parts[2]
		}},
		{name: "no signature", want: "malformed", edit: func(raw string) string { return raw[:strings.LastIndex(raw, ".")+1] }},
		{name: "leading space", want: "malformed", edit: func(raw string) string { return " " + raw }},
		{name: "trailing newline", want: "malformed", edit: func(raw string) string { return raw + "\n" }},
		{name: "scheme left on", want: "malformed", edit: func(raw string) string { return "Bearer " + raw }},
		{name: "line feed in the header", want: "malformed", edit: insertAt(0, "\n")},
		{name: "line feed in the claims", want: "malformed", edit: insertAt(1, "\n")},
		{name: "line feed in the signature", want: "malformed", edit: insertAt(2, "\n")},
		{name: "carriage return in the signature", want: "malformed", edit: insertAt(2, "\r")},
		{name: "CR LF in the signature", want: "malformed", edit: insertAt(2, "\r\n")},
		{name: "NUL in the signature", want: "malformed", edit: insertAt(2, "\x00")},
		{name: "plus of the other alphabet", want: "malformed", edit: insertAt(2, "+")},
		{name: "slash of the other alphabet", want: "malformed", edit: insertAt(1, "/")},
		{name: "non-ASCII", want: "malformed", edit: insertAt(1, "é")},
		{name: "comma", want: "malformed", edit: func(raw string) string { return raw + "," + raw }},
		{name: "padding", want: "malformed", edit: func(raw string) string { return raw + "==" }},
		{name: "unused bits of the signature", want: "malformed", edit: setUnusedBits(2)},
		{name: "one character too many", want: "malformed", edit: func(raw string) string { return raw + "AAA" }},
		{name: "JSON serialization", want: "malformed", edit: func(raw string) string { return `{"payload":"` + raw + `"}` }},
	})
}

// setUnusedBits changes bits of a segment's last character that do not count. It panics if there are none.
func setUnusedBits(segment int) func(string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return func(raw string) string {
		parts := strings.Split(raw, ".")
		text := parts[segment]
		if len(text)%4 == 0 {
			panic("the segment has no unused bits")
		}
		last := strings.IndexByte(alphabet, text[len(text)-1])
		parts[segment] = text[:len(text)-1] + alphabet[last|1:last|1+1]
		return strings.Join(parts, ".")
	}
}

// TestVerifySize checks the bound on both sides, with tokens that are good otherwise.
func TestVerifySize(t *testing.T) {
	r := newRig(t)
	const bound = 16 << 10
	for size := bound - 8; size <= bound+8; size++ {
		raw := mintOfSize(r, size)
		want := ""
		if len(raw) > bound {
			want = "malformed"
		}
		r.wantVerdict(t, raw, want)
	}
}

// mintOfSize mints a token as near to the size as base64 allows.
func mintOfSize(r *rig, size int) string {
	short := len(r.Mint(map[string]any{"fill": ""}))
	return r.Mint(map[string]any{"fill": strings.Repeat("x", (size-short)*3/4)})
}
