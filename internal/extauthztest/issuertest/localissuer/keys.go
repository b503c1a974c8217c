package localissuer

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"fmt"
	"math/big"
)

// key is a signing key and how it is published.
type key struct {
	kid    string
	alg    string
	signer crypto.Signer
}

// NewRSAKey generates a 2048-bit RSA key; it takes about 0.1 s.
func NewRSAKey() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) }

// generate makes a key for each algorithm. Generation n puts n into the kids, so that they are distinct
// within the issuer.
func (i *Issuer) generate(n int) ([]key, error) {
	keys := make([]key, 0, len(i.options.algorithms))
	for _, alg := range i.options.algorithms {
		signer, err := i.newSigner(alg)
		if err != nil {
			return nil, fmt.Errorf("localissuer: a key for %s: %w", alg, err)
		}
		keys = append(keys, key{kid: fmt.Sprintf("%s-%d", alg, n), alg: alg, signer: signer})
	}
	return keys, nil
}

func (i *Issuer) newSigner(alg string) (crypto.Signer, error) {
	switch alg {
	case "RS256", "RS384", "RS512", "PS256", "PS384", "PS512":
		return i.options.newRSAKey()
	case "ES256":
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ES384":
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "ES512":
		return ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case "EdDSA":
		_, private, err := ed25519.GenerateKey(rand.Reader)
		return private, err
	}
	return nil, fmt.Errorf("unknown algorithm")
}

// JWK returns the members of a public key's JWK (RFC 7517, RFC 7518 section 6, RFC 8037): kty and the
// numbers. It returns nil for a key that is not RSA, ECDSA or Ed25519.
func JWK(public crypto.PublicKey) map[string]any {
	switch public := public.(type) {
	case *rsa.PublicKey:
		return map[string]any{
			"kty": "RSA", "n": encode(public.N.Bytes()), "e": encode(big.NewInt(int64(public.E)).Bytes()),
		}
	case *ecdsa.PublicKey:
		point, err := public.Bytes()
		if err != nil {
			return nil
		}
		size := (len(point) - 1) / 2 // after the byte that says "uncompressed"
		return map[string]any{
			"kty": "EC", "crv": public.Curve.Params().Name,
			"x": encode(point[1 : 1+size]), "y": encode(point[1+size:]),
		}
	case ed25519.PublicKey:
		return map[string]any{"kty": "OKP", "crv": "Ed25519", "x": encode(public)}
	}
	return nil
}

// published is the key as the issuer's JWKS shows it.
func (k key) published() map[string]any {
	jwk := JWK(k.signer.Public())
	jwk["kid"], jwk["alg"], jwk["use"] = k.kid, k.alg, "sig"
	return jwk
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
