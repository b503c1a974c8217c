package cache_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/extauthz/extauthz/internal/cache"
)

// onePlace is a digest with which all keys share what is remembered of their changes.
func onePlace(key string) uint64 { return uint64(key[0]) << 32 }

// A change takes no other key with it, though they share what is remembered of changes: in an outage that other key
// could not be read again.
func TestAChangeForgetsNoOtherKey(t *testing.T) {
	s, clock := &source{rows: map[string]int{}}, &clock{}
	for n := range 9 {
		s.rows[fmt.Sprint(n)] = n
	}
	c := cache.New(cache.Options[string, int]{
		Load: s.load, NotFound: errAbsent, Digest: onePlace, TTL: time.Minute, AbsentTTL: time.Minute,
		Space: roomFor(t, 1000, 100), Size: noMore, LoadTimeout: time.Minute, Now: clock.now,
	})
	t.Cleanup(c.Close)
	expect(t, c, "0", 0, false)
	for range 100 {
		for _, other := range []string{"1", "2", "3", "4"} {
			c.Invalidate(other)
			expect(t, c, "0", 0, true)
		}
	}
	c.Changed([]uint64{onePlace("0")})
	expect(t, c, "0", 0, false)

	// What was changed and is no longer remembered by itself stays forgotten, and nothing else is brought back.
	s.set("0", 10)
	c.Invalidate("0")
	for _, other := range []string{"1", "2", "3", "4", "5", "6", "7", "8", "8"} {
		c.Invalidate(other)
	}
	s.err = errors.New("down")
	for key := range s.rows {
		if got, _, err := c.Get(context.Background(), key); !errors.Is(err, s.err) {
			t.Errorf("key %s: got %d, %v; it was forgotten", key, got, err)
		}
	}
}

// Readers that find an entry good while it is being forgotten must not find it good afterwards.
func TestForgettingBesideReaders(t *testing.T) {
	s, clock := &source{rows: map[string]int{"a": 0}}, &clock{}
	c := newCache(t, s, clock)
	var near cache.Near
	reading, stop := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			for reading.Err() == nil {
				_, _, _ = c.Get(withNear(context.Background(), &near), "a")
			}
		})
	}
	for n := 1; n < 10_000; n++ {
		s.set("a", n)
		if n%2 == 0 {
			c.InvalidateAll()
		} else {
			c.Invalidate("a")
		}
		for range 2 { // from the store or a reader's load; then from near
			if got, _, err := c.Get(withNear(context.Background(), &near), "a"); got != n || err != nil {
				t.Errorf("after change %d: got %d, %v", n, got, err)
			}
		}
	}
	stop()
	readers.Wait()
}
