package main

import "testing"

func TestHeapGrowth(t *testing.T) {
	for live, want := range map[uint64]int{0: 1000, 1 << 20: 1000, 32 << 20: 300, 48 << 20: 200, 96 << 20: 100, 1 << 40: 100} {
		if got := heapGrowth(live); got != want {
			t.Errorf("%d bytes live: %d %%, want %d", live, got, want)
		}
	}
}

// A heap that outgrows the budgets keeps room for garbage: else it would be collected all the time.
func TestHeapLimit(t *testing.T) {
	for _, c := range []struct{ caches, live, want uint64 }{
		{200 << 20, 0, 353 << 20},
		{200 << 20, 225 << 20, 353 << 20},
		{200 << 20, 1 << 30, 1152 << 20},
	} {
		if got := heapLimit(c.caches, c.live); uint64(got) != c.want {
			t.Errorf("caches of %d bytes, %d live: %d, want %d", c.caches, c.live, got, c.want)
		}
	}
}
