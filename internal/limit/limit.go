// Package limit bounds how often something succeeds.
package limit

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// PerMinute bounds, for each key, how many calls succeed in a minute; that many may do so at once. It keeps
// every key that it was ever asked about. It is safe for concurrent use.
type PerMinute[K comparable] struct {
	count int
	spent error
	now   func() time.Time

	mu       sync.Mutex
	limiters map[K]*rate.Limiter
}

// New returns a bound of count; 0 means none. Do returns spent where nothing is left.
func New[K comparable](count int, spent error, now func() time.Time) *PerMinute[K] {
	return &PerMinute[K]{count: count, spent: spent, now: now, limiters: make(map[K]*rate.Limiter)}
}

// Left reports whether a call would be made now.
func (p *PerMinute[K]) Left(key K) bool { return p.limiter(key).TokensAt(p.now()) >= 1 }

// Do makes the call if the bound has room for it. A call that fails spends nothing: one who cannot
// succeed must not keep the others from it.
func (p *PerMinute[K]) Do(key K, call func() error) error {
	now := p.now()
	place := p.limiter(key).ReserveN(now, 1)
	if place.DelayFrom(now) > 0 {
		place.CancelAt(now)
		return p.spent
	}
	err := call()
	if err != nil {
		place.CancelAt(now)
	}
	return err
}

func (p *PerMinute[K]) limiter(key K) *rate.Limiter {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.limiters[key]
	if l == nil {
		every := rate.Inf
		if p.count > 0 {
			every = rate.Limit(float64(p.count) / time.Minute.Seconds())
		}
		l = rate.NewLimiter(every, max(1, p.count))
		p.limiters[key] = l
	}
	return l
}
