package cache

import (
	"context"
	"sync/atomic"
)

// nearSlots is more than the rows of one check: a mapping, a key, a team, its membership, an organization and a user, of
// the caller and of the key.
const nearSlots = 12

// Near keeps the entries that the checks of one caller used last, whatever caches they are of, so that its next check does
// not look them up again. An entry in it is used on the terms of its cache: once it is forgotten there, has run out or is
// not confirmed, it is of no use here. The zero value is empty. It is safe for concurrent use.
type Near struct {
	slots [nearSlots]atomic.Pointer[nearEntry]
	next  atomic.Uint32
}

// nearEntry is an entry of some cache: a *Cache[K, V] and its *entry[K, V].
type nearEntry struct{ cache, entry any }

type nearKey struct{}

// WithNear returns a context with which [Cache.Get] looks into n first.
func WithNear(ctx context.Context, n *Near) context.Context {
	return context.WithValue(ctx, nearKey{}, n)
}

// nearest returns the context's usable entry of the key, and where to keep another; both nil if there is none.
func (c *Cache[K, V]) nearest(ctx context.Context, key K) (*entry[K, V], *Near) {
	n, _ := ctx.Value(nearKey{}).(*Near)
	if n == nil {
		return nil, nil
	}
	for at := range n.slots {
		kept := n.slots[at].Load()
		if kept == nil {
			break
		}
		if e, ours := kept.entry.(*entry[K, V]); ours && e.key == key && kept.cache == any(c) && c.lasts(e.era) && c.fresh(e, c.feed.elapsed()) {
			return e, n
		}
	}
	return nil, n
}

// keep puts an entry in the place of the one that was kept longest.
func (c *Cache[K, V]) keep(n *Near, e *entry[K, V]) {
	if n != nil {
		n.slots[(n.next.Add(1)-1)%nearSlots].Store(&nearEntry{c, e})
	}
}
