package resource_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/extauthz/extauthz/internal/resource"
)

// FuzzParseResources shows that no file makes Parse panic, that errors are one line, and that what Parse accepts survives
// being written and read again.
func FuzzParseResources(f *testing.F) {
	for _, seed := range []string{
		fileOfSpec, "", "{}", "keys: [{hash: " + hash + "}]", "teams: [{id: a, max_budget: 0.1, rpm_limit: 0}]",
		"users:\n- &a {id: a}\n- *a", "users: [{id: !!binary YQ==}]", "a: b: c", "\xff", "users: [{id: \"\\u0085\"}]",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		set, _, err := resource.Parse("r.yaml", data)
		if err != nil {
			if text := err.Error(); !strings.HasPrefix(text, "r.yaml:") || strings.ContainsAny(text, "\r\n") {
				t.Errorf("the error is %q", text)
			}
			return
		}
		for n := range set.Keys {
			set.Keys[n].Secret = "" // is not written
		}
		again, err := resource.Format(set)
		if err != nil {
			t.Fatal(err)
		}
		reread, _, err := resource.Parse("r.yaml", again)
		if err != nil || !reflect.DeepEqual(set, reread) {
			t.Errorf("got %+v, %v; want %+v", reread, err, set)
		}
	})
}
