package token

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// MaxValueBytes is the longest claim value that can identify anything.
const MaxValueBytes = 1024

// Claims are the verified claims of one token. The zero value holds none.
type Claims struct {
	Issuer IssuerURL
	// Expiry is the token's exp, without leeway.
	Expiry time.Time
	// Values is the claims object as decoded from JSON; numbers are json.Number. It must not be changed.
	Values map[string]any

	proof proof
}

// proof is what made the claims trustworthy. The zero value proves nothing.
type proof struct {
	issuer *issuer
	keys   *keySet // that held the key
	// from and until bound the times at which the token's dates pass, leeway included.
	from, until time.Time
}

// Current reports whether verifying the token anew would still accept it: its dates pass now, and its
// issuer's keys are those that it was verified by. Whoever keeps verified claims asks it each time.
func (c Claims) Current() bool {
	p := c.proof
	if p.issuer == nil || p.keys == nil {
		return false
	}
	now := p.issuer.keys.opts.Now()
	return p.issuer.keys.inUseAt(now) == p.keys && !now.Before(p.from) && now.Before(p.until)
}

// Path is a parsed claim path: member names from the claims object inwards.
type Path struct {
	text  string
	names []string
}

// ParsePath parses a claim path. A dot descends into an object, `\.` is a dot in a name and `\\` a
// backslash; there is no other escape, and no way into an array.
func ParsePath(text string) (Path, error) {
	var names []string
	var name strings.Builder
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && i+1 < len(text) && (text[i+1] == '.' || text[i+1] == '\\'):
			i++
			name.WriteByte(text[i])
		case c == '\\':
			return Path{}, fmt.Errorf(`claim path %q: a backslash must be followed by "." or "\"`, text)
		case c == '.':
			names = append(names, name.String())
			name.Reset()
		default:
			name.WriteByte(c)
		}
	}
	names = append(names, name.String())
	for _, n := range names {
		if n == "" {
			return Path{}, fmt.Errorf("claim path %q: a name is empty", text)
		}
	}
	return Path{text: text, names: names}, nil
}

// String returns the path as it was written. It is empty for the zero Path, which finds nothing.
func (p Path) String() string { return p.text }

// Lookup returns the value at the path, and whether there is one. A JSON null is no value.
func (c Claims) Lookup(p Path) (any, bool) {
	if len(p.names) == 0 {
		return nil, false
	}
	var value any = c.Values
	for _, name := range p.names {
		object, ok := value.(map[string]any)
		if !ok {
			return nil, false
		}
		value, ok = object[name]
		if !ok {
			return nil, false
		}
	}
	return value, value != nil
}

// Text returns the usable string at the path. A value is usable if it is a non-empty string of at
// most [MaxValueBytes] without control characters; anything else counts as missing, because a
// number or a list has no single spelling to compare byte for byte.
func (c Claims) Text(p Path) (string, bool) {
	value, _ := c.Lookup(p)
	text, ok := value.(string)
	if !ok || !usable(text) {
		return "", false
	}
	return text, true
}

// List returns the usable strings at the path, in token order: those of an array, or the one
// string. A string is never taken apart; see [Claims.Words].
func (c Claims) List(p Path) []string {
	value, _ := c.Lookup(p)
	switch value := value.(type) {
	case string:
		if usable(value) {
			return []string{value}
		}
	case []any:
		var list []string
		for _, element := range value {
			if text, ok := element.(string); ok && usable(text) {
				list = append(list, text)
			}
		}
		return list
	}
	return nil
}

// Words returns the strings at the path like [Claims.List], but takes a single string apart at
// spaces: the form of the scope claim (RFC 8693 section 4.2). Only U+0020 parts words (RFC 6749 section
// 3.3): other white space would make two scopes of what the issuer granted as one.
func (c Claims) Words(p Path) []string {
	value, _ := c.Lookup(p)
	text, ok := value.(string)
	if !ok {
		return c.List(p)
	}
	if strings.ContainsFunc(text, isControl) {
		return nil
	}
	words := strings.FieldsFunc(text, func(r rune) bool { return r == ' ' })
	return slices.DeleteFunc(words, func(word string) bool { return !usable(word) })
}

func usable(text string) bool {
	return text != "" && len(text) <= MaxValueBytes && utf8.ValidString(text) && !strings.ContainsFunc(text, isControl)
}

// isControl covers C0, DEL and C1, and the line and paragraph separators that some log readers break at.
func isControl(r rune) bool {
	return r < 0x20 || (r >= 0x7f && r <= 0x9f) || r == '\u2028' || r == '\u2029'
}
