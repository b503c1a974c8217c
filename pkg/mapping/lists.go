package mapping

import (
	"hash/maphash"
	"slices"
	"sync/atomic"

	"github.com/extauthz/extauthz/internal/cache"
	"github.com/extauthz/extauthz/pkg/keys"
)

// lists lets keys share their lists: the keys of a team mostly have the same models. It remembers so many that were seen of
// late, none of them long, and whose they were first: that key counts what they take. Once it is gone nobody does, until
// another brings the list anew. It is safe for concurrent use.
type lists struct {
	seed maphash.Seed
	seen [seenLists]atomic.Pointer[seenList]
}

// seenList is a list, which nobody changes, and the first key that had it.
type seenList struct {
	texts []string
	first keys.ID
}

const (
	seenLists = 1 << 10
	// maxShared is how long a list is shared: a longer one is one team's, and a while to look up.
	maxShared = 32
)

func newLists() *lists { return &lists{seed: maphash.MakeSeed()} }

// share returns the key's list, or the same one that was seen before.
func (l *lists) share(id keys.ID, list []string) []string {
	if len(list) == 0 || len(list) > maxShared {
		return list
	}
	at := l.at(list)
	if seen := at.Load(); seen != nil && slices.Equal(seen.texts, list) {
		return seen.texts
	}
	made := &seenList{texts: make([]string, len(list)), first: id}
	for n, text := range list {
		made.texts[n] = shareText(text)
	}
	at.Store(made)
	return made.texts
}

// bytes is what the key's list takes on the heap; nothing where it is another's.
func (l *lists) bytes(id keys.ID, list []string) int {
	if len(list) == 0 || len(list) > maxShared {
		return cache.ListBytes(list)
	}
	if seen := l.at(list).Load(); seen != nil && &seen.texts[0] == &list[0] && seen.first != id {
		return 0
	}
	return cache.ListBytes(list)
}

func (l *lists) at(list []string) *atomic.Pointer[seenList] {
	var hash maphash.Hash
	hash.SetSeed(l.seed)
	for _, text := range list {
		_, _ = hash.WriteString(text)
		_ = hash.WriteByte(0)
	}
	return &l.seen[hash.Sum64()%seenLists]
}
