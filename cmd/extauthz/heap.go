package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// heapHeadroom is how much garbage may lie about before it is collected. With Go's default, as much as there is live
	// data, the small heap of a server that holds little would be collected some ten times a second.
	heapHeadroom = 96 << 20
	// heapLook is how often the live heap is looked at.
	heapLook = 5 * time.Second
)

// watchHeap sets how much the heap may grow between two collections: by as much as is live, as is Go's default, or by
// heapHeadroom where less is live, within the bound of heapGrowth. An operator who sets GOGC or GOMEMLIMIT is left alone.
func watchHeap(ctx context.Context) {
	for _, name := range []string{"GOGC", "GOMEMLIMIT"} {
		if os.Getenv(name) != "" {
			return
		}
	}
	tick := time.NewTicker(heapLook)
	defer tick.Stop()
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	for before := 0; ; {
		metrics.Read(live)
		if percent := heapGrowth(live[0].Value.Uint64()); percent*10 < before*9 || before*11 < percent*10 {
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

// heapGrowth returns the growth in percent of a live heap of so many bytes: at most three times as much, because what is
// live may grow before the next look.
func heapGrowth(live uint64) int {
	return int(max(100, min(300, 100*heapHeadroom/max(live, 1))))
}
