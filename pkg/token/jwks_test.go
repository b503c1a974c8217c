package token

import (
	"fmt"
	"strings"
	"testing"
)

func TestParseKeySet(t *testing.T) {
	keys := weakTestKeys(t)
	entry := func(kid string) map[string]any { return jwk(keys.ed25519, changes{"kid": kid}) }
	one := string(setText(t, entry("a")))
	many := make([]any, 101)
	for n := range many {
		many[n] = entry(fmt.Sprint(n))
	}
	cases := []struct {
		name string
		text string
		keys int // -1 for a set that is refused
	}{
		{"one", one, 1},
		{"no array", `{"keys":{}}`, -1},
		{"keys null", `{"keys":null}`, -1},
		{"no keys", `{"Keys":[]}`, -1},
		{"empty", `{"keys":[]}`, -1},
		{"an array", `[` + one + `]`, -1},
		{"empty text", ``, -1},
		{"cut short", one[:len(one)-1], -1},
		{"cut short in a key", one[:len(one)-8], -1},
		{"text after", one + `x`, -1},
		{"keys twice", `{"keys":[],` + one[1:], -1},
		{"other members", `{"x":{"keys":[1]},"x":2,` + one[1:], 1},
		{"100 keys", string(setText(t, many[:100]...)), 100},
		{"101 keys", string(setText(t, many...)), -1},
		{"entries that are no objects", string(setText(t, 1, nil, "x", []any{}, entry("a"))), 1},
		{"an entry with a member twice", `{"keys":[{"kty":"OKP","kty":"OKP"},` + one[9:], 1},
		{"an entry with bad UTF-8", "{\"keys\":[{\"kid\":\"\xff\"}," + one[9:], 1},
		{"an entry 40 deep", `{"keys":[` + strings.Repeat(`[`, 40) + strings.Repeat(`]`, 40) + `,` + one[9:], 1},
		{"two of one kid", string(setText(t, entry("a"), entry("b"), entry("a"))), 1},
		{"only two of one kid", string(setText(t, entry("a"), entry("a"))), -1},
		{"one kid, but one is for encryption", string(setText(t, entry("a"), jwk(keys.rsa, changes{"kid": "a", "use": "enc"}))), 1},
		{"two without kid", string(setText(t, jwk(keys.ed25519, nil), jwk(keys.p256, nil))), 2},
		{"two with an empty kid", string(setText(t, entry(""), jwk(keys.p256, changes{"kid": ""}))), 2},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			set, err := parseKeySet([]byte(c.text), defaultAlgorithms())
			switch {
			case c.keys < 0 && err == nil:
				t.Errorf("accepted with %d keys", len(set.keys))
			case c.keys >= 0 && (err != nil || len(set.keys) != c.keys):
				t.Errorf("%+v, %v; want %d keys", set, err, c.keys)
			}
		})
	}
}

// TestSkippedSaysWhy checks that a duplicate kid is named for the operator, shortened and escaped.
func TestSkippedSaysWhy(t *testing.T) {
	keys := weakTestKeys(t)
	kid := "a\n" + strings.Repeat("k", 100)
	entry := jwk(keys.ed25519, changes{"kid": kid})
	set, err := parseKeySet(setText(t, entry, entry, jwk(keys.p256, nil)), defaultAlgorithms())
	if err != nil {
		t.Fatal(err)
	}
	if len(set.skipped) != 2 || !strings.HasPrefix(set.skipped[0], `kid "a\nkkk`) || len(set.skipped[0]) > 100 {
		t.Errorf("skipped: %q", set.skipped)
	}
}
