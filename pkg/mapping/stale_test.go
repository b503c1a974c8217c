package mapping_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/extauthz/extauthz/internal/cache"
	"github.com/extauthz/extauthz/internal/trace"
	"github.com/extauthz/extauthz/pkg/keys"
	"github.com/extauthz/extauthz/pkg/mapping"
	"github.com/extauthz/extauthz/pkg/teams"
	"github.com/extauthz/extauthz/pkg/token"
)

var errDown = errors.New("down")

// failing is a store that a test takes away.
type failing struct {
	mapping.Store
	down bool
}

func (s *failing) Lookup(ctx context.Context, subject mapping.Subject) (*mapping.Mapping, *keys.Key, error) {
	if s.down {
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
	f := newFixture(t, policy)
	s := &failing{Store: f.store}
	var err error
	if f.cached, err = mapping.NewCached(s, mapping.CacheOptions{
		MappingTTL: time.Nanosecond, AbsentTTL: time.Nanosecond, KeyTTL: time.Nanosecond, ServeStale: time.Hour,
		MaxEntries: 100, MaxAbsent: 100, LoadTimeout: time.Minute,
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.cached.Close)
	return f, s
}

// resolve resolves a caller of team a, and reports whether the decision is marked.
func (f *fixture) resolve(client string) (mapping.Result, bool, error) {
	record := &trace.Record{}
	claims := token.Claims{Issuer: issuer, Values: map[string]any{"client_id": client}}
	id, member := teams.Identity{TeamIDs: []teams.TeamID{"a"}}, teams.Membership{TeamID: "a", UserID: "alice"}
	r, err := mapping.NewResolver(f.config, f.cached).Resolve(trace.With(f.t.Context(), record), claims, id, member)
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

// A mapping is told by its claim and value alone: one for any issuer counts for the callers of each.
func TestChangedMappingsAreForgotten(t *testing.T) {
	f := newFixture(t, mapping.Reject)
	key := operatorsKey("a")
	f.apply(mapped("x", key, true))
	resolve := func() error { _, _, err := f.resolve("x"); return err }
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
	f.apply(mapped("x", key, true))
	f.cached.Changed()
	if err := resolve(); err != nil {
		t.Fatal(err)
	}
}
