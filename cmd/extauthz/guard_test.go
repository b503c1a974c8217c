package main

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/extauthz/extauthz/internal/admission"
	"github.com/extauthz/extauthz/internal/store"
	"github.com/extauthz/extauthz/internal/telemetry"
	"github.com/extauthz/extauthz/pkg/teams"
)

// busyStore answers slowly.
type busyStore struct {
	store.Store
	mu            sync.Mutex
	underWay, max int
}

func (s *busyStore) User(context.Context, teams.UserID) (*teams.User, error) {
	s.add(1)
	defer s.add(-1)
	time.Sleep(30 * time.Millisecond)
	return &teams.User{}, nil
}

func (s *busyStore) add(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.underWay += n
	s.max = max(s.max, s.underWay)
}

func (s *busyStore) Reset() {}

// A store that is asked for more than it can do is no store that fails: the rest is turned away in time, and the breaker
// stays closed. Time is synctest's.
func TestBusyStoreIsNoFailingStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const connections, callers = 2, 1000
		slow := &busyStore{}
		gate := admission.NewGate("store", connections, maxQueue, 100*time.Millisecond)
		guarded := guardStore(slow, gate, telemetry.NewMetrics(""), slog.New(slog.DiscardHandler))
		began := time.Now()
		results := make(chan error, callers)
		for range callers {
			go func() {
				_, err := guarded.User(t.Context(), "alice")
				results <- err
			}()
		}
		answered := 0
		for range callers {
			switch err := <-results; {
			case err == nil:
				answered++
			case !errors.Is(err, admission.ErrOverloaded):
				t.Fatal(err)
			}
		}
		if took := time.Since(began); slow.max != connections || answered < 3*connections || took > 150*time.Millisecond {
			t.Errorf("%d of %d answered in %s, at most %d at once", answered, callers, took, slow.max)
		}
		if _, err := guarded.User(t.Context(), "alice"); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	})
}
