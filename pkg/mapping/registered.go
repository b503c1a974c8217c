package mapping

import (
	"math"
	"time"

	"github.com/extauthz/extauthz/internal/cache"
	"github.com/extauthz/extauthz/pkg/keys"
	"github.com/extauthz/extauthz/pkg/teams"
)

// registered is a key that a registration made, as it is kept with its mapping, which has its id. There are millions: as a
// [keys.Key] each took three times as much.
type registered struct {
	terms *seen[keys.Key] // the rest, which it shares with the other keys that were made alike

	alias                             string
	user                              teams.UserID
	sealed                            []byte
	expiresAt, idleExpiresAt, resetAt instant
	spend                             teams.Micros
}

// instant is a time in microseconds since 1970, as precise as a database.
type instant int64

const never instant = math.MinInt64

func instantOf(t time.Time) instant {
	if t.IsZero() {
		return never
	}
	return instant(t.UnixMicro())
}

func (i instant) time() time.Time {
	if i == never {
		return time.Time{}
	}
	return time.UnixMicro(int64(i)).UTC()
}

// registered returns the key as it is kept.
func (s *shared) registered(key *keys.Key) *registered {
	r := &registered{
		alias: key.Alias, user: key.UserID, sealed: key.Sealed, spend: key.Budget.Spend,
		expiresAt: instantOf(key.ExpiresAt), idleExpiresAt: instantOf(key.IdleExpiresAt), resetAt: instantOf(key.Budget.ResetAt),
	}
	terms := *key
	terms.ID, terms.Alias, terms.UserID, terms.Sealed = "", "", "", nil
	terms.ExpiresAt, terms.IdleExpiresAt = time.Time{}, time.Time{}
	terms.Budget.Spend, terms.Budget.ResetAt = 0, time.Time{}
	r.terms = s.termsOf(key.ID, terms)
	return r
}

// key returns the key, which has this id.
func (r *registered) key(id keys.ID) *keys.Key {
	key := r.terms.value
	key.ID, key.Alias, key.UserID, key.Sealed = id, r.alias, r.user, r.sealed
	key.ExpiresAt, key.IdleExpiresAt = r.expiresAt.time(), r.idleExpiresAt.time()
	key.Budget.Spend, key.Budget.ResetAt = r.spend, r.resetAt.time()
	return &key
}

// registeredSize is what the key takes on the heap beside its mapping's texts.
func (s *shared) registeredSize(subject Subject, id keys.ID, r *registered) int {
	total := cache.ObjectBytes(*r) + cache.TextBytes(r.alias) + len(r.sealed)
	if string(r.user) != subject.Value {
		total += cache.TextBytes(r.user)
	}
	if r.terms.first == id {
		terms := &r.terms.value
		total += cache.ObjectBytes(*r.terms) + cache.TextBytes(terms.TeamID) + cache.TextBytes(terms.OrganizationID) +
			s.listBytes(id, terms.Models) + s.listBytes(id, terms.AllowedRoutes) + terms.Budget.Size() + terms.Limits.Size()
	}
	return total
}
