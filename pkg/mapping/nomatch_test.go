package mapping_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/extauthz/extauthz/internal/cache/cachetest"
	"github.com/extauthz/extauthz/internal/resource"
	"github.com/extauthz/extauthz/internal/trace"
	"github.com/extauthz/extauthz/pkg/keys"
	"github.com/extauthz/extauthz/pkg/mapping"
	"github.com/extauthz/extauthz/pkg/teams"
	"github.com/extauthz/extauthz/pkg/token"
)

// TestNoMatch is the table of the no-match policies: what becomes of a caller whom no mapping knows, in
// enforcing mode and in shadow mode, which forgives the policy's own denials and no others.
func TestNoMatch(t *testing.T) {
	type outcome struct {
		source mapping.Source
		err    error
	}
	const fallback, registered = mapping.SourceFallback, mapping.SourceAutoRegister
	pass, down := outcome{source: fallback}, outcome{err: errDown}
	deny := func(err error) outcome { return outcome{err: err} }
	one, rule := newFixture(t, ""), mapping.Rule{}
	rule.Claim = one.config.Rules[issuer].Claim
	for n, line := range []struct {
		situation string
		policy    mapping.NoMatch
		want      outcome
		forgiven  bool // in shadow mode
	}{
		{"no claim", mapping.Reject, deny(mapping.ErrClaimMissing), true},
		{"no claim", mapping.AutoRegister, deny(mapping.ErrClaimMissing), true},
		{"no claim", mapping.Fallback, pass, false},
		{"no row", mapping.Reject, deny(mapping.ErrNoMapping), true},
		{"no row", mapping.AutoRegister, outcome{source: registered}, false},
		{"no row", mapping.Fallback, pass, false},
		{"no store", mapping.Reject, deny(mapping.ErrNoMapping), true},
		{"no store", mapping.AutoRegister, deny(mapping.ErrStoreRequired), true},
		{"no store", mapping.Fallback, pass, false},
		{"store down", mapping.Reject, down, false},
		{"store down", mapping.AutoRegister, down, false},
		{"store down", mapping.Fallback, down, false},
		{"no room", mapping.AutoRegister, deny(mapping.ErrLimited), true},
		{"rate spent", mapping.AutoRegister, deny(mapping.ErrLimited), true},
		{"switched off", mapping.Reject, deny(mapping.ErrDisabled), false},
		{"switched off", mapping.AutoRegister, deny(mapping.ErrDisabled), false},
		{"switched off", mapping.Fallback, deny(mapping.ErrDisabled), false},
		{"rate spent, asked again", mapping.AutoRegister, deny(mapping.ErrLimited), true},
		{"a policy nobody knows", "other", deny(mapping.ErrNoMapping), true},
	} {
		for _, shadow := range []bool{false, true} {
			f, s := one.failing(t, time.Hour)
			rule.NoMatch, rule.Shadow = line.policy, shadow
			f.config.Rules = map[token.IssuerURL]mapping.Rule{issuer: rule}
			f.config.RegistrationsPerMinute = 2
			r := mapping.NewResolver(f.config, f.cached)
			client := fmt.Sprintf("%d %v ", n, shadow)
			values := map[string]any{"client_id": client + "new"}
			switch line.situation {
			case "no claim":
				values = map[string]any{"client_id": 7}
			case "no store":
				r = mapping.NewResolver(f.config, nil)
			case "store down":
				s.down = true
			case "no room":
				f.config.MaxKeysPerTeam = 1
				r = mapping.NewResolver(f.config, f.cached)
				_, _ = f.with(r, client+"first", "a")
			case "rate spent", "rate spent, asked again":
				_, _ = f.with(r, client+"first", "a")
				_, _ = f.with(r, client+"second", "b")
				if line.situation != "rate spent" {
					_, _ = f.with(r, client+"new", "a") // its absence is cached
				}
			case "switched off":
				f.apply(mapped(client+"new", operatorsKey("a"), false))
			}
			record := &trace.Record{}
			got, err := resolve(trace.With(t.Context(), record), r, token.Claims{Issuer: issuer, Values: values},
				teams.Identity{TeamID: "a"}, teams.Membership{TeamID: "a", UserID: "alice"})
			want, held := line.want, []error(nil)
			if shadow && line.forgiven {
				want, held = pass, []error{line.want.err}
			}
			if got.Source != want.source || !errors.Is(err, want.err) || (err == nil) != (want.err == nil) || (got.Key != nil) != (want.source == registered) {
				t.Errorf("%s, %s, shadow %v: %+v, %v; want %+v", line.situation, line.policy, shadow, got, err, want)
			}
			if len(record.Shadowed) != len(held) || len(held) > 0 && !errors.Is(record.Shadowed[0], held[0]) {
				t.Errorf("%s, %s, shadow %v: held back %v, want %v", line.situation, line.policy, shadow, record.Shadowed, held)
			}
		}
	}
}

// A registered key has its caller's team, user and organization, and what the template says; of its text only the
// sealed form is kept.
func TestRegisteredKey(t *testing.T) {
	f := newFixture(t, mapping.AutoRegister)
	f.apply(&resource.Set{Organizations: []resource.Organization{{Organization: teams.Organization{ID: "acme"}}}, Users: []resource.User{{User: teams.User{ID: "alice"}}}})
	f.now = time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC)
	var text keys.Secret
	f.config.Seal = func(secret keys.Secret) ([]byte, error) { text = secret; return []byte("sealed"), nil }
	ceiling, rpm, tpm := teams.Micros(10), int64(1), int64(2)
	day, err := teams.ParseWindow("1d")
	if err != nil {
		t.Fatal(err)
	}
	limits := teams.Limits{RPM: &rpm, TPM: &tpm}
	f.config.Templates = map[mapping.Scope]mapping.Template{{}: {
		Models: []string{"gpt-4o"}, AllowedRoutes: []string{"openai_routes"}, MaxBudget: &ceiling, BudgetWindow: day,
		Limits: limits, Lifetime: 48 * time.Hour, IdleTimeout: time.Hour,
	}}
	claims := token.Claims{Issuer: issuer, Values: map[string]any{"client_id": "c"}}
	r, err := resolve(t.Context(), mapping.NewResolver(f.config, f.cached), claims, teams.Identity{TeamID: "a"}, teams.Membership{TeamID: "a", UserID: "alice", OrganizationID: "acme"})
	key := f.want(r, err, mapping.SourceAutoRegister, nil)
	want := &keys.Key{
		ID: text.ID(), Alias: "auto-" + string(text.ID()[:12]), TeamID: "a", UserID: "alice", OrganizationID: "acme",
		Models: []string{"gpt-4o"}, AllowedRoutes: []string{"openai_routes"}, AutoRegistered: true, JWTOnly: true, Sealed: []byte("sealed"),
		Budget:    teams.Budget{Max: &ceiling, Window: day, ResetAt: time.Date(2027, 1, 3, 0, 0, 0, 0, time.UTC)},
		ExpiresAt: f.now.Add(48 * time.Hour), IdleTimeout: time.Hour, IdleExpiresAt: f.now.Add(time.Hour), Limits: limits,
	}
	key.ExpiresAt, key.IdleExpiresAt, key.Budget.ResetAt = key.ExpiresAt.UTC(), key.IdleExpiresAt.UTC(), key.Budget.ResetAt.UTC()
	if !reflect.DeepEqual(key, want) || !r.Registered {
		t.Errorf("registered %+v\nwant       %+v", key, want)
	}
	if bytes.Contains([]byte(key.Alias), []byte(text)) || r.Source != mapping.SourceAutoRegister {
		t.Error("the alias shows the key")
	}
	m, _, err := f.store.Lookup(t.Context(), mapping.Subject{Issuer: issuer, Claim: "client_id", Value: "c"})
	if err != nil || *m != (mapping.Mapping{Issuer: issuer, Claim: "client_id", Value: "c", KeyID: text.ID(), Active: true, AutoRegistered: true}) {
		t.Errorf("mapping %+v (%v)", m, err)
	}
	if _, err := mapping.NewResolver(f.config, f.cached).Direct(t.Context(), text.ID()); !errors.Is(err, mapping.ErrKeyUnknown) {
		t.Errorf("it can be presented: %v", err)
	}
}

// A key that cannot be sealed is not written, neither for a new caller nor for one that moved.
func TestKeyThatCannotBeSealed(t *testing.T) {
	f := newFixture(t, mapping.AutoRegister)
	r, err := f.as("old", "a")
	f.want(r, err, mapping.SourceAutoRegister, nil)
	f.config.Seal = func(keys.Secret) ([]byte, error) { return nil, errDown }
	for _, client := range []string{"old", "new"} {
		r, err = f.as(client, "b")
		f.want(r, err, "", errDown)
	}
	if set, err := f.store.Export(t.Context()); err != nil || len(set.Keys) != 1 {
		t.Errorf("%d keys (%v), want 1", len(set.Keys), err)
	}
}

// The template for the caller's issuer and team comes first, then the team's, then the issuer's, then that of anybody.
func TestTemplates(t *testing.T) {
	named := func(name string) mapping.Template { return mapping.Template{Models: []string{name}} }
	scopes := []struct {
		scope mapping.Scope
		name  string
	}{{mapping.Scope{Issuer: issuer, Team: "a"}, "both"}, {mapping.Scope{Team: "a"}, "team"}, {mapping.Scope{Issuer: issuer}, "issuer"}, {mapping.Scope{}, "anybody"}}
	for n := range scopes {
		f := newFixture(t, mapping.AutoRegister)
		f.config.Templates = map[mapping.Scope]mapping.Template{{Issuer: "https://other", Team: "b"}: named("other")}
		for _, s := range scopes[n:] {
			f.config.Templates[s.scope] = named(s.name)
		}
		r, err := f.as("c", "a")
		if key := f.want(r, err, mapping.SourceAutoRegister, nil); !slices.Equal(key.Models, []string{scopes[n].name}) {
			t.Errorf("the template of %v, want %s", key.Models, scopes[n].name)
		}
	}
}

// TestDirect: which keys can be presented as a credential.
func TestDirect(t *testing.T) {
	f, s := newFailing(t, mapping.Reject)
	open, closed := operatorsKey("a"), &keys.Key{ID: keys.Secret("sk-jwt-only").ID(), Alias: "jwt-only", JWTOnly: true}
	f.apply(&resource.Set{Keys: []resource.Key{{Key: *open}, {Key: *closed}}})
	resolver := mapping.NewResolver(f.config, f.cached)
	direct := func(r *mapping.Resolver, id keys.ID, want error) {
		t.Helper()
		key, err := r.Direct(t.Context(), id)
		if !errors.Is(err, want) || (err == nil) != (want == nil) || (key != nil) != (want == nil) {
			t.Errorf("%v, %v; want %v", key, err, want)
		}
	}
	direct(resolver, open.ID, nil)
	direct(resolver, closed.ID, mapping.ErrKeyUnknown)
	direct(resolver, keys.Secret("sk-nobody").ID(), mapping.ErrKeyUnknown)
	direct(mapping.NewResolver(f.config, nil), open.ID, mapping.ErrKeyUnknown)
	s.down = true
	direct(resolver, keys.Secret("sk-never-seen").ID(), errDown)
}

// touching is a store that notes its touches, and holds them until it is released.
type touching struct {
	mapping.Store
	mu       sync.Mutex
	until    []time.Time
	deadline []bool // whether it had one
	ended    []error
	released chan struct{}
}

func (s *touching) Touch(ctx context.Context, _ keys.ID, until time.Time) error {
	<-s.released
	_, bounded := ctx.Deadline()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.until, s.deadline, s.ended = append(s.until, until), append(s.deadline, bounded), append(s.ended, ctx.Err())
	return nil
}

// The use of a key is written beside the request, once in half its idle timeout, and one write at a time.
func TestUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &touching{released: make(chan struct{})}
		cached := mapping.NewCached(s, mapping.CacheOptions{
			MappingTTL: time.Hour, AbsentTTL: time.Hour, KeyTTL: time.Hour, Space: cachetest.Space(t), LoadTimeout: time.Minute,
		})
		defer cached.Close()
		r, now := mapping.NewResolver(mapping.Config{}, cached), time.Now()
		key := func(timeout, left time.Duration) *keys.Key {
			return &keys.Key{ID: keys.Generate().ID(), IdleTimeout: timeout, IdleExpiresAt: now.Add(left)}
		}
		due := key(time.Hour, 30*time.Minute)
		ctx, cancel := context.WithCancel(t.Context())
		r.Used(ctx, due)
		cancel() // the request ends; the write goes on
		for _, none := range []*keys.Key{due, key(0, -time.Hour), key(time.Hour, 31*time.Minute)} {
			r.Used(t.Context(), none)
		}
		mapping.NewResolver(mapping.Config{}, nil).Used(t.Context(), due)
		synctest.Wait()
		close(s.released)
		synctest.Wait()
		r.Used(t.Context(), due)
		synctest.Wait()
		hour := now.Add(time.Hour)
		if !slices.EqualFunc(s.until, []time.Time{hour, hour}, time.Time.Equal) || slices.Contains(s.deadline, false) || errors.Join(s.ended...) != nil {
			t.Errorf("written until %v, want twice until %v; bounded %v, %v", s.until, hour, s.deadline, s.ended)
		}
	})
}
