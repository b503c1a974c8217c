package cache_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/extauthz/extauthz/internal/cache"
)

// setUpStale serves a value for one minute and, while the store fails, two minutes more; an absence for 10 seconds
// and two minutes more.
func setUpStale(t *testing.T, rows map[string]int) (*cache.Cache[string, int], *source, *clock) {
	t.Helper()
	return setUpFed(t, rows, &clock{}, nil)
}

func setUpFed(t *testing.T, rows map[string]int, clock *clock, feed *cache.Feed) (*cache.Cache[string, int], *source, *clock) {
	t.Helper()
	s := &source{rows: rows}
	c := cache.New(cache.Options[string, int]{
		Load: s.load, NotFound: errAbsent, Digest: digest, TTL: time.Minute, AbsentTTL: 10 * time.Second,
		ServeStale: 2 * time.Minute, Feed: feed, Space: roomFor(t, 100, 100), Size: noMore, LoadTimeout: time.Minute, Now: clock.now,
	})
	t.Cleanup(c.Close)
	return c, s, clock
}

func (s *source) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func expectStale(t *testing.T, c *cache.Cache[string, int], key string, value int, want error) {
	t.Helper()
	got, origin, err := c.Get(t.Context(), key)
	if got != value || origin != cache.Stale || !errors.Is(err, want) {
		t.Fatalf("Get(%q) = %d, origin %d, %v; want %d, stale, %v", key, got, origin, err, value, want)
	}
}

func expectFailure(t *testing.T, c *cache.Cache[string, int], key string, want error) {
	t.Helper()
	if got, origin, err := c.Get(t.Context(), key); origin != cache.Loaded || !errors.Is(err, want) {
		t.Fatalf("Get(%q) = %d, origin %d, %v; want %v", key, got, origin, err, want)
	}
}

func TestStaleIsServedUntilTheBound(t *testing.T) {
	c, s, clock := setUpStale(t, map[string]int{"a": 1})
	expect(t, c, "a", 1, false)
	expectAbsent(t, c, "b", false)
	s.fail(errDown)
	expect(t, c, "a", 1, true)
	clock.advance(time.Minute)
	expectStale(t, c, "a", 1, nil)
	expectStale(t, c, "b", 0, errAbsent)
	expectFailure(t, c, "never-seen", errDown)
	clock.advance(70*time.Second - 1)
	expectStale(t, c, "b", 0, errAbsent)
	clock.advance(1) // 10 s and 2 min
	expectFailure(t, c, "b", errDown)
	clock.advance(50*time.Second - 1)
	expectStale(t, c, "a", 1, nil)
	clock.advance(1) // 1 min and 2 min
	expectFailure(t, c, "a", errDown)
	s.fail(nil)
	expect(t, c, "a", 1, false)
}

func TestStaleEndsWhenTheStoreIsBack(t *testing.T) {
	c, s, clock := setUpStale(t, map[string]int{"a": 1})
	expect(t, c, "a", 1, false)
	clock.advance(time.Minute)
	s.fail(errDown)
	expectStale(t, c, "a", 1, nil)
	s.fail(nil)
	s.set("a", 2)
	expect(t, c, "a", 2, false)
}

// An invalidation that was seen is never undone by an outage, whichever kind it was.
func TestInvalidatedIsNotServedStale(t *testing.T) {
	for name, invalidate := range map[string]func(*cache.Cache[string, int]){
		"one":    func(c *cache.Cache[string, int]) { c.Invalidate("a") },
		"digest": func(c *cache.Cache[string, int]) { c.Changed([]uint64{cache.Digest("a")}) },
		"all":    func(c *cache.Cache[string, int]) { c.InvalidateAll() },
	} {
		t.Run(name, func(t *testing.T) {
			c, s, clock := setUpStale(t, map[string]int{"a": 1})
			expect(t, c, "a", 1, false)
			clock.advance(time.Minute)
			s.fail(errDown)
			expectStale(t, c, "a", 1, nil)
			invalidate(c)
			expectFailure(t, c, "a", errDown)
		})
	}
}

// A caller who waits for the load when the row is invalidated does not get the old row either.
func TestInvalidatedWhileWaitingIsNotServedStale(t *testing.T) {
	c, s, clock := setUpStale(t, map[string]int{"a": 1})
	expect(t, c, "a", 1, false)
	clock.advance(time.Minute)
	s.fail(errDown)
	s.mu.Lock()
	s.read, s.hold = make(chan struct{}), make(chan struct{})
	s.mu.Unlock()
	failed := make(chan error)
	go func() {
		_, _, err := c.Get(context.Background(), "a")
		failed <- err
	}()
	<-s.read
	c.Invalidate("a")
	close(s.hold)
	if err := <-failed; !errors.Is(err, errDown) {
		t.Fatalf("got %v, want %v", err, errDown)
	}
}

// A row that was seen to be gone does not come back in an outage, though it would be served for longer than its absence.
func TestAbsenceEndsTheOlderRow(t *testing.T) {
	clock := &clock{}
	c, s, _ := setUpFed(t, map[string]int{"a": 1}, clock, cache.NewFeed(3*time.Second, clock.now))
	expect(t, c, "a", 1, false) // until 3 min
	clock.advance(3 * time.Second)
	s.remove("a")
	expectAbsent(t, c, "a", false) // until 2 min 13 s
	s.fail(errDown)
	clock.advance(2 * time.Minute)
	expectStale(t, c, "a", 0, errAbsent)
	clock.advance(10 * time.Second)
	expectFailure(t, c, "a", errDown)
}

// Nor does an absence that was seen to have ended.
func TestRowEndsTheOlderAbsence(t *testing.T) {
	c, s, clock := setUpStale(t, map[string]int{})
	expectAbsent(t, c, "a", false)
	clock.advance(10 * time.Second)
	s.set("a", 1)
	expect(t, c, "a", 1, false)
	s.fail(errDown)
	clock.advance(time.Minute)
	expectStale(t, c, "a", 1, nil)
}

// A database that hangs costs a caller who has an old row a quarter of its time, and the load goes on.
func TestSlowStoreIsNotWaitedForByThoseWithAnOldRow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{rows: map[string]int{"a": 1}}
		c := cache.New(cache.Options[string, int]{
			Load: s.load, NotFound: errAbsent, Digest: digest, TTL: time.Minute, AbsentTTL: time.Minute, ServeStale: time.Hour,
			Space: roomFor(t, 100, 100), Size: noMore, LoadTimeout: time.Minute,
		})
		defer c.Close()
		expect(t, c, "a", 1, false)
		time.Sleep(time.Minute)
		s.set("a", 2)
		s.read, s.hold = make(chan struct{}, 1), make(chan struct{})
		ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
		defer cancel()
		asked := time.Now()
		if got, origin, err := c.Get(ctx, "a"); got != 1 || origin != cache.Stale || err != nil || time.Since(asked) != 100*time.Millisecond {
			t.Fatalf("after %s: %d, origin %d, %v; want 1, stale, after 100 ms", time.Since(asked), got, origin, err)
		}
		close(s.hold)
		synctest.Wait()
		expect(t, c, "a", 2, true)
	})
}

func TestWithoutAConfirmationARowIsLoadedAnew(t *testing.T) {
	clock := &clock{}
	feed := cache.NewFeed(3*time.Second, clock.now)
	c, s, _ := setUpFed(t, map[string]int{"a": 1}, clock, feed)
	loads := func(want int64) {
		t.Helper()
		if _, _, err := c.Get(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		if got := s.loads.Load(); got != want {
			t.Fatalf("%d loads, want %d", got, want)
		}
	}
	loads(1)
	clock.advance(3*time.Second - 1)
	loads(1)
	clock.advance(1)
	loads(2) // nobody tells of changes yet
	feed.Open(clock.now())
	clock.advance(2 * time.Second)
	feed.Confirm(clock.now())
	clock.advance(2 * time.Second)
	loads(2) // confirmed two seconds ago
	clock.advance(time.Second)
	loads(3)
	feed.Confirm(clock.now())
	clock.advance(time.Second)
	loads(3)
	feed.Open(clock.now()) // after a gap
	loads(4)
	loads(4)
}

// What the SQL function extauthz_digests computes is compared with this one by the conformance suite.
func TestDigest(t *testing.T) {
	for want, fields := range map[uint64][]string{
		0x8c9038777a9c5c17: {"alice"},     // printf 5:alice | sha256sum
		0x430fb1b4ac43316e: {"ab", "c"},   // printf 2:ab1:c
		0xf746f81ee029a044: {"sub", "éa"}, // printf 3:sub3:éa
	} {
		if got := cache.Digest(fields...); got != want {
			t.Errorf("Digest(%q) = %#x, want %#x", fields, got, want)
		}
	}
	if cache.Digest("ab", "c") == cache.Digest("a", "bc") {
		t.Error("fields run into each other")
	}
}
