// Package cache is the loading cache that stands in front of the store: typed keys, cached absence,
// shared loads, and invalidation that an older load cannot undo.
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

// Options configure a [Cache]. All fields but Now are required.
type Options[K comparable, V any] struct {
	// Load reads a value from the store. An error that wraps NotFound is cached as absence; any other
	// error is handed to the callers that wait and forgotten.
	Load func(ctx context.Context, key K) (V, error)
	// NotFound is the error that means absence.
	NotFound error
	// TTL and AbsentTTL are how long a value and an absence are served. They count from the load and
	// do not slide: a revoked grant must not live on by being used.
	TTL, AbsentTTL time.Duration
	// MaxEntries and MaxAbsent bound the two kinds separately, so that a flood of unknown keys cannot
	// evict real ones.
	MaxEntries, MaxAbsent int64
	// LoadTimeout is the deadline of one load. A load has its own, because it is shared: the first
	// caller's cancellation must not fail the others.
	LoadTimeout time.Duration
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Cache is a loading cache. It is safe for concurrent use.
type Cache[K comparable, V any] struct {
	options Options[K, V]
	seed    maphash.Seed
	present *ristretto.Cache[uint64, *entry[K, V]]
	absent  *ristretto.Cache[uint64, *entry[K, V]]

	// generation is raised to drop everything at once; an entry of another generation is a miss.
	generation atomic.Uint64

	mu      sync.Mutex
	flights map[K]*flight[V]
	closed  bool
	storing sync.WaitGroup // loads that have queued a Set and wait for it
}

// entry is one cached value, or absence.
type entry[K comparable, V any] struct {
	key        K
	value      V
	found      bool
	absence    error // the loader's, if it was not found
	expires    time.Time
	generation uint64
}

// flight is a load under way. It is the current one for its key while the flights map holds it;
// an invalidation takes it out, so that its result reaches only the callers that came before.
type flight[V any] struct {
	done  chan struct{}
	value V
	err   error
}

// New returns an empty cache. Close releases it.
func New[K comparable, V any](options Options[K, V]) (*Cache[K, V], error) {
	if options.Now == nil {
		options.Now = time.Now
	}
	present, err := newRistretto[K, V](options.MaxEntries)
	if err != nil {
		return nil, err
	}
	absent, err := newRistretto[K, V](options.MaxAbsent)
	if err != nil {
		present.Close()
		return nil, err
	}
	return &Cache[K, V]{
		options: options, seed: maphash.MakeSeed(), present: present, absent: absent,
		flights: make(map[K]*flight[V]),
	}, nil
}

func newRistretto[K comparable, V any](entries int64) (*ristretto.Cache[uint64, *entry[K, V]], error) {
	cache, err := ristretto.NewCache(&ristretto.Config[uint64, *entry[K, V]]{
		NumCounters:        10 * entries, // ten a kept entry, as ristretto advises
		MaxCost:            entries,
		BufferItems:        64,
		IgnoreInternalCost: true, // an entry costs 1: the bound is a count
	})
	if err != nil {
		return nil, fmt.Errorf("cache of %d entries: %w", entries, err)
	}
	return cache, nil
}

// Close stops the cache's goroutines. The cache must not be used afterwards; a load that is still under
// way ends on its own and is not stored.
func (c *Cache[K, V]) Close() {
	c.mu.Lock()
	c.closed = true
	clear(c.flights)
	c.mu.Unlock()
	c.storing.Wait()
	c.present.Close()
	c.absent.Close()
}

// Get returns the value for the key: a cached one, or a loaded one. The second result reports
// whether it was cached. Absence is the error that the load returned, cached or not. If ctx ends first the
// error is its cause; the load goes on for the others.
func (c *Cache[K, V]) Get(ctx context.Context, key K) (V, bool, error) {
	e, ok := c.lookup(key)
	var f *flight[V]
	if !ok {
		f, e = c.join(ctx, key)
	}
	switch {
	case e != nil && !e.found:
		return e.value, true, e.absence
	case e != nil:
		return e.value, true, nil
	}
	select {
	case <-f.done:
		return f.value, false, f.err
	case <-ctx.Done():
		var zero V
		return zero, false, context.Cause(ctx)
	}
}

func (c *Cache[K, V]) lookup(key K) (*entry[K, V], bool) {
	hash := maphash.Comparable(c.seed, key)
	for _, cache := range []*ristretto.Cache[uint64, *entry[K, V]]{c.present, c.absent} {
		e, ok := cache.Get(hash)
		if ok && e.key == key && e.generation == c.generation.Load() && c.options.Now().Before(e.expires) {
			return e, true
		}
	}
	return nil, false
}

// join returns the key's load under way, or starts one. A load that ended since the caller looked has
// left an entry: then that is returned.
func (c *Cache[K, V]) join(ctx context.Context, key K) (*flight[V], *entry[K, V]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f, ok := c.flights[key]; ok {
		return f, nil
	}
	if e, ok := c.lookup(key); ok {
		return nil, e
	}
	f := &flight[V]{done: make(chan struct{})}
	c.flights[key] = f
	go c.load(context.WithoutCancel(ctx), key, f, c.generation.Load())
	return f, nil
}

func (c *Cache[K, V]) load(ctx context.Context, key K, f *flight[V], generation uint64) {
	defer close(f.done)
	ctx, cancel := context.WithTimeout(ctx, c.options.LoadTimeout)
	defer cancel()
	started := c.options.Now()
	f.value, f.err = c.call(ctx, key)
	c.finish(key, f, generation, started)
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
func (c *Cache[K, V]) finish(key K, f *flight[V], generation uint64, started time.Time) {
	c.mu.Lock()
	var cache *ristretto.Cache[uint64, *entry[K, V]]
	if c.flights[key] == f && !c.closed {
		cache = c.store(key, f, generation, started)
	}
	if cache != nil {
		c.storing.Add(1)
	}
	c.mu.Unlock()
	if cache != nil {
		cache.Wait()
		c.storing.Done()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.flights[key] == f {
		delete(c.flights, key)
	}
}

func (c *Cache[K, V]) store(key K, f *flight[V], generation uint64, started time.Time) *ristretto.Cache[uint64, *entry[K, V]] {
	e := &entry[K, V]{key: key, value: f.value, generation: generation}
	cache, ttl := c.present, c.options.TTL
	switch {
	case f.err == nil:
		e.found = true
	case errors.Is(f.err, c.options.NotFound):
		e.absence = f.err
		cache, ttl = c.absent, c.options.AbsentTTL
	default:
		return nil
	}
	if ttl <= 0 {
		return nil
	}
	e.expires = started.Add(ttl)
	cache.SetWithTTL(maphash.Comparable(c.seed, key), e, 1, ttl)
	return cache
}

// Invalidate forgets the key: the next Get loads it, and a load under way is not stored and serves
// only the callers that already wait for it.
func (c *Cache[K, V]) Invalidate(key K) {
	hash := maphash.Comparable(c.seed, key)
	c.mu.Lock()
	delete(c.flights, key)
	c.present.Del(hash)
	c.absent.Del(hash)
	c.mu.Unlock()
	// A Set that ristretto has queued but not applied would become visible between here and its own
	// Del: once both queues have run, it cannot.
	c.present.Wait()
	c.absent.Wait()
}

// InvalidateAll forgets everything, as Invalidate does for one key.
func (c *Cache[K, V]) InvalidateAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.flights)
	c.generation.Add(1)
}
