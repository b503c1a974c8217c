// Package token verifies bearer JWTs: a token becomes verified [Claims] of one configured issuer,
// or a typed error.
//
// It is strict where the stock libraries are not (each rule is named beside its check). It trusts
// the operator's issuer configuration and the keys that the issuer's JWKS endpoint serves over
// HTTPS; it reads nothing from a token before the token's signature holds, but for the header
// and the issuer's name. What the claims mean is left to package teams.
package token

import "errors"

// IssuerURL names a token issuer, byte for byte as in the iss claim.
type IssuerURL string

// The reasons why a token is refused. Every error of [Verifier.Verify] wraps exactly one of them.
var (
	// ErrMalformed says that the text is not a compact JWS in the strict form that RFC 7515 requires.
	ErrMalformed = errors.New("token malformed")
	// ErrInvalid says that the token is well formed and must not be trusted: its algorithm, key,
	// signature, type or a claim is wrong.
	ErrInvalid = errors.New("token invalid")
	// ErrExpired says that the token's exp has passed, leeway included.
	ErrExpired = errors.New("token expired")
	// ErrNotYetValid says that the token's nbf or iat is in the future, leeway included.
	ErrNotYetValid = errors.New("token not yet valid")
	// ErrIssuerUnknown says that iss is missing or not exactly a configured issuer.
	ErrIssuerUnknown = errors.New("token issuer unknown")
	// ErrAudienceMismatch says that aud holds none of the issuer's configured audiences.
	ErrAudienceMismatch = errors.New("token audience mismatch")
	// ErrIssuerUnavailable says that the issuer's keys are not known and cannot be had now: the token
	// was neither accepted nor refused.
	ErrIssuerUnavailable = errors.New("token issuer unavailable")
)
