package token

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// fetchTimeout bounds one fetch, discovery included.
	fetchTimeout = 5 * time.Second
	// unknownKidInterval is the least time between two fetches that unknown kids cause. Anyone can invent
	// kids, so it is what a flood of them costs the issuer.
	unknownKidInterval = 10 * time.Second
	// maxBackoff is the longest pause between attempts to get the keys of a failing issuer.
	maxBackoff = 30 * time.Second
)

// keySource has the current keys of one issuer and the one place that replaces them. Readers take no lock.
type keySource struct {
	issuer   IssuerURL
	fetch    func(context.Context) (*keySet, error)
	interval time.Duration
	maxAge   time.Duration
	opts     Options

	current atomic.Pointer[fetchedKeys]

	mu          sync.Mutex
	running     *attempt  // the one fetch under way; nil if none
	failures    int       // fetches that failed since the last good one
	lastFailure error     // nil if the last fetch was good
	retryAt     time.Time // before it, callers without keys start no fetch
	lastUnknown time.Time // when an unknown kid last started a fetch
}

type fetchedKeys struct {
	set *keySet
	at  time.Time
}

// attempt is a fetch that several callers may wait for.
type attempt struct{ done chan struct{} }

func newKeySource(config Issuer, fetch func(context.Context) (*keySet, error), opts Options) *keySource {
	return &keySource{
		issuer: config.URL, fetch: fetch, interval: config.RefreshInterval, maxAge: config.MaxAge, opts: opts,
	}
}

// keyFor returns the key for a token with this header, and the set that it is of. Callers whose kid is
// known never wait.
func (s *keySource) keyFor(ctx context.Context, h header, alg algorithm) (*publicKey, *keySet, error) {
	set, waited, err := s.loaded(ctx)
	if err != nil {
		return nil, nil, err
	}
	key, err := set.find(h, alg)
	if !waited && errors.Is(err, errKidUnknown) {
		set = s.afterRefresh(ctx, set)
		key, err = set.find(h, alg)
	}
	return key, set, err
}

// loaded returns the keys in use. While there are none its callers share a fetch, and waited is true.
func (s *keySource) loaded(ctx context.Context) (set *keySet, waited bool, err error) {
	if set := s.inUse(); set != nil {
		return set, false, nil
	}
	s.join(context.WithoutCancel(ctx), s.backoffIsOver).wait(ctx)
	if set := s.inUse(); set != nil {
		return set, true, nil
	}
	return nil, true, refuse(ErrIssuerUnavailable, "its keys cannot be fetched now")
}

// afterRefresh returns the keys after a fetch for the sake of an unknown kid, or known, if none was due, it
// failed, or the caller's time is nearly up: a made-up kid must not turn into an outage (503).
func (s *keySource) afterRefresh(ctx context.Context, known *keySet) *keySet {
	waiting, cancel := withoutLastQuarter(ctx)
	defer cancel()
	s.join(context.WithoutCancel(ctx), s.unknownKidIsDue).wait(waiting)
	if set := s.inUse(); set != nil {
		return set
	}
	return known
}

// withoutLastQuarter ends before ctx does, so that its caller can still answer in time.
func withoutLastQuarter(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithTimeout(ctx, fetchTimeout)
	}
	return context.WithDeadline(ctx, deadline.Add(-time.Until(deadline)/4))
}

// inUse returns the last good keys, nil if there are none or they are older than maxAge.
func (s *keySource) inUse() *keySet { return s.inUseAt(s.opts.Now()) }

func (s *keySource) inUseAt(now time.Time) *keySet {
	keys := s.current.Load()
	if keys == nil || now.Sub(keys.at) > s.maxAge {
		return nil
	}
	return keys.set
}

// join returns the fetch under way. If there is none it starts one, if due says so, else returns nil.
func (s *keySource) join(ctx context.Context, due func() bool) *attempt {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running == nil && due() {
		s.running = &attempt{done: make(chan struct{})}
		go s.refresh(ctx, s.running)
	}
	return s.running
}

// backoffIsOver is called with mu held, like the others that join takes.
func (s *keySource) backoffIsOver() bool { return !s.opts.Now().Before(s.retryAt) }

func (s *keySource) unknownKidIsDue() bool {
	now := s.opts.Now()
	if !s.lastUnknown.IsZero() && now.Sub(s.lastUnknown) < unknownKidInterval {
		return false
	}
	s.lastUnknown = now
	return true
}

func always() bool { return true }

// wait waits until the fetch or ctx ends. A nil attempt has ended.
func (a *attempt) wait(ctx context.Context) {
	if a == nil {
		return
	}
	select {
	case <-a.done:
	case <-ctx.Done():
	}
}

// refresh fetches the keys on its own deadline: the first caller's end must not fail the others.
func (s *keySource) refresh(ctx context.Context, a *attempt) {
	defer close(a.done)
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	began := s.opts.Now()
	set, err := s.fetchSafely(ctx)
	if err == nil {
		s.current.Store(&fetchedKeys{set: set, at: began})
	}
	s.report(ctx, set, began, err)
	s.settle(err)
}

// fetchSafely keeps a panic over an issuer's bytes inside that issuer's fetch; it would end the process.
func (s *keySource) fetchSafely(ctx context.Context) (set *keySet, err error) {
	defer func() {
		if reason := recover(); reason != nil {
			set, err = nil, fmt.Errorf("panic: %v", reason)
		}
	}()
	return s.fetch(ctx)
}

// settle ends the fetch under way.
func (s *keySource) settle(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running, s.lastFailure = nil, err
	if err == nil {
		s.failures = 0
		return
	}
	s.failures++
	s.retryAt = s.opts.Now().Add(backoff(s.failures))
}

// backoff is the pause after so many failures: 1 s, doubling up to maxBackoff.
func backoff(failures int) time.Duration {
	const doublings = 5
	return min(time.Second<<min(failures-1, doublings), maxBackoff)
}

func (s *keySource) report(ctx context.Context, set *keySet, began time.Time, err error) {
	log := s.opts.Logger.With(slog.String("issuer", string(s.issuer)))
	if err != nil {
		log.WarnContext(ctx, "fetching the issuer's keys failed", slog.Any("error", err))
	} else if len(set.skipped) > 0 {
		log.WarnContext(ctx, "the issuer's key set has entries that cannot be used", slog.Any("skipped", set.skipped))
	}
	s.opts.Fetched(s.issuer, s.opts.Now().Sub(began), err)
}
