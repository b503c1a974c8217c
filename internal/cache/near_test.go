package cache_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/extauthz/extauthz/internal/cache"
)

func nearCache(t *testing.T, load func(context.Context, string) (int, error)) *cache.Cache[string, int] {
	t.Helper()
	c := cache.New(cache.Options[string, int]{
		Load: load, NotFound: errAbsent, Digest: digest, TTL: time.Hour, AbsentTTL: time.Hour, Space: roomFor(t, 100, 100), Size: noMore, LoadTimeout: time.Second,
	})
	t.Cleanup(c.Close)
	return c
}

func of(value int) func(context.Context, string) (int, error) {
	return func(context.Context, string) (int, error) { return value, nil }
}

func withNear(ctx context.Context, n *cache.Near) context.Context {
	return context.WithValue(ctx, cache.NearKey{}, n)
}

// Two caches of one type may know a key by two values, as a process has it that reads two stores.
func TestNearKeepsCachesApart(t *testing.T) {
	caches, near := []*cache.Cache[string, int]{nearCache(t, of(0)), nearCache(t, of(1))}, cache.Near{}
	ctx := withNear(t.Context(), &near)
	for range 3 { // loaded, cached, near
		for want, c := range caches {
			if got, _, err := c.Get(ctx, "key"); err != nil || got != want {
				t.Fatalf("got %d, %v; want %d", got, err, want)
			}
		}
	}
}

func TestNearHoldsFewEntries(t *testing.T) {
	loads := 0
	c, near := nearCache(t, func(context.Context, string) (int, error) { loads++; return loads, nil }), cache.Near{}
	ctx := withNear(t.Context(), &near)
	for range 3 {
		for n := range 40 {
			if got, _, err := c.Get(ctx, fmt.Sprint(n)); err != nil || got != n+1 {
				t.Fatalf("key %d: got %d, %v", n, got, err)
			}
		}
	}
}

// What is near costs no look-up and no memory.
func BenchmarkNear(b *testing.B) {
	c := cache.New(cache.Options[string, int]{
		Load: of(1), NotFound: errAbsent, Digest: digest, TTL: time.Hour, AbsentTTL: time.Hour, Space: roomFor(b, 100, 100), Size: noMore, LoadTimeout: time.Second,
	})
	defer c.Close()
	var near cache.Near
	for name, ctx := range map[string]context.Context{"cached": context.Background(), "near": withNear(context.Background(), &near)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := c.Get(ctx, "key"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
