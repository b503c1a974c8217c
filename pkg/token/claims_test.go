package token_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/extauthz/extauthz/pkg/token"
)

func mustPath(t *testing.T, text string) token.Path {
	t.Helper()
	path, err := token.ParsePath(text)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func exampleClaims() token.Claims {
	return token.Claims{Values: map[string]any{
		"sub": "alice", "n": json.Number("7"), "yes": true, "nothing": nil, "empty": "",
		"realm_access": map[string]any{"roles": []any{"a", "b"}, "": "unnamed"},
		"a.b":          "dotted", `a\b`: "backslashed",
		"mixed": []any{"x", json.Number("1"), nil, "", []any{"y"}, "z\x00", "w"},
		"scope": "read  write:all ", "odd": "a\u00a0admin b\u3000c", "tabs": "a\tb", "bell": "a\x07 b",
		"long": strings.Repeat("x", token.MaxValueBytes), "longer": strings.Repeat("x", token.MaxValueBytes+1),
		"c1": "a\u0085", "line": "a\u2028", "utf8": "a\xff", "space": " a ", "del": "a\x7f",
	}}
}

func TestText(t *testing.T) {
	claims := exampleClaims()
	for path, want := range map[string]string{
		"sub": "alice", `a\.b`: "dotted", `a\\b`: "backslashed", "space": " a ", "long": strings.Repeat("x", token.MaxValueBytes),
		"n": "", "yes": "", "nothing": "", "empty": "", "realm_access": "", "mixed": "", "missing": "", "sub.x": "",
		"longer": "", "c1": "", "line": "", "utf8": "", "del": "", "bell": "", "Sub": "", "mixed.0": "", "realm_access.roles.0": "",
	} {
		got, ok := claims.Text(mustPath(t, path))
		if got != want || ok != (want != "") {
			t.Errorf("%s: %.20q %v, want %.20q", path, got, ok, want)
		}
	}
}

func TestListAndWords(t *testing.T) {
	claims := exampleClaims()
	for path, want := range map[string][2][]string{
		"realm_access.roles": {{"a", "b"}, {"a", "b"}},
		"mixed":              {{"x", "w"}, {"x", "w"}},
		"scope":              {{"read  write:all "}, {"read", "write:all"}},
		"sub":                {{"alice"}, {"alice"}},
		"odd":                {{"a\u00a0admin b\u3000c"}, {"a\u00a0admin", "b\u3000c"}},
		"longer":             {nil, nil},
		"tabs":               {nil, nil},
		"bell":               {nil, nil}, "n": {nil, nil}, "missing": {nil, nil}, "realm_access": {nil, nil}, "empty": {nil, nil},
	} {
		if got := claims.List(mustPath(t, path)); !slices.Equal(got, want[0]) {
			t.Errorf("list %s: %q, want %q", path, got, want[0])
		}
		if got := claims.Words(mustPath(t, path)); !slices.Equal(got, want[1]) {
			t.Errorf("words %s: %q, want %q", path, got, want[1])
		}
	}
}

func TestLookup(t *testing.T) {
	claims := exampleClaims()
	if value, ok := claims.Lookup(mustPath(t, "nothing")); ok {
		t.Errorf("null is %v", value)
	}
	if value, ok := claims.Lookup(mustPath(t, "n")); !ok || fmt.Sprint(value) != "7" {
		t.Errorf("n is %v", value)
	}
	if value, ok := claims.Lookup(token.Path{}); ok {
		t.Errorf("the zero path finds %v", value)
	}
	if value, ok := (token.Claims{}).Lookup(mustPath(t, "sub")); ok {
		t.Errorf("zero claims have %v", value)
	}
}

func TestParsePathRefuses(t *testing.T) {
	for _, text := range []string{"", ".", "a.", ".a", "a..b", `\`, `a\`, `a\b`, `a\\\`, "a.."} {
		if path, err := token.ParsePath(text); err == nil {
			t.Errorf("%q: accepted as %q", text, path)
		}
	}
	if path := mustPath(t, `a\.b.c`); path.String() != `a\.b.c` {
		t.Errorf("text %q", path)
	}
}
