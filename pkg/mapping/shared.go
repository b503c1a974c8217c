package mapping

import (
	"fmt"
	"hash/maphash"
	"reflect"
	"slices"
	"sync/atomic"
	"unique"
	"weak"

	"github.com/extauthz/extauthz/internal/cache"
	"github.com/extauthz/extauthz/pkg/keys"
)

// shared lets keys share what is the same in many: the keys of a team mostly have the same models, and what registrations
// made alike differs in little. It remembers so much that was seen of late, and whose it was first: that key counts what it
// takes. Once it is gone nobody does, until another brings it anew. It is safe for concurrent use.
type shared struct {
	seed  maphash.Seed
	lists [seenPlaces]atomic.Pointer[seen[[]string]]
	terms [seenPlaces]atomic.Pointer[weak.Pointer[seen[keys.Key]]] // those that some key has
}

// seen is what nobody changes, and the first key that had it.
type seen[T any] struct {
	value T
	first keys.ID
}

const (
	seenPlaces = 1 << 10
	// maxShared is how long a list is shared: a longer one is one team's, a while to look up, and much to remember.
	maxShared = 32
)

func newShared() *shared { return &shared{seed: maphash.MakeSeed()} }

// list returns the key's list, or the same one that was seen before.
func (s *shared) list(id keys.ID, list []string) []string {
	if len(list) == 0 || len(list) > maxShared {
		return list
	}
	at := &s.lists[s.place(list...)]
	if before := at.Load(); before != nil && slices.Equal(before.value, list) {
		return before.value
	}
	at.Store(&seen[[]string]{list, id})
	return list
}

// listBytes is what the key's list takes on the heap; nothing where it is another's.
func (s *shared) listBytes(id keys.ID, list []string) int {
	if len(list) == 0 || len(list) > maxShared {
		return cache.ListBytes(list)
	}
	if before := s.lists[s.place(list...)].Load(); before != nil && &before.value[0] == &list[0] && before.first != id {
		return 0
	}
	return cache.ListBytes(list)
}

// termsOf returns the terms of the key, or the same ones that were seen before.
func (s *shared) termsOf(id keys.ID, terms keys.Key) *seen[keys.Key] {
	made := &seen[keys.Key]{terms, id}
	if len(terms.Models) > maxShared || len(terms.AllowedRoutes) > maxShared {
		return made
	}
	at := &s.terms[s.place(terms.Models...)^s.place(terms.AllowedRoutes...)^s.place(string(terms.TeamID), string(terms.OrganizationID),
		fmt.Sprint(terms.Blocked, terms.JWTOnly, terms.IdleTimeout, terms.Budget.Window), number(terms.Budget.Max), number(terms.Limits.RPM), number(terms.Limits.TPM))]
	if known := at.Load(); known != nil {
		if before := known.Value(); before != nil && reflect.DeepEqual(before.value, terms) {
			return before
		}
	}
	known := weak.Make(made)
	at.Store(&known)
	return made
}

func number[T ~int64](n *T) string {
	if n == nil {
		return ""
	}
	return fmt.Sprint(*n)
}

func (s *shared) place(texts ...string) uint64 {
	var hash maphash.Hash
	hash.SetSeed(s.seed)
	for _, text := range texts {
		_, _ = hash.WriteString(text)
		_ = hash.WriteByte(0)
	}
	return hash.Sum64() % seenPlaces
}

// same is the known text if the own one is the same, so that one of them is kept: with a million cached clients that is a
// hundred megabytes.
func same[T ~string](own, known T) T {
	if own == known {
		return known
	}
	return own
}

// shareText returns the text that others have too, as long as somebody loads it now and then.
func shareText[T ~string](text T) T { return unique.Make(text).Value() }
