package token

import (
	"crypto"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"testing"
)

func TestParseKey(t *testing.T) {
	keys := weakTestKeys(t)
	octets := func(n int) string { return base64.RawURLEncoding.EncodeToString(make([]byte, n)) }
	cases := []struct {
		name   string
		public crypto.PublicKey
		with   changes
		want   string // part of the reason to skip it; "" for a key that is used
	}{
		{"RSA", keys.rsa, nil, ""},
		{"P-256", keys.p256, nil, ""},
		{"Ed25519", keys.ed25519, nil, ""},
		{"P-384, no default algorithm", keys.p384, nil, "none of the issuer's allowed algorithms"},
		{"P-521, no default algorithm", keys.p521, nil, "none of the issuer's allowed algorithms"},
		{"use sig", keys.rsa, changes{"use": "sig"}, ""},
		{"use enc", keys.rsa, changes{"use": "enc"}, "use"},
		{"use SIG", keys.rsa, changes{"use": "SIG"}, "use"},
		{"use empty", keys.rsa, changes{"use": ""}, "use"},
		{"use a number", keys.rsa, changes{"use": 1}, "use"},
		{"key_ops verify", keys.rsa, changes{"key_ops": []string{"verify"}}, ""},
		{"key_ops sign and verify", keys.rsa, changes{"key_ops": []string{"sign", "verify"}}, ""},
		{"key_ops encrypt", keys.rsa, changes{"key_ops": []string{"encrypt"}}, "key_ops"},
		{"key_ops sign", keys.rsa, changes{"key_ops": []string{"sign"}}, "key_ops"},
		{"key_ops empty", keys.rsa, changes{"key_ops": []string{}}, "key_ops"},
		{"key_ops a string", keys.rsa, changes{"key_ops": "verify"}, "key_ops"},
		{"use sig, key_ops encrypt", keys.rsa, changes{"use": "sig", "key_ops": []string{"encrypt"}}, "key_ops"},
		{"alg that fits", keys.rsa, changes{"alg": "RS256"}, ""},
		{"alg of another type", keys.rsa, changes{"alg": "ES256"}, "algorithms"},
		{"alg that the issuer may not use", keys.rsa, changes{"alg": "RS512"}, "algorithms"},
		{"alg of encryption", keys.rsa, changes{"alg": "RSA-OAEP"}, "algorithms"},
		{"alg HS256", keys.rsa, changes{"alg": "HS256"}, "algorithms"},
		{"alg a number", keys.rsa, changes{"alg": 1}, "alg is not a string"},
		{"kid a number", keys.rsa, changes{"kid": 1}, "kid is not a string"},
		{"kid of 256 bytes", keys.rsa, changes{"kid": strings.Repeat("k", 256)}, ""},
		{"kid of 257 bytes", keys.rsa, changes{"kid": strings.Repeat("k", 257)}, "kid is longer"},
		{"oct", nil, changes{"kty": "oct", "k": octets(32)}, "kty"},
		{"AKP", nil, changes{"kty": "AKP"}, "kty"},
		{"kty missing", keys.rsa, changes{"kty": nil}, "kty"},
		{"kty of another type", keys.rsa, changes{"kty": "EC"}, "not a valid key"},
		{"n missing", keys.rsa, changes{"n": nil}, "not a valid key"},
		{"n not base64", keys.rsa, changes{"n": "!!"}, "not a valid key"},
		{"n empty", keys.rsa, changes{"n": ""}, "not a valid key"},
		{"n zero", keys.rsa, changes{"n": octets(256)}, "0 bits"},
		{"n even", keys.rsa, changes{"n": number(new(big.Int).Add(modulus(2048), big.NewInt(1)))}, "even"},
		{"1024 bits", keys.rsa, changes{"n": number(modulus(1024))}, "1024 bits"},
		{"2047 bits", keys.rsa, changes{"n": number(modulus(2047))}, "2047 bits"},
		{"8192 bits", keys.rsa, changes{"n": number(modulus(8192))}, ""},
		{"8193 bits", keys.rsa, changes{"n": number(modulus(8193))}, "8193 bits"},
		{"ROCA", keys.rsa, changes{"n": number(rocaModulus())}, "ROCA"},
		{"e missing", keys.rsa, changes{"e": nil}, "not a valid key"},
		{"e 1", keys.rsa, changes{"e": number(big.NewInt(1))}, "not a valid key"},
		{"e 2", keys.rsa, changes{"e": number(big.NewInt(2))}, "exponent"},
		{"e 3", keys.rsa, changes{"e": number(big.NewInt(3))}, ""},
		{"e 65536", keys.rsa, changes{"e": number(big.NewInt(65536))}, "exponent"},
		{"e of 2^31+1", keys.rsa, changes{"e": number(big.NewInt(1<<31 + 1))}, "not a valid key"},
		{"e of 2^64+3, which wraps to 3", keys.rsa, changes{"e": "AQAAAAAAAAAD"}, "not a valid key"},
		{"crv of another curve", keys.p256, changes{"crv": "P-384"}, "not a valid key"},
		{"crv secp256k1", keys.p256, changes{"crv": "secp256k1"}, "not a valid key"},
		{"y missing", keys.p256, changes{"y": nil}, "not a valid key"},
		{"point off the curve", keys.p256, changes{"y": octets(32)}, "not a valid key"},
		{"point at zero", keys.p256, changes{"x": octets(32), "y": octets(32)}, "not a valid key"},
		{"Ed25519 key of 31 bytes", keys.ed25519, changes{"x": octets(31)}, "not a valid key"},
		{"Ed25519 key of zeros", keys.ed25519, changes{"x": octets(32)}, "small order"},
		{"X25519", keys.ed25519, changes{"crv": "X25519"}, "algorithms"},
		{"Ed448", keys.ed25519, changes{"crv": "Ed448"}, "not a valid key"},
		{"d", keys.rsa, changes{"d": number(big.NewInt(3))}, "private part, d,"},
		{"d of an EC key", keys.p256, changes{"d": octets(32)}, "private part, d,"},
		{"d null", keys.ed25519, changes{"d": json.RawMessage("null")}, "private part, d,"},
		{"p only", keys.rsa, changes{"p": "AQ"}, "private part, p,"},
		{"other primes", keys.rsa, changes{"oth": []any{}}, "private part, oth,"},
		{"x5u is not fetched or parsed", keys.rsa, changes{"x5u": ":bad:"}, ""},
		{"x5c is not parsed", keys.rsa, changes{"x5c": []string{"!!"}, "x5t": "!"}, ""},
		{"case variants do not count", keys.rsa, changes{"USE": "enc", "Kid": 1}, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			members := c.with
			if c.public != nil {
				members = jwk(c.public, c.with)
			}
			text, err := json.Marshal(members)
			if err != nil {
				t.Fatal(err)
			}
			_, err = parseKey(text, defaultAlgorithms())
			if got := fmt.Sprint(err); c.want == "" && err != nil || !strings.Contains(got, c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}
