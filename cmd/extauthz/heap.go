package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"

	configv1 "github.com/extauthz/extauthz/proto/extauthz/config/v1"
)

const (
	// heapHeadroom is how much garbage may lie about before it is collected. With Go's default, as much as there is live
	// data, the small heap of a server that holds little would be collected some ten times a second.
	heapHeadroom = 96 << 20
	// heapRest is what a process takes beside its caches and its garbage.
	heapRest = 32 << 20
	// heapLook is how often the live heap is looked at.
	heapLook = 5 * time.Second
)

// watchHeap sets how much the heap may grow between two collections: by heapHeadroom or, where more than that is live, by
// as much as is live, as is Go's default, but to no more than heapLimit, or the operator's GOMEMLIMIT. An operator who
// sets GOGC is left alone.
func watchHeap(ctx context.Context, caches uint64) {
	if os.Getenv("GOGC") != "" {
		return
	}
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(-1))
	limited := os.Getenv("GOMEMLIMIT") != ""
	tick := time.NewTicker(heapLook)
	defer tick.Stop()
	look := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	for before := 0; ; {
		metrics.Read(look)
		live := look[0].Value.Uint64()
		if !limited {
			debug.SetMemoryLimit(heapLimit(caches, live))
		}
		if percent := heapGrowth(live); percent*10 < before*9 || before*11 < percent*10 {
			debug.SetGCPercent(percent) // stops the world for a moment: not for little
			before = percent
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// heapGrowth returns the growth in percent of a live heap of so many bytes. What is live may grow before the next look:
// heapLimit bounds what comes of that.
func heapGrowth(live uint64) int {
	return int(max(100, min(1000, 100*heapHeadroom/max(live, 1))))
}

// heapLimit returns what the Go runtime may take before it collects more often, in bytes: what the caches may take, an
// eighth for what is counted wrongly or lies between objects, and the rest. A heap that is larger all the same is not
// collected without end.
func heapLimit(caches, live uint64) int64 {
	return int64(max(caches+caches/8, live) + heapHeadroom + heapRest) //nolint:gosec // the sum of three 32-bit budgets
}

// cacheBytes is what the caches may take.
func cacheBytes(c *configv1.Cache) uint64 {
	return uint64(c.GetMaxBytes()) + uint64(c.GetMaxAbsentBytes()) + uint64(c.GetMaxTokenBytes())
}
