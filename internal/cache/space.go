package cache

import (
	"fmt"
	"math/bits"
	"unsafe"

	"github.com/dgraph-io/ristretto/v2"
)

// Space is the memory that caches share. Their values compete for it by use, whatever they are; absences have a part of
// their own, so that a flood of unknown keys cannot evict real ones. It is safe for concurrent use.
type Space struct {
	present, absent *ristretto.Cache[uint64, any] // of *entry[K, V]
}

// NewSpace returns an empty space for values and absences of so many bytes, counters included. Close releases it, after
// the caches that use it.
func NewSpace(maxBytes, maxAbsentBytes int64) (*Space, error) {
	present, err := newPart(maxBytes)
	if err != nil {
		return nil, err
	}
	absent, err := newPart(maxAbsentBytes)
	if err != nil {
		present.Close()
		return nil, err
	}
	return &Space{present, absent}, nil
}

// Close stops the space's goroutines. No cache may use it afterwards.
func (s *Space) Close() {
	s.present.Close()
	s.absent.Close()
}

const (
	// keptBytes is what ristretto takes for one entry, measured: a slot in each of its maps (of values, costs and times to
	// live), which are between 7/16 and 7/8 full. That is 140 to 220 while nothing has been evicted. Then it is more, as
	// what was deleted keeps its slot for a while, and makes up for texts that are counted for each row that shares them.
	keptBytes = 190
	// bytesPerCounter make some eight counters for a mapping or a key, where the budget is a power of two; four at the least.
	// ristretto advises ten. Each takes counterBytes, whether it is used or not; with half of them there are a tenth more
	// misses (TestHitRatio).
	bytesPerCounter = 64
	// counterBytes is what a counter takes if their number is a power of two: ristretto rounds up to one.
	counterBytes = 4
	minCounters  = 1 << 8
)

func newPart(maxBytes int64) (*ristretto.Cache[uint64, any], error) {
	counters := int64(minCounters)
	if n := maxBytes / bytesPerCounter; n > minCounters {
		counters = 1 << (bits.Len64(uint64(n)) - 1)
	}
	part, err := ristretto.NewCache(&ristretto.Config[uint64, any]{
		NumCounters:        counters,
		MaxCost:            maxBytes - min(counters*counterBytes, maxBytes/2),
		BufferItems:        64,
		IgnoreInternalCost: true, // it is in cost
	})
	if err != nil {
		return nil, fmt.Errorf("cache of %d bytes: %w", maxBytes, err)
	}
	return part, nil
}

// cost is what an entry takes of its space.
func (c *Cache[K, V]) cost(e *entry[K, V]) int64 {
	total := keptBytes + alloc(int(unsafe.Sizeof(*e))) + c.options.Size(e.key, e.value)
	if e.absence != nil {
		total += int(unsafe.Sizeof(*e.absence))
	}
	return int64(total)
}

// TextBytes is what a text's bytes take on the heap.
func TextBytes[T ~string](text T) int { return alloc(len(text)) }

// ListBytes is what a list's texts take on the heap.
func ListBytes(list []string) int {
	total := alloc(len(list) * int(unsafe.Sizeof("")))
	for _, text := range list {
		total += TextBytes(text)
	}
	return total
}

// ObjectBytes is what an object takes on the heap, beside what it leads to.
func ObjectBytes[T any](object T) int { return alloc(int(unsafe.Sizeof(object))) }

// alloc is what an object of so many bytes takes on the heap. Of large ones it is a mean.
func alloc(bytes int) int {
	switch {
	case bytes <= 32:
		return (bytes + 7) &^ 7
	case bytes <= 256:
		return (bytes + 15) &^ 15
	case bytes <= 512:
		return (bytes + 31) &^ 31
	}
	return bytes + bytes/16
}
