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

// verifySignature returns the keys that hold the one that has signed the token, with an allowed algorithm.
// golang-jwt does the arithmetic alone: its parser takes members twice, text after the claims and dates that
// overflow, and joins its errors (CVE-2024-51744). keyfunc hands the key out, by the name and the algorithm that were
// decided here: so both are checked once more, by code that is not ours.
func (i *issuer) verifySignature(ctx context.Context, t jws) (*keySet, error) {
	if err := i.checkType(t.header); err != nil {
		return nil, err
	}
	// The configuration decides which algorithm is good, never the token (RFC 8725 section 3.1).
	alg, ok := i.algorithms[t.header.alg]
	if !ok {
		return nil, refuse(ErrInvalid, "header: alg %s is not allowed", quoted(t.header.alg))
	}
	key, set, err := i.keys.keyFor(ctx, t.header, alg)
	if err != nil {
		return nil, err
	}
	public, err := key.lookup(&jwt.Token{Method: alg.method, Header: map[string]any{"alg": alg.method.Alg(), "kid": key.kid}})
	if err != nil {
		return nil, refuse(ErrInvalid, "the key %s is not for %s", quoted(key.kid), alg.method.Alg())
	}
	holds := false // and stays so if the check is not made
	err = i.around(ctx, func() error {
		holds = alg.method.Verify(t.signed, t.signature, public) == nil
		return nil
	})
	switch {
	case err != nil:
		return nil, err
	case !holds:
		return nil, refuse(ErrInvalid, "the signature does not hold for kid %s", quoted(key.kid))
	}
	return set, nil
}
