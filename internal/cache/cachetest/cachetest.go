// Package cachetest gives tests the memory that caches need.
package cachetest

import "github.com/extauthz/extauthz/internal/cache"

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
