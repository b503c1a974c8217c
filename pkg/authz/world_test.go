package authz

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/extauthz/extauthz/internal/cache/cachetest"
	"github.com/extauthz/extauthz/pkg/keys"
	"github.com/extauthz/extauthz/pkg/mapping"
	"github.com/extauthz/extauthz/pkg/teams"
	"github.com/extauthz/extauthz/pkg/token"
)

// world is everything that a decision depends on, as plain data: the policy, the rows, the caller and the
// request. Its methods are the directory and the reads of the store.
type world struct {
	Policy      worldPolicy
	VirtualKeys bool
	NoMatch     mapping.NoMatch // empty: callers are not mapped
	// Shadow, MappingShadow let denials pass: all of them, and those of the no-match policy.
	Shadow, MappingShadow bool

	Teams         []*teams.Team
	Organizations []*teams.Organization
	Users         []*teams.User
	Members       map[teams.TeamID][]teams.UserID
	Keys          []*keys.Key
	Mappings      []*mapping.Mapping

	Claims map[string]any // nil: no token
	Key    keys.Secret    // a direct virtual key, if there is no token

	Method, Path, Query, Body string
	Team                      string // asked for in the selector header
}

// worldPolicy is teams.Config without its clock.
type worldPolicy struct {
	PublicRoutes, AdminRoutes, EmailDomains []string
	AdminScope                              string
	Rules, IssuerRules, TeamRules           []teams.Rule
	Roles, Scopes                           []teams.Grant
	DefaultTeam                             teams.TeamID
	ByAlias, RequireMember                  bool
	RouteGroups                             map[string][]string
}

const worldIssuer = token.IssuerURL("https://idp")

// worldNow is the instant of every decision.
func worldNow() time.Time { return time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC) }

// clone copies a world.
func (w *world) clone() *world {
	text, err := json.Marshal(w)
	if err != nil {
		panic(err)
	}
	other := new(world)
	if err := json.Unmarshal(text, other); err != nil {
		panic(err)
	}
	other.Key = w.Key // a Secret marshals as a placeholder
	return other
}

func (p worldPolicy) config() teams.Config {
	return teams.Config{
		PublicRoutes: p.PublicRoutes, AdminScope: p.AdminScope, AdminRoutes: p.AdminRoutes, EmailDomains: p.EmailDomains,
		Rules: p.Rules, IssuerRules: map[token.IssuerURL][]teams.Rule{worldIssuer: p.IssuerRules}, TeamRules: p.TeamRules,
		Roles: p.Roles, Scopes: p.Scopes, DefaultTeam: p.DefaultTeam, ByAlias: p.ByAlias, RequireMember: p.RequireMember,
		RouteGroups: p.RouteGroups, Now: worldNow,
	}
}

func find[R any](rows []*R, is func(*R) bool) (*R, error) {
	if i := slices.IndexFunc(rows, is); i >= 0 {
		return rows[i], nil
	}
	return nil, teams.ErrNotFound
}

func (w *world) TeamRow(id teams.TeamID) (*teams.Team, error) {
	return find(w.Teams, func(t *teams.Team) bool { return t.ID == id })
}

// worldRows is a world as the store sees it.
type worldRows struct {
	mapping.Store // its writes are never called: DryRun makes them
	w             *world
}

func (r worldRows) Team(_ context.Context, id teams.TeamID) (*teams.Team, error) {
	return r.w.TeamRow(id)
}

func (r worldRows) TeamByAlias(_ context.Context, alias string) (*teams.Team, error) {
	return find(r.w.Teams, func(t *teams.Team) bool { return t.Alias == alias })
}

func (r worldRows) Organization(_ context.Context, id teams.OrganizationID) (*teams.Organization, error) {
	return find(r.w.Organizations, func(o *teams.Organization) bool { return o.ID == id })
}

func (r worldRows) OrganizationByAlias(_ context.Context, alias string) (*teams.Organization, error) {
	return find(r.w.Organizations, func(o *teams.Organization) bool { return o.Alias == alias })
}

func (r worldRows) User(_ context.Context, id teams.UserID) (*teams.User, error) {
	return find(r.w.Users, func(u *teams.User) bool { return u.ID == id })
}

func (r worldRows) Member(_ context.Context, team teams.TeamID, user teams.UserID) (bool, error) {
	return slices.Contains(r.w.Members[team], user), nil
}

func (r worldRows) Lookup(_ context.Context, s mapping.Subject) (*mapping.Mapping, *keys.Key, error) {
	for _, issuer := range []token.IssuerURL{s.Issuer, ""} {
		m, err := find(r.w.Mappings, func(m *mapping.Mapping) bool {
			return m.Issuer == issuer && m.Claim == s.Claim && m.Value == s.Value
		})
		if err == nil {
			return m, nil, nil
		}
	}
	return nil, nil, teams.ErrNotFound
}

func (r worldRows) Key(_ context.Context, id keys.ID) (*keys.Key, error) {
	return find(r.w.Keys, func(k *keys.Key) bool { return k.ID == id })
}

// Verify accepts the one token of a world.
func (w *world) Verify(_ context.Context, bearer string) (token.Claims, error) {
	if w.Claims == nil || bearer != "token" {
		return token.Claims{}, token.ErrMalformed
	}
	return token.Claims{Issuer: worldIssuer, Expiry: worldNow().Add(time.Minute), Values: w.Claims}, nil
}

// server returns the real server of a world. observed gets its decisions.
func (w *world) server(t fataler, observed func(*Decision)) *Server {
	rows := worldRows{w: w}
	policy, err := teams.NewPolicy(w.Policy.config(), rows, nil)
	if err != nil {
		t.Fatalf("policy: %v", err)
	}
	cached := mapping.NewCached(mapping.DryRun(rows), mapping.CacheOptions{
		MappingTTL: time.Hour, AbsentTTL: time.Hour, KeyTTL: time.Hour, Space: cachetest.Space(t), LoadTimeout: time.Minute,
	})
	t.Cleanup(cached.Close)
	config := mapping.Config{Rules: map[token.IssuerURL]mapping.Rule{}, Now: worldNow}
	if w.NoMatch != "" {
		config.Rules[worldIssuer] = mapping.Rule{Claim: claimPath("client_id"), NoMatch: w.NoMatch, Shadow: w.MappingShadow}
	}
	s, err := NewServer(Config{
		Profiles: map[string]Profile{"": {
			Authorizer: &Authorizer{
				Verifier: w, Policy: policy, Now: worldNow, CredentialHeaders: []string{"authorization"}, VirtualKeys: w.VirtualKeys,
				Claims: map[token.IssuerURL]teams.ClaimPaths{worldIssuer: {
					UserID: claimPath("sub"), Email: claimPath("email"), TeamID: claimPath("team"), TeamIDs: claimPath("groups"),
					OrganizationID: claimPath("org"), Roles: claimPath("roles"), Scopes: claimPath("scope"),
				}},
				Resolver: mapping.NewResolver(config, cached),
			},
			Selector: "x-team-id", Response: ResponseConfig{Headers: testNames(), RetryAfter: 2}, Shadow: w.Shadow,
		}},
		Timeout: time.Minute, Observe: func(_ context.Context, d *Decision, _ time.Duration) { observed(d) },
	})
	if err != nil {
		t.Fatalf("server: %v", err)
	}
	return s
}

// fataler is what testing.T and rapid.T have in common.
type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
	Cleanup(f func())
	Context() context.Context
}

func claimPath(text string) token.Path {
	p, err := token.ParsePath(text)
	if err != nil {
		panic(err) // a literal of these tests
	}
	return p
}

// request is the world's request as Envoy sends it, in the raw form.
func (w *world) request() *authv3.CheckRequest {
	target := w.Path
	if w.Query != "" {
		target += "?" + w.Query
	}
	headers := []string{"content-type", "application/json", partialBodyHeader, "false"}
	switch {
	case w.Claims != nil:
		headers = append(headers, "authorization", "Bearer token")
	case w.Key != "":
		headers = append(headers, "authorization", "Bearer "+string(w.Key))
	}
	if w.Team != "" {
		headers = append(headers, "x-team-id", w.Team)
	}
	return in(func(h *authv3.AttributeContext_HttpRequest) {
		h.Method, h.Path, h.RawBody, h.Size = w.Method, target, []byte(w.Body), int64(len(w.Body))
		h.HeaderMap = rawHeaders(headers...)
	})
}

// decide is the real server's decision of the world's request.
func (w *world) decide(t fataler) *Decision {
	t.Helper()
	return w.decideOf(t, w.request())
}

// decideOf decides a request and checks what holds of every decision: it has a source if and only if it
// is allowed, and a denial has a reason of the list.
func (w *world) decideOf(t fataler, request *authv3.CheckRequest) *Decision {
	t.Helper()
	var d *Decision
	out, err := w.server(t, func(observed *Decision) { d = observed }).Check(t.Context(), request)
	if err != nil || d == nil {
		t.Fatalf("no decision: %v", err)
	}
	allowed := out.GetStatus().GetCode() == 0 && out.GetOkResponse() != nil
	if allowed != d.Allowed() || allowed != (d.Source != "") || allowed != (d.Outcome.Reason == "") || allowed == (out.GetDeniedResponse() != nil) {
		t.Fatalf("source %q, reason %q, answer %v", d.Source, d.Outcome.Reason, out)
	}
	listed := slices.ContainsFunc(Outcomes(), func(o Outcome) bool { return o.Reason == d.Outcome.Reason })
	if !allowed && (!listed || d.Err == nil || d.Secret != "" || d.Outcome.Status == 503) {
		t.Fatalf("reason %q, error %v", d.Outcome.Reason, d.Err)
	}
	return d
}
