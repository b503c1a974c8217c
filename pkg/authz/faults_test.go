package authz

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/extauthz/extauthz/internal/cache/cachetest"
	"github.com/extauthz/extauthz/internal/extauthztest/issuertest"
	"github.com/extauthz/extauthz/internal/extauthztest/issuertest/localissuer"
	"github.com/extauthz/extauthz/pkg/keys"
	"github.com/extauthz/extauthz/pkg/mapping"
	"github.com/extauthz/extauthz/pkg/teams"
	"github.com/extauthz/extauthz/pkg/token"
)

// TestNoAllowOnError injects every fault that a collaborator can have into a request that is allowed without it. Each ends
// in a denial: of an outage 503, in band. Package adversary does the same behind a real Envoy with the faults that can
// really be caused.
func TestNoAllowOnError(t *testing.T) {
	for name, scenario := range scenarios() {
		t.Run(name, func(t *testing.T) {
			sound := newFaultRig(t, scenario, nil)
			if out := sound.check(t, t.Context()); out.GetOkResponse() == nil {
				t.Fatalf("not allowed without a fault: %v", out)
			}
			for fault, happen := range faults() {
				t.Run(fault, func(t *testing.T) {
					t.Parallel()
					r := newFaultRig(t, scenario, happen)
					expectOutage(t, r.check(t, t.Context()), "store_unavailable", "internal_error", "deadline_exceeded")
				})
				t.Run(fault+", the cache closed", func(t *testing.T) {
					t.Parallel()
					r := newFaultRig(t, scenario, happen)
					r.cached.Close()
					expectOutage(t, r.check(t, t.Context()), "store_unavailable", "internal_error", "deadline_exceeded")
				})
			}
		})
	}
	t.Run("context", noAllowOnContext)
	t.Run("clock", noAllowOnClock)
	t.Run("keys of the issuer", noAllowOnKeySet)
	t.Run("rules", noAllowOnRule)
	t.Run("the key's text", noAllowOnSecret)
	t.Run("the observer", noAllowOnObserver)
}

// expectOutage requires a denied 503 with one of the reasons and nothing of the fault's text.
func expectOutage(t *testing.T, out *authv3.CheckResponse, reasons ...string) {
	t.Helper()
	reason := header(out, "x-extauthz-reason")
	if !slices.Contains(reasons, reason) {
		t.Fatalf("reason %q, want one of %v: %v", reason, reasons, out)
	}
	expectDenied(t, out, 503, reason)
	if strings.Contains(out.String(), faultText) {
		t.Errorf("the fault's text reaches the client: %v", out)
	}
}

// faultText is in every fault that has a text.
const faultText = "hunter2"

// faults are what a call to the store can end in. A nil error is an answer without a row.
func faults() map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"down":                       func(context.Context) error { return errors.New("dial tcp: password " + faultText) },
		"cut off":                    func(context.Context) error { return io.ErrUnexpectedEOF },
		"cancelled":                  func(context.Context) error { return context.Canceled },
		"a deadline of its own":      func(context.Context) error { return context.DeadlineExceeded },
		"too slow":                   func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
		"too slow, with an answer":   func(ctx context.Context) error { <-ctx.Done(); return nil },
		"a panic":                    func(context.Context) error { panic(faultText) },
		"neither a row nor an error": func(context.Context) error { return nil },
	}
}

// scenario is a request that reaches one call of the store.
type scenario struct {
	call     string // the call at which the fault happens
	claims   map[string]any
	noMatch  mapping.NoMatch
	policy   teams.Config
	bearer   string // instead of a token
	routeFor func(*authv3.AttributeContext_HttpRequest)
}

func scenarios() map[string]scenario {
	with := func(pairs ...string) map[string]any {
		claims := map[string]any{"sub": "alice", "team": "a", "client_id": "mapped"}
		for n := 0; n < len(pairs); n += 2 {
			claims[pairs[n]] = pairs[n+1]
		}
		return claims
	}
	aliases := teams.Config{ByAlias: true}
	list := map[string]scenario{
		"direct key":            {call: "key", bearer: string(directSecret)},
		"team":                  {call: "team", claims: with()},
		"team by alias":         {call: "team by alias", claims: with("team", "Alpha"), policy: aliases},
		"organization":          {call: "organization", claims: with("org", "acme")},
		"organization by alias": {call: "organization by alias", claims: with("org", "Acme"), policy: aliases},
		"user":                  {call: "user", claims: with()},
		"member":                {call: "member", claims: with(), policy: teams.Config{RequireMember: true}},
		"default team":          {call: "team", claims: with("team", ""), policy: teams.Config{DefaultTeam: "a"}},
		"admin's user": {call: "user", claims: with("scope", "admin"), policy: teams.Config{AdminScope: "admin"},
			routeFor: func(h *authv3.AttributeContext_HttpRequest) { h.Path = "/key/generate" }},
		"a new team":     {call: "register team", claims: with("team", "new"), policy: teams.Config{AutoRegister: &teams.AutoRegister{}}},
		"register":       {call: "register", claims: with("client_id", "new"), noMatch: mapping.AutoRegister},
		"rebind":         {call: "rebind", claims: with("client_id", "moved"), noMatch: mapping.AutoRegister},
		"registered key": {call: "key", claims: with("client_id", "new"), noMatch: mapping.AutoRegister},
	}
	for _, policy := range []mapping.NoMatch{mapping.Reject, mapping.AutoRegister, mapping.Fallback} {
		list["mapping, "+string(policy)] = scenario{call: "mapping", claims: with(), noMatch: policy}
		list["key, "+string(policy)] = scenario{call: "key", claims: with(), noMatch: policy}
	}
	list["mapping of nobody, fallback"] = scenario{call: "mapping", claims: with("client_id", "nobody"), noMatch: mapping.Fallback}
	return list
}

const directSecret = keys.Secret("sk-0123456789abcdef")

// faultRig is a server over a store with a fault.
type faultRig struct {
	*Server
	scenario scenario
	cached   *mapping.Cached
	rows     *memoryRows
}

func newFaultRig(t *testing.T, s scenario, happen func(context.Context) error, change ...func(*Profile, *Config)) *faultRig {
	t.Helper()
	store := &faultyStore{call: s.call, happen: happen, rows: newMemoryRows()}
	if s.noMatch == "" {
		s.noMatch = mapping.Reject
	}
	cached := mapping.NewCached(store, mapping.CacheOptions{
		MappingTTL: time.Minute, AbsentTTL: time.Minute, KeyTTL: time.Minute, Space: cachetest.Space(t), LoadTimeout: faultTimeout,
	})
	t.Cleanup(cached.Close)
	directory := teams.NewCachedDirectory(store, teams.CacheOptions{TTL: time.Minute, Space: cachetest.Space(t), LoadTimeout: faultTimeout})
	t.Cleanup(directory.Close)
	policy, err := teams.NewPolicy(s.policy, directory, directory)
	if err != nil {
		t.Fatal(err)
	}
	verify := verifierFunc(func(context.Context, string) (token.Claims, error) {
		return token.Claims{Issuer: "https://idp", Values: s.claims}, nil
	})
	path := func(text string) token.Path {
		p, err := token.ParsePath(text)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	p := Profile{
		Authorizer: &Authorizer{
			Verifier: verify, Policy: policy, Now: time.Now, CredentialHeaders: []string{"authorization"}, VirtualKeys: true,
			Claims: map[token.IssuerURL]teams.ClaimPaths{"https://idp": {
				UserID: path("sub"), TeamID: path("team"), OrganizationID: path("org"), Scopes: path("scope"),
			}},
			Resolver: mapping.NewResolver(mapping.Config{Rules: map[token.IssuerURL]mapping.Rule{
				"https://idp": {Claim: path("client_id"), NoMatch: s.noMatch},
			}}, cached),
		},
		Response: ResponseConfig{Headers: testNames(), RetryAfter: 2},
	}
	config := Config{Timeout: faultTimeout, Observe: func(context.Context, *Decision, time.Duration) {}}
	for _, f := range change {
		f(&p, &config)
	}
	config.Profiles = map[string]Profile{"": p}
	server, err := NewServer(config)
	if err != nil {
		t.Fatal(err)
	}
	return &faultRig{Server: server, scenario: s, cached: cached, rows: store.rows}
}

// faultTimeout is what a fault that takes its time costs the test.
const faultTimeout = 100 * time.Millisecond

func (r *faultRig) check(t *testing.T, ctx context.Context) *authv3.CheckResponse {
	t.Helper()
	bearer := r.scenario.bearer
	if bearer == "" {
		bearer = "token"
	}
	out, err := r.Check(ctx, in(func(h *authv3.AttributeContext_HttpRequest) {
		h.HeaderMap = rawHeaders("authorization", "Bearer "+bearer, partialBodyHeader, "false")
		if r.scenario.routeFor != nil {
			r.scenario.routeFor(h)
		}
	}))
	if err != nil {
		t.Fatalf("Check returned an error, which leaves the request to Envoy's failure mode: %v", err)
	}
	return out
}

// faultyStore is a store with a fault at one of its calls.
type faultyStore struct {
	call   string
	happen func(context.Context) error
	rows   *memoryRows
}

// at has the fault happen at a call. handled says that it did, and that there is no row.
func (s *faultyStore) at(ctx context.Context, call string) (handled bool, err error) {
	if s.happen == nil || call != s.call {
		return false, nil
	}
	return true, s.happen(ctx)
}

func faulty[T any](ctx context.Context, s *faultyStore, call string, row func() (*T, error)) (*T, error) {
	if handled, err := s.at(ctx, call); handled {
		return nil, err
	}
	return row()
}

func (s *faultyStore) Lookup(ctx context.Context, subject mapping.Subject) (*mapping.Mapping, *keys.Key, error) {
	m, err := faulty(ctx, s, "mapping", func() (*mapping.Mapping, error) { return s.rows.mapping(subject) })
	return m, nil, err
}

func (s *faultyStore) Key(ctx context.Context, id keys.ID) (*keys.Key, error) {
	return faulty(ctx, s, "key", func() (*keys.Key, error) { return s.rows.key(id) })
}

func (s *faultyStore) Register(ctx context.Context, subject mapping.Subject, key *keys.Key, _ int) (*mapping.Mapping, *keys.Key, error) {
	m, err := faulty(ctx, s, "register", func() (*mapping.Mapping, error) { return s.rows.write(subject, key) })
	return m, nil, err
}

func (s *faultyStore) Rebind(ctx context.Context, subject mapping.Subject, _ keys.ID, key *keys.Key, _ int) (*mapping.Mapping, error) {
	return faulty(ctx, s, "rebind", func() (*mapping.Mapping, error) { return s.rows.write(subject, key) })
}

func (s *faultyStore) Touch(_ context.Context, id keys.ID, _ time.Time) error {
	s.rows.touched <- id
	return nil
}

func (s *faultyStore) Team(ctx context.Context, id teams.TeamID) (*teams.Team, error) {
	return faulty(ctx, s, "team", func() (*teams.Team, error) { return found(id == "a", &teams.Team{ID: "a"}) })
}

func (s *faultyStore) TeamAlong(ctx context.Context, id teams.TeamID) (*teams.Team, *teams.Organization, error) {
	team, err := s.Team(ctx, id)
	return team, nil, err
}

func (s *faultyStore) TeamByAlias(ctx context.Context, alias string) (*teams.Team, error) {
	return faulty(ctx, s, "team by alias", func() (*teams.Team, error) { return found(alias == "Alpha", &teams.Team{ID: "a"}) })
}

func (s *faultyStore) Organization(ctx context.Context, id teams.OrganizationID) (*teams.Organization, error) {
	return faulty(ctx, s, "organization", func() (*teams.Organization, error) {
		return found(id == "acme", &teams.Organization{ID: "acme"})
	})
}

func (s *faultyStore) OrganizationByAlias(ctx context.Context, alias string) (*teams.Organization, error) {
	return faulty(ctx, s, "organization by alias", func() (*teams.Organization, error) {
		return found(alias == "Acme", &teams.Organization{ID: "acme"})
	})
}

func (s *faultyStore) RegisterTeam(ctx context.Context, team *teams.Team, _ int) (*teams.Team, error) {
	return faulty(ctx, s, "register team", func() (*teams.Team, error) { return team, nil })
}

func (s *faultyStore) User(ctx context.Context, id teams.UserID) (*teams.User, error) {
	return faulty(ctx, s, "user", func() (*teams.User, error) { return found(id == "alice", &teams.User{ID: "alice"}) })
}

func (s *faultyStore) Member(ctx context.Context, _ teams.TeamID, _ teams.UserID) (bool, error) {
	if handled, err := s.at(ctx, "member"); handled {
		return false, cmp.Or(err, io.EOF) // false would be an answer
	}
	return true, nil
}

func found[T any](there bool, row *T) (*T, error) {
	if !there {
		return nil, teams.ErrNotFound
	}
	return row, nil
}

// memoryRows are the mappings and keys of a store.
type memoryRows struct {
	mu       sync.Mutex
	mappings map[string]*mapping.Mapping // by value
	keys     map[keys.ID]*keys.Key
	touched  chan keys.ID
}

func newMemoryRows() *memoryRows {
	return &memoryRows{
		touched: make(chan keys.ID, 10),
		mappings: map[string]*mapping.Mapping{
			"mapped": {KeyID: "mapped", Active: true},
			"moved":  {KeyID: "old", Active: true, AutoRegistered: true},
		},
		keys: map[keys.ID]*keys.Key{
			"mapped":          {ID: "mapped", TeamID: "a", Sealed: []byte{1}},
			"old":             {ID: "old", TeamID: "b", AutoRegistered: true},
			directSecret.ID(): {ID: directSecret.ID(), TeamID: "a"},
		},
	}
}

func (m *memoryRows) mapping(s mapping.Subject) (*mapping.Mapping, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	row := m.mappings[s.Value]
	return found(row != nil, row)
}

func (m *memoryRows) key(id keys.ID) (*keys.Key, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	row := m.keys[id]
	return found(row != nil, row)
}

func (m *memoryRows) write(s mapping.Subject, key *keys.Key) (*mapping.Mapping, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.keys[key.ID] = key
	m.mappings[s.Value] = &mapping.Mapping{KeyID: key.ID, Active: true, AutoRegistered: true}
	return m.mappings[s.Value], nil
}

// mapped is a caller who is allowed by a mapping.
func mapped() scenario {
	return scenario{claims: map[string]any{"sub": "alice", "team": "a", "client_id": "mapped"}}
}

func noAllowOnContext(t *testing.T) {
	r := newFaultRig(t, mapped(), nil)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	expectOutage(t, r.check(t, cancelled), "deadline_exceeded", "store_unavailable")
	for _, left := range []time.Duration{-time.Hour, -1, 0, time.Nanosecond, deadlineMargin - 1} {
		ctx, cancel := context.WithTimeout(t.Context(), left)
		expectOutage(t, r.check(t, ctx), "deadline_exceeded", "store_unavailable")
		cancel()
	}
}

// noAllowOnClock judges a good token by clocks that are far off, or have failed.
func noAllowOnClock(t *testing.T) {
	i := issuertest.New(t, localissuer.Algorithms("ES256"), localissuer.Audience("llm"))
	good := i.Mint(map[string]any{"team": "a", "client_id": "mapped"})
	for name, c := range map[string]struct {
		now    func() time.Time
		status int32
		reason string
	}{
		"ten years slow":     {func() time.Time { return time.Now().AddDate(-10, 0, 0) }, 401, "token_not_yet_valid"},
		"ten years fast":     {func() time.Time { return time.Now().AddDate(10, 0, 0) }, 401, "token_expired"},
		"at the zero time":   {func() time.Time { return time.Time{} }, 401, "token_not_yet_valid"},
		"at 1970":            {func() time.Time { return time.Unix(0, 0) }, 401, "token_not_yet_valid"},
		"at the end of time": {func() time.Time { return time.Unix(1<<62, 0) }, 401, "token_expired"},
		"a panic":            {func() time.Time { panic(faultText) }, 503, "internal_error"},
	} {
		t.Run(name, func(t *testing.T) {
			verifier, err := token.NewVerifier([]token.Issuer{{URL: token.IssuerURL(i.URL()), Audiences: []string{"llm"}}}, token.Options{Now: c.now})
			if err != nil {
				t.Fatal(err)
			}
			r := newFaultRig(t, scenario{bearer: good}, nil, func(p *Profile, config *Config) {
				p.Authorizer.Verifier, p.Authorizer.Now = verifier, c.now
				config.Timeout = time.Minute
			})
			expectDenied(t, r.check(t, t.Context()), c.status, c.reason)
		})
	}
	t.Run("only the decision's, a panic", func(t *testing.T) {
		r := newFaultRig(t, mapped(), nil, func(p *Profile, _ *Config) { p.Authorizer.Now = func() time.Time { panic(faultText) } })
		expectOutage(t, r.check(t, t.Context()), "internal_error")
	})
}

// noAllowOnKeySet judges a good token by an issuer whose keys cannot be had.
func noAllowOnKeySet(t *testing.T) {
	for name, fail := range map[string]func(*issuertest.Issuer){
		"down": func(i *issuertest.Issuer) { i.Down() },
		"slow": func(i *issuertest.Issuer) { i.Delay(time.Hour) },
		"garbage": func(i *issuertest.Issuer) {
			i.Respond(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) })
		},
		"no keys": func(i *issuertest.Issuer) {
			i.Respond(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"keys":[]}`)) })
		},
		"the connection": func(i *issuertest.Issuer) {
			i.Respond(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			i := issuertest.New(t, localissuer.Algorithms("ES256"), localissuer.Audience("llm"))
			fail(i)
			verifier, err := token.NewVerifier([]token.Issuer{{URL: token.IssuerURL(i.URL()), Audiences: []string{"llm"}}}, token.Options{})
			if err != nil {
				t.Fatal(err)
			}
			r := newFaultRig(t, scenario{bearer: i.Mint(nil)}, nil, func(p *Profile, _ *Config) { p.Authorizer.Verifier = verifier })
			expectOutage(t, r.check(t, t.Context()), "issuer_unavailable", "deadline_exceeded")
		})
	}
	for name, verify := range map[string]verifierFunc{
		"an error that nobody knows": func(context.Context, string) (token.Claims, error) { return token.Claims{}, errors.New(faultText) },
		"a panic":                    func(context.Context, string) (token.Claims, error) { panic(faultText) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newFaultRig(t, mapped(), nil, func(p *Profile, _ *Config) { p.Authorizer.Verifier = verify })
			expectOutage(t, r.check(t, t.Context()), "store_unavailable", "internal_error")
		})
	}
}

// noAllowOnRule: a rule that cannot be evaluated is not one that holds, nor is its negation.
func noAllowOnRule(t *testing.T) {
	long := make([]any, 1000)
	for n := range long {
		long[n] = "x"
	}
	for name, expression := range map[string]string{
		"a claim is missing":              "claims.missing == 'x'",
		"a claim is missing, negated":     "!(claims.missing == 'x')",
		"a claim has another type":        "claims.sub > 1",
		"a conversion fails":              "int(claims.sub) > 0",
		"a division by zero":              "1 / size(claims.none) > 0",
		"a pattern that does not compile": "'x'.matches(claims.pattern)",
		"too dear":                        "claims.long.all(x, claims.long.all(y, x == y))",
		"too dear, negated":               "!claims.long.exists(x, claims.long.exists(y, x != y))",
	} {
		t.Run(name, func(t *testing.T) {
			s := mapped()
			s.claims["none"], s.claims["pattern"], s.claims["long"] = []any{}, "(", long
			s.policy.Rules = []teams.Rule{{Name: "x", Expression: expression}}
			r := newFaultRig(t, s, nil, func(_ *Profile, c *Config) { c.Timeout = time.Minute })
			expectDenied(t, r.check(t, t.Context()), 403, "rule_failed")
		})
	}
}

func noAllowOnSecret(t *testing.T) {
	opening := func(open func([]byte, keys.ID) (keys.Secret, error)) *authv3.CheckResponse {
		r := newFaultRig(t, mapped(), nil, func(p *Profile, _ *Config) { p.Authorizer.OpenKey = open })
		return r.check(t, t.Context())
	}
	expectDenied(t, opening(func([]byte, keys.ID) (keys.Secret, error) { return "", errors.New(faultText) }), 500, "key_secret_unavailable")
	expectOutage(t, opening(func([]byte, keys.ID) (keys.Secret, error) { panic(faultText) }), "internal_error")
}

func noAllowOnObserver(t *testing.T) {
	r := newFaultRig(t, mapped(), nil, func(_ *Profile, c *Config) {
		c.Observe = func(context.Context, *Decision, time.Duration) { panic(faultText) }
	})
	expectOutage(t, r.check(t, t.Context()), "internal_error")
}
