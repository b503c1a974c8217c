package authz

import (
	"fmt"
	"strings"

	"github.com/extauthz/extauthz/pkg/keys"
)

// bearerFrom returns the one credential that the request carries in the named headers.
// ErrTokenMissing means that there is none at all; a credential that is there but is no bearer
// token is malformed, never absent, so that it cannot pass for an anonymous request.
func bearerFrom(h headers, names []string) (string, error) {
	var name, value string
	for _, candidate := range names {
		values := h[candidate]
		switch {
		case len(values) > 1: // an empty copy too: Envoy's joined form shows it as a comma
			return "", fmt.Errorf("%w: copies of header %s", ErrCredentialsAmbiguous, candidate)
		case len(values) == 0 || values[0] == "":
			continue
		case value != "":
			return "", fmt.Errorf("%w: several headers", ErrCredentialsAmbiguous)
		}
		name, value = candidate, values[0]
	}
	switch {
	case value == "":
		return "", ErrTokenMissing
	case strings.Contains(value, ","): // how Envoy joins two headers; no token holds a comma
		return "", fmt.Errorf("%w: a list in header %s", ErrCredentialsAmbiguous, name)
	}
	return bearerToken(name, value)
}

// isVirtualKey reports whether a credential is a virtual key. One with the two dots of a JWT is not: a
// key never has them.
func isVirtualKey(bearer string) bool {
	return strings.HasPrefix(bearer, keys.SecretPrefix) && strings.Count(bearer, ".") != 2
}

// bearerToken takes the token out of `Bearer TOKEN` (RFC 6750 section 2.1; the scheme in any case,
// RFC 9110 section 11.1). A header other than authorization may hold the bare token.
func bearerToken(name, value string) (string, error) {
	scheme, bearer, found := strings.Cut(value, " ")
	if found && strings.EqualFold(scheme, "bearer") {
		return bearer, nil
	}
	if name != "authorization" && !found {
		return value, nil
	}
	return "", errNotBearer
}
