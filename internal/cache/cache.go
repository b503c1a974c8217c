// Package cache is the loading cache that stands in front of the store: typed keys, cached absence,
// shared loads, invalidation that an older load cannot undo, and the last good value for as long as the
// store fails, within a bound.
//
// It trusts its loader, and ristretto only for memory: ristretto may drop any entry or refuse a Set,
// and compares hashes only, so the full key is compared on every hit and nothing here depends on
// a Set having happened.
package cache

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/ristretto/v2"
)

// Options configure a [Cache]. All fields but Companion, CompanionTTL, ServeStale, Feed and Now are required.
type Options[K comparable, V any] struct {
	// Load reads a value from the store. An error that wraps NotFound is cached as absence; any other
	// error is handed to the callers that wait and forgotten.
	Load func(ctx context.Context, key K) (V, error)
	// NotFound is the error that means absence.
	NotFound error
	// Digest names the key to [Cache.Changed], with [Digest].
	Digest func(K) uint64
	// Companion names a second row that Load read into a value, as Digest names the key's own, to [Cache.CompanionsChanged];
	// false means that there is none. A change of either row forgets the value. nil means that no value has one. An absence
	// has none.
	Companion func(V) (uint64, bool)
	// TTL and AbsentTTL are how long a value and an absence are served, CompanionTTL how long a value with a companion is
	// at the most. They count from the load and do not slide: a revoked grant must not live on by being used.
	TTL, AbsentTTL, CompanionTTL time.Duration
	// ServeStale is how much longer a value or an absence is served while it cannot be loaded anew; 0
	// means no longer than its time to live.
	ServeStale time.Duration
	// Feed is how far the changes of others are known, and the clock; nil means that nobody tells of them, and that
	// the times to live alone bound how long a change goes unnoticed.
	Feed *Feed
	// Space is where the cache keeps what it holds. It must outlive the cache.
	Space *Space
	// Size is how many bytes a key and its value take beside themselves: what their texts, lists and pointers lead to,
	// where nothing else keeps it. The value is the zero one for an absence.
	Size func(K, V) int
	// LoadTimeout is the deadline of one load. A load has its own, because it is shared: the first
	// caller's cancellation must not fail the others.
	LoadTimeout time.Duration
	// Now is the clock of a cache without a Feed; nil means time.Now.
	Now func() time.Time
}

// Origin says where a value comes from.
type Origin int

// The origins of a value.
const (
	Loaded Origin = iota // from the store, by this call or one that it joined
	Cached               // from memory, and as good as loaded
	Stale                // from memory, because the store did not give a newer one
)

// Cache is a loading cache. It is safe for concurrent use.
type Cache[K comparable, V any] struct {
	options Options[K, V]
	feed    *Feed
	seed    maphash.Seed
	space   *Space

	// changes counts changes. A key's digest selects the place where the number of its last change is kept; changedAll
	// is the number of the last change of every key, changedCompanions of that of every companion.
	changes           atomic.Uint64
	places            []atomic.Pointer[place]
	changedAll        atomic.Uint64
	changedCompanions atomic.Uint64
	noted             atomic.Uint64 // how many changes have been noted there: all of them, or less

	mu      sync.Mutex
	flights map[K]*flight[V]
	closed  bool
	storing sync.WaitGroup // loads that have queued a Set and wait for it
}

// entry is one cached value, or absence. There are millions: what can be told from the rest is not in it.
type entry[K comparable, V any] struct {
	owner     *Cache[K, V]
	key       K
	value     V
	absence   *error        // the loader's; nil if there is a value
	loaded    time.Duration // on the feed's clock
	digest    uint64
	companion uint64        // its digest; the entry's own if there is none
	since     atomic.Uint64 // with each digest an era, whose beginning moves on while it is seen to last
}

// flight is a load under way. It is the current one for its key while the flights map holds it and its
// era lasts; an invalidation ends either, so that its result reaches only the callers that came before.
type flight[V any] struct {
	done  chan struct{}
	era   era
	value V
	err   error
}

// New returns an empty cache. Close releases it.
func New[K comparable, V any](options Options[K, V]) *Cache[K, V] {
	feed := options.Feed
	if feed == nil {
		feed = silent(options.Now)
	}
	return &Cache[K, V]{
		options: options, feed: feed, seed: maphash.MakeSeed(), space: options.Space,
		places: make([]atomic.Pointer[place], placeCount), flights: make(map[K]*flight[V]),
	}
}

// Close ends the cache's use of its space. The cache must not be used afterwards; a load that is still under
// way ends on its own and is not stored.
func (c *Cache[K, V]) Close() {
	c.mu.Lock()
	c.closed = true
	clear(c.flights)
	c.mu.Unlock()
	c.storing.Wait()
}

// Get returns the value for the key and where it comes from. Absence is the error that the load returned, wherever
// it comes from. If ctx ends first the error is its cause; the load goes on for the others.
func (c *Cache[K, V]) Get(ctx context.Context, key K) (V, Origin, error) {
	kept, near := c.nearest(ctx, key)
	if kept != nil {
		return c.answer(kept, Cached)
	}
	came := c.changes.Load()
	e, fresh := c.lookup(key)
	if fresh {
		c.keep(near, e)
		return c.answer(e, Cached)
	}
	f, loaded := c.join(ctx, key)
	if loaded != nil {
		return c.answer(loaded, Cached)
	}
	return c.wait(ctx, key, f, came, e != nil)
}

func (c *Cache[K, V]) answer(e *entry[K, V], origin Origin) (V, Origin, error) {
	if e.absence != nil {
		return e.value, origin, *e.absence
	}
	return e.value, origin, nil
}

// lookup returns the key's entry and whether it may be used as it is. One that may not is the newest of those
// that may be used while the store fails; nil if there is none. What was invalidated is gone, whatever
// happens to the store.
func (c *Cache[K, V]) lookup(key K) (old *entry[K, V], fresh bool) {
	hash, now := maphash.Comparable(c.seed, key), c.feed.elapsed()
	for _, part := range [...]*ristretto.Cache[uint64, any]{c.space.present, c.space.absent} {
		kept, _ := part.Get(hash)
		e, ok := kept.(*entry[K, V])
		switch {
		case !ok || e.owner != c || e.key != key || !c.holds(e):
		case c.fresh(e, now):
			return e, true
		case now < c.expires(e)+c.options.ServeStale && (old == nil || old.loaded < e.loaded):
			old = e
		}
	}
	return old, false
}

// fresh reports whether an entry whose era lasts may be used as it is.
func (c *Cache[K, V]) fresh(e *entry[K, V], now time.Duration) bool {
	return now < c.expires(e) && c.feed.knows(e.loaded, now)
}

// expires is when an entry's time to live ends, on the feed's clock.
func (c *Cache[K, V]) expires(e *entry[K, V]) time.Duration {
	switch {
	case e.absence != nil:
		return e.loaded + c.options.AbsentTTL
	case e.companion != e.digest:
		return e.loaded + min(c.options.TTL, c.options.CompanionTTL)
	}
	return e.loaded + c.options.TTL
}

// join returns the key's load under way, or starts one. A load that ended since the caller looked has
// left an entry: then that is returned.
func (c *Cache[K, V]) join(ctx context.Context, key K) (*flight[V], *entry[K, V]) {
	now := c.era(key, c.changes.Load())
	c.mu.Lock()
	defer c.mu.Unlock()
	if f, ok := c.flights[key]; ok && c.lasts(f.era) {
		return f, nil
	}
	if e, fresh := c.lookup(key); fresh {
		return nil, e
	}
	f := &flight[V]{done: make(chan struct{}), era: now}
	c.flights[key] = f
	go c.load(context.WithoutCancel(ctx), key, f)
	return f, nil
}

// wait returns the flight's result. If that is a failure, or if it is long in coming, the old entry is served in
// its place, unless it was invalidated meanwhile. The caller came when there had been so many changes.
func (c *Cache[K, V]) wait(ctx context.Context, key K, f *flight[V], came uint64, hasOld bool) (V, Origin, error) {
	late, stop := patience(ctx, hasOld)
	defer stop()
	for {
		select {
		case <-f.done:
			if c.overtaken(f, came) {
				var loaded *entry[K, V]
				if f, loaded = c.join(ctx, key); loaded != nil {
					return c.answer(loaded, Cached)
				}
				continue
			}
			if f.err == nil || errors.Is(f.err, c.options.NotFound) {
				return f.value, Loaded, f.err
			}
			if e, origin := c.last(key); e != nil {
				return c.answer(e, origin)
			}
			return f.value, Loaded, f.err
		case <-late:
			if e, origin := c.last(key); e != nil {
				return c.answer(e, origin)
			}
			late = nil
		case <-ctx.Done():
			var zero V
			return zero, Loaded, context.Cause(ctx)
		}
	}
}

// overtaken reports whether the flight's result may be too old for a caller who joined it: its companion, which nobody
// knew before, has changed since the load began. A load that began after the caller came is new enough.
func (c *Cache[K, V]) overtaken(f *flight[V], came uint64) bool {
	return f.era.since < came && !c.companionLasts(c.companion(f), f.era)
}

// companion returns the digest of the companion of the flight's result; the key's own if there is none.
func (c *Cache[K, V]) companion(f *flight[V]) uint64 {
	if f.err == nil && c.options.Companion != nil {
		if digest, ok := c.options.Companion(f.value); ok {
			return digest
		}
	}
	return f.era.digest
}

// last returns what there is of the key now.
func (c *Cache[K, V]) last(key K) (*entry[K, V], Origin) {
	e, fresh := c.lookup(key)
	if fresh {
		return e, Cached
	}
	return e, Stale
}

// patience ends after a quarter of the time that a caller with an old value has left: a decision asks for several
// rows, and while the database hangs each of them must leave time for the next.
func patience(ctx context.Context, hasOld bool) (<-chan time.Time, func() bool) {
	deadline, ok := ctx.Deadline()
	if !hasOld || !ok {
		return nil, func() bool { return false }
	}
	timer := time.NewTimer(time.Until(deadline) / 4)
	return timer.C, timer.Stop
}

func (c *Cache[K, V]) load(ctx context.Context, key K, f *flight[V]) {
	defer close(f.done)
	ctx, cancel := context.WithTimeout(ctx, c.options.LoadTimeout)
	defer cancel()
	started := c.feed.elapsed()
	f.value, f.err = c.call(ctx, key)
	c.finish(key, f, started)
}

// call turns a panic of the loader into an error: it runs on a goroutine of its own, where a panic
// would end the process.
func (c *Cache[K, V]) call(ctx context.Context, key K) (value V, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("cache: load panicked: %v", p)
		}
	}()
	return c.options.Load(ctx, key)
}

// finish stores the result unless the key was invalidated while it was loading. ristretto applies a Set
// later: until it has, callers join this load instead of starting another.
func (c *Cache[K, V]) finish(key K, f *flight[V], started time.Duration) {
	c.mu.Lock()
	var part *ristretto.Cache[uint64, any]
	if c.flights[key] == f && !c.closed {
		part = c.store(key, f, started)
	}
	if part != nil {
		c.storing.Add(1)
	}
	c.mu.Unlock()
	if part != nil {
		part.Wait()
		c.storing.Done()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.flights[key] == f {
		delete(c.flights, key)
	}
}

// store keeps the result, and nothing older beside it: an outage must not bring back a row that was seen to be
// gone. The entry is of the era in which its load began, so that a change since then ends it.
func (c *Cache[K, V]) store(key K, f *flight[V], started time.Duration) *ristretto.Cache[uint64, any] {
	e := &entry[K, V]{owner: c, key: key, value: f.value, loaded: started, digest: f.era.digest, companion: c.companion(f)}
	e.since.Store(f.era.since)
	part, other := c.space.present, c.space.absent
	switch {
	case f.err == nil:
	case errors.Is(f.err, c.options.NotFound):
		absence := f.err
		e.absence = &absence
		part, other = other, part
	default:
		return nil
	}
	hash, ttl := maphash.Comparable(c.seed, key), c.expires(e)-e.loaded
	other.Del(hash)
	if ttl <= 0 {
		part.Del(hash)
		return nil
	}
	part.SetWithTTL(hash, e, c.cost(e), ttl+c.options.ServeStale)
	return part
}

// Instant is when something was read, for [Cache.Add].
type Instant struct {
	changes uint64
	elapsed time.Duration
}

// Now returns the instant for a read that is about to begin.
func (c *Cache[K, V]) Now() Instant { return Instant{c.changes.Load(), c.feed.elapsed()} }

// Add keeps a value that was read since the instant by other means than Load, unless the key was changed since, or there
// is a newer value or a load under way. Like that of Load, the value may be dropped at any time.
func (c *Cache[K, V]) Add(key K, value V, since Instant) {
	f := &flight[V]{done: make(chan struct{}), era: c.era(key, since.changes), value: value}
	close(f.done)
	c.mu.Lock()
	_, busy := c.flights[key]
	old, fresh := c.lookup(key)
	newer := old != nil && (fresh || old.loaded > since.elapsed)
	if newer || busy || c.closed || !c.lasts(f.era) || !c.companionLasts(c.companion(f), f.era) {
		c.mu.Unlock()
		return
	}
	c.flights[key] = f
	c.mu.Unlock()
	c.finish(key, f, since.elapsed)
}
