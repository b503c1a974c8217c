package token

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// FuzzClaims reads claims by a path and holds the answers against a second reading: the path taken apart by
// replacements, the value looked up in what encoding/json decodes, and each usable string looked at again.
func FuzzClaims(f *testing.F) {
	const text = `{"sub":"alice","a":{"b":["x",1,null,"y z"],"c.d":"e"},"a.b":"dotted","scope":"read  write","n":7,"o":{},"":{"":"x"}}`
	for _, path := range []string{"sub", "a.b", `a\.b`, `a.c\.d`, "scope", "n", "o", "a", "a.b.0", "missing", `\`, "", ".", `a\\b`, "a..b"} {
		f.Add([]byte(text), path)
	}
	f.Add([]byte("{\"a\":\"x\u2028\",\"b\":[\"\",\"\\u0000\",\"\u00a0\"]}"), "b")
	f.Fuzz(func(t *testing.T, text []byte, pathText string) {
		path, err := ParsePath(pathText)
		wantPath(t, pathText, path, err)
		values, err := decodeObject(text)
		if err != nil {
			return
		}
		claims := Claims{Values: values}
		value, found := claims.Lookup(path)
		if want := reread(t, text, path.names); found != (want != nil) || !reflect.DeepEqual(value, want) {
			t.Errorf("%q is %v, want %v", pathText, value, want)
		}
		list, words := claims.List(path), claims.Words(path)
		if one, ok := claims.Text(path); ok != (one != "") || ok && (one != value || !slices.Equal(list, []string{one})) {
			t.Errorf("%q: text %q of %v, list %q", pathText, one, value, list)
		}
		wantUsable(t, list)
		wantUsable(t, words)
		if text, ok := value.(string); ok && !slices.Equal(words, slices.DeleteFunc(strings.Split(text, " "), unusable)) && words != nil {
			t.Errorf("words %q of %q", words, text)
		}
	})
}

// wantPath takes the path apart in another way.
func wantPath(t *testing.T, text string, got Path, err error) {
	t.Helper()
	if strings.ContainsAny(text, "\x01\x02") {
		return // the marks
	}
	marked := strings.NewReplacer(`\\`, "\x01", `\.`, "\x02").Replace(text)
	names := strings.Split(marked, ".")
	for n, name := range names {
		names[n] = strings.NewReplacer("\x01", `\`, "\x02", ".").Replace(name)
	}
	bad := strings.Contains(marked, `\`) || slices.Contains(names, "")
	if bad != (err != nil) || err == nil && !slices.Equal(got.names, names) {
		t.Errorf("path %q: %q, %v; want %q, bad %v", text, got.names, err, names, bad)
	}
}

func reread(t *testing.T, text []byte, names []string) any {
	t.Helper()
	decoder := json.NewDecoder(strings.NewReader(string(text)))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		object, _ := value.(map[string]any)
		value = object[name]
	}
	if len(names) == 0 {
		return nil
	}
	return value
}

func unusable(text string) bool {
	return text == "" || len(text) > 1024 || !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool {
		return unicode.Is(unicode.Cc, r) || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r)
	})
}

func wantUsable(t *testing.T, list []string) {
	t.Helper()
	if slices.ContainsFunc(list, unusable) {
		t.Errorf("unusable text in %q", list)
	}
}
