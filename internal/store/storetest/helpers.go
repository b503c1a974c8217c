package storetest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/extauthz/extauthz/internal/resource"
	"github.com/extauthz/extauthz/internal/store"
	"github.com/extauthz/extauthz/pkg/keys"
	"github.com/extauthz/extauthz/pkg/mapping"
	"github.com/extauthz/extauthz/pkg/teams"
	"github.com/extauthz/extauthz/pkg/token"
)

const (
	issuer = token.IssuerURL("https://idp.example.com/realms/acme")
	claim  = "sub"
)

func subject(value string) mapping.Subject {
	return mapping.Subject{Issuer: issuer, Claim: claim, Value: value}
}

func id(name string) keys.ID { return keys.Secret("sk-" + name).ID() }

// Mapping is Lookup without the key.
func (s Instance) Mapping(ctx context.Context, subject mapping.Subject) (*mapping.Mapping, error) {
	m, _, err := s.Lookup(ctx, subject)
	return m, err
}

func to[T any](v T) *T { return &v }

// registered is a key as a registration makes it.
func registered(name string, team teams.TeamID) *keys.Key {
	return &keys.Key{ID: id(name), Alias: name, TeamID: team, UserID: teams.UserID(name), AutoRegistered: true}
}

// window parses a budget window.
func window(text string) teams.Window {
	w, err := teams.ParseWindow(text)
	if err != nil {
		panic(err)
	}
	return w
}

// utc parses a time of the tables in this package.
func utc(text string) time.Time {
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		panic(err)
	}
	return at.UTC()
}

// everything is a set that uses every field.
func everything() *resource.Set {
	return &resource.Set{
		Organizations: []resource.Organization{
			{Organization: teams.Organization{ID: "acme", Alias: "Acme", Blocked: true, Budget: teams.Budget{
				Max: to(teams.Micros(1e15)), Spend: 7, Window: window("1mo"), ResetAt: utc("2099-01-01T00:00:00Z"),
			}}},
			{Organization: teams.Organization{ID: "globex"}},
		},
		Teams: []resource.Team{
			{Team: teams.Team{
				ID: "team-a", Alias: "A", OrganizationID: "acme", Models: []string{"gpt-4o*", `a"b\c`, "<&>\u2028"},
				AllowedRoutes: []string{"openai_routes", "GET /v1/*"}, Blocked: true,
				Budget: teams.Budget{
					Max: to(teams.Micros(0)), Spend: 9223372036854775807, Window: window("1000w"), ResetAt: utc("2099-01-01T00:00:00.000001Z"),
				},
				Limits: teams.Limits{RPM: to(int64(60)), TPM: to(int64(0))},
			}, Members: []teams.UserID{"alice", "nobody"}},
			{Team: teams.Team{ID: "team-b", Alias: "A"}, Members: []teams.UserID{}},
		},
		Users: []resource.User{
			{User: teams.User{ID: "alice", Email: "alice@corp.example.com", Blocked: true, Budget: teams.Budget{
				Max: to(teams.Micros(1)), Spend: 2, Window: window("15m"), ResetAt: utc("2099-01-01T00:15:00Z"),
			}}},
			{User: teams.User{ID: "bob"}},
		},
		Keys: sortedKeys(
			resource.Key{Key: keys.Key{
				ID: id("one"), Alias: "one", TeamID: "team-a", UserID: "nobody", OrganizationID: "acme",
				Models: []string{"m"}, AllowedRoutes: []string{"/r"}, Blocked: true, AutoRegistered: true, JWTOnly: true,
				ExpiresAt:   utc("2027-01-02T03:04:05.678901Z"),
				IdleTimeout: 36*time.Hour + time.Microsecond, IdleExpiresAt: utc("2026-01-02T03:04:05.678901Z"),
				Sealed: []byte("sealed \x00\xff"),
				Budget: teams.Budget{Max: to(teams.Micros(5)), Spend: 6, Window: window("30s"), ResetAt: utc("2099-01-01T00:00:30Z")},
				Limits: teams.Limits{RPM: to(int64(0)), TPM: to(int64(100000))},
			}},
			resource.Key{Key: keys.Key{ID: id("two")}},
		),
		Mappings: []resource.Mapping{
			{Mapping: mapping.Mapping{Claim: claim, Value: "alice", KeyID: id("one"), Active: true}},
			{Mapping: mapping.Mapping{Issuer: issuer, Claim: claim, Value: "alice", KeyID: id("two")}},
		},
	}
}

// sortedKeys orders two keys as an export does.
func sortedKeys(a, b resource.Key) []resource.Key {
	if b.ID < a.ID {
		a, b = b, a
	}
	return []resource.Key{a, b}
}

// seed gives the store two teams to register in.
func seed(t *testing.T, s store.Store) {
	t.Helper()
	apply(t, s, &resource.Set{Teams: []resource.Team{{Team: teams.Team{ID: "team-a"}}, {Team: teams.Team{ID: "team-b"}}}})
}

func apply(t *testing.T, s store.Store, set *resource.Set) {
	t.Helper()
	if err := s.Apply(t.Context(), set); err != nil {
		t.Fatalf("Apply: %v", err)
	}
}

func export(t *testing.T, s store.Store) *resource.Set {
	t.Helper()
	set, err := s.Export(t.Context())
	if err != nil {
		t.Fatalf("Export: %v", err)
	}
	return set
}

func register(t *testing.T, s store.Store, subject mapping.Subject, key *keys.Key) *mapping.Mapping {
	t.Helper()
	m, _, err := s.Register(t.Context(), subject, key, 0)
	if err != nil {
		t.Fatalf("Register: %v", err)
	}
	return m
}

// sizes checks how many keys and mappings there are: a failed registration must leave none.
func sizes(t *testing.T, s store.Store, wantKeys, wantMappings int) {
	t.Helper()
	set := export(t, s)
	if len(set.Keys) != wantKeys || len(set.Mappings) != wantMappings {
		t.Errorf("the store has %d keys and %d mappings, want %d and %d", len(set.Keys), len(set.Mappings), wantKeys, wantMappings)
	}
}

func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s:\n got %+v\nwant %+v", what, got, want)
	}
}

func wantError(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: error %v, want %v", what, err, want)
	}
}

// execute runs an operator's SQL. A cache is told, since it cannot know.
func (s Instance) execute(t *testing.T, statements ...string) {
	t.Helper()
	for _, statement := range statements {
		if _, err := s.Raw.ExecContext(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	s.forget()
}

func (s Instance) forget() {
	if s.Forget != nil {
		s.Forget()
	}
}

// together calls do n times at once and returns the results in the order of i.
func together[T any](n int, do func(i int) T) []T {
	results := make([]T, n)
	var ready, done sync.WaitGroup
	gate := make(chan struct{})
	for i := range n {
		ready.Add(1)
		done.Go(func() {
			ready.Done()
			<-gate
			results[i] = do(i)
		})
	}
	ready.Wait()
	close(gate)
	done.Wait()
	return results
}

// warm makes the store open its connections: a race among calls that still connect is none.
func warm(t *testing.T, s store.Store) {
	t.Helper()
	for _, err := range together(64, func(int) error { _, err := s.Team(t.Context(), "team-a"); return err }) {
		wantError(t, "Team", err, nil)
	}
}

// outcome is what a registration returned.
type outcome struct {
	mapping *mapping.Mapping
	err     error
}

// tally counts the outcomes by error; other errors than want fail the test.
func tally(t *testing.T, outcomes []outcome, want error) (succeeded, refused int) {
	t.Helper()
	for i, o := range outcomes {
		switch {
		case o.err == nil:
			succeeded++
		case errors.Is(o.err, want):
			refused++
		default:
			t.Errorf("call %d: %v", i, o.err)
		}
	}
	return succeeded, refused
}

// calls are all methods of a store, by name.
func calls(s store.Store) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"Lookup":              func(ctx context.Context) error { _, _, err := s.Lookup(ctx, subject("x")); return err },
		"Key":                 func(ctx context.Context) error { _, err := s.Key(ctx, id("x")); return err },
		"Team":                func(ctx context.Context) error { _, err := s.Team(ctx, "x"); return err },
		"Organization":        func(ctx context.Context) error { _, err := s.Organization(ctx, "x"); return err },
		"User":                func(ctx context.Context) error { _, err := s.User(ctx, "x"); return err },
		"TeamAlong":           func(ctx context.Context) error { _, _, err := s.TeamAlong(ctx, "x"); return err },
		"TeamByAlias":         func(ctx context.Context) error { _, err := s.TeamByAlias(ctx, "x"); return err },
		"OrganizationByAlias": func(ctx context.Context) error { _, err := s.OrganizationByAlias(ctx, "x"); return err },
		"Member":              func(ctx context.Context) error { _, err := s.Member(ctx, "x", "x"); return err },
		"Touch":               func(ctx context.Context) error { return s.Touch(ctx, id("x"), time.Unix(1, 0)) },
		"ResetBudgets":        func(ctx context.Context) error { _, err := s.ResetBudgets(ctx, time.Now()); return err },
		"RegisterTeam":        func(ctx context.Context) error { _, err := s.RegisterTeam(ctx, &teams.Team{ID: "x"}, 1); return err },
		"Register": func(ctx context.Context) error {
			_, _, err := s.Register(ctx, subject("x"), registered("x", ""), 1)
			return err
		},
		"Rebind": func(ctx context.Context) error {
			_, err := s.Rebind(ctx, subject("x"), id("x"), registered("y", ""), 0)
			return err
		},
		"Apply":  func(ctx context.Context) error { return s.Apply(ctx, everything()) },
		"Export": func(ctx context.Context) error { _, err := s.Export(ctx); return err },
		"Ready":  s.Ready,
	}
}

// CheckUnavailable checks that every call of a store whose database is away ends within the bound with
// an error that is none of the store's own answers and contains none of the secrets.
func CheckUnavailable(t *testing.T, s store.Store, bound time.Duration, secrets ...string) {
	t.Helper()
	answers := []error{teams.ErrNotFound, mapping.ErrConflict, mapping.ErrLimited, store.ErrInvalid, store.ErrSchema}
	for name, call := range calls(s) {
		ctx, cancel := context.WithTimeout(t.Context(), bound)
		err := call(ctx)
		cancel()
		if err == nil {
			t.Errorf("%s succeeds without a database", name)
			continue
		}
		for _, answer := range answers {
			if errors.Is(err, answer) {
				t.Errorf("%s: an outage looks like the answer %q", name, answer)
			}
		}
		checkSecrets(t, fmt.Sprintf("%s: %v", name, err), secrets)
	}
}

// OneTeam is a set of one team.
func OneTeam(id teams.TeamID) *resource.Set {
	return &resource.Set{Teams: []resource.Team{{Team: teams.Team{ID: id}}}}
}

func checkSecrets(t *testing.T, text string, secrets []string) {
	t.Helper()
	for _, secret := range secrets {
		if strings.Contains(text, secret) {
			t.Errorf("an error quotes %q: %s", secret, text)
		}
	}
}
