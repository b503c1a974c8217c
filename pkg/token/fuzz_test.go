package token

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzStrictJSON holds decodeObject against encoding/json: whatever it accepts, encoding/json must accept too
// and read the same, and it must be valid UTF-8. What it refuses needs no oracle.
func FuzzStrictJSON(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"a":1,"b":[1,2,{"c":null}],"d":"\ud83d\ude00"}`, `{"a":1,"a":2}`, `{"a":1,"\u0061":2}`, `{"a":"\ud800"}`,
		"{\"a\":\"\xff\"}", `{"a":1} x`, `{"a":1}{"a":2}`, `[1]`, `{"a":1e400,"b":-0,"c":0.10}`, `{"a":[[[[[[[[]]]]]]]]}`,
		`{"a":"\u0000\/\b"}`, ` { } `, `{"a":tru}`, `{"a":{"b":1,"b":1}}`, "\uFEFF{}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := decodeObject(bytes.Clone(text))
		if err != nil {
			return
		}
		if !utf8.Valid(text) {
			t.Error("accepted invalid UTF-8")
		}
		decoder := json.NewDecoder(bytes.NewReader(text))
		decoder.UseNumber()
		var want map[string]any
		if err := decoder.Decode(&want); err != nil {
			t.Fatalf("encoding/json refuses it: %v", err)
		}
		if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
			t.Error("accepted text after the object")
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got %v, encoding/json %v", got, want)
		}
		if n := countMembers(got); n != bytes.Count(stripped(text), []byte(":")) {
			t.Errorf("%d members, but the text has other colons", n)
		}
		if depthOf(got) > maxJSONDepth {
			t.Error("accepted too deep an object")
		}
	})
}

// TestStrictJSONErrorsAreQuiet checks that errors, which are logged, repeat nothing of the input.
func TestStrictJSONErrorsAreQuiet(t *testing.T) {
	for _, text := range []string{
		`{"secret":1,"secret":2}`, `{"a":{"secret":{"b":x}}}`, `{"secret":"\ud800"}`, "{\"secret\":\"secret\xff\"}",
		`{"secret"`, `{"a":secret}`, `{"a":1}secret`, `secret`, `{"secret":` + strings.Repeat(`{"secret":`, 40),
	} {
		_, err := decodeObject([]byte(text))
		if err == nil || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), `'`) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// stripped drops string literals, so that each colon left is a member: a name that is there twice shows as
// fewer members than colons.
func stripped(text []byte) []byte {
	var out []byte
	inside := false
	for n := 0; n < len(text); n++ {
		switch {
		case inside && text[n] == '\\':
			n++
		case text[n] == '"':
			inside = !inside
		case !inside:
			out = append(out, text[n])
		}
	}
	return out
}

func countMembers(value any) int {
	n := 0
	switch value := value.(type) {
	case map[string]any:
		for _, member := range value {
			n += 1 + countMembers(member)
		}
	case []any:
		for _, element := range value {
			n += countMembers(element)
		}
	}
	return n
}

func depthOf(value any) int {
	deepest := 0
	switch value := value.(type) {
	case map[string]any:
		for _, member := range value {
			deepest = max(deepest, depthOf(member))
		}
	case []any:
		for _, element := range value {
			deepest = max(deepest, depthOf(element))
		}
	default:
		return 0
	}
	return 1 + deepest
}

// FuzzKeySet checks that no JWKS text panics, and that every key that comes out fits an allowed algorithm, is sound, and
// stands in the text as encoding/json reads it: for verifying, without a private part.
func FuzzKeySet(f *testing.F) {
	keys := weakTestKeys(f)
	f.Add(setText(f, jwk(keys.rsa, changes{"kid": "a"}), jwk(keys.p256, nil), jwk(keys.ed25519, changes{"use": "sig"})))
	f.Add(setText(f, jwk(keys.p256, changes{"y": "AA"}), jwk(keys.rsa, changes{"e": "AQ"})))
	f.Add(setText(f, jwk(keys.ed25519, changes{"kid": "a"}), jwk(keys.ed25519, changes{"kid": "a", "key_ops": []string{"verify"}})))
	f.Add(setText(f, jwk(keys.ed25519, changes{"d": "AA"}), jwk(keys.p256, changes{"alg": "ES256", "use": "enc"}), 1, nil))
	f.Add([]byte(`{"keys":[{"kty":"EC","crv":"P-256","x":"","y":""}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		set, err := parseKeySet(text, defaultAlgorithms())
		if err != nil {
			return
		}
		kids := plainKids(t, text)
		for _, key := range set.keys {
			if !key.fitsAny(defaultAlgorithms()) || checkStrength(key.public) != nil {
				t.Errorf("accepted %+v", key)
			}
			if _, err := x509.MarshalPKIXPublicKey(key.public); err != nil || !slices.Contains(kids, key.kid) {
				t.Errorf("accepted %+v, %v; plainly usable are %q", key, err, kids)
			}
			if key.kid != "" && set.byKid[key.kid] != key {
				t.Errorf("the kid %q finds another key", key.kid)
			}
		}
	})
}

// plainKids are those of the entries that say nothing against verifying with them.
func plainKids(t *testing.T, text []byte) (kids []string) {
	t.Helper()
	var document map[string]json.RawMessage
	var entries []json.RawMessage
	if err := errors.Join(json.Unmarshal(text, &document), json.Unmarshal(document["keys"], &entries)); err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		var members map[string]any
		if json.Unmarshal(entry, &members) != nil {
			continue
		}
		use, hasUse := members["use"]
		operations, hasOperations := members["key_ops"].([]any)
		_, private := members["d"]
		if (!hasUse || use == "sig") && (!hasOperations || slices.Contains(operations, any("verify"))) && !private {
			kid, _ := members["kid"].(string)
			kids = append(kids, kid)
		}
	}
	return kids
}
