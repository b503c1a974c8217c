package cache_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/extauthz/extauthz/internal/cache"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errAbsent = errors.New("absent")

// clock is a clock that only moves when told to.
type clock struct{ nanos atomic.Int64 }

func (c *clock) now() time.Time          { return time.Unix(0, c.nanos.Load()) }
func (c *clock) advance(d time.Duration) { c.nanos.Add(int64(d)) }

// source is the store behind a cache under test. hold, if not nil, blocks loads after they have read.
type source struct {
	mu    sync.Mutex
	rows  map[string]int
	err   error
	loads atomic.Int64
	read  chan struct{}
	hold  chan struct{}
}

func (s *source) load(ctx context.Context, key string) (int, error) {
	s.loads.Add(1)
	s.mu.Lock()
	value, found := s.rows[key]
	err, read, hold := s.err, s.read, s.hold
	s.mu.Unlock()
	if read != nil {
		read <- struct{}{}
		select {
		case <-hold:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	switch {
	case err != nil:
		return 0, err
	case !found:
		return 0, fmt.Errorf("%s: %w", key, errAbsent)
	}
	return value, nil
}

func digest(key string) uint64 { return cache.Digest(key) }

func (s *source) set(key string, value int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rows[key] = value
}

func (s *source) remove(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.rows, key)
}

// noMore is the size of values that lead to nothing. An entry of a short text and a number takes entryBytes.
func noMore(string, int) int { return 0 }

const entryBytes = 254

// roomFor returns a space for so many values and absences, which ends with the test.
func roomFor(t testing.TB, values, absences int64) *cache.Space {
	t.Helper()
	const counters = 1 << 10 // bytes
	space, err := cache.NewSpace(values*entryBytes+counters, absences*entryBytes+counters)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(space.Close)
	return space
}

func newCache(t testing.TB, s *source, c *clock) *cache.Cache[string, int] {
	t.Helper()
	made := cache.New(cache.Options[string, int]{
		Load: s.load, NotFound: errAbsent, Digest: digest, TTL: time.Minute, AbsentTTL: 10 * time.Second,
		Space: roomFor(t, 1000, 100), Size: noMore, LoadTimeout: time.Minute, Now: c.now,
	})
	t.Cleanup(made.Close)
	return made
}

func setUp(t testing.TB, rows map[string]int) (*cache.Cache[string, int], *source, *clock) {
	s, c := &source{rows: rows}, &clock{}
	return newCache(t, s, c), s, c
}

func expect(t *testing.T, c *cache.Cache[string, int], key string, value int, cached bool) {
	t.Helper()
	got, origin, err := c.Get(t.Context(), key)
	if hit := origin == cache.Cached; got != value || hit != cached || err != nil {
		t.Fatalf("Get(%q) = %d, cached %v, %v; want %d, cached %v", key, got, hit, err, value, cached)
	}
}

func expectAbsent(t *testing.T, c *cache.Cache[string, int], key string, cached bool) {
	t.Helper()
	_, origin, err := c.Get(t.Context(), key)
	if hit := origin == cache.Cached; hit != cached || !errors.Is(err, errAbsent) {
		t.Fatalf("Get(%q) = cached %v, %v; want absent, cached %v", key, hit, err, cached)
	}
}

func TestTTLCountsFromTheLoadAndDoesNotSlide(t *testing.T) {
	c, s, clock := setUp(t, map[string]int{"a": 1})
	expect(t, c, "a", 1, false)
	s.set("a", 2)
	for range 6 {
		clock.advance(9 * time.Second)
		expect(t, c, "a", 1, true)
	}
	clock.advance(6 * time.Second) // 60 s
	expect(t, c, "a", 2, false)
}

func TestAbsenceIsCachedForItsOwnTTL(t *testing.T) {
	c, s, clock := setUp(t, map[string]int{})
	expectAbsent(t, c, "a", false)
	expectAbsent(t, c, "a", true)
	s.set("a", 1)
	expectAbsent(t, c, "a", true)
	clock.advance(10 * time.Second)
	expect(t, c, "a", 1, false)
	if n := s.loads.Load(); n != 2 {
		t.Fatalf("%d loads, want 2", n)
	}
}

func TestErrorsAreNotCached(t *testing.T) {
	c, s, _ := setUp(t, map[string]int{"a": 1})
	s.err = errors.New("down")
	for range 2 {
		if _, _, err := c.Get(t.Context(), "a"); !errors.Is(err, s.err) {
			t.Fatalf("got %v, want the store's error", err)
		}
	}
	s.mu.Lock()
	s.err = nil
	s.mu.Unlock()
	expect(t, c, "a", 1, false)
}

func TestInvalidationIsSeenAtOnce(t *testing.T) {
	c, s, _ := setUp(t, map[string]int{"a": 1, "b": 1})
	for n := 2; n < 200; n++ {
		expect(t, c, "a", n-1, false)
		s.set("a", n)
		c.Invalidate("a")
	}
	expect(t, c, "b", 1, false)
	s.remove("b")
	c.InvalidateAll()
	expectAbsent(t, c, "b", false)
}

// A reader that read before a change and finishes after it must not bring the old value back.
func TestLoadOverlappedByInvalidationIsNotStored(t *testing.T) {
	for name, invalidate := range map[string]func(*cache.Cache[string, int]){
		"one": func(c *cache.Cache[string, int]) { c.Invalidate("a") },
		"all": func(c *cache.Cache[string, int]) { c.InvalidateAll() },
	} {
		t.Run(name, func(t *testing.T) {
			c, s, _ := setUp(t, map[string]int{"a": 1})
			s.read, s.hold = make(chan struct{}), make(chan struct{})
			early := make(chan int)
			go func() {
				value, _, _ := c.Get(context.Background(), "a")
				early <- value
			}()
			<-s.read // it has read 1
			s.set("a", 2)
			invalidate(c)
			s.mu.Lock()
			s.read = nil
			s.mu.Unlock()
			expect(t, c, "a", 2, false) // does not join the old load
			close(s.hold)
			if value := <-early; value != 1 {
				t.Fatalf("the early reader got %d, want what it read: 1", value)
			}
			expect(t, c, "a", 2, true)
		})
	}
}

func TestConcurrentMissesShareOneLoad(t *testing.T) {
	c, s, _ := setUp(t, map[string]int{"a": 1})
	s.read, s.hold = make(chan struct{}, 1), make(chan struct{})
	var group sync.WaitGroup
	var wrong atomic.Int64
	for range 64 {
		group.Go(func() {
			if value, _, err := c.Get(context.Background(), "a"); value != 1 || err != nil {
				wrong.Add(1)
			}
		})
	}
	<-s.read
	close(s.hold)
	group.Wait()
	if s.loads.Load() != 1 || wrong.Load() != 0 {
		t.Fatalf("%d loads, %d wrong answers; want 1 and 0", s.loads.Load(), wrong.Load())
	}
}

// A shared load on its first caller's context would let one cancelled caller fail the rest.
func TestCancelledLeaderDoesNotFailTheOthers(t *testing.T) {
	c, s, _ := setUp(t, map[string]int{"a": 1})
	s.read, s.hold = make(chan struct{}), make(chan struct{})
	leader, cancel := context.WithCancel(t.Context())
	failed := make(chan error)
	go func() {
		_, _, err := c.Get(leader, "a")
		failed <- err
	}()
	<-s.read
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Fatalf("the leader got %v, want its cancellation", err)
	}
	follower := make(chan int)
	go func() {
		value, _, _ := c.Get(context.Background(), "a")
		follower <- value
	}()
	close(s.hold)
	if value := <-follower; value != 1 {
		t.Fatalf("the follower got %d, want 1", value)
	}
}

func TestLoadHasItsOwnDeadline(t *testing.T) {
	s, clock := &source{rows: map[string]int{}, read: make(chan struct{}, 1), hold: make(chan struct{})}, &clock{}
	c := cache.New(cache.Options[string, int]{
		Load: s.load, NotFound: errAbsent, Digest: digest, TTL: time.Minute, AbsentTTL: time.Minute,
		Space: roomFor(t, 10, 10), Size: noMore, LoadTimeout: time.Millisecond, Now: clock.now,
	})
	defer c.Close()
	if _, _, err := c.Get(t.Context(), "a"); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v, want the load's deadline", err)
	}
}

func TestPanickingLoadIsAnError(t *testing.T) {
	c := cache.New(cache.Options[string, int]{
		Load: func(context.Context, string) (int, error) { panic("bug") }, NotFound: errAbsent, Digest: digest,
		TTL: time.Minute, AbsentTTL: time.Minute, Space: roomFor(t, 10, 10), Size: noMore, LoadTimeout: time.Minute,
	})
	defer c.Close()
	if _, _, err := c.Get(t.Context(), "a"); err == nil || errors.Is(err, errAbsent) {
		t.Fatalf("got %v, want an error that is not absence", err)
	}
}

func TestFloodOfAbsentKeysDoesNotEvictPresentOnes(t *testing.T) {
	rows := map[string]int{}
	for n := range 200 {
		rows[fmt.Sprint("real-", n)] = n
	}
	c, s, _ := setUp(t, rows)
	for n := range 200 {
		expect(t, c, fmt.Sprint("real-", n), n, false)
	}
	for n := range 20_000 {
		if _, _, err := c.Get(t.Context(), fmt.Sprint("unknown-", n)); !errors.Is(err, errAbsent) {
			t.Fatal(err)
		}
	}
	before := s.loads.Load()
	for n := range 200 {
		if value, _, err := c.Get(t.Context(), fmt.Sprint("real-", n)); value != n || err != nil {
			t.Fatalf("real-%d = %d, %v", n, value, err)
		}
	}
	if reloaded := s.loads.Load() - before; reloaded > 2 { // 99 % of 200
		t.Fatalf("%d of 200 real keys were evicted", reloaded)
	}
}

// TestNeverStaleAfterInvalidation compares the cache with a plain map under random changes: whatever
// was changed and invalidated is what the next Get returns.
func TestNeverStaleAfterInvalidation(t *testing.T) {
	space := roomFor(t, 4, 2)
	rapid.Check(t, func(t *rapid.T) {
		s, clock := &source{rows: map[string]int{}}, &clock{}
		named := digest
		if rapid.Bool().Draw(t, "one place") {
			named = onePlace
		}
		c := cache.New(cache.Options[string, int]{
			Load: s.load, NotFound: errAbsent, Digest: named, TTL: time.Minute, AbsentTTL: time.Minute,
			Space: space, Size: noMore, LoadTimeout: time.Minute, Now: clock.now,
		})
		defer c.Close()
		keys := rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f"})
		t.Repeat(map[string]func(*rapid.T){
			"set": func(t *rapid.T) {
				key := keys.Draw(t, "key")
				s.set(key, rapid.Int().Draw(t, "value"))
				c.Invalidate(key)
			},
			"remove": func(t *rapid.T) {
				key := keys.Draw(t, "key")
				s.remove(key)
				c.Invalidate(key)
			},
			"all":     func(*rapid.T) { c.InvalidateAll() },
			"advance": func(t *rapid.T) { clock.advance(time.Duration(rapid.Int64Range(0, 3e10).Draw(t, "ns"))) },
			"get": func(t *rapid.T) {
				key := keys.Draw(t, "key")
				want, found := s.rows[key]
				got, _, err := c.Get(context.Background(), key)
				if got != want || found != (err == nil) {
					t.Fatalf("Get(%q) = %d, %v; the store has %d, %v", key, got, err, want, found)
				}
			},
		})
	})
}

// A process that ends while the store is slow must not panic: the load outlives the cache.
func TestLoadThatOutlivesTheCache(t *testing.T) {
	s, clock := &source{rows: map[string]int{"a": 1}, read: make(chan struct{}), hold: make(chan struct{})}, &clock{}
	c := cache.New(cache.Options[string, int]{
		Load: s.load, NotFound: errAbsent, Digest: digest, TTL: time.Minute, AbsentTTL: time.Minute,
		Space: roomFor(t, 10, 10), Size: noMore, LoadTimeout: time.Minute, Now: clock.now,
	})
	got := make(chan int)
	go func() {
		value, _, _ := c.Get(context.Background(), "a")
		got <- value
	}()
	<-s.read
	c.Close()
	close(s.hold)
	if value := <-got; value != 1 {
		t.Errorf("got %d, want 1", value)
	}
}

// What is read along with something else is kept, unless it may be older than what is known.
func TestAdd(t *testing.T) {
	c, s, clock := setUp(t, map[string]int{"a": 1, "b": 1, "c": 1})
	at := c.Now()
	c.Add("a", 10, at)
	expect(t, c, "a", 10, true)
	c.Add("a", 11, c.Now())
	expect(t, c, "a", 10, true) // that one was there

	for name, change := range map[string]func(){
		"Invalidate":    func() { c.Invalidate("b") },
		"Changed":       func() { c.Changed([]uint64{digest("b")}) },
		"InvalidateAll": func() { c.InvalidateAll() },
	} {
		t.Run(name, func(t *testing.T) {
			c.Invalidate("b")
			before := c.Now()
			change()
			c.Add("b", 20, before)
			expect(t, c, "b", 1, false)
		})
	}
	before := c.Now()
	clock.advance(59 * time.Second)
	c.Add("c", 30, before)
	expect(t, c, "c", 30, true)
	clock.advance(time.Second) // its time counts from the read
	expect(t, c, "c", 1, false)
	if n := s.loads.Load(); n != 4 {
		t.Errorf("%d loads, want 4", n)
	}
}

// A load under way began later than what was read before, or may have: its result counts.
func TestAddDuringALoad(t *testing.T) {
	c, s, _ := setUp(t, map[string]int{"a": 1})
	s.read, s.hold = make(chan struct{}), make(chan struct{})
	before := c.Now()
	loaded := make(chan int)
	go func() {
		value, _, _ := c.Get(context.Background(), "a")
		loaded <- value
	}()
	<-s.read
	c.Add("a", 10, before)
	close(s.hold)
	if value := <-loaded; value != 1 {
		t.Errorf("the load gave %d, want 1", value)
	}
	expect(t, c, "a", 1, true)
}

// What was seen to be gone since does not come back in an outage, however late the older value is added.
func TestAddOfAnOlderValue(t *testing.T) {
	s, clock := &source{rows: map[string]int{}}, &clock{}
	feed := cache.NewFeed(3*time.Second, clock.now)
	feed.Open(clock.now())
	c := cache.New(cache.Options[string, int]{
		Load: s.load, NotFound: errAbsent, Digest: digest, TTL: time.Minute, AbsentTTL: time.Minute, ServeStale: time.Minute,
		Space: roomFor(t, 100, 100), Size: noMore, LoadTimeout: time.Minute, Feed: feed,
	})
	t.Cleanup(c.Close)
	began := c.Now()
	clock.advance(time.Second)
	expectAbsent(t, c, "a", false)
	clock.advance(3 * time.Second) // nobody confirms the absence
	c.Add("a", 7, began)
	s.mu.Lock()
	s.err = errors.New("down")
	s.mu.Unlock()
	if got, origin, err := c.Get(t.Context(), "a"); !errors.Is(err, errAbsent) {
		t.Errorf("got %d, origin %d, %v", got, origin, err)
	}
}
