package cache_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/extauthz/extauthz/internal/cache"
)

// BenchmarkHit is the path of nearly every look-up: it must neither take a lock nor allocate.
func BenchmarkHit(b *testing.B) {
	s, clock := &source{rows: map[string]int{}}, &clock{}
	feed := cache.NewFeed(time.Second, clock.now)
	c := cache.New(cache.Options[string, int]{
		Load: s.load, NotFound: errAbsent, Digest: digest, TTL: time.Minute, AbsentTTL: time.Minute, ServeStale: time.Minute,
		Feed: feed, Space: roomFor(b, 10_000, 100), Size: noMore, LoadTimeout: time.Minute,
	})
	b.Cleanup(c.Close)
	feed.Open(clock.now())
	keys := make([]string, 1000)
	for n := range keys {
		keys[n] = fmt.Sprint("key-", n)
		s.rows[keys[n]] = n
		if _, _, err := c.Get(b.Context(), keys[n]); err != nil {
			b.Fatal(err)
		}
	}
	clock.advance(10 * time.Second)
	feed.Confirm(clock.now())
	loads := s.loads.Load()
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for n := 0; pb.Next(); n++ {
			if _, _, err := c.Get(b.Context(), keys[n%len(keys)]); err != nil {
				b.Error(err)
			}
		}
	})
	if s.loads.Load() != loads {
		b.Errorf("%d of the look-ups were none of the cache", s.loads.Load()-loads)
	}
}
