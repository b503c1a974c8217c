package mapping_test

import (
	"errors"
	"testing"
	"time"

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
