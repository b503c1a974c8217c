package mapping_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/extauthz/extauthz/internal/cache/cachetest"
	"github.com/extauthz/extauthz/internal/resource"
	"github.com/extauthz/extauthz/internal/store"
	"github.com/extauthz/extauthz/pkg/keys"
	"github.com/extauthz/extauthz/pkg/mapping"
	"github.com/extauthz/extauthz/pkg/teams"
	"github.com/extauthz/extauthz/pkg/token"
)

const issuer = token.IssuerURL("https://idp.example.com")

// counted is a real store whose calls are counted.
type counted struct {
	store.Store
	mappings, keys, registers int
	// before runs before a call goes on to the store: what another replica does at that moment.
	beforeRegister, beforeRebind, beforeTouch func()
}

func (c *counted) Touch(ctx context.Context, id keys.ID, idleExpiresAt time.Time) error {
	if c.beforeTouch != nil {
		c.beforeTouch()
	}
	return c.Store.Touch(ctx, id, idleExpiresAt)
}

func (c *counted) Lookup(ctx context.Context, s mapping.Subject) (*mapping.Mapping, *keys.Key, error) {
	c.mappings++
	return c.Store.Lookup(ctx, s)
}

func (c *counted) Key(ctx context.Context, id keys.ID) (*keys.Key, error) {
	c.keys++
	return c.Store.Key(ctx, id)
}

func (c *counted) Register(ctx context.Context, s mapping.Subject, k *keys.Key, most int) (*mapping.Mapping, *keys.Key, error) {
	c.registers++
	if c.beforeRegister != nil {
		c.beforeRegister()
	}
	return c.Store.Register(ctx, s, k, most)
}

func (c *counted) Rebind(ctx context.Context, s mapping.Subject, old keys.ID, k *keys.Key, most int) (*mapping.Mapping, error) {
	if c.beforeRebind != nil {
		c.beforeRebind()
	}
	return c.Store.Rebind(ctx, s, old, k, most)
}

// fixture is a resolver over a SQLite store.
type fixture struct {
	t      *testing.T
	store  *counted
	cached *mapping.Cached
	now    time.Time
	config mapping.Config
}

func newFixture(t *testing.T, policy mapping.NoMatch) *fixture {
	t.Helper()
	opened, err := store.Open(t.Context(), store.Options{URL: "sqlite:" + filepath.Join(t.TempDir(), "x.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(opened.Close)
	f := &fixture{t: t, store: &counted{Store: opened}, now: time.Now()}
	f.cached = mapping.NewCached(f.store, mapping.CacheOptions{
		MappingTTL: time.Hour, AbsentTTL: time.Hour, KeyTTL: time.Hour, Space: cachetest.Space(t), LoadTimeout: time.Minute,
	})
	t.Cleanup(f.cached.Close)
	claim, err := token.ParsePath("client_id")
	if err != nil {
		t.Fatal(err)
	}
	f.config = mapping.Config{
		Rules: map[token.IssuerURL]mapping.Rule{issuer: {Claim: claim, NoMatch: policy}},
		Now:   func() time.Time { return f.now },
	}
	f.apply(&resource.Set{Teams: []resource.Team{{Team: teams.Team{ID: "a"}}, {Team: teams.Team{ID: "b"}}}})
	return f
}

func (f *fixture) apply(set *resource.Set) {
	f.t.Helper()
	if err := f.store.Apply(f.t.Context(), set); err != nil {
		f.t.Fatal(err)
	}
}

// as resolves a caller of a team with a resolver of its own, so that changes of the config count.
func (f *fixture) as(client string, team teams.TeamID) (mapping.Result, error) {
	f.t.Helper()
	return f.with(mapping.NewResolver(f.config, f.cached), client, team)
}

func (f *fixture) with(r *mapping.Resolver, client string, team teams.TeamID) (mapping.Result, error) {
	f.t.Helper()
	return f.listing(r, client, team, team)
}

// listing resolves a caller of a team whose token lists these teams.
func (f *fixture) listing(r *mapping.Resolver, client string, team teams.TeamID, listed ...teams.TeamID) (mapping.Result, error) {
	f.t.Helper()
	claims := token.Claims{Issuer: issuer, Values: map[string]any{"client_id": client}}
	return resolve(f.t.Context(), r, claims, teams.Identity{TeamIDs: listed}, teams.Membership{TeamID: team, UserID: "alice"})
}

func resolve(ctx context.Context, r *mapping.Resolver, claims token.Claims, id teams.Identity, m teams.Membership) (mapping.Result, error) {
	return r.Resolve(ctx, r.Claimant(claims), &id, m)
}

func (f *fixture) want(r mapping.Result, err error, source mapping.Source, wantErr error) *keys.Key {
	f.t.Helper()
	if r.Source != source || !errors.Is(err, wantErr) || (err == nil) != (wantErr == nil) {
		f.t.Fatalf("got %q, %v; want %q, %v", r.Source, err, source, wantErr)
	}
	if err != nil && r.Key != nil {
		f.t.Fatalf("an error came with a key")
	}
	return r.Key
}

func mapped(value string, key *keys.Key, active bool) *resource.Set {
	return &resource.Set{
		Keys:     []resource.Key{{Key: *key}},
		Mappings: []resource.Mapping{{Mapping: mapping.Mapping{Claim: "client_id", Value: value, KeyID: key.ID, Active: active}}},
	}
}

func operatorsKey(team teams.TeamID) *keys.Key {
	return &keys.Key{ID: keys.Secret("sk-operator").ID(), Alias: "operator", TeamID: team}
}

// A mapping that is there and must not be used denies under every policy: it is not an absence.
func TestUnusableMappingIsNeverAbsence(t *testing.T) {
	for _, policy := range []mapping.NoMatch{mapping.Reject, mapping.AutoRegister, mapping.Fallback} {
		f := newFixture(t, policy)
		f.apply(mapped("c", operatorsKey("a"), false))
		r, err := f.as("c", "a")
		f.want(r, err, "", mapping.ErrDisabled)
		if f.store.registers != 0 {
			t.Errorf("%s: a disabled mapping was registered again", policy)
		}
	}
}

func TestUnknownPolicyRejects(t *testing.T) {
	f := newFixture(t, "")
	r, err := f.as("c", "a")
	f.want(r, err, "", mapping.ErrNoMapping)
}

func TestIssuerWithoutRuleIsNotMapped(t *testing.T) {
	f := newFixture(t, mapping.Reject)
	f.config.Rules = nil
	r, err := f.as("c", "a")
	f.want(r, err, mapping.SourceTeam, nil)
}

func TestRegistrationsPerMinute(t *testing.T) {
	f := newFixture(t, mapping.AutoRegister)
	f.config.RegistrationsPerMinute = 2
	resolver := mapping.NewResolver(f.config, f.cached)
	for _, line := range []struct {
		client string
		source mapping.Source
		err    error
		wait   time.Duration
	}{
		{"c1", mapping.SourceAutoRegister, nil, 0},
		{"c2", mapping.SourceAutoRegister, nil, 0},
		{"c3", "", mapping.ErrLimited, 0},
		{"c1", mapping.SourceMapping, nil, 0}, // only new clients are limited
		{"c3", mapping.SourceAutoRegister, nil, 30 * time.Second},
		{"c4", "", mapping.ErrLimited, 0},
	} {
		f.now = f.now.Add(line.wait)
		r, err := f.with(resolver, line.client, "a")
		f.want(r, err, line.source, line.err)
	}
	r, err := f.with(resolver, "c1", "b") // a rebind is a registration
	f.want(r, err, "", mapping.ErrLimited)
}

func TestKeysPerTeam(t *testing.T) {
	f := newFixture(t, mapping.AutoRegister)
	f.config.MaxKeysPerTeam = 1
	r, err := f.as("c1", "a")
	f.want(r, err, mapping.SourceAutoRegister, nil)
	r, err = f.as("c2", "a")
	f.want(r, err, "", mapping.ErrLimited)
	r, err = f.as("c2", "b")
	f.want(r, err, mapping.SourceAutoRegister, nil)
}

// The caller of a registered key that left its team gets a new key, if the policy still registers. It
// never keeps the old one.
func TestMovedCaller(t *testing.T) {
	f := newFixture(t, mapping.AutoRegister)
	r, err := f.as("c", "a")
	old := f.want(r, err, mapping.SourceAutoRegister, nil)
	claim := f.config.Rules[issuer].Claim
	for _, policy := range []mapping.NoMatch{mapping.Reject, mapping.Fallback} {
		f.config.Rules[issuer] = mapping.Rule{Claim: claim, NoMatch: policy}
		r, err = f.as("c", "b")
		f.want(r, err, "", teams.ErrTeamNotMember)
	}
	f.config.Rules[issuer] = mapping.Rule{Claim: claim, NoMatch: mapping.AutoRegister}
	r, err = f.as("c", "b")
	if key := f.want(r, err, mapping.SourceAutoRegister, nil); key.ID == old.ID || key.TeamID != "b" {
		t.Fatalf("after the move: %+v", key)
	}
	if stored, err := f.store.Key(t.Context(), old.ID); err != nil || !stored.Blocked {
		t.Fatalf("the old key is not blocked (%v)", err)
	}
}

// What an operator mapped is not rebound, and a key that may not be used is not replaced.
func TestNotRebound(t *testing.T) {
	f := newFixture(t, mapping.AutoRegister)
	f.apply(mapped("operators", operatorsKey("a"), true))
	r, err := f.as("operators", "b")
	if key := f.want(r, err, mapping.SourceMapping, nil); key.Alias != "operator" {
		t.Fatalf("key %+v", key)
	}
	r, err = f.as("c", "a")
	registered := *f.want(r, err, mapping.SourceAutoRegister, nil)
	f.apply(mapped("shared", &registered, true)) // an operator's mapping to a registered key
	r, err = f.as("shared", "b")
	if key := f.want(r, err, mapping.SourceMapping, nil); key.ID != registered.ID {
		t.Fatalf("key %+v", key)
	}
	bound := mapped("bound", operatorsKey("a"), true) // a registration's mapping, to which an operator gave another key
	bound.Mappings[0].AutoRegistered = true
	f.apply(bound)
	r, err = f.as("bound", "b")
	if key := f.want(r, err, mapping.SourceMapping, nil); key.Alias != "operator" {
		t.Fatalf("key %+v", key)
	}
	f.config.Templates = map[mapping.Scope]mapping.Template{{}: {Lifetime: time.Minute}}
	r, err = f.as("short", "a")
	short := f.want(r, err, mapping.SourceAutoRegister, nil)
	f.now = f.now.Add(time.Hour)
	r, err = f.as("short", "b")
	if key := f.want(r, err, mapping.SourceMapping, nil); key.ID != short.ID {
		t.Fatalf("an expired key was replaced: %+v", key)
	}
	registered.Blocked = true
	f.apply(&resource.Set{Keys: []resource.Key{{Key: registered}}})
	f.cached.Close() // what another process changed is seen when the cache has forgotten
	fresh := newFixtureOver(t, f)
	r, err = fresh.as("c", "b")
	if key := f.want(r, err, mapping.SourceMapping, nil); !key.Blocked || key.ID != registered.ID {
		t.Fatalf("a blocked key was replaced: %+v", key)
	}
}

// newFixtureOver is another process on the same store.
func newFixtureOver(t *testing.T, f *fixture) *fixture {
	t.Helper()
	other := *f
	other.cached = mapping.NewCached(f.store, mapping.CacheOptions{
		MappingTTL: time.Hour, AbsentTTL: time.Hour, KeyTTL: time.Hour, Space: cachetest.Space(t), LoadTimeout: time.Minute,
	})
	t.Cleanup(other.cached.Close)
	return &other
}

// Two replicas rebind one caller at once: the later one takes the row of the earlier.
func TestConcurrentRebind(t *testing.T) {
	f := newFixture(t, mapping.AutoRegister)
	r, err := f.as("c", "a")
	f.want(r, err, mapping.SourceAutoRegister, nil)
	other := newFixtureOver(t, f)
	var winner *keys.Key
	f.store.beforeRebind = func() {
		f.store.beforeRebind = nil
		r, err := other.as("c", "b")
		winner = other.want(r, err, mapping.SourceAutoRegister, nil)
	}
	r, err = f.as("c", "b")
	if key := f.want(r, err, mapping.SourceAutoRegister, nil); key.ID != winner.ID {
		t.Fatalf("key %s, the winner's is %s", key.Alias, winner.Alias)
	}
}

// The later one's token does not list the team that the earlier one bound the caller to: it gets nothing.
func TestConcurrentRebindElsewhere(t *testing.T) {
	f := newFixture(t, mapping.AutoRegister)
	f.apply(&resource.Set{Teams: []resource.Team{{Team: teams.Team{ID: "c"}}}})
	r, err := f.as("client", "a")
	f.want(r, err, mapping.SourceAutoRegister, nil)
	other := newFixtureOver(t, f)
	f.store.beforeRebind = func() {
		f.store.beforeRebind = nil
		r, err := other.as("client", "c")
		other.want(r, err, mapping.SourceAutoRegister, nil)
	}
	r, err = f.as("client", "b")
	f.want(r, err, "", mapping.ErrConflict)
}

// The organization of a registered key is its caller's, as its team is.
func TestMovedOrganization(t *testing.T) {
	f := newFixture(t, mapping.AutoRegister)
	f.apply(&resource.Set{Organizations: []resource.Organization{{Organization: teams.Organization{ID: "acme"}}}})
	r, err := f.as("c", "a")
	old := f.want(r, err, mapping.SourceAutoRegister, nil)
	claims := token.Claims{Issuer: issuer, Values: map[string]any{"client_id": "c"}}
	r, err = resolve(t.Context(), mapping.NewResolver(f.config, f.cached), claims, teams.Identity{TeamID: "a"}, teams.Membership{TeamID: "a", OrganizationID: "acme"})
	if key := f.want(r, err, mapping.SourceAutoRegister, nil); key.ID == old.ID || key.OrganizationID != "acme" {
		t.Errorf("after the move: %+v", key)
	}
}

// An operator's mapping for any issuer, made after the absence was cached, is found before a
// registration.
func TestRegistrationReadsAnew(t *testing.T) {
	f := newFixture(t, mapping.Reject)
	r, err := f.as("c", "a")
	f.want(r, err, "", mapping.ErrNoMapping)
	f.apply(mapped("c", operatorsKey("a"), true))
	r, err = f.as("c", "a")
	f.want(r, err, "", mapping.ErrNoMapping) // cached absence; the policy that reads it rejects
	f.config.Rules[issuer] = mapping.Rule{Claim: f.config.Rules[issuer].Claim, NoMatch: mapping.AutoRegister}
	r, err = f.as("c", "a")
	f.want(r, err, mapping.SourceMapping, nil)
	if f.store.registers != 0 {
		t.Error("registered past an operator's mapping")
	}
}

// A loser of the race gets the winner's key, and what the winner wrote counts: here it was disabled.
func TestLostRegistration(t *testing.T) {
	f := newFixture(t, mapping.AutoRegister)
	other := newFixtureOver(t, f)
	f.store.beforeRegister = func() {
		f.store.beforeRegister = nil
		r, err := other.as("c", "a")
		other.want(r, err, mapping.SourceAutoRegister, nil)
		set, err := f.store.Export(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		set.Mappings[0].Active = false
		f.apply(set)
	}
	r, err := f.as("c", "a")
	f.want(r, err, "", mapping.ErrDisabled)
	set, err := f.store.Export(t.Context())
	if err != nil || len(set.Keys) != 1 {
		t.Fatalf("%d keys (%v), want the winner's only", len(set.Keys), err)
	}
}

// A caller who is in several teams keeps the key it was registered with, whichever team it selects:
// otherwise each change would renew its budget.
func TestSelectingAnotherTeamDoesNotRebind(t *testing.T) {
	f := newFixture(t, mapping.AutoRegister)
	resolver := mapping.NewResolver(f.config, f.cached)
	r, err := f.listing(resolver, "c", "a", "a", "b")
	key := f.want(r, err, mapping.SourceAutoRegister, nil)
	for _, team := range []teams.TeamID{"b", "a", "b"} {
		r, err = f.listing(resolver, "c", team, "a", "b")
		if again := f.want(r, err, mapping.SourceMapping, nil); again.ID != key.ID {
			t.Fatalf("team %s: a new key", team)
		}
	}
}

// Moving takes the spend along, does not get around a spent budget, and counts against the new team.
func TestMovingRenewsNothing(t *testing.T) {
	f := newFixture(t, mapping.AutoRegister)
	ceiling := teams.Micros(10)
	f.config.Templates = map[mapping.Scope]mapping.Template{{}: {MaxBudget: &ceiling}}
	r, err := f.as("c", "a")
	key := *f.want(r, err, mapping.SourceAutoRegister, nil)
	spend := func(amount teams.Micros) *fixture {
		key.Budget.Spend = amount
		f.apply(&resource.Set{Keys: []resource.Key{{Key: key}}})
		return newFixtureOver(t, f) // another process, which has nothing cached
	}
	other := spend(10)
	r, err = other.as("c", "b")
	if kept := other.want(r, err, mapping.SourceMapping, nil); kept.ID != key.ID || !kept.Budget.Exceeded(time.Now()) {
		t.Fatalf("a spent key was replaced: %+v", kept)
	}
	other = spend(9)
	r, err = other.as("c", "b")
	if moved := other.want(r, err, mapping.SourceAutoRegister, nil); moved.ID == key.ID || moved.Budget.Spend != 9 {
		t.Fatalf("after the move: %+v", moved)
	}
	other.config.MaxKeysPerTeam = 1
	r, err = other.as("d", "a")
	other.want(r, err, mapping.SourceAutoRegister, nil)
	r, err = other.as("d", "b") // which has its one key
	other.want(r, err, "", mapping.ErrLimited)
}

// A registration that is refused spends nothing of the issuer's rate.
func TestRefusedRegistrationSpendsNoRate(t *testing.T) {
	f := newFixture(t, mapping.AutoRegister)
	f.config.RegistrationsPerMinute, f.config.MaxKeysPerTeam = 2, 1
	resolver := mapping.NewResolver(f.config, f.cached)
	r, err := f.with(resolver, "c1", "a")
	f.want(r, err, mapping.SourceAutoRegister, nil)
	for range 10 {
		r, err = f.with(resolver, "c2", "a")
		f.want(r, err, "", mapping.ErrLimited)
	}
	r, err = f.with(resolver, "c3", "b")
	f.want(r, err, mapping.SourceAutoRegister, nil)
	before := f.store.mappings
	for range 10 { // the rate is spent: the store is not asked again and again
		r, err = f.with(resolver, "c2", "a")
		f.want(r, err, "", mapping.ErrLimited)
	}
	if asked := f.store.mappings - before; asked > 1 {
		t.Errorf("%d look-ups for callers that cannot register", asked)
	}
}

// A panic while the use of a key is noted would end the process, and with it every request.
func TestPanicWhileNotingUse(t *testing.T) {
	f := newFixture(t, mapping.Reject)
	entered := make(chan struct{})
	f.store.beforeTouch = func() { close(entered); panic("a driver's bug") }
	resolver := mapping.NewResolver(f.config, f.cached)
	resolver.Used(t.Context(), &keys.Key{ID: keys.Generate().ID(), IdleTimeout: time.Hour})
	<-entered
	resolver.Used(t.Context(), &keys.Key{ID: keys.Generate().ID()}) // the process is there, and so is the resolver
}

// Another replica rebound the caller: the mapping cached here names a blocked key, and is read anew.
func TestReboundElsewhere(t *testing.T) {
	f := newFixture(t, mapping.AutoRegister)
	r, err := f.as("c", "a")
	f.want(r, err, mapping.SourceAutoRegister, nil)
	r, err = f.as("c", "a") // cached here
	old := f.want(r, err, mapping.SourceMapping, nil)
	other := newFixtureOver(t, f)
	r, err = other.as("c", "b")
	rebound := other.want(r, err, mapping.SourceAutoRegister, nil)
	f.cached.ForgetKey(old.ID) // as when its short TTL has passed
	r, err = f.as("c", "b")
	if key := f.want(r, err, mapping.SourceMapping, nil); key.ID != rebound.ID {
		t.Fatalf("key %s, want the rebound one", key.Alias)
	}
}
