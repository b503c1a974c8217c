package token

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"slices"

	"github.com/golang-jwt/jwt/v5"
)

// algorithm is a signature algorithm that an issuer may allow. HMAC and "none" are not among them: with
// HMAC in the verifier, an issuer's public key could be used as a shared secret (CVE-2016-10555).
type algorithm struct {
	method jwt.SigningMethod
	curve  elliptic.Curve // of the ECDSA algorithms only
}

// algorithms lists every supported algorithm (RFC 7518 section 3.1, RFC 8037 section 3.1).
func algorithms() []algorithm {
	return []algorithm{
		{method: jwt.SigningMethodRS256}, {method: jwt.SigningMethodRS384}, {method: jwt.SigningMethodRS512},
		{method: strictPSS(jwt.SigningMethodPS256)}, {method: strictPSS(jwt.SigningMethodPS384)},
		{method: strictPSS(jwt.SigningMethodPS512)},
		{method: jwt.SigningMethodES256, curve: elliptic.P256()},
		{method: jwt.SigningMethodES384, curve: elliptic.P384()},
		{method: jwt.SigningMethodES512, curve: elliptic.P521()},
		{method: jwt.SigningMethodEdDSA},
	}
}

// strictPSS requires a salt as long as the hash (RFC 7518 section 3.5); golang-jwt verifies any.
func strictPSS(method *jwt.SigningMethodRSAPSS) *jwt.SigningMethodRSAPSS {
	strict := *method
	strict.VerifyOptions = nil // then those for signing count
	return &strict
}

func algorithmNames() []string {
	var names []string
	for _, a := range algorithms() {
		names = append(names, a.method.Alg())
	}
	return names
}

// allowedAlgorithms are an issuer's, by the name in alg.
type allowedAlgorithms map[string]algorithm

func allowed(names []string) allowedAlgorithms {
	list := allowedAlgorithms{}
	for _, a := range algorithms() {
		if slices.Contains(names, a.method.Alg()) {
			list[a.method.Alg()] = a
		}
	}
	return list
}

// fits says whether the public key is of the algorithm's family. For ECDSA the curve counts too:
// golang-jwt checks only the signature's length, so ES256 would go with any curve (RFC 7518 section 3.4).
func (a algorithm) fits(key any) bool {
	switch a.method.(type) {
	case *jwt.SigningMethodRSA, *jwt.SigningMethodRSAPSS:
		_, ok := key.(*rsa.PublicKey)
		return ok
	case *jwt.SigningMethodECDSA:
		public, ok := key.(*ecdsa.PublicKey)
		return ok && public.Curve == a.curve
	case *jwt.SigningMethodEd25519:
		_, ok := key.(ed25519.PublicKey)
		return ok
	}
	return false
}
