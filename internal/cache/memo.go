package cache

import (
	"fmt"
	"hash/maphash"

	"github.com/dgraph-io/ristretto/v2"
)

// Memo remembers values that are dear to compute and cheap to check, within a bound of memory. Nothing
// is loaded and nothing runs out: whoever takes a value out judges whether it still holds. It is
// safe for concurrent use.
type Memo[K comparable, V any] struct {
	seed   maphash.Seed
	values *ristretto.Cache[uint64, *memo[K, V]]
}

type memo[K comparable, V any] struct {
	key   K
	value V
}

// memoEntryBytes is what an entry is taken to cost, so that there are counters enough for small ones.
const memoEntryBytes = 1 << 10

// NewMemo returns a memo of at most maxBytes, as its callers state them. Close releases it.
func NewMemo[K comparable, V any](maxBytes int64) (*Memo[K, V], error) {
	values, err := ristretto.NewCache(&ristretto.Config[uint64, *memo[K, V]]{
		NumCounters: max(10*maxBytes/memoEntryBytes, 100), // ten an entry, as ristretto advises
		MaxCost:     maxBytes,
		BufferItems: 64,
	})
	if err != nil {
		return nil, fmt.Errorf("memo of %d bytes: %w", maxBytes, err)
	}
	return &Memo[K, V]{seed: maphash.MakeSeed(), values: values}, nil
}

// Get returns the remembered value, if there is one. The whole key is compared.
func (m *Memo[K, V]) Get(key K) (V, bool) {
	e, ok := m.values.Get(maphash.Comparable(m.seed, key))
	if !ok || e.key != key {
		var zero V
		return zero, false
	}
	return e.value, true
}

// Set remembers a value of so many bytes. It may be dropped at any time, and need not be seen at once.
func (m *Memo[K, V]) Set(key K, value V, bytes int64) {
	m.values.Set(maphash.Comparable(m.seed, key), &memo[K, V]{key, value}, bytes)
}

// Close stops the memo's goroutines. It must not be used afterwards.
func (m *Memo[K, V]) Close() { m.values.Close() }
