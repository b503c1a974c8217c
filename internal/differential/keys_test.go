package differential

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"os"
	"testing"
)

// key signs, and is published as jwk. The keys are those of RFC examples and no signature is random, so that the corpus
// is the same in each run.
type key struct {
	kid, alg string
	jwk      map[string]any
	sign     func(input string) []byte
	private  crypto.Signer
}

func encode(text []byte) string { return base64.RawURLEncoding.EncodeToString(text) }

// example is a key and a token out of an RFC.
type example struct {
	Source string
	Key    struct{ N, E, D, P, Q, X, Y string }
}

// testKeys returns the issuer's keys, one for each algorithm, and those of somebody else under the same names.
func testKeys(t *testing.T) (own, others []key) {
	t.Helper()
	text, err := os.ReadFile("../../pkg/token/testdata/rfc.json")
	if err != nil {
		t.Fatal(err)
	}
	var examples []example
	if err := json.Unmarshal(text, &examples); err != nil {
		t.Fatal(err)
	}
	bySource := map[string]example{}
	for _, e := range examples {
		bySource[e.Source] = e
	}
	own = []key{
		rsaKey(t, bySource["RFC 7515 appendix A.2"]),
		ecKey(t, number(t, bySource["RFC 7515 appendix A.3"].Key.D)),
		edKey(ed25519.NewKeyFromSeed(bytesOf(t, bySource["RFC 8037 appendix A.4"].Key.D))),
	}
	others = []key{
		rsaKey(t, bySource["RFC 7520 section 4.1"]),
		ecKey(t, big.NewInt(4711)),
		edKey(ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))),
	}
	return own, others
}

func bytesOf(t *testing.T, text string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(b) == 0 {
		t.Fatalf("%q: %v", text, err)
	}
	return b
}

func number(t *testing.T, text string) *big.Int {
	t.Helper()
	return new(big.Int).SetBytes(bytesOf(t, text))
}

func rsaKey(t *testing.T, e example) key {
	t.Helper()
	private := &rsa.PrivateKey{
		PublicKey: rsa.PublicKey{N: number(t, e.Key.N), E: 65537},
		D:         number(t, e.Key.D), Primes: []*big.Int{number(t, e.Key.P), number(t, e.Key.Q)},
	}
	private.Precompute()
	return key{
		kid: "rsa", alg: "RS256", private: private,
		jwk:  map[string]any{"kty": "RSA", "n": e.Key.N, "e": "AQAB"},
		sign: func(input string) []byte { return signed(private, input, crypto.SHA256) },
	}
}

func ecKey(t *testing.T, d *big.Int) key {
	t.Helper()
	private, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), d.FillBytes(make([]byte, 32)))
	if err != nil {
		t.Fatal(err)
	}
	point, err := private.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return key{
		kid: "ec", alg: "ES256", private: private,
		jwk: map[string]any{"kty": "EC", "crv": "P-256", "x": encode(point[1:33]), "y": encode(point[33:])},
		sign: func(input string) []byte {
			r, s := ecdsaSignature(private, input)
			return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
		},
	}
}

func edKey(private ed25519.PrivateKey) key {
	return key{
		kid: "ed", alg: "EdDSA", private: private,
		jwk:  map[string]any{"kty": "OKP", "crv": "Ed25519", "x": encode(private[32:])},
		sign: func(input string) []byte { return ed25519.Sign(private, []byte(input)) },
	}
}

// signed signs the hash of the input, with an RSA or ECDSA key and without randomness.
func signed(private crypto.Signer, input string, hash crypto.Hash) []byte {
	h := hash.New()
	h.Write([]byte(input))
	signature, err := private.Sign(nil, h.Sum(nil), hash)
	if err != nil {
		panic(err)
	}
	return signature
}

// ecdsaSignature is deterministic (RFC 6979), because it gets no randomness.
func ecdsaSignature(private *ecdsa.PrivateKey, input string) (r, s *big.Int) {
	digest := sha256.Sum256([]byte(input))
	der, err := private.Sign(nil, digest[:], crypto.SHA256)
	if err != nil {
		panic(err)
	}
	size := int(der[3])
	return new(big.Int).SetBytes(der[4 : 4+size]), new(big.Int).SetBytes(der[6+size:])
}

// published is the issuer's key set.
func published(keys []key) map[string]any {
	var entries []any
	for _, k := range keys {
		entry := map[string]any{"kid": k.kid, "alg": k.alg, "use": "sig"}
		for name, value := range k.jwk {
			entry[name] = value
		}
		entries = append(entries, entry)
	}
	return map[string]any{"keys": entries}
}
