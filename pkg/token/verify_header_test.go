package token_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"github.com/extauthz/extauthz/internal/extauthztest/issuertest"
	"github.com/extauthz/extauthz/internal/extauthztest/issuertest/localissuer"
	"github.com/extauthz/extauthz/pkg/token"
)

// with is a list of one header member.
func with(name string, value any) []localissuer.MintOption {
	return []localissuer.MintOption{localissuer.Header(name, value)}
}

// rawHeader is a good header with more JSON text in it.
func rawHeader(more string) []localissuer.MintOption {
	return []localissuer.MintOption{localissuer.RawHeader(`{"alg":"ES256","kid":"ES256-1"` + more + `}`)}
}

func headerText(text string) []localissuer.MintOption {
	return []localissuer.MintOption{localissuer.RawHeader(text)}
}

func TestVerifyHeader(t *testing.T) {
	deep := func(n int) string { return `,"x":` + strings.Repeat("[", n) + strings.Repeat("]", n) }
	runTokenCases(t, newRig(t), []tokenCase{
		{name: "plain", opts: rawHeader("")},
		{name: "unknown member", opts: rawHeader(`,"x":{"y":[1]}`)},
		{name: "crit of an unknown extension", want: "invalid", opts: with("crit", []string{"bork"})},
		{name: "crit, empty", want: "invalid", opts: with("crit", []string{})},
		{name: "crit null", want: "invalid", opts: with("crit", nil)},
		{name: "crit of b64", want: "invalid", opts: rawHeader(`,"crit":["b64"],"b64":false`)},
		{name: "b64 false without crit", want: "invalid", opts: with("b64", false)},
		{name: "b64 true", want: "invalid", opts: with("b64", true)},
		{name: "not JSON", want: "malformed", opts: headerText("hello")},
		{name: "empty object", want: "malformed", opts: headerText("{}")},
		{name: "null", want: "malformed", opts: headerText("null")},
		{name: "array", want: "malformed", opts: headerText(`[{"alg":"ES256"}]`)},
		{name: "string", want: "malformed", opts: headerText(`"ES256"`)},
		{name: "cut short", want: "malformed", opts: headerText(`{"alg":"ES256"`)},
		{name: "two objects", want: "malformed", opts: headerText(`{"alg":"ES256","kid":"ES256-1"}{}`)},
		{name: "text after", want: "malformed", opts: headerText(`{"alg":"ES256","kid":"ES256-1"} x`)},
		{name: "white space around", opts: headerText(" {\"alg\":\"ES256\",\r\n\t\"kid\":\"ES256-1\"} ")},
		{name: "byte order mark", want: "malformed", opts: headerText("\uFEFF{\"alg\":\"ES256\",\"kid\":\"ES256-1\"}")},
		{name: "alg twice", want: "malformed", opts: rawHeader(`,"alg":"ES256"`)},
		{name: "alg twice by an escape", want: "malformed", opts: rawHeader(`,"\u0061lg":"ES256"`)},
		{name: "kid twice", want: "malformed", opts: rawHeader(`,"kid":"ES256-1"`)},
		{name: "nested member twice", want: "malformed", opts: rawHeader(`,"x":[{"y":1,"y":1}]`)},
		{name: "invalid UTF-8", want: "malformed", opts: rawHeader(",\"x\":\"\xff\"")},
		{name: "lone surrogate", want: "malformed", opts: rawHeader(`,"x":"\ud800"`)},
		{name: "32 deep", opts: rawHeader(deep(31))},
		{name: "33 deep", want: "malformed", opts: rawHeader(deep(32))},
		{name: "5000 deep", want: "malformed", opts: rawHeader(deep(5000))},
		{name: "unused bits", want: "malformed", opts: rawHeader(`,"x":1`), edit: setUnusedBits(0)},
		{name: "alg missing", want: "malformed", opts: headerText(`{"kid":"ES256-1"}`)},
		{name: "alg null", want: "malformed", opts: with("alg", nil)},
		{name: "alg a number", want: "malformed", opts: with("alg", 256)},
		{name: "alg a list", want: "malformed", opts: with("alg", []string{"ES256"})},
		{name: "Alg only", want: "malformed", opts: headerText(`{"Alg":"ES256","kid":"ES256-1"}`)},
		{name: "another ALG beside", opts: rawHeader(`,"ALG":"none"`)},
		{name: "typ absent", opts: with("typ", localissuer.Absent)},
		{name: "typ JWT", opts: with("typ", "JWT")},
		{name: "typ jwt", opts: with("typ", "jwt")},
		{name: "typ application/jwt", opts: with("typ", "application/jwt")},
		{name: "typ at+jwt", opts: with("typ", "at+jwt")},
		{name: "typ APPLICATION/AT+JWT", opts: with("typ", "APPLICATION/AT+JWT")},
		{name: "typ empty", want: "invalid", opts: with("typ", "")},
		{name: "typ application/", want: "invalid", opts: with("typ", "application/")},
		{name: "typ application/application/jwt", want: "invalid", opts: with("typ", "application/application/jwt")},
		{name: "typ text/jwt", want: "invalid", opts: with("typ", "text/jwt")},
		{name: "typ logout+jwt", want: "invalid", opts: with("typ", "logout+jwt")},
		{name: "typ dpop+jwt", want: "invalid", opts: with("typ", "dpop+jwt")},
		{name: "typ secevent+jwt", want: "invalid", opts: with("typ", "secevent+jwt")},
		{name: "typ JWT with a space", want: "invalid", opts: with("typ", "JWT ")},
		{name: "typ null", want: "malformed", opts: with("typ", nil)},
		{name: "typ a number", want: "malformed", opts: with("typ", 1)},
	})
}

func TestVerifyKid(t *testing.T) {
	runTokenCases(t, newRig(t, localissuer.Algorithms("ES256", "RS256")), []tokenCase{
		{name: "absent, one key fits", opts: with("kid", localissuer.Absent)},
		{name: "unknown", want: "invalid", opts: with("kid", "nobody")},
		{name: "empty", want: "invalid", opts: with("kid", "")},
		{name: "other case", want: "invalid", opts: with("kid", "es256-1")},
		{name: "trailing space", want: "invalid", opts: with("kid", "ES256-1 ")},
		{name: "path", want: "invalid", opts: with("kid", "../../dev/null")},
		{name: "URL", want: "invalid", opts: with("kid", "https://attacker.example/key")},
		{name: "SQL", want: "invalid", opts: with("kid", "x' UNION SELECT 'k")},
		{name: "256 bytes", want: "invalid", opts: with("kid", strings.Repeat("k", 256))},
		{name: "257 bytes", want: "malformed", opts: with("kid", strings.Repeat("k", 257))},
		{name: "null", want: "malformed", opts: with("kid", nil)},
		{name: "a number", want: "malformed", opts: with("kid", 1)},
		{name: "a list", want: "malformed", opts: with("kid", []string{"ES256-1"})},
		{name: "of a key of another type", want: "invalid", opts: with("kid", "RS256-1")},
		{name: "of a key of another type, the other way", want: "invalid",
			opts: []localissuer.MintOption{localissuer.Alg("RS256"), localissuer.Kid("ES256-1")}},
	})
}

// TestVerifyWithoutKidAmongSeveral checks that a token without kid cannot try keys.
func TestVerifyWithoutKidAmongSeveral(t *testing.T) {
	r := newRig(t)
	r.Overlap()
	r.wantVerdict(t, r.Mint(nil), "")
	r.wantVerdict(t, r.Mint(nil, localissuer.Header("kid", localissuer.Absent)), "invalid")
}

// TestVerifyKeysWithoutKid checks that keys without kid serve tokens without kid only, one of a type.
func TestVerifyKeysWithoutKid(t *testing.T) {
	r := newRig(t)
	signer := r.PrivateKey("ES256")
	r.Respond(serveKeys(localissuer.JWK(signer.Public())))
	r.wantVerdict(t, r.Mint(nil, localissuer.Header("kid", localissuer.Absent)), "")
	r.wantVerdict(t, r.Mint(nil), "invalid")
	r.wantVerdict(t, r.Mint(nil, localissuer.Kid("")), "invalid")
}

func TestVerifyAlgorithms(t *testing.T) {
	all := []string{"ES256", "RS256", "EdDSA", "RS384", "RS512", "PS256", "PS384", "PS512", "ES384", "ES512"}
	r := newRigWith(t, func(i *token.Issuer) { i.Algorithms = all }, localissuer.Algorithms(all...))
	strict := newVerifier(t, r.clock, token.Issuer{
		URL: token.IssuerURL(r.URL()), Audiences: []string{"extauthz"}, JWKSURL: r.JWKSURL()})
	for n, alg := range all {
		raw := r.Mint(nil, localissuer.Alg(alg))
		r.wantVerdict(t, raw, "")
		want := ""
		if n > 2 { // not one of the defaults
			want = "invalid"
		}
		_, err := strict.Verify(t.Context(), raw)
		if got := classOf(t, err); got != want {
			t.Errorf("%s by default: got %q, want %q", alg, got, want)
		}
		// Each key of this JWKS has an alg, so that one fits even among several RSA keys.
		r.wantVerdict(t, r.Mint(nil, localissuer.Alg(alg), localissuer.Header("kid", localissuer.Absent)), "")
	}
}

// TestVerifyAlgorithmConfusion signs with what an attacker has: public keys, own keys, nothing.
func TestVerifyAlgorithmConfusion(t *testing.T) {
	r := newRig(t, localissuer.Algorithms("ES256", "RS256", "EdDSA"))
	public, err := x509.MarshalPKIXPublicKey(r.PrivateKey("RS256").Public())
	if err != nil {
		t.Fatal(err)
	}
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	hmacBy := func(secret []byte) localissuer.MintOption {
		return localissuer.Sign(func(input string) ([]byte, error) { return jwt.SigningMethodHS256.Sign(input, secret) })
	}
	constant := localissuer.Sign(func(string) ([]byte, error) { return []byte("sig"), nil })
	list := func(opts ...localissuer.MintOption) []localissuer.MintOption { return opts }
	var cases []tokenCase
	for _, none := range []string{"none", "None", "NONE", "nOnE", "none ", ""} {
		cases = append(cases, tokenCase{name: "alg " + none, want: "invalid", opts: list(localissuer.Header("alg", none), constant)})
	}
	for _, alg := range []string{"HS256", "HS384", "HS512", "RS1", "RSA-OAEP", "ES256K", "Ed25519", "es256", "ES256\x00", "A128KW", "dir"} {
		cases = append(cases, tokenCase{name: "alg " + alg, want: "invalid",
			opts: list(localissuer.Header("alg", alg), localissuer.Kid("RS256-1"), hmacBy(public))})
	}
	cases = append(cases,
		tokenCase{name: "none without signature", want: "malformed", opts: list(localissuer.Header("alg", "none"),
			localissuer.Sign(func(string) ([]byte, error) { return nil, nil }))},
		tokenCase{name: "HS256 without kid", want: "invalid",
			opts: list(localissuer.Header("alg", "HS256"), localissuer.Header("kid", localissuer.Absent), hmacBy(public))},
		tokenCase{name: "HS256 with an empty secret", want: "invalid", opts: list(localissuer.Header("alg", "HS256"), hmacBy(nil))},
		tokenCase{name: "ES256 header on an HMAC", want: "invalid", opts: list(hmacBy(public))},
		tokenCase{name: "somebody's own key", want: "invalid", opts: list(localissuer.SignedBy(own))},
		tokenCase{name: "jwk of the own key", want: "invalid",
			opts: list(localissuer.SignedBy(own), localissuer.Header("jwk", localissuer.JWK(own.Public())))},
		tokenCase{name: "jwk of the own key without kid", want: "invalid", opts: list(localissuer.SignedBy(own),
			localissuer.Header("jwk", localissuer.JWK(own.Public())), localissuer.Header("kid", localissuer.Absent))},
		tokenCase{name: "jwk that is ignored", opts: with("jwk", localissuer.JWK(own.Public()))},
		tokenCase{name: "RS384 signature under RS256", want: "invalid", opts: list(localissuer.Alg("RS256"),
			localissuer.Sign(func(in string) ([]byte, error) { return jwt.SigningMethodRS384.Sign(in, r.PrivateKey("RS256")) }))},
		tokenCase{name: "PS256 signature under RS256", want: "invalid", opts: list(localissuer.Alg("RS256"),
			localissuer.Sign(func(in string) ([]byte, error) { return jwt.SigningMethodPS256.Sign(in, r.PrivateKey("RS256")) }))},
		tokenCase{name: "RS256 header on an ES256 signature", want: "invalid", opts: with("alg", "RS256")},
	)
	runTokenCases(t, r, cases)
}

// TestVerifyFetchesNothingFromAToken points every header URL at a server that fails the test when asked.
func TestVerifyFetchesNothingFromAToken(t *testing.T) {
	trap := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		t.Errorf("fetched %s", q.URL)
	}))
	defer trap.Close()
	r := newRig(t)
	for _, name := range []string{"jku", "x5u", "x5c", "x5t", "x5t#S256", "iss"} {
		r.wantVerdict(t, r.Mint(nil, localissuer.Header(name, trap.URL)), "")
		r.wantVerdict(t, r.Mint(map[string]any{"iss": trap.URL}, localissuer.Header(name, trap.URL)), "issuer unknown")
		r.wantVerdict(t, r.Mint(nil, localissuer.Header(name, trap.URL), localissuer.Kid(trap.URL)), "invalid")
	}
}

// TestVerifyKeepsIssuersApart gives two issuers the same kids, subjects and audience.
func TestVerifyKeepsIssuersApart(t *testing.T) {
	r := newRig(t)
	other := issuertest.New(t, localissuer.Now(r.Now), localissuer.Algorithms("ES256"))
	config := func(i *issuertest.Issuer, audience string) token.Issuer {
		return token.Issuer{URL: token.IssuerURL(i.URL()), Audiences: []string{audience}, JWKSURL: i.JWKSURL()}
	}
	r.verifier = newVerifier(t, r.clock, config(r.Issuer, "extauthz"), config(other, "other"))
	r.wantVerdict(t, r.Mint(nil), "")
	r.wantVerdict(t, other.Mint(map[string]any{"aud": "other"}), "")
	r.wantVerdict(t, other.Mint(map[string]any{"iss": r.URL()}), "invalid")
	r.wantVerdict(t, r.Mint(map[string]any{"iss": other.URL(), "aud": "other"}), "invalid")
	r.wantVerdict(t, other.Mint(nil), "audience mismatch")
}

// TestVerifyAlgorithmIsTheIssuers publishes an RSA key without alg, which fits six algorithms: the configured
// list decides.
func TestVerifyAlgorithmIsTheIssuers(t *testing.T) {
	r := newRig(t, localissuer.Algorithms("RS256"))
	private := r.PrivateKey("RS256")
	r.Respond(serveKeys(keyEntry(private.Public(), "kid", "RS256-1")))
	for _, alg := range []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"} {
		want := "invalid"
		if alg == "RS256" {
			want = ""
		}
		for _, kid := range []any{"RS256-1", localissuer.Absent} {
			r.wantVerdict(t, r.Mint(nil, localissuer.Alg(alg), localissuer.SignedBy(private), localissuer.Header("kid", kid)), want)
		}
	}
}

// TestVerifyTypes configures one type, and then nothing else will do.
func TestVerifyTypes(t *testing.T) {
	r := newRigWith(t, func(i *token.Issuer) { i.Types = []string{"application/at+jwt", "text/jwt"} })
	runTokenCases(t, r, []tokenCase{
		{name: "it", opts: with("typ", "at+jwt")},
		{name: "it with a prefix", opts: with("typ", "Application/At+Jwt")},
		{name: "with a slash", opts: with("typ", "Text/jwt")},
		{name: "with a slash and a prefix", want: "invalid", opts: with("typ", "application/text/jwt")},
		{name: "empty", want: "invalid", opts: with("typ", "")},
		{name: "absent", want: "invalid", opts: with("typ", localissuer.Absent)},
		{name: "JWT", want: "invalid", opts: with("typ", "JWT")},
	})
}
