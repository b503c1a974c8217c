// Package cachetest gives tests the memory that caches need, and measures it.
package cachetest

import (
	"runtime"
	"testing"

	"github.com/extauthz/extauthz/internal/cache"
)

// T is a test.
type T interface {
	Helper()
	Fatalf(format string, args ...any)
	Cleanup(func())
}

// Space returns a space of a mebibyte for values and one for absences, which ends with the test.
func Space(t T) *cache.Space {
	t.Helper()
	space, err := cache.NewSpace(1<<20, 1<<20)
	if err != nil {
		t.Fatalf("cache: %v", err)
	}
	t.Cleanup(space.Close)
	return space
}

// LiveHeap is the bytes that the program holds on to.
func LiveHeap() int64 {
	runtime.GC()
	runtime.GC() // what finalizers let go of
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc) //nolint:gosec // a size
}

// CheckFull fails the test unless rows that are too many for a budget take what it is: taken is what they take, in bytes.
func CheckFull(t testing.TB, taken, budget int64) {
	t.Helper()
	full := float64(taken) / float64(budget)
	t.Logf("of a full budget of %d bytes is taken %.2f", budget, full)
	if full < 0.75 || full > 1.1 {
		t.Errorf("of a full budget is taken %.2f: its rows are counted wrongly, or are not kept", full)
	}
}
