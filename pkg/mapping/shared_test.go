package mapping

import (
	"fmt"
	"testing"

	"github.com/extauthz/extauthz/internal/cache"
	"github.com/extauthz/extauthz/pkg/keys"
)

// A list is counted for one of the keys that share it, however often that is loaded, and for each if it is not shared.
func TestListsAreCountedOnce(t *testing.T) {
	l := newShared()
	texts := func(n int) (list []string) {
		for i := range n {
			list = append(list, fmt.Sprint("gpt-", n, "-", i))
		}
		return list
	}
	for _, c := range []struct {
		key     keys.ID
		list    []string
		counted bool
	}{
		{"a", texts(2), true},
		{"b", texts(2), false},
		{"a", texts(2), true},
		{"c", texts(3), true},
		{"c", texts(3), true},
		{"a", texts(maxShared + 1), true},
		{"b", texts(maxShared + 1), true},
		{"a", nil, false},
	} {
		want := 0
		if c.counted {
			want = cache.ListBytes(c.list)
		}
		if got := l.listBytes(c.key, l.list(c.key, c.list)); got != want {
			t.Errorf("key %s, %d texts: %d bytes, want %d", c.key, len(c.list), got, want)
		}
	}
}
