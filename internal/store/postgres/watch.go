package postgres

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/extauthz/extauthz/internal/store/rows"
)

// The pauses between attempts to connect, doubled from the one to the other.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = 2 * time.Second
)

// Watch is documented on package store's Store. It uses one connection of its own, outside the pool.
func (s *Store) Watch(ctx context.Context, w rows.Watcher) {
	pause := firstPause
	for {
		worked, err := s.listen(ctx, w)
		if ctx.Err() != nil {
			return
		}
		if !errors.Is(err, errBeat) && !errors.Is(err, errPooler) {
			err = translate(ctx, "watch", err)
		}
		w.Interrupted(err)
		if worked {
			pause = firstPause
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause/2 + rand.N(pause/2)): //nolint:gosec // so that replicas do not come back at once
		}
		pause = min(2*pause, lastPause)
	}
}

// listen tells w of changes until the connection fails, and reports whether it worked before.
func (s *Store) listen(ctx context.Context, w rows.Watcher) (worked bool, _ error) {
	l, err := newListener(ctx, s.pool.Config().ConnConfig, w)
	if err != nil {
		return false, err
	}
	defer l.close()
	for {
		next := time.Now().Add(beatInterval)
		if err := l.beat(ctx); err != nil {
			return worked, err
		}
		worked = true
		if err := l.receive(ctx, next); err != nil {
			return worked, err
		}
	}
}

// Reset closes the connections that are idle, since they may lead nowhere.
func (s *Store) Reset() { s.pool.Reset() }
