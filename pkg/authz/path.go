package authz

import (
	"fmt"
	"net/url"
	"strings"
	"unicode/utf8"
)

// splitTarget splits a request target at the first "?". It is done by hand: url.Parse takes //admin
// for an authority (CVE-2026-26205).
func splitTarget(target string) (path, query string) {
	path, query, _ = strings.Cut(target, "?")
	return path, query
}

// canonicalTarget returns the canonical path and the query of a request target. What RFC 3986 keeps out of a
// query is refused too: some server cuts there, and an HTTP/1.1 upstream would read a space as the target's end.
func canonicalTarget(target string) (path, query string, err error) {
	path, query = splitTarget(target)
	if path, err = canonicalPath(path); err != nil {
		return "", "", err
	}
	for i := range len(query) {
		if forbiddenInQuery(query[i]) {
			return "", "", fmt.Errorf("%w: character %#x in the query", ErrPathAmbiguous, query[i])
		}
	}
	return path, query, nil
}

func forbiddenInQuery(c byte) bool { return c <= ' ' || c >= 0x7f || c == '#' }

// canonicalPath decodes a path that has exactly one reading and refuses every other. A path that an
// upstream might read otherwise than we do (dot segments, double slashes, escaped separators,
// path parameters) is refused rather than repaired: the repair is where readings part.
func canonicalPath(raw string) (string, error) {
	if raw == "" || raw[0] != '/' {
		return "", fmt.Errorf("%w: it does not start with /", ErrPathAmbiguous)
	}
	for i := range len(raw) {
		if forbiddenInPath(raw[i]) {
			return "", fmt.Errorf("%w: character %#x", ErrPathAmbiguous, raw[i])
		}
	}
	decoded, err := unescape(raw)
	if err != nil {
		return "", err
	}
	if hasEmptyOrDotSegment(decoded) {
		return "", fmt.Errorf("%w: a dot segment or an empty one", ErrPathAmbiguous)
	}
	return decoded, nil
}

func unescape(raw string) (string, error) {
	if !strings.Contains(raw, "%") {
		return raw, nil
	}
	decoded, err := url.PathUnescape(raw)
	if err != nil {
		return "", fmt.Errorf("%w: bad escape", ErrPathAmbiguous)
	}
	if strings.Count(decoded, "/") != strings.Count(raw, "/") || strings.Contains(decoded, "%") ||
		!utf8.ValidString(decoded) || strings.ContainsFunc(decoded, forbiddenOnceDecoded) {
		return "", fmt.Errorf("%w: an escape hides a separator, a control character or another escape", ErrPathAmbiguous)
	}
	return decoded, nil
}

// forbiddenInPath covers what RFC 3986 keeps out of a path, and ";": a parameter that some servers
// cut off before they route. A "?" was the end of the path.
func forbiddenInPath(c byte) bool {
	return c <= ' ' || c >= 0x7f || c == '\\' || c == '#' || c == ';' || c == '?'
}

func forbiddenOnceDecoded(r rune) bool {
	return r < ' ' || (r >= 0x7f && r <= 0x9f) || strings.ContainsRune(`\#;?`, r)
}

func hasEmptyOrDotSegment(path string) bool {
	for rest, more := path[1:], true; more; {
		var segment string
		segment, rest, more = strings.Cut(rest, "/")
		if segment == "." || segment == ".." || segment == "" && more {
			return true
		}
	}
	return false
}
