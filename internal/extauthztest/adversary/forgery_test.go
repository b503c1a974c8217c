package adversary

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"hash"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"github.com/extauthz/extauthz/internal/extauthztest/issuertest"
	"github.com/extauthz/extauthz/internal/extauthztest/issuertest/localissuer"
)

// This file has the moves that forge signatures, and those that change a token after it was signed.

// attackerKeys are keys that no issuer has published.
type attackerKeys struct {
	ec      *ecdsa.PrivateKey
	p384    *ecdsa.PrivateKey
	rsa     *rsa.PrivateKey
	ed25519 ed25519.PrivateKey
}

func newAttackerKeys(t *testing.T) attackerKeys {
	t.Helper()
	var k attackerKeys
	var err error
	if k.ec, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	if k.p384, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	if k.rsa, err = localissuer.NewRSAKey(); err != nil {
		t.Fatal(err)
	}
	if _, k.ed25519, err = ed25519.GenerateKey(rand.Reader); err != nil {
		t.Fatal(err)
	}
	return k
}

// alg signs with the issuer's key for another algorithm, which the header names with its kid.
func alg(name string) move { return func(a *attempt) { a.alg = name } }

// signedBy signs with the key of another issuer.
func signedBy(which func(*world) *issuertest.Issuer) move {
	return func(a *attempt) {
		a.sign = func(input string) ([]byte, error) {
			return signWith(a.alg, which(a.world).PrivateKey(a.alg), input)
		}
	}
}

// signedWith signs with a key, by an algorithm that the header need not name.
func signedWith(alg string, key func(*world) crypto.PrivateKey) move {
	return func(a *attempt) {
		a.sign = func(input string) ([]byte, error) { return signWith(alg, key(a.world), input) }
	}
}

func signWith(alg string, key crypto.PrivateKey, input string) ([]byte, error) {
	method := jwt.GetSigningMethod(alg)
	if method == nil {
		return nil, fmt.Errorf("unknown algorithm %q", alg)
	}
	return method.Sign(input, key)
}

func attackersEC(w *world) crypto.PrivateKey { return w.attacker.ec }

func attackersP384(w *world) crypto.PrivateKey { return w.attacker.p384 }

func attackersRSA(w *world) crypto.PrivateKey { return w.attacker.rsa }

func attackersEd25519(w *world) crypto.PrivateKey { return w.attacker.ed25519 }

// homesKey is the home issuer's key for an algorithm.
func homesKey(alg string) func(*world) crypto.PrivateKey {
	return func(w *world) crypto.PrivateKey { return w.home.PrivateKey(alg) }
}

// mac signs with a shared secret.
func mac(alg string, secret func(*world) []byte) move {
	hashes := map[string]func() hash.Hash{"HS256": sha256.New, "HS384": sha512.New384, "HS512": sha512.New}
	return func(a *attempt) {
		a.header["alg"] = alg
		a.sign = func(input string) ([]byte, error) {
			h := hmac.New(hashes[alg], secret(a.world))
			h.Write([]byte(input))
			return h.Sum(nil), nil
		}
	}
}

// publicPEM is the home issuer's public key in the form in which servers keep it.
func publicPEM(alg string) func(*world) []byte {
	return func(w *world) []byte {
		der, err := x509.MarshalPKIXPublicKey(w.home.PrivateKey(alg).Public())
		if err != nil {
			panic(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	}
}

// publicDER is the same without its armour.
func publicDER(alg string) func(*world) []byte {
	return func(w *world) []byte {
		block, _ := pem.Decode(publicPEM(alg)(w))
		return block.Bytes
	}
}

// publicNumber is one number of the home issuer's JWK, as text.
func publicNumber(alg, name string) func(*world) []byte {
	return func(w *world) []byte {
		return []byte(localissuer.JWK(w.home.PrivateKey(alg).Public())[name].(string))
	}
}

func constant(text string) func(*world) []byte { return func(*world) []byte { return []byte(text) } }

// own puts a public key of the attacker's into the header.
func own(name string, value func(*world) any) move {
	return func(a *attempt) { a.header[name] = value(a.world) }
}

func attackersJWK(w *world) any { return localissuer.JWK(w.attacker.ec.Public()) }

func attackersURL(w *world) any { return w.stranger.JWKSURL() }

// rewrite changes the finished token.
func rewrite(change func(string) string) move {
	return func(a *attempt) { a.rewrites = append(a.rewrites, change) }
}

// segment changes one segment of the finished token: 0 is the header, 1 the claims, 2 the signature.
func segment(n int, change func(string) string) move {
	return rewrite(func(token string) string {
		segments := strings.Split(token, ".")
		segments[n] = change(segments[n])
		return strings.Join(segments, ".")
	})
}

// signature replaces the signature's text.
func signature(text string) move { return segment(2, func(string) string { return text }) }

// signatureBytes changes what the signature decodes to.
func signatureBytes(change func([]byte) []byte) move { return segment(2, decoded(change)) }

// decoded changes what a segment decodes to.
func decoded(change func([]byte) []byte) func(string) string {
	return func(segment string) string {
		bytes, err := base64.RawURLEncoding.DecodeString(segment)
		if err != nil {
			panic(err) // the segment is one that was encoded here
		}
		return base64.RawURLEncoding.EncodeToString(change(bytes))
	}
}

// replaced changes text in what a segment decodes to.
func replaced(old, with string) func(string) string {
	return decoded(func(b []byte) []byte { return []byte(strings.Replace(string(b), old, with, 1)) })
}

func appended(text string) func(string) string { return func(s string) string { return s + text } }

func prepended(text string) func(string) string { return func(s string) string { return text + s } }

// unusedBit sets the last bit of the last character, which belongs to no byte of the segment.
func unusedBit(segment string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, segment[len(segment)-1])
	return segment[:len(segment)-1] + alphabet[last|1:last|1+1]
}
