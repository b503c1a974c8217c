package token

import (
	"context"
	"strconv"

	"github.com/golang-jwt/jwt/v5"
)

// maxQuotedBytes is how much of a name that a token chose goes into a log line.
const maxQuotedBytes = 64

// quoted makes a name from outside safe to log.
func quoted(name string) string {
	if len(name) > maxQuotedBytes {
		return strconv.QuoteToASCII(name[:maxQuotedBytes]) + "…"
	}
	return strconv.QuoteToASCII(name)
}

// newParser returns golang-jwt's parser for the signature alone: this package checks the claims itself,
// because golang-jwt's dates overflow and its errors are joined (CVE-2024-51744).
func newParser(algorithms []string) *jwt.Parser {
	return jwt.NewParser(jwt.WithValidMethods(algorithms), jwt.WithStrictDecoding(), jwt.WithoutClaimsValidation())
}

// verifySignature returns the keys that hold the one that has signed the token, with an allowed algorithm.
func (i *issuer) verifySignature(ctx context.Context, raw string, h header) (*keySet, error) {
	if err := i.checkType(h); err != nil {
		return nil, err
	}
	// The configuration decides which algorithm is good, never the token (RFC 8725 section 3.1).
	alg, ok := i.algorithms[h.alg]
	if !ok {
		return nil, refuse(ErrInvalid, "header: alg %s is not allowed", quoted(h.alg))
	}
	key, set, err := i.keys.keyFor(ctx, h, alg)
	if err != nil {
		return nil, err
	}
	token, err := i.parser.ParseWithClaims(raw, &unreadClaims{}, key.lookup)
	if err != nil || !token.Valid {
		return nil, refuse(ErrInvalid, "the signature does not hold for kid %s", quoted(key.kid))
	}
	return set, nil
}

// unreadClaims keeps golang-jwt from decoding the claims: they have been decoded, strictly, once.
type unreadClaims struct{ jwt.Claims }

// UnmarshalJSON implements [encoding/json.Unmarshaler] and reads nothing.
func (*unreadClaims) UnmarshalJSON([]byte) error { return nil }
