package token_test

import (
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/extauthz/extauthz/internal/extauthztest/issuertest/localissuer"
	"github.com/extauthz/extauthz/pkg/token"
)

// FuzzVerify edits good tokens: from is replaced by text for cut bytes. It must never panic, and may accept
// only what the issuer signed: header and claims of a minted token, byte for byte. (The signature may
// differ: anyone can turn an ECDSA signature (r, s) into (r, n-s), which is why no token text is an identity.)
func FuzzVerify(f *testing.F) {
	r := newRig(f, localissuer.Algorithms("ES256", "RS256", "EdDSA"))
	var minted []string
	for _, alg := range []string{"ES256", "RS256", "EdDSA"} {
		minted = append(minted, r.Mint(nil, localissuer.Alg(alg)))
	}
	signed := func(raw string) string { return raw[:max(0, strings.LastIndex(raw, "."))] }
	for n := range minted {
		f.Add(uint8(n), uint16(0), uint16(0), "")
		f.Add(uint8(n), uint16(len(minted[n])), uint16(0), "A")
		f.Add(uint8(n), uint16(len(minted[n])-1), uint16(1), "\n")
		f.Add(uint8(n), uint16(strings.Index(minted[n], ".")), uint16(1), "..")
		f.Add(uint8(n), uint16(0), uint16(strings.Index(minted[n], ".")), "eyJhbGciOiJub25lIn0")
		f.Add(uint8(n), uint16(0), uint16(65535), minted[(n+1)%len(minted)])
	}
	f.Fuzz(func(t *testing.T, which uint8, from, cut uint16, text string) {
		raw := minted[int(which)%len(minted)]
		start := min(int(from), len(raw))
		end := min(start+int(cut), len(raw))
		raw = raw[:start] + text + raw[end:]
		_, err := r.verifier.Verify(t.Context(), raw)
		classOf(t, err)
		isMinted := slices.ContainsFunc(minted, func(m string) bool { return signed(m) == signed(raw) })
		if err == nil && !isMinted {
			t.Errorf("accepted a token that was never minted: %q", raw)
		}
		if err != nil && slices.Contains(minted, raw) {
			t.Errorf("refused a good token: %v", err)
		}
	})
}

// FuzzSigned signs whatever header and claims it is given, as a compromised or broken issuer would. What is accepted,
// golang-jwt with every check it has must accept too (its dates are whole seconds), and encoding/json must read the same.
func FuzzSigned(f *testing.F) {
	r := newRig(f, localissuer.Algorithms("EdDSA"))
	reference := jwt.NewParser(jwt.WithValidMethods([]string{"EdDSA"}), jwt.WithIssuer(r.URL()), jwt.WithAudience(r.Audience()),
		jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithLeeway(31*time.Second), jwt.WithTimeFunc(r.Now), jwt.WithStrictDecoding(),
		jwt.WithJSONNumber()) // else it refuses numbers that no float64 holds, wherever they are
	// The port differs from run to run, so the fuzzer writes I for the issuer.
	const header, claims = `{"alg":"EdDSA","kid":"EdDSA-1","typ":"JWT"}`, `{"iss":"I","aud":"extauthz","sub":"a","iat":1800000000,"exp":1800000300}`
	for _, text := range [][2]string{
		{header, claims}, {`{"alg":"EdDSA"}`, claims}, {`{"alg":"EdDSA","crit":[]}`, claims}, {`{"alg":"none"}`, claims},
		{`{"alg":"EdDSA","typ":"logout+jwt"}`, claims}, {header, `{"iss":"I","aud":["x","extauthz"],"exp":1.8e9,"nbf":1799999999.5}`},
		{header, `{"iss":"I","aud":"extauthz","exp":1e300}`}, {header, `{"iss":"I","aud":"extauthz","exp":1800000300,"nbf":1e300}`},
		{header, `{"iss":"I","aud":"extauthz","exp":1800000300,"iat":"1"}`}, {header, `{"iss":"I","aud":"extauthz","exp":1,"Exp":1800000300}`},
		{header, claims + `{}`}, {header, strings.Replace(claims, `"a"`, `1e700`, 1)}, {header, `{"iss":"I","aud":{},"exp":0}`}, {header, "{\"iss\":\"I\",\"sub\":\"\xff\"}"},
	} {
		f.Add(text[0], text[1])
	}
	f.Fuzz(func(t *testing.T, header, claims string) {
		claims = strings.ReplaceAll(claims, `"I"`, `"`+r.URL()+`"`)
		raw, err := r.Issuer.Issuer.Mint(nil, localissuer.RawHeader(header), localissuer.RawClaims(claims))
		if err != nil {
			t.Fatal(err)
		}
		got, err := r.verifier.Verify(t.Context(), raw)
		classOf(t, err)
		if err != nil {
			return
		}
		if _, err := reference.Parse(raw, func(*jwt.Token) (any, error) { return r.PrivateKey("EdDSA").Public(), nil }); err != nil {
			t.Errorf("golang-jwt refuses it: %v", err)
		}
		decoder := json.NewDecoder(strings.NewReader(claims))
		decoder.UseNumber()
		var want map[string]any
		if err := decoder.Decode(&want); err != nil || !reflect.DeepEqual(got.Values, want) {
			t.Errorf("claims %v, encoding/json %v, %v", got.Values, want, err)
		}
		if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
			t.Error("accepted text after the claims")
		}
		if left := got.Expiry.Sub(r.Now()); left <= -30*time.Second || left > 24*time.Hour+30*time.Second {
			t.Errorf("accepted with %v left", left)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	for _, alg := range []string{"RS256", "ES256", "EdDSA"} {
		b.Run(alg, func(b *testing.B) {
			r := newRig(b, localissuer.Algorithms(alg))
			raw := r.Mint(map[string]any{
				"email": "alice@corp.example", "groups": []string{"team-a", "team-b"},
				"realm_access": map[string]any{"roles": []string{"llm_user", "offline_access"}},
				"scope":        "openid profile llm:chat", "azp": "gateway", "jti": "5b0a0c1e",
			})
			r.wantVerdict(b, raw, "")
			b.ReportAllocs()
			for b.Loop() {
				if _, err := r.verifier.Verify(b.Context(), raw); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkVerifyRefused is what a flood of junk costs: a token of an issuer that is not configured.
func BenchmarkVerifyRefused(b *testing.B) {
	r := newRig(b)
	raw := r.Mint(map[string]any{"iss": "https://somebody.example"})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.verifier.Verify(b.Context(), raw); err == nil {
			b.Fatal(token.Claims{})
		}
	}
}
