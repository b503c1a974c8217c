package authz

import (
	"errors"
	"strings"
	"testing"
)

// FuzzCredential: a credential is the one that the request carries, whole, or none; Envoy's joined form of two headers
// is refused like the two.
func FuzzCredential(f *testing.F) {
	for _, seed := range [][2]string{
		{"Bearer a.b.c", ""}, {"", "a.b.c"}, {"bearer sk-x", ""}, {"Basic YTpi", ""}, {"Bearer", ""}, {"Bearer ", ""}, {"Bearer  a", ""},
		{"Bearer a,Bearer b", ""}, {"Bearer a", "b"}, {"Bearer\ta", ""}, {" Bearer a", ""}, {"", "Bearer a"}, {"", "Basic a"}, {"Bearer a b", ""},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, authorization, other string) {
		names := []string{"authorization", "x-token"}
		got, err := bearerFrom(sent{"authorization": {authorization}, "x-token": {other}, "x-api-key": {"c"}}.list(), names)
		switch {
		case authorization == "" && other == "":
			if !errors.Is(err, ErrTokenMissing) {
				t.Errorf("none: %q, %v", got, err)
			}
			return
		case authorization != "" && other != "", strings.Contains(authorization+other, ","):
			if !errors.Is(err, ErrCredentialsAmbiguous) {
				t.Errorf("%q and %q: %q, %v", authorization, other, got, err)
			}
			return
		case err != nil:
			if errors.Is(err, ErrTokenMissing) {
				t.Errorf("%q and %q count as none", authorization, other)
			}
			return
		}
		bare := other != "" && got == other && !strings.Contains(other, " ")
		if value := authorization + other; !bare && !strings.EqualFold(value, "bearer "+got) {
			t.Errorf("%q of %q", got, value)
		}
		if isVirtualKey(got) && (!strings.HasPrefix(got, "sk-") || strings.Count(got, ".") == 2) {
			t.Errorf("%q counts as a virtual key", got)
		}
	})
}
