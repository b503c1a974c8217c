package cache

import (
	"math"
	"sync/atomic"
	"time"
)

// Feed is how far this process knows of the changes that others make. Caches share one: what they hold is
// trusted only as far as the feed reaches, so that a feed that is cut, or silent without our knowing,
// cannot keep a revoked grant alive. It is safe for concurrent use.
type Feed struct {
	blind time.Duration
	now   func() time.Time
	began time.Time
	reach atomic.Pointer[reach]
}

// reach says that every change that was committed in [since, until) was told. Times are what elapsed has been.
type reach struct{ since, until time.Duration }

// NewFeed returns a feed that knows nothing yet. blind is how long a value is used on nothing but its load: one
// that was loaded longer ago, and that the feed does not confirm, is loaded again. now is the clock of the
// feed and of the caches that share it; nil means time.Now.
func NewFeed(blind time.Duration, now func() time.Time) *Feed {
	f := &Feed{blind: blind, now: now, began: time.Now()}
	if now != nil {
		f.began = now()
	}
	f.reach.Store(&reach{})
	return f
}

// silent is the feed of a cache that nobody tells of changes.
func silent(now func() time.Time) *Feed { return NewFeed(math.MaxInt64, now) }

// elapsed is the time since the feed was made. It is read for every look-up: the wall clock is not asked.
func (f *Feed) elapsed() time.Duration {
	if f.now == nil {
		return time.Since(f.began)
	}
	return f.now().Sub(f.began)
}

// Open says that every change that is committed from the instant on will be told. What was loaded before is to be
// loaded anew: something may have gone untold. It must come from one goroutine, as Confirm.
func (f *Feed) Open(since time.Time) {
	at := since.Sub(f.began)
	f.reach.Store(&reach{at, at})
}

// Confirm says that every change that was committed after Open and before the instant was told: the caches have
// forgotten what it changed.
func (f *Feed) Confirm(until time.Time) {
	f.reach.Store(&reach{f.reach.Load().since, until.Sub(f.began)})
}

// knows reports whether a value that was loaded at the one time is known to be right, give or take the blind
// time, at the other.
func (f *Feed) knows(loaded, now time.Duration) bool {
	r := f.reach.Load()
	return loaded >= r.since && now-max(loaded, r.until) < f.blind
}
