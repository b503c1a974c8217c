package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"maps"
	"math/big"
	"slices"
	"testing"

	"github.com/extauthz/extauthz/internal/extauthztest/issuertest/localissuer"
)

// testKeys are public keys of each kind.
type testKeys struct {
	rsa     *rsa.PublicKey
	p256    *ecdsa.PublicKey
	p384    *ecdsa.PublicKey
	p521    *ecdsa.PublicKey
	ed25519 ed25519.PublicKey
}

// weakTestKeys makes keys by arithmetic, not by generating primes: they verify nothing, and take no time.
func weakTestKeys(t testing.TB) testKeys {
	t.Helper()
	curve := func(c elliptic.Curve) *ecdsa.PublicKey {
		private, err := ecdsa.GenerateKey(c, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return &private.PublicKey
	}
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return testKeys{
		rsa:  &rsa.PublicKey{N: modulus(2048), E: 65537},
		p256: curve(elliptic.P256()), p384: curve(elliptic.P384()), p521: curve(elliptic.P521()),
		ed25519: public,
	}
}

// modulus is an odd number of so many bits that is no product of known primes.
func modulus(bits uint) *big.Int {
	n := new(big.Int).Lsh(big.NewInt(3), bits-2)
	return n.Add(n, big.NewInt(12345))
}

// jwk is the JWK of a public key with changes; nil removes a member.
func jwk(public crypto.PublicKey, changes map[string]any) map[string]any {
	members := localissuer.JWK(public)
	maps.Copy(members, changes)
	maps.DeleteFunc(members, func(_ string, value any) bool { return value == nil })
	return members
}

func setText(t testing.TB, entries ...any) []byte {
	t.Helper()
	text, err := json.Marshal(map[string]any{"keys": entries})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func defaultAlgorithms() allowedAlgorithms {
	return allowed(Issuer{}.withDefaults().Algorithms)
}

func number(n *big.Int) string { return base64.RawURLEncoding.EncodeToString(n.Bytes()) }

// changes is a short name for a table's sake.
type changes = map[string]any

// TestFits is the table of algorithms and keys: exactly the listed pairs go together.
func TestFits(t *testing.T) {
	keys := weakTestKeys(t)
	pairs := map[string][]string{
		"rsa":  {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"},
		"p256": {"ES256"}, "p384": {"ES384"}, "p521": {"ES512"}, "ed25519": {"EdDSA"},
	}
	public := map[string]crypto.PublicKey{
		"rsa": keys.rsa, "p256": keys.p256, "p384": keys.p384, "p521": keys.p521, "ed25519": keys.ed25519,
	}
	for name, key := range public {
		for alg, a := range allowed(algorithmNames()) {
			if got, want := a.fits(key), slices.Contains(pairs[name], alg); got != want {
				t.Errorf("%s fits %s: %v, want %v", alg, name, got, want)
			}
			if pinned := (&publicKey{public: key, alg: "RS256"}).fits(a); pinned != (name == "rsa" && alg == "RS256") {
				t.Errorf("a %s key with alg RS256 fits %s: %v", name, alg, pinned)
			}
		}
		if (algorithm{}).fits(key) {
			t.Errorf("the zero algorithm fits %s", name)
		}
	}
}

// TestFind is the table of kid rules: which key a header gets, or none.
func TestFind(t *testing.T) {
	keys := weakTestKeys(t)
	rsaKey := &publicKey{kid: "rsa", public: keys.rsa}
	pinned := &publicKey{kid: "pinned", alg: "RS512", public: keys.rsa}
	first, second := &publicKey{kid: "ec1", public: keys.p256}, &publicKey{kid: "ec2", public: keys.p256}
	p384, nameless := &publicKey{kid: "p384", public: keys.p384}, &publicKey{public: keys.ed25519}
	set := &keySet{keys: []*publicKey{rsaKey, pinned, first, second, p384, nameless}, byKid: map[string]*publicKey{}}
	set.index()
	for _, c := range []struct {
		kid  string // "-" for a header without
		alg  string
		want *publicKey
	}{
		{"rsa", "RS256", rsaKey}, {"rsa", "PS512", rsaKey}, {"rsa", "ES256", nil}, {"rsa", "EdDSA", nil},
		{"pinned", "RS512", pinned}, {"pinned", "RS256", nil},
		{"ec1", "ES256", first}, {"ec2", "ES256", second}, {"ec1", "ES384", nil}, {"ec1", "RS256", nil},
		{"p384", "ES384", p384}, {"p384", "ES256", nil},
		{"RSA", "RS256", nil}, {"", "EdDSA", nil}, {"nobody", "RS256", nil},
		{"-", "EdDSA", nameless}, {"-", "ES384", p384}, {"-", "RS256", rsaKey},
		{"-", "ES256", nil}, {"-", "RS512", nil}, {"-", "ES512", nil},
	} {
		head := header{kid: c.kid, hasKid: c.kid != "-"}
		got, err := set.find(head, allowed(algorithmNames())[c.alg])
		if got != c.want || (err == nil) != (c.want != nil) {
			t.Errorf("kid %q, %s: got %+v, %v; want %+v", c.kid, c.alg, got, err, c.want)
		}
	}
}
