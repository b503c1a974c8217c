package cache

import (
	"context"
	"slices"
	"sync/atomic"
)

// nearEntries is more than the rows of one check: a mapping, a key, a team, its membership, an organization and a user, of
// the caller and of the key.
const nearEntries = 12

// Near keeps the entries that the checks of one caller used last, whatever caches they are of, so that its next check does
// not look them up again. An entry in it is used on the terms of its cache: once it is forgotten there, has run out or is
// not confirmed, it is of no use here. The zero value is empty. It is safe for concurrent use.
type Near struct {
	// entries are replaced as a whole: side by side in memory they are found at once, which is half of what this is for.
	entries atomic.Pointer[[]nearEntry]
}

// nearEntry is an entry of some cache: an *entry[K, V] of the Cache[K, V] that has these changes.
type nearEntry struct {
	cache *atomic.Uint64
	entry any
}

// NearKey is the key of a context's *Near: [Cache.Get] looks into it first.
type NearKey struct{}

// nearest returns the context's usable entry of the key, and where to keep another; both nil if there is none.
func (c *Cache[K, V]) nearest(ctx context.Context, key K) (*entry[K, V], *Near) {
	n, _ := ctx.Value(NearKey{}).(*Near)
	if n == nil {
		return nil, nil
	}
	_, list := n.load()
	if e := c.among(list, key); e != nil && c.holds(e) && c.fresh(e, c.feed.elapsed()) {
		return e, n
	}
	return nil, n
}

func (n *Near) load() (*[]nearEntry, []nearEntry) {
	list := n.entries.Load()
	if list == nil {
		return nil, nil
	}
	return list, *list
}

// among returns this cache's entry of the key, usable or not.
func (c *Cache[K, V]) among(list []nearEntry, key K) *entry[K, V] {
	for at := range list {
		if list[at].cache != &c.changes {
			continue
		}
		if e := list[at].entry.(*entry[K, V]); e.key == key {
			return e
		}
	}
	return nil
}

// keep puts an entry in the place of the key's older one, or of the one that was kept longest.
func (c *Cache[K, V]) keep(n *Near, e *entry[K, V]) {
	if n == nil {
		return
	}
	for {
		old, list := n.load()
		list = slices.DeleteFunc(slices.Clone(list), func(kept nearEntry) bool {
			other, ours := kept.entry.(*entry[K, V])
			return ours && kept.cache == &c.changes && other.key == e.key
		})
		list = append(list[max(0, len(list)-nearEntries+1):], nearEntry{&c.changes, e})
		if n.entries.CompareAndSwap(old, &list) {
			return
		}
	}
}
