package token

import (
	"context"
	"math/rand/v2"
	"time"
)

// run keeps the keys fresh until ctx ends. Its own fetches end with ctx, so none outlives it.
func (s *keySource) run(ctx context.Context) {
	for ctx.Err() == nil {
		s.join(ctx, always).wait(context.WithoutCancel(ctx))
		s.pause(ctx)
	}
}

func (s *keySource) pause(ctx context.Context) {
	timer := time.NewTimer(jittered(s.untilNext()))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// untilNext is the refresh interval, or less after a failure.
func (s *keySource) untilNext() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failures == 0 {
		return s.interval
	}
	return min(backoff(s.failures), s.interval)
}

// jittered spreads replicas that started together over the last tenth: never later, so that the interval is a
// promise on withdrawn keys.
func jittered(d time.Duration) time.Duration {
	return d - time.Duration(rand.Int64N(int64(d/10)+1)) //nolint:gosec // timing, not a secret
}

func (s *keySource) status() IssuerStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	status := IssuerStatus{Issuer: s.issuer, LastError: s.lastFailure, Ready: s.inUse() != nil}
	if keys := s.current.Load(); keys != nil {
		status.Keys, status.Skipped = len(keys.set.keys), len(keys.set.skipped)
		status.FetchedAt = keys.at
		status.Age = s.opts.Now().Sub(keys.at)
	}
	return status
}
