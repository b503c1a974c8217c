package cache

import "sync/atomic"

// era is the time of a key from one instant, as the number of the last change of any key, to the key's next change.
type era struct{ digest, since uint64 }

// place is what is known of the changes of those keys that share it. It is replaced as a whole.
type place struct {
	latest []change // one of a key
	others uint64   // the number of the last change of all other keys
}

// change is a key's last change.
type change struct{ digest, number uint64 }

const (
	// placeCount is a power of two.
	placeCount = 1 << 16
	// latestChanges bounds what a place remembers of single keys: with the above, 4 MiB. That a key is forgotten without
	// a change of its own takes changes of as many others that share its place, all of them since it was loaded.
	latestChanges = 4
)

func (c *Cache[K, V]) era(key K, since uint64) era { return era{c.options.Digest(key), since} }

func (c *Cache[K, V]) lasts(e era) bool {
	if c.changedAll.Load() > e.since {
		return false
	}
	p := c.places[e.digest%placeCount].Load()
	return p == nil || p.last(e.digest) <= e.since
}

// holds is lasts for an entry. Mostly nothing has changed since the entry was asked before: then the place, which is in nobody's
// reach, need not be looked at. That its era lasts is kept as a later beginning of it, unless a change is counted but not
// noted yet: it may be one of this key.
func (c *Cache[K, V]) holds(e *entry[K, V]) bool {
	noted, since := c.noted.Load(), e.since.Load() // before changes: all of them are noted if there are no more
	counted := c.changes.Load()
	if since == counted {
		return true
	}
	if !c.lasts(era{e.digest, since}) || !c.companionLasts(e.companion, era{e.digest, since}) {
		return false
	}
	if noted == counted {
		e.since.Store(counted)
	}
	return true
}

// companionLasts reports whether the companion of a value of the era has not changed, or is none.
func (c *Cache[K, V]) companionLasts(companion uint64, e era) bool {
	return companion == e.digest || c.changedCompanions.Load() <= e.since && c.lasts(era{companion, e.since})
}

// last returns the number of the key's last change, or a greater one.
func (p *place) last(digest uint64) uint64 {
	for _, change := range p.latest {
		if change.digest == digest {
			return change.number
		}
	}
	return p.others
}

// with returns the place with one more change. It may be noted after later ones: the key's last may be among the others.
func (p *place) with(digest, number uint64) *place {
	if p == nil {
		return &place{latest: []change{{digest, number}}}
	}
	next := &place{latest: []change{{digest, max(number, p.last(digest))}}, others: p.others}
	for _, change := range p.latest {
		switch {
		case change.digest == digest:
		case len(next.latest) < latestChanges:
			next.latest = append(next.latest, change)
		default:
			next.others = max(next.others, change.number)
		}
	}
	return next
}

// Invalidate forgets the key: the next Get loads it, and a load under way serves only the callers that already wait for
// it. It does not wait.
func (c *Cache[K, V]) Invalidate(key K) { c.change(c.options.Digest(key)) }

// Changed forgets the keys with these digests, as Invalidate does; every key if there are none.
func (c *Cache[K, V]) Changed(digests []uint64) { c.changeEach(digests, &c.changedAll) }

// CompanionsChanged forgets the values whose companions have these digests; every value that has one if there are none.
func (c *Cache[K, V]) CompanionsChanged(digests []uint64) {
	c.changeEach(digests, &c.changedCompanions)
}

// changeEach notes a change of each digest. If there are none, all whose last change is kept there have changed.
func (c *Cache[K, V]) changeEach(digests []uint64, all *atomic.Uint64) {
	if len(digests) == 0 {
		c.changeAll(all)
	}
	for _, digest := range digests {
		c.change(digest)
	}
}

// InvalidateAll forgets everything, as Invalidate does for one key.
func (c *Cache[K, V]) InvalidateAll() { c.changeAll(&c.changedAll) }

func (c *Cache[K, V]) changeAll(last *atomic.Uint64) {
	number := c.changes.Add(1)
	defer c.noted.Add(1)
	for {
		old := last.Load()
		if old >= number || last.CompareAndSwap(old, number) {
			return
		}
	}
}

func (c *Cache[K, V]) change(digest uint64) {
	number, at := c.changes.Add(1), &c.places[digest%placeCount]
	defer c.noted.Add(1)
	for {
		old := at.Load()
		if at.CompareAndSwap(old, old.with(digest, number)) {
			return
		}
	}
}
