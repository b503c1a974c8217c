package mapping

import (
	"context"
	"errors"
	"time"

	"github.com/extauthz/extauthz/internal/cache"
	"github.com/extauthz/extauthz/internal/trace"
	"github.com/extauthz/extauthz/pkg/keys"
	"github.com/extauthz/extauthz/pkg/teams"
)

// CacheOptions bound the caches of a [Cached] store. All but ServeStale and Feed are required.
type CacheOptions struct {
	MappingTTL  time.Duration // of mappings; of one that is kept with its key no longer than KeyTTL
	AbsentTTL   time.Duration // of the absence of a mapping
	KeyTTL      time.Duration
	Space       *cache.Space  // where the rows are kept; it outlives the caches
	LoadTimeout time.Duration // of one load from the store
	ServeStale  time.Duration // how much longer a row is used while the store fails
	Feed        *cache.Feed   // how far the changes of others are known
}

// Cached is a [Store] with a cache in front of its reads. Its own writes are seen at once. It is
// safe for concurrent use.
type Cached struct {
	store    Store
	mappings *cache.Cache[Subject, kept]
	keys     *cache.Cache[keys.ID, *keys.Key]
}

// NewCached returns a cached store. Close releases the caches, not the store.
func NewCached(store Store, o CacheOptions) *Cached {
	known := newShared()
	byID := cache.New(cache.Options[keys.ID, *keys.Key]{
		Load: func(ctx context.Context, id keys.ID) (*keys.Key, error) {
			key, err := store.Key(ctx, id)
			if err != nil {
				return nil, err
			}
			return known.slim(key, id, ""), nil
		}, NotFound: teams.ErrNotFound, TTL: o.KeyTTL, AbsentTTL: o.KeyTTL,
		Space: o.Space, Size: known.keySize, LoadTimeout: o.LoadTimeout, ServeStale: o.ServeStale, Feed: o.Feed,
		Digest: keyDigest,
	})
	mappings := cache.New(cache.Options[Subject, kept]{
		Load: func(ctx context.Context, subject Subject) (kept, error) {
			return loadBoth(ctx, store, byID, known, subject)
		}, NotFound: teams.ErrNotFound, TTL: o.MappingTTL, AbsentTTL: o.AbsentTTL,
		Companion: kept.companion, CompanionTTL: o.KeyTTL,
		Space: o.Space, Size: known.keptSize, LoadTimeout: o.LoadTimeout, ServeStale: o.ServeStale, Feed: o.Feed,
		// Without the issuer: a mapping for any issuer counts for the callers of each.
		Digest: func(s Subject) uint64 { return cache.Digest(s.Claim, s.Value) },
	})
	return &Cached{store: store, mappings: mappings, keys: byID}
}

// kept is what is kept of a mapping: the rest is in the subject that it is kept for.
type kept struct {
	keyID                             keys.ID
	own                               *registered // the key, where a registration made both: nobody else asks for it
	anyIssuer, active, autoRegistered bool
}

// found is a mapping, and the key that it names if that is kept with it.
type found struct {
	Mapping
	own    *registered
	origin cache.Origin
}

func (k kept) found(of Subject, origin cache.Origin) found {
	if k.anyIssuer {
		of.Issuer = ""
	}
	m := Mapping{Issuer: of.Issuer, Claim: of.Claim, Value: of.Value, KeyID: k.keyID, Active: k.active, AutoRegistered: k.autoRegistered}
	return found{m, k.own, origin}
}

// companion names the key that is kept with a mapping.
func (k kept) companion() (uint64, bool) { return keyDigest(k.keyID), k.own != nil }

func keyDigest(id keys.ID) uint64 { return cache.Digest(string(id)) }

// keptSize leaves out the issuer and the claim, which are the configuration's.
func (s *shared) keptSize(subject Subject, k kept) int {
	total := cache.TextBytes(subject.Value) + cache.TextBytes(k.keyID)
	if k.own != nil {
		total += s.registeredSize(subject, k.keyID, k.own)
	}
	return total
}

// loadBoth loads a mapping and, if it was registered or the key comes along, its key: whoever asks for the one asks for the
// other next.
func loadBoth(ctx context.Context, store Store, byID *cache.Cache[keys.ID, *keys.Key], known *shared, subject Subject) (kept, error) {
	began := byID.Now()
	m, key, err := store.Lookup(ctx, subject)
	if err != nil {
		return kept{}, err
	}
	k := kept{keyID: m.KeyID, anyIssuer: m.Issuer == "", active: m.Active, autoRegistered: m.AutoRegistered}
	if key == nil && m.AutoRegistered {
		if key, err = store.Key(ctx, m.KeyID); err != nil && !errors.Is(err, teams.ErrNotFound) {
			return kept{}, err
		}
	}
	if key == nil {
		return k, nil
	}
	k.keyID = same(m.KeyID, key.ID)
	key = known.slim(key, key.ID, teams.UserID(subject.Value))
	if m.AutoRegistered && key.AutoRegistered {
		k.own = known.registered(key)
	} else {
		byID.Add(key.ID, key, began)
	}
	return k, nil
}

// slim returns the key with what it has in common with others kept once: the id that it is kept for is its mapping's, its
// user is often who the subject is, and its team's other keys have the same team, organization and models.
func (s *shared) slim(key *keys.Key, id keys.ID, user teams.UserID) *keys.Key {
	slim := *key
	slim.ID, slim.UserID = same(key.ID, id), same(key.UserID, user)
	slim.TeamID, slim.OrganizationID = shareText(key.TeamID), shareText(key.OrganizationID)
	slim.Models, slim.AllowedRoutes = s.list(id, key.Models), s.list(id, key.AllowedRoutes)
	return &slim
}

// keySize counts every text: whether a key shares some of them is not known. But a key that is no credential has its id from
// its mapping.
func (s *shared) keySize(id keys.ID, key *keys.Key) int {
	if key == nil {
		return cache.TextBytes(id)
	}
	total := cache.ObjectBytes(*key) + cache.TextBytes(key.Alias) + cache.TextBytes(key.TeamID) + cache.TextBytes(key.UserID) +
		cache.TextBytes(key.OrganizationID) + s.listBytes(id, key.Models) + s.listBytes(id, key.AllowedRoutes) + len(key.Sealed) +
		key.Budget.Size() + key.Limits.Size()
	if key.JWTOnly {
		return total
	}
	return total + cache.TextBytes(id)
}

// Close stops the caches.
func (c *Cached) Close() {
	c.mappings.Close()
	c.keys.Close()
}

// MappingsChanged forgets the mappings whose claim and value have these digests (see [cache.Digest]); none means
// all mappings.
func (c *Cached) MappingsChanged(digests []uint64) { c.mappings.Changed(digests) }

// KeysChanged forgets the keys whose ids have these digests; none means all keys.
func (c *Cached) KeysChanged(digests []uint64) {
	c.keys.Changed(digests)
	c.mappings.CompanionsChanged(digests)
}

// Changed forgets everything.
func (c *Cached) Changed() {
	c.mappings.InvalidateAll()
	c.keys.InvalidateAll()
}

// Lookup implements [Store].
func (c *Cached) Lookup(ctx context.Context, subject Subject) (*Mapping, *keys.Key, error) {
	m, err := c.mapping(ctx, subject)
	if err != nil {
		return nil, nil, err
	}
	if m.own == nil {
		return &m.Mapping, nil, nil
	}
	return &m.Mapping, m.own.key(m.KeyID), nil
}

// mapping is Lookup, and where the answer comes from.
func (c *Cached) mapping(ctx context.Context, subject Subject) (found, error) {
	k, origin, err := get(ctx, c.mappings, subject)
	return k.found(subject, origin), err
}

// get notes the use of a row that is stale.
func get[K comparable, V any](ctx context.Context, c *cache.Cache[K, V], key K) (V, cache.Origin, error) {
	value, origin, err := c.Get(ctx, key)
	if origin == cache.Stale {
		trace.From(ctx).MarkStale()
	}
	return value, origin, err
}

// ForgetKey forgets a cached key.
func (c *Cached) ForgetKey(id keys.ID) { c.KeysChanged([]uint64{keyDigest(id)}) }

func (c *Cached) forget(subject Subject) { c.mappings.Invalidate(subject) }

// Key implements [Store].
func (c *Cached) Key(ctx context.Context, id keys.ID) (*keys.Key, error) {
	key, _, err := c.key(ctx, id)
	return key, err
}

// keyOf returns the key that a mapping names, and where it comes from.
func (c *Cached) keyOf(ctx context.Context, m found) (*keys.Key, cache.Origin, error) {
	if m.own != nil {
		return m.own.key(m.KeyID), m.origin, nil
	}
	return c.key(ctx, m.KeyID)
}

// key is Key, and where the answer comes from.
func (c *Cached) key(ctx context.Context, id keys.ID) (*keys.Key, cache.Origin, error) {
	return get(ctx, c.keys, id)
}

// Touch implements [Store].
func (c *Cached) Touch(ctx context.Context, id keys.ID, idleExpiresAt time.Time) error {
	defer c.ForgetKey(id)
	return c.store.Touch(ctx, id, idleExpiresAt)
}

// Register implements [Store].
func (c *Cached) Register(ctx context.Context, subject Subject, key *keys.Key, maxTeamKeys int) (*Mapping, *keys.Key, error) {
	defer c.forget(subject)
	return c.store.Register(ctx, subject, key, maxTeamKeys)
}

// Rebind implements [Store].
func (c *Cached) Rebind(ctx context.Context, subject Subject, old keys.ID, key *keys.Key, maxTeamKeys int) (*Mapping, error) {
	defer func() {
		c.forget(subject)
		c.ForgetKey(old)
	}()
	return c.store.Rebind(ctx, subject, old, key, maxTeamKeys)
}
