package mapping_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/extauthz/extauthz/internal/cache"
	"github.com/extauthz/extauthz/internal/cache/cachetest"
	"github.com/extauthz/extauthz/internal/resource"
	"github.com/extauthz/extauthz/internal/trace"
	"github.com/extauthz/extauthz/pkg/keys"
	"github.com/extauthz/extauthz/pkg/mapping"
	"github.com/extauthz/extauthz/pkg/teams"
	"github.com/extauthz/extauthz/pkg/token"
)

var errDown = errors.New("down")

// failing is a store that a test takes away, whole or its mappings.
type failing struct {
	mapping.Store
	down, mappingsDown bool
}

func (s *failing) Lookup(ctx context.Context, subject mapping.Subject) (*mapping.Mapping, *keys.Key, error) {
	if s.down || s.mappingsDown {
		return nil, nil, errDown
	}
	return s.Store.Lookup(ctx, subject)
}

func (s *failing) Key(ctx context.Context, id keys.ID) (*keys.Key, error) {
	if s.down {
		return nil, errDown
	}
	return s.Store.Key(ctx, id)
}

func (s *failing) Register(ctx context.Context, subject mapping.Subject, key *keys.Key, most int) (*mapping.Mapping, *keys.Key, error) {
	if s.down {
		return nil, nil, errDown
	}
	return s.Store.Register(ctx, subject, key, most)
}

// newFailing is a fixture whose rows live for a moment, and for an hour more while the store fails.
func newFailing(t *testing.T, policy mapping.NoMatch) (*fixture, *failing) {
	t.Helper()
	return newFailingFor(t, policy, time.Nanosecond)
}

// newFailingFor is newFailing with rows that live for as long.
func newFailingFor(t *testing.T, policy mapping.NoMatch, ttl time.Duration) (*fixture, *failing) {
	t.Helper()
	return newFixture(t, policy).failing(t, ttl)
}

// failing is another process on the same store, which a test takes away from it.
func (f *fixture) failing(t *testing.T, ttl time.Duration) (*fixture, *failing) {
	t.Helper()
	other, s := *f, &failing{Store: f.store}
	other.cached = mapping.NewCached(s, mapping.CacheOptions{
		MappingTTL: ttl, AbsentTTL: ttl, KeyTTL: ttl, ServeStale: time.Hour,
		Space: cachetest.Space(t), LoadTimeout: time.Minute,
	})
	t.Cleanup(other.cached.Close)
	return &other, s
}

// resolve resolves a caller of team a, and reports whether the decision is marked.
func (f *fixture) resolve(client string) (mapping.Result, bool, error) {
	record := &trace.Record{}
	claims := token.Claims{Issuer: issuer, Values: map[string]any{"client_id": client}}
	id, member := teams.Identity{TeamIDs: []teams.TeamID{"a"}}, teams.Membership{TeamID: "a", UserID: "alice"}
	r, err := resolve(trace.With(f.t.Context(), record), mapping.NewResolver(f.config, f.cached), claims, id, member)
	return r, record.Stale, err
}

// While the store fails a caller keeps the key that it had, and what the key says still counts.
func TestStaleMappingsAreUsedAndMarked(t *testing.T) {
	f, s := newFailing(t, mapping.Reject)
	key := operatorsKey("a")
	f.apply(mapped("known", key, true))
	f.apply(mapped("off", key, false))
	for _, client := range []string{"known", "off"} {
		if _, stale, _ := f.resolve(client); stale {
			t.Fatalf("%s: marked while the store works", client)
		}
	}
	s.down = true
	if r, stale, err := f.resolve("known"); err != nil || !stale || r.Key.ID != key.ID || r.Source != mapping.SourceMapping {
		t.Errorf("known: %+v, stale %v, %v", r, stale, err)
	}
	if _, stale, err := f.resolve("off"); !errors.Is(err, mapping.ErrDisabled) || !stale {
		t.Errorf("off: stale %v, %v; want ErrDisabled", stale, err)
	}
	if _, _, err := f.resolve("never-seen"); !errors.Is(err, errDown) {
		t.Errorf("never seen: %v", err)
	}
	if k, err := mapping.NewResolver(f.config, f.cached).Direct(t.Context(), key.ID); err != nil || k.ID != key.ID {
		t.Errorf("presented directly: %v, %v", k, err)
	}
	f.cached.KeysChanged([]uint64{cache.Digest(string(key.ID))})
	if _, _, err := f.resolve("known"); !errors.Is(err, errDown) {
		t.Errorf("a key that was told to have changed: %v, want %v", err, errDown)
	}
}

// An absence is used in an outage too, but never to register.
func TestStaleAbsence(t *testing.T) {
	for policy, want := range map[mapping.NoMatch]struct {
		err   error
		stale bool
	}{
		mapping.Reject: {mapping.ErrNoMapping, true}, mapping.AutoRegister: {errDown, false}, mapping.Fallback: {nil, true},
	} {
		t.Run(string(policy), func(t *testing.T) {
			f, s := newFailing(t, policy)
			f.config.MaxKeysPerTeam = 1
			if policy == mapping.AutoRegister {
				if _, _, err := f.resolve("first"); err != nil {
					t.Fatal(err)
				}
			}
			_, _, _ = f.resolve("unknown") // the absence is cached, and there is no room to register
			s.down = true
			for range 2 {
				r, stale, err := f.resolve("unknown")
				if !errors.Is(err, want.err) || (err == nil) != (want.err == nil) || r.Key != nil || stale != want.stale {
					t.Errorf("%+v, stale %v, %v; want %+v", r, stale, err, want)
				}
			}
		})
	}
}

// In an outage nobody can tell whether the caller is still absent, whatever is left of the rate.
func TestStaleAbsenceWithTheRateSpent(t *testing.T) {
	f, s := newFailing(t, mapping.AutoRegister)
	f.config.RegistrationsPerMinute = 1
	resolver := mapping.NewResolver(f.config, f.cached)
	r, err := f.with(resolver, "first", "a")
	f.want(r, err, mapping.SourceAutoRegister, nil)
	r, err = f.with(resolver, "new", "a")
	f.want(r, err, "", mapping.ErrLimited)
	s.down = true
	r, err = f.with(resolver, "new", "a")
	f.want(r, err, "", errDown)
}

// A mapping is told by its claim and value alone: one for any issuer counts for the callers of each.
func TestChangedMappingsAreForgotten(t *testing.T) {
	f := newFixture(t, mapping.Reject)
	key := operatorsKey("a")
	f.apply(mapped("x", key, true))
	resolve := func() error {
		_, stale, err := f.resolve("x")
		if stale {
			t.Error("what is cached is taken for stale")
		}
		return err
	}
	if err := resolve(); err != nil {
		t.Fatal(err)
	}
	f.apply(mapped("x", key, false))
	f.cached.MappingsChanged([]uint64{cache.Digest("client_id", "y")})
	if err := resolve(); err != nil {
		t.Fatalf("another mapping's change was taken for this one's: %v", err)
	}
	f.cached.MappingsChanged([]uint64{cache.Digest("client_id", "x")})
	if err := resolve(); !errors.Is(err, mapping.ErrDisabled) {
		t.Fatalf("got %v, want ErrDisabled", err)
	}
	key.Blocked = true
	f.apply(mapped("x", key, true))
	f.cached.Changed()
	if r, _, err := f.resolve("x"); err != nil || !r.Key.Blocked {
		t.Fatalf("%+v, %v: neither its mapping nor its key may be what it was", r, err)
	}
}

// What nobody tells of is not trusted for longer than the feed says, whatever the time to live.
func TestBlindFeed(t *testing.T) {
	f := newFixture(t, mapping.Reject)
	f.cached = mapping.NewCached(f.store, mapping.CacheOptions{
		MappingTTL: time.Hour, AbsentTTL: time.Hour, KeyTTL: time.Hour, Space: cachetest.Space(t), LoadTimeout: time.Minute,
		Feed: cache.NewFeed(time.Nanosecond, nil),
	})
	t.Cleanup(f.cached.Close)
	key := operatorsKey("a")
	f.apply(mapped("x", key, true))
	if r, _, err := f.resolve("x"); err != nil || r.Key.Blocked {
		t.Fatalf("%+v, %v", r, err)
	}
	key.Blocked = true
	f.apply(mapped("x", key, true))
	if r, _, err := f.resolve("x"); err != nil || !r.Key.Blocked {
		t.Errorf("its key is what it was: %+v, %v", r, err)
	}
	f.apply(mapped("x", key, false))
	if _, _, err := f.resolve("x"); !errors.Is(err, mapping.ErrDisabled) {
		t.Errorf("its mapping is what it was: %v", err)
	}
}

// The cached mapping names a blocked key, and whether another replica has bound the caller anew cannot be read.
func TestBlockedKeyInAnOutage(t *testing.T) {
	f, s := newFailingFor(t, mapping.AutoRegister, time.Hour)
	r, err := f.as("c", "a")
	key := *f.want(r, err, mapping.SourceAutoRegister, nil)
	r, err = f.as("c", "a") // its mapping is cached
	f.want(r, err, mapping.SourceMapping, nil)
	key.Blocked = true
	f.apply(&resource.Set{Keys: []resource.Key{{Key: key}}})
	f.cached.ForgetKey(key.ID)
	s.mappingsDown = true
	r, err = f.as("c", "a")
	f.want(r, err, "", errDown)
}
