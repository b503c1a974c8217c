package token

import (
	"context"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"

	"github.com/MicahParks/jwkset"
	"github.com/MicahParks/keyfunc/v3"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"
)

// RSA moduli below 2048 bits can be factored in reach (NIST SP 800-131A); above 8192 a verification takes
// milliseconds of a shared server.
const (
	minRSABits = 2048
	maxRSABits = 8192
)

// publicKey is a key that may verify signatures.
type publicKey struct {
	kid    string // "" if it has none
	alg    string // "" if any that fits
	public any
	// lookup is keyfunc's, over a store that holds this key alone.
	lookup jwt.Keyfunc
}

func (k *publicKey) fits(alg algorithm) bool {
	return (k.alg == "" || k.alg == alg.method.Alg()) && alg.fits(k.public)
}

// parseKey reads one entry of a key set, strictly, and says why it cannot be used.
func parseKey(entry jsontext.Value, algorithms allowedAlgorithms) (*publicKey, error) {
	members, err := decodeObject(entry)
	if err != nil {
		return nil, err
	}
	if err := checkKeyUse(members); err != nil {
		return nil, err
	}
	if err := checkNotPrivate(members); err != nil {
		return nil, err
	}
	jwk, err := jwkOf(members)
	if err != nil {
		return nil, err
	}
	if err := checkStrength(jwk.Key()); err != nil {
		return nil, err
	}
	key := &publicKey{kid: jwk.Marshal().KID, alg: string(jwk.Marshal().ALG), public: jwk.Key()}
	if !key.fitsAny(algorithms) {
		return nil, errors.New("it fits none of the issuer's allowed algorithms")
	}
	key.lookup, err = lookupOf(jwk)
	return key, err
}

func lookupOf(jwk jwkset.JWK) (jwt.Keyfunc, error) {
	store := jwkset.NewMemoryStorage()
	if err := store.KeyWrite(context.Background(), jwk); err != nil {
		return nil, err
	}
	found, err := keyfunc.New(keyfunc.Options{Storage: store})
	if err != nil {
		return nil, err
	}
	return found.Keyfunc, nil
}

// checkKeyUse refuses keys that are not for verifying (RFC 7517 sections 4.2 and 4.3). jwkset lets
// them pass (Wycheproof tcId 353-356, measured).
func checkKeyUse(members map[string]any) error {
	if use, present := members["use"]; present && use != "sig" {
		return errors.New("use is not sig")
	}
	operations, present := members["key_ops"]
	if !present {
		return nil
	}
	list, ok := operations.([]any)
	if !ok || !slices.Contains(list, any("verify")) {
		return errors.New("key_ops is not an array with verify")
	}
	return nil
}

// checkNotPrivate refuses a key whose private part is published with it (RFC 7518 sections 6.2.2 and 6.3.2):
// everyone who reads the key set can sign with it.
func checkNotPrivate(members map[string]any) error {
	for _, name := range []string{"d", "p", "q", "dp", "dq", "qi", "oth"} {
		if _, present := members[name]; present {
			return fmt.Errorf("its private part, %s, is published with it", name)
		}
	}
	return nil
}

// jwkOf builds the key from its public members alone: no x5c or x5u, for which jwkset would parse
// certificates. oct, a shared secret, is no key here.
func jwkOf(members map[string]any) (jwkset.JWK, error) {
	text := map[string]string{}
	for _, name := range []string{"kty", "crv", "x", "y", "n", "e", "alg", "kid"} {
		var ok bool
		if text[name], _, ok = optionalString(members, name); !ok {
			return jwkset.JWK{}, fmt.Errorf("%s is not a string", name)
		}
	}
	if len(text["kid"]) > maxKidBytes {
		return jwkset.JWK{}, fmt.Errorf("kid is longer than %d bytes", maxKidBytes)
	}
	if !slices.Contains([]string{"RSA", "EC", "OKP"}, text["kty"]) {
		return jwkset.JWK{}, errors.New("kty is not RSA, EC or OKP")
	}
	jwk, err := jwkset.NewJWKFromMarshal(jwkset.JWKMarshal{
		KTY: jwkset.KTY(text["kty"]), CRV: jwkset.CRV(text["crv"]), X: text["x"], Y: text["y"],
		N: text["n"], E: text["e"], ALG: jwkset.ALG(text["alg"]), KID: text["kid"],
	}, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
	if err != nil {
		return jwkset.JWK{}, errors.New("it is not a valid key of its type")
	}
	return jwk, nil
}

// checkStrength refuses keys that others can sign with, and RSA keys that are dear to verify with. That an
// EC point is on its curve, jwkset has checked.
func checkStrength(key any) error {
	switch public := key.(type) {
	case *rsa.PublicKey:
		return checkRSAStrength(public)
	case ed25519.PublicKey:
		if isSmallOrder(public) {
			return errors.New("the Ed25519 point is of small order")
		}
	}
	return nil
}

func checkRSAStrength(public *rsa.PublicKey) error {
	bits := public.N.BitLen()
	switch {
	case bits < minRSABits || bits > maxRSABits:
		return fmt.Errorf("the RSA modulus has %d bits, not %d to %d", bits, minRSABits, maxRSABits)
	case public.N.Bit(0) == 0:
		return errors.New("the RSA modulus is even")
	case public.E < 3 || public.E%2 == 0:
		return errors.New("the RSA exponent is not an odd number of at least 3")
	case isROCA(public.N):
		return errors.New("the RSA modulus has the ROCA fingerprint (CVE-2017-15361)")
	}
	return nil
}

func (k *publicKey) fitsAny(algorithms allowedAlgorithms) bool {
	for _, alg := range algorithms {
		if k.fits(alg) {
			return true
		}
	}
	return false
}
