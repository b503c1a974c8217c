package token

import (
	"slices"
	"strings"
)

// maxKidBytes bounds a kid, which is looked up and may be logged.
const maxKidBytes = 256

// header is the part of a JOSE header that is used. jwk, jku, x5u, x5c and x5t are not in it: a key that
// the token brings along proves nothing (CVE-2018-0114), and nothing is fetched from where it points.
type header struct {
	alg    string
	kid    string
	hasKid bool
	typ    string // "" also if absent, see hasTyp
	hasTyp bool
}

// parseHeader reads the header's members. The algorithm and type lists come later: they are the issuer's.
func parseHeader(members map[string]any) (header, error) {
	var h header
	if err := refuseExtensions(members); err != nil {
		return h, err
	}
	var ok bool
	if h.alg, ok = members["alg"].(string); !ok {
		return h, refuse(ErrMalformed, "header: alg is missing or not a string")
	}
	if h.typ, h.hasTyp, ok = optionalString(members, "typ"); !ok {
		return h, refuse(ErrMalformed, "header: typ is not a string")
	}
	if h.kid, h.hasKid, ok = optionalString(members, "kid"); !ok {
		return h, refuse(ErrMalformed, "header: kid is not a string")
	}
	if len(h.kid) > maxKidBytes {
		return h, refuse(ErrMalformed, "header: kid is longer than %d bytes", maxKidBytes)
	}
	return h, nil
}

// refuseExtensions refuses what changes how the token must be read. This verifier implements no extension,
// so any crit is one that it does not understand (RFC 7515 section 4.1.11); b64 without crit would be
// read differently by others (RFC 7797 section 6). golang-jwt accepts both (measured).
func refuseExtensions(members map[string]any) error {
	for _, name := range []string{"crit", "b64"} {
		if _, ok := members[name]; ok {
			return refuse(ErrInvalid, "header: %s is not supported", name)
		}
	}
	return nil
}

// optionalString returns a member that is a string or absent. ok is false if it is anything else, null too.
func optionalString(members map[string]any, name string) (text string, present, ok bool) {
	value, present := members[name]
	if !present {
		return "", false, true
	}
	text, ok = value.(string)
	return text, true, ok
}

// checkType says whether the issuer's list has the header's typ, which tells an access token from, say, a
// logout token that the same key signed (RFC 8725 section 3.11).
func (i *issuer) checkType(h header) error {
	fits := func(allowed string) bool {
		if allowed == "" || !h.hasTyp {
			return allowed == "" && !h.hasTyp
		}
		return mediaType(allowed) == mediaType(h.typ)
	}
	if !slices.ContainsFunc(i.Types, fits) {
		return refuse(ErrInvalid, "header: typ %s is not allowed", quoted(h.typ))
	}
	return nil
}

// mediaType brings a typ to one spelling: "application/" may be left out where no other slash is
// (RFC 7515 section 4.1.9), and media types are case-insensitive in ASCII (RFC 2045 section 5.1).
func mediaType(typ string) string {
	lower := strings.Map(lowerASCII, typ)
	subtype, ok := strings.CutPrefix(lower, "application/")
	if ok && !strings.Contains(subtype, "/") {
		return subtype
	}
	return lower
}

func lowerASCII(r rune) rune {
	if r >= 'A' && r <= 'Z' {
		return r + 'a' - 'A'
	}
	return r
}
