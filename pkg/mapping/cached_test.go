package mapping_test

import (
	"errors"
	"testing"
	"time"

	"github.com/extauthz/extauthz/internal/cache"
	"github.com/extauthz/extauthz/internal/cache/cachetest"
	"github.com/extauthz/extauthz/internal/resource"
	"github.com/extauthz/extauthz/pkg/keys"
	"github.com/extauthz/extauthz/pkg/mapping"
	"github.com/extauthz/extauthz/pkg/teams"
)

// What this process writes it sees at once: a key that was used, and one that a rebind blocked.
func TestOwnWritesAreSeen(t *testing.T) {
	f := newFixture(t, mapping.AutoRegister)
	f.config.Templates = map[mapping.Scope]mapping.Template{{}: {IdleTimeout: time.Hour}}
	r, err := f.as("c", "a")
	old := f.want(r, err, mapping.SourceAutoRegister, nil)
	later := f.now.Add(2 * time.Hour).Truncate(time.Second)
	if err := f.cached.Touch(t.Context(), old.ID, later); err != nil {
		t.Fatal(err)
	}
	if key, err := f.cached.Key(t.Context(), old.ID); err != nil || !key.IdleExpiresAt.Equal(later) {
		t.Errorf("after its use: %+v, %v", key, err)
	}
	r, err = f.as("c", "b")
	f.want(r, err, mapping.SourceAutoRegister, nil)
	if key, err := f.cached.Key(t.Context(), old.ID); err != nil || !key.Blocked {
		t.Errorf("after the rebind: %+v, %v", key, err)
	}
}

// A mapping and the key that were registered together are one entry: a change of either is a change of both.
func TestRegisteredKeyIsKeptWithItsMapping(t *testing.T) {
	f := newFixture(t, mapping.AutoRegister)
	r, err := f.as("c", "a")
	key := *f.want(r, err, mapping.SourceAutoRegister, nil)
	for name, change := range map[string]func(){
		"a change of the key": func() { f.cached.KeysChanged([]uint64{cache.Digest(string(key.ID))}) },
		"of the mapping":      func() { f.cached.MappingsChanged([]uint64{cache.Digest("client_id", "c")}) },
		"of all keys":         func() { f.cached.KeysChanged(nil) },
		"its use":             func() { _ = f.cached.Touch(t.Context(), key.ID, f.now) },
	} {
		key.Alias = "after " + name
		f.apply(&resource.Set{Keys: []resource.Key{{Key: key}}})
		change()
		mappings, keys := f.store.mappings, f.store.keys
		for range 3 {
			r, err := f.as("c", "a")
			if got := f.want(r, err, mapping.SourceMapping, nil); got.Alias != key.Alias {
				t.Errorf("after %s: the key is what it was", name)
			}
		}
		if mappings, keys := f.store.mappings-mappings, f.store.keys-keys; mappings != 1 || keys != 1 {
			t.Errorf("after %s: %d look-ups of the mapping and %d of the key; want one of each", name, mappings, keys)
		}
	}
	f.cached.KeysChanged([]uint64{cache.Digest("another")})
	before := f.store.mappings
	if _, err := f.as("c", "a"); err != nil || f.store.mappings != before {
		t.Errorf("another key's change was taken for this one's: %v", err)
	}
}

// Such an entry lives no longer than a key.
func TestRegisteredMappingLivesAsItsKey(t *testing.T) {
	f := newFixture(t, mapping.AutoRegister)
	f.cached = mapping.NewCached(f.store, mapping.CacheOptions{
		MappingTTL: time.Hour, AbsentTTL: time.Hour, KeyTTL: time.Nanosecond, Space: cachetest.Space(t), LoadTimeout: time.Minute,
	})
	t.Cleanup(f.cached.Close)
	r, err := f.as("c", "a")
	f.want(r, err, mapping.SourceAutoRegister, nil)
	f.apply(mapped("operator's", operatorsKey("a"), true))
	for client, want := range map[string]struct{ mappings, keys int }{"c": {3, 3}, "operator's": {1, 3}} {
		mappings, keys := f.store.mappings, f.store.keys
		for range 3 {
			if _, err := f.as(client, "a"); err != nil {
				t.Fatal(err)
			}
		}
		if mappings, keys := f.store.mappings-mappings, f.store.keys-keys; mappings != want.mappings || keys != want.keys {
			t.Errorf("%s: %d look-ups of the mapping and %d of the key; want %+v", client, mappings, keys, want)
		}
	}
}

// A key that nobody has is looked up once, however often it is presented.
func TestUnknownKeyIsAskedForOnce(t *testing.T) {
	f := newFixture(t, mapping.Reject)
	resolver := mapping.NewResolver(f.config, f.cached)
	for range 10 {
		if _, err := resolver.Direct(t.Context(), keys.Secret("sk-nobody").ID()); !errors.Is(err, mapping.ErrKeyUnknown) {
			t.Fatal(err)
		}
	}
	if f.store.keys != 1 {
		t.Errorf("the store was asked %d times", f.store.keys)
	}
}

// A dry run reads what is there, and writes what it alone can read.
func TestDryRun(t *testing.T) {
	f, s := newFailingFor(t, mapping.AutoRegister, time.Hour)
	f.apply(mapped("known", operatorsKey("a"), true))
	dry := mapping.DryRun(s)
	subject := func(value string) mapping.Subject {
		return mapping.Subject{Issuer: issuer, Claim: "client_id", Value: value}
	}
	id := keys.Generate().ID()
	if m, _, err := dry.Register(t.Context(), subject("known"), &keys.Key{ID: id}, 0); err != nil || m.KeyID != operatorsKey("a").ID {
		t.Errorf("a mapping that is there: %+v, %v", m, err)
	}
	for name, write := range map[string]func() (*mapping.Mapping, error){
		"register": func() (*mapping.Mapping, error) {
			m, _, err := dry.Register(t.Context(), subject("new"), &keys.Key{ID: id}, 0)
			return m, err
		},
		"rebind": func() (*mapping.Mapping, error) {
			return dry.Rebind(t.Context(), subject("known"), operatorsKey("a").ID, &keys.Key{ID: id}, 0)
		},
	} {
		m, err := write()
		if err != nil || m.KeyID != id || !m.Active || !m.AutoRegistered {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
		if key, err := dry.Key(t.Context(), id); err != nil || key.ID != id {
			t.Errorf("%s: its key: %v", name, err)
		}
		if _, err := f.store.Key(t.Context(), id); !errors.Is(err, teams.ErrNotFound) {
			t.Errorf("%s: it was written: %v", name, err)
		}
	}
	key := &keys.Key{ID: keys.Secret("sk-idle").ID(), Alias: "idle", IdleTimeout: time.Hour, IdleExpiresAt: f.now.Add(time.Minute).Truncate(time.Second)}
	f.apply(&resource.Set{Keys: []resource.Key{{Key: *key}}})
	if err := dry.Touch(t.Context(), key.ID, f.now.Add(time.Hour)); err != nil {
		t.Error(err)
	}
	if stored, err := f.store.Key(t.Context(), key.ID); err != nil || !stored.IdleExpiresAt.Equal(key.IdleExpiresAt) {
		t.Errorf("a dry run notes the use of a key: %+v, %v", stored, err)
	}
	s.down = true
	if _, _, err := dry.Register(t.Context(), subject("other"), &keys.Key{ID: id}, 0); !errors.Is(err, errDown) {
		t.Errorf("an outage is taken for an absence: %v", err)
	}
}
