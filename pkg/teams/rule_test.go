package teams_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/extauthz/extauthz/internal/trace"
	"github.com/extauthz/extauthz/pkg/teams"
	"github.com/extauthz/extauthz/pkg/token"
)

func claimed(values map[string]any) *teams.Identity {
	return &teams.Identity{
		Issuer: "https://idp", UserID: "alice", Email: "alice@corp.example.com", TeamID: "a", Roles: []string{"user"},
		Claims: token.Claims{Issuer: "https://idp", Values: values},
	}
}

func TestRules(t *testing.T) {
	id := claimed(map[string]any{
		"amr": []any{"pwd", "mfa"}, "level": json.Number("3"), "score": json.Number("0.5"), "huge": json.Number("1e999"),
		"nested": map[string]any{"n": json.Number("7"), "list": []any{json.Number("1"), json.Number("2")}},
		"flag":   true, "nothing": nil, "auth_time": json.Number("1700000000"),
	})
	now := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	for expression, holds := range map[string]bool{
		"true":                                 true,
		"false":                                false,
		"'mfa' in claims.amr":                  true,
		"'otp' in claims.amr":                  false,
		"claims.level >= 3":                    true,
		"claims.level == 3":                    true,
		"claims.level > 3":                     false,
		"claims.score == 0.5":                  true,
		"claims.nested.n == 7":                 true,
		"2 in claims.nested.list":              true,
		"claims.flag == true":                  true,
		"claims.nothing == null":               true,
		"claims.missing == 'x'":                false, // an error denies
		"!(claims.missing == 'x')":             false, // and so does its negation
		"claims.missing == 'x' || true":        true,
		"has(claims.missing)":                  false,
		"!has(claims.missing)":                 true,
		"claims.huge > 1.0":                    false, // out of range
		"claims.level == '3'":                  false,
		"identity.user_id == 'alice'":          true,
		"identity.email.endsWith('@evil.com')": false,
		"'user' in identity.roles":             true,
		"request.method == 'POST' && request.path.startsWith('/v1/')":          true,
		"request.model == 'gpt-4o'":                                            true,
		"now.getHours() == 9":                                                  true,
		"now - timestamp(claims.auth_time) > duration('1h')":                   true,
		"sets.contains(claims.amr, ['mfa', 'pwd'])":                            true,
		"identity.email.lowerAscii().split('@')[1] in ['corp.example.com']":    true,
		"claims.amr.exists(a, a == 'mfa')":                                     true,
		"claims.amr.all(a, a.size() > 3)":                                      false,
		"identity.user_id.matches('^(a+)+$')":                                  false, // RE2: no backtracking
		"[1,2,3,4,5,6,7,8,9].map(a, [1,2,3,4,5,6,7,8,9].map(b, a*b)).size()>0": true,
	} {
		policy, err := teams.NewPolicy(teams.Config{
			Rules: []teams.Rule{{Name: "r", Expression: expression}}, Now: func() time.Time { return now },
		}, nil, nil)
		if err != nil {
			t.Errorf("%s: %v", expression, err)
			continue
		}
		err = policy.Admit(t.Context(), id, chat("gpt-4o"))
		if holds != (err == nil) || err != nil && !errors.Is(err, teams.ErrRuleFailed) {
			t.Errorf("%s: %v, want it to hold: %v", expression, err, holds)
		}
	}
}

func TestRulesOfIssuersAndTeams(t *testing.T) {
	config := teams.Config{
		Rules:       []teams.Rule{{Name: "common", Expression: "claims.a == 1"}},
		IssuerRules: map[token.IssuerURL][]teams.Rule{"https://idp": {{Name: "own", Expression: "claims.b == 1", Message: "no b"}}},
		TeamRules:   []teams.Rule{{Name: "team", Expression: "team.id == 'a' && team.org_id == 'acme'"}},
		AdminScope:  "admin",
	}
	policy := newPolicy(t, config, rows())
	number := func(n string) any { return json.Number(n) }
	for name, c := range map[string]struct {
		values map[string]any
		rule   string
	}{
		"all hold":    {map[string]any{"a": number("1"), "b": number("1")}, ""},
		"common only": {map[string]any{"a": number("1"), "b": number("2")}, "own"},
		"own only":    {map[string]any{"a": number("2"), "b": number("1")}, "common"},
	} {
		var failed *teams.RuleError
		err := policy.Admit(t.Context(), claimed(c.values), chat("x"))
		if errors.As(err, &failed); (c.rule == "") != (err == nil) || failed != nil && failed.Rule != c.rule {
			t.Errorf("%s: %v, want rule %q", name, err, c.rule)
		}
	}
	other := claimed(map[string]any{"a": number("1")})
	other.Issuer = "https://other"
	if err := policy.Admit(t.Context(), other, chat("x")); err != nil {
		t.Errorf("another issuer met the rules of the first: %v", err)
	}
	admin := claimed(nil)
	admin.Scopes = []string{"admin"}
	if err := policy.Admit(t.Context(), admin, teams.Request{Method: "GET", Path: "/key/info"}); !errors.Is(err, teams.ErrRuleFailed) {
		t.Errorf("an admin passed the rules: %v", err)
	}
	if _, err := policy.Place(t.Context(), &teams.Identity{TeamID: "a"}, chat("x")); err != nil {
		t.Errorf("team a: %v", err)
	}
	if _, err := policy.Place(t.Context(), &teams.Identity{TeamID: "default"}, chat("x")); !errors.Is(err, teams.ErrRuleFailed) {
		t.Errorf("team default: %v", err)
	}
	if _, err := policy.PlaceDirect(t.Context(), "default", "", "", chat("x")); !errors.Is(err, teams.ErrRuleFailed) {
		t.Errorf("a direct key of team default: %v", err)
	}
}

func TestShadowRule(t *testing.T) {
	record := &trace.Record{}
	policy := newPolicy(t, teams.Config{Rules: []teams.Rule{
		{Name: "shadow", Expression: "false", Shadow: true}, {Name: "enforced", Expression: "true"},
	}}, nil)
	if err := policy.Admit(trace.With(t.Context(), record), claimed(nil), chat("x")); err != nil {
		t.Fatal(err)
	}
	if len(record.Shadowed) != 1 || !errors.Is(record.Shadowed[0], teams.ErrRuleFailed) {
		t.Fatalf("recorded %v", record.Shadowed)
	}
}

// A rule over a claim of the client's choosing must not take a CPU with it.
func TestRuleCostIsBounded(t *testing.T) {
	var list []any
	for range 2000 {
		list = append(list, "x")
	}
	policy := newPolicy(t, teams.Config{Rules: []teams.Rule{
		{Name: "bomb", Expression: "claims.l.all(a, claims.l.all(b, claims.l.all(c, a == c)))"},
	}}, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := policy.Admit(ctx, claimed(map[string]any{"l": list}), chat("x")); !errors.Is(err, teams.ErrRuleFailed) || ctx.Err() != nil {
		t.Fatalf("got %v (context: %v), want a bounded failure", err, ctx.Err())
	}
}

func TestBadExpressions(t *testing.T) {
	for _, expression := range []string{
		"", "claims.", "claim.x == 1", "'text'", "1", "claims.x", "team.id == 'a'", "unknown(1)", "claims.amr.map(a, a)", "true" + strings.Repeat(" ", 5000),
	} {
		err := teams.CheckExpression(expression, false)
		if err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%.20q: %v", expression, err)
		}
	}
	if err := teams.CheckExpression("team.id == 'a'", true); err != nil {
		t.Error(err)
	}
}

// TestAliases: names of teams and organizations, where aliases count and where they do not.
func TestAliases(t *testing.T) {
	d := aliased{rows()}
	d.teams["a"].Alias, d.teams["b"].Alias, d.teams["default"].Alias = "A", "chat", "Gone"
	for name, c := range map[string]struct {
		byAlias bool
		id      teams.Identity
		asked   teams.TeamID
		team    teams.TeamID
		err     error
	}{
		"alias, not counted":            {false, teams.Identity{TeamID: "A"}, "", "", teams.ErrTeamUnknown},
		"alias":                         {true, teams.Identity{TeamID: "A"}, "", "a", nil},
		"id comes first":                {true, teams.Identity{TeamID: "b"}, "", "b", nil},
		"asked by alias, listed by id":  {true, teams.Identity{TeamIDs: []teams.TeamID{"b", "a"}}, "A", "a", nil},
		"asked by id, listed by alias":  {true, teams.Identity{TeamIDs: []teams.TeamID{"A"}}, "a", "a", nil},
		"asked for another's":           {true, teams.Identity{TeamIDs: []teams.TeamID{"b"}}, "A", "", teams.ErrTeamNotMember},
		"asked for an unknown one":      {true, teams.Identity{TeamIDs: []teams.TeamID{"b"}}, "Z", "", teams.ErrTeamNotMember},
		"asked by alias, not counted":   {false, teams.Identity{TeamIDs: []teams.TeamID{"a"}}, "A", "", teams.ErrTeamNotMember},
		"an alias that is another's id": {true, teams.Identity{TeamIDs: []teams.TeamID{"chat"}}, "b", "", teams.ErrTeamNotMember},
		"organization, not counted":     {false, teams.Identity{OrganizationID: "ACME"}, "", "", teams.ErrOrganizationUnknown},
		"an alias of two organizations": {true, teams.Identity{OrganizationID: "Twin"}, "", "", teams.ErrAmbiguous},
		"an alias no longer there":      {true, teams.Identity{TeamIDs: []teams.TeamID{"Gone"}}, "default", "", teams.ErrTeamNotMember},
		"organization by alias":         {true, teams.Identity{OrganizationID: "ACME"}, "", "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := chat("gpt-4o")
			r.Team = c.asked
			m, err := newPolicy(t, teams.Config{ByAlias: c.byAlias}, d).Place(t.Context(), &c.id, r)
			if !errors.Is(err, c.err) || (err == nil) != (c.err == nil) || m.TeamID != c.team {
				t.Fatalf("team %q, %v; want %q, %v", m.TeamID, err, c.team, c.err)
			}
			if err == nil && c.id.OrganizationID != "" && m.OrganizationID != "acme" {
				t.Fatalf("organization %q", m.OrganizationID)
			}
		})
	}
}

// aliased gives team a the alias A and organization acme the alias ACME.
type aliased struct{ directory }

func (d aliased) TeamByAlias(_ context.Context, alias string) (*teams.Team, error) {
	if alias == "A" {
		return &teams.Team{ID: "a", Alias: "A", OrganizationID: "acme"}, nil
	}
	return nil, teams.ErrNotFound
}

func (d aliased) OrganizationByAlias(_ context.Context, alias string) (*teams.Organization, error) {
	if alias == "ACME" {
		return &teams.Organization{ID: "acme", Alias: "ACME"}, nil
	}
	if alias == "Twin" {
		return nil, teams.ErrAmbiguous
	}
	return nil, teams.ErrNotFound
}

// Member says yes of nobody and of no team: about them it must not be asked.
func (d aliased) Member(_ context.Context, team teams.TeamID, user teams.UserID) (bool, error) {
	return team == "" || user == "" || team == "a" && user == "alice", d.err
}

func TestRequireMember(t *testing.T) {
	policy := newPolicy(t, teams.Config{RequireMember: true}, aliased{rows()})
	for name, c := range map[string]struct {
		id  teams.Identity
		err error
	}{
		"listed":       {teams.Identity{TeamID: "a", UserID: "alice"}, nil},
		"not listed":   {teams.Identity{TeamID: "a", UserID: "bob"}, teams.ErrTeamNotMember},
		"another team": {teams.Identity{TeamID: "default", UserID: "alice"}, teams.ErrTeamNotMember},
		"no user":      {teams.Identity{TeamID: "a"}, teams.ErrTeamNotMember},
		"no team":      {teams.Identity{UserID: "alice"}, teams.ErrTeamNotMember},
	} {
		_, err := policy.Place(t.Context(), &c.id, chat("gpt-4o"))
		if !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
			t.Errorf("%s: %v, want %v", name, err, c.err)
		}
	}
}

// CEL quotes what it could not convert, find or compile. That is a claim's value, and the error goes into the log.
func TestRuleErrorQuotesNoClaim(t *testing.T) {
	for _, expression := range []string{
		"int(claims.x) > 0", "timestamp(claims.x) > now", "{'a': true}[claims.x]", "'x'.matches(claims.x)", "dyn(claims)[claims.x] == 1",
	} {
		policy := newPolicy(t, teams.Config{Rules: []teams.Rule{{Name: "r", Expression: expression}}}, nil)
		err := policy.Admit(t.Context(), claimed(map[string]any{"x": "(secret"}), chat("gpt-4o"))
		var failed *teams.RuleError
		if !errors.As(err, &failed) || failed.Cause == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", expression, err)
		}
	}
}

func TestStaticTeams(t *testing.T) {
	static, err := teams.NewStatic([]*teams.Team{{ID: "a", Alias: "A", Models: []string{"gpt-4o"}}, {ID: "b", Alias: "X"}, {ID: "c", Alias: "X", Blocked: true}, {ID: "d"}})
	if err != nil {
		t.Fatal(err)
	}
	policy := newPolicy(t, teams.Config{ByAlias: true}, static)
	for id, want := range map[teams.TeamID]error{
		"a": teams.ErrModelForbidden, "A": teams.ErrModelForbidden, "b": nil, "c": teams.ErrTeamBlocked, "X": teams.ErrTeamUnknown, "z": teams.ErrTeamUnknown,
	} {
		if _, err := policy.Place(t.Context(), &teams.Identity{TeamID: id}, chat("o1")); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", id, err, want)
		}
	}
	for _, bad := range [][]*teams.Team{{{ID: ""}}, {{ID: "a"}, {ID: "a"}}} {
		if _, err := teams.NewStatic(bad); err == nil {
			t.Errorf("%v is accepted", bad)
		}
	}
}
