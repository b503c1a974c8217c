package main

import "testing"

func TestHeapGrowth(t *testing.T) {
	for live, want := range map[uint64]int{0: 300, 1 << 20: 300, 32 << 20: 300, 48 << 20: 200, 96 << 20: 100, 1 << 40: 100} {
		if got := heapGrowth(live); got != want {
			t.Errorf("%d bytes live: %d %%, want %d", live, got, want)
		}
	}
}
