package cache_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/extauthz/extauthz/internal/cache"
)

// setUpCompanion is a cache whose values all have a companion.
func setUpCompanion(t *testing.T, rows map[string]int) (*cache.Cache[string, int], *source, *clock) {
	t.Helper()
	s, clock := &source{rows: rows}, &clock{}
	c := cache.New(cache.Options[string, int]{
		Load: s.load, NotFound: errAbsent, Digest: digest, TTL: time.Minute, AbsentTTL: time.Minute, CompanionTTL: 20 * time.Second,
		Companion:  func(int) (uint64, bool) { return digest("companion"), true },
		ServeStale: 2 * time.Minute, Space: roomFor(t, 100, 100), Size: noMore, LoadTimeout: time.Hour, Now: clock.now,
	})
	t.Cleanup(c.Close)
	return c, s, clock
}

func TestAChangeOfTheCompanionForgetsTheValue(t *testing.T) {
	c, s, _ := setUpCompanion(t, map[string]int{"a": 1})
	expect(t, c, "a", 1, false)
	expectAbsent(t, c, "b", false)
	s.set("a", 2)
	c.CompanionsChanged([]uint64{digest("another")})
	expect(t, c, "a", 1, true)
	c.CompanionsChanged([]uint64{digest("companion")})
	expect(t, c, "a", 2, false)
	s.set("a", 3)
	c.CompanionsChanged(nil)
	expect(t, c, "a", 3, false)
	expectAbsent(t, c, "b", true) // an absence has none
}

// A value that was read before its companion changed is not kept.
func TestAddBesideAChangeOfTheCompanion(t *testing.T) {
	c, s, _ := setUpCompanion(t, map[string]int{"a": 2})
	began := c.Now()
	c.CompanionsChanged([]uint64{digest("companion")})
	c.Add("a", 1, began)
	expect(t, c, "a", 2, false)
	if loads := s.loads.Load(); loads != 1 {
		t.Errorf("%d loads, want 1", loads)
	}
}

func TestAValueLivesNoLongerThanItsCompanion(t *testing.T) {
	c, s, clock := setUpCompanion(t, map[string]int{"a": 1})
	expect(t, c, "a", 1, false)
	expectAbsent(t, c, "b", false)
	clock.advance(20*time.Second - 1)
	expect(t, c, "a", 1, true)
	clock.advance(1)
	expectAbsent(t, c, "b", true)
	s.fail(errDown)
	expectStale(t, c, "a", 1, nil)
	clock.advance(2*time.Minute - 1)
	expectStale(t, c, "a", 1, nil)
	clock.advance(1)
	expectFailure(t, c, "a", errDown)
}

// Whose companion a value has is known when it is loaded. Whoever joined the load after a change of the companion must not
// get what was read before it; whoever came before may, and nobody waits for more than one other load.
func TestTheCompanionChangesDuringALoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s, _ := setUpCompanion(t, map[string]int{"a": 1})
		s.read, s.hold = make(chan struct{}, 10), make(chan struct{})
		get := func(name string, want int) {
			go func() {
				if value, _, err := c.Get(context.Background(), "a"); value != want || err != nil {
					t.Errorf("who came %s got %d, %v; want %d", name, value, err, want)
				}
			}()
			synctest.Wait()
		}
		get("before", 1)
		s.set("a", 2)
		c.CompanionsChanged([]uint64{digest("companion")})
		get("after", 2)
		get("after", 2)
		close(s.hold)
		synctest.Wait()
		if loads := s.loads.Load(); loads != 2 {
			t.Errorf("%d loads, want 2", loads)
		}
	})
}
