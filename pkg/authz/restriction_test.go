package authz

import (
	"errors"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/extauthz/extauthz/pkg/keys"
	"github.com/extauthz/extauthz/pkg/mapping"
	"github.com/extauthz/extauthz/pkg/teams"
)

// TestRestrictionNeverAllowsMore takes one thing after another away from a world: what was denied before
// stays denied.
func TestRestrictionNeverAllowsMore(t *testing.T) {
	denials := 0
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		before := w.decide(t)
		for range 6 {
			restricted, r := w.clone(), rapid.SampledFrom(restrictions()).Draw(t, "restriction")
			if r.oneTeam && w.choosesTeam() {
				continue
			}
			r.take(t, restricted)
			after := restricted.decide(t)
			switch {
			case after.Allowed() && !before.Allowed():
				t.Fatalf("%s: allowed, as %s; before it was %v", r.name, after.Source, before.Err)
			case before.Allowed() && !after.Allowed():
				denials++
			}
			w, before = restricted, after
		}
	})
	if denials == 0 {
		t.Error("no restriction changed a decision: the worlds are no test")
	}
}

// restriction takes something away from a world, if it is there.
type restriction struct {
	name string
	take func(t *rapid.T, w *world)
	// oneTeam is set where the policy must not have a choice of the caller's team: one that permits the request no
	// more is passed over, and the next one may have more left.
	oneTeam bool
}

// choosesTeam reports whether the policy may choose among several teams of the token.
func (w *world) choosesTeam() bool { return w.Claims["groups"] != nil && w.Team == "" }

func restrictions() []restriction {
	return slices.Concat(listRestrictions(), policyRestrictions(), tokenRestrictions(), rowRestrictions())
}

// listRestrictions shorten the lists of routes and models, narrow a pattern, or begin a list.
func listRestrictions() []restriction {
	ofGrants := func(w *world) (routes, models []*[]string) {
		for _, grants := range [][]teams.Grant{w.Policy.Roles, w.Policy.Scopes} {
			for i := range grants {
				routes, models = append(routes, &grants[i].Routes), append(models, &grants[i].Models)
			}
		}
		return routes, models
	}
	ofKeys := func(w *world) (lists []*[]string) {
		for _, key := range w.Keys {
			lists = append(lists, &key.AllowedRoutes, &key.Models)
		}
		return lists
	}
	ofTeams := func(w *world) (lists []*[]string) {
		for _, team := range w.Teams {
			lists = append(lists, &team.AllowedRoutes, &team.Models)
		}
		return lists
	}
	edit := func(lists func(*world) []*[]string) func(*rapid.T, *world) {
		return func(t *rapid.T, w *world) { one(t, lists(w), func(list *[]string) { shortenOrNarrow(t, list) }) }
	}
	start := func(lists func(*world) []*[]string, entry string) func(*rapid.T, *world) {
		return func(t *rapid.T, w *world) { one(t, lists(w), func(list *[]string) { begin(list, entry) }) }
	}
	routes := func(w *world) []*[]string { r, _ := ofGrants(w); return r }
	models := func(w *world) []*[]string { _, m := ofGrants(w); return m }
	return []restriction{
		{name: "routes of a grant", take: edit(routes)},
		{name: "models of a grant", take: edit(models)},
		{name: "first model of a grant", take: start(models, "gpt-4o")}, // not the first route: it may name an admin route
		{name: "routes or models of a key", take: edit(ofKeys)},
		{name: "first route or model of a key", take: start(ofKeys, "/v1/embeddings")},
		{name: "routes or models of a team", take: edit(ofTeams), oneTeam: true},
		{name: "first route or model of a team", take: start(ofTeams, "/v1/embeddings"), oneTeam: true},
		{name: "routes of a group", take: func(t *rapid.T, w *world) {
			list := w.Policy.RouteGroups["own"]
			shortenOrNarrow(t, &list)
			w.Policy.RouteGroups["own"] = list
		}},
	}
}

func policyRestrictions() []restriction {
	never := teams.Rule{Name: "never", Expression: "false"}
	return []restriction{
		{name: "a role less", take: func(t *rapid.T, w *world) { shorten(t, &w.Policy.Roles) }},
		{name: "a scope less", take: func(t *rapid.T, w *world) { shorten(t, &w.Policy.Scopes) }},
		{name: "a first role", take: func(_ *rapid.T, w *world) { begin(&w.Policy.Roles, teams.Grant{Name: "user"}) }},
		{name: "a first scope", take: func(_ *rapid.T, w *world) { begin(&w.Policy.Scopes, teams.Grant{Name: "chat"}) }},
		{name: "a rule", take: func(_ *rapid.T, w *world) { w.Policy.Rules = append(w.Policy.Rules, never) }},
		{name: "an issuer's rule", take: func(_ *rapid.T, w *world) { w.Policy.IssuerRules = append(w.Policy.IssuerRules, never) }},
		{name: "a team rule", take: func(_ *rapid.T, w *world) { w.Policy.TeamRules = append(w.Policy.TeamRules, never) }},
		{name: "rules out of shadow", take: func(_ *rapid.T, w *world) {
			for _, list := range [][]teams.Rule{w.Policy.Rules, w.Policy.IssuerRules, w.Policy.TeamRules} {
				for i := range list {
					list[i].Shadow = false
				}
			}
		}},
		{name: "a first email domain", take: func(_ *rapid.T, w *world) { begin(&w.Policy.EmailDomains, "corp.example") }},
		{name: "an email domain less", take: func(t *rapid.T, w *world) { shorten(t, &w.Policy.EmailDomains) }},
		{name: "no public routes", take: func(_ *rapid.T, w *world) { w.Policy.PublicRoutes = nil }},
		{name: "more admin routes, without admins", take: func(_ *rapid.T, w *world) {
			if w.Policy.AdminScope == "" {
				w.Policy.AdminRoutes = append(w.Policy.AdminRoutes, "management_routes", "/v1/models", "/v1/chat/completions")
			}
		}},
		{name: "no default team", take: func(_ *rapid.T, w *world) { w.Policy.DefaultTeam = "" }}, // these tokens are expected to have a team
		{name: "members only", take: func(_ *rapid.T, w *world) { w.Policy.RequireMember = true }},
		{name: "no aliases", take: func(_ *rapid.T, w *world) { w.Policy.ByAlias = false }, oneTeam: true},
		{name: "no virtual keys", take: func(_ *rapid.T, w *world) { w.VirtualKeys = false }},
		{name: "no fallback, no registration", take: func(_ *rapid.T, w *world) {
			if w.NoMatch != "" {
				w.NoMatch = mapping.Reject
			}
		}},
		{name: "out of shadow", take: func(_ *rapid.T, w *world) { w.Shadow, w.MappingShadow = false, false }},
	}
}

func tokenRestrictions() []restriction {
	return []restriction{
		{name: "a role less in the token", take: func(t *rapid.T, w *world) { takeClaim(t, w, "roles", "") }},
		{name: "a scope less in the token", take: func(t *rapid.T, w *world) { takeClaim(t, w, "scope", w.Policy.AdminScope) }},
	}
}

func rowRestrictions() []restriction {
	aKey := func(change func(*keys.Key)) func(*rapid.T, *world) {
		return func(t *rapid.T, w *world) { one(t, w.Keys, change) }
	}
	budget := func(change func(*teams.Budget)) func(*rapid.T, *world) {
		return func(t *rapid.T, w *world) { one(t, w.budgets(), change) }
	}
	return []restriction{
		{name: "a mapping off", take: func(t *rapid.T, w *world) { one(t, w.Mappings, func(m *mapping.Mapping) { m.Active = false }) }},
		{name: "a team blocked", take: func(t *rapid.T, w *world) { one(t, w.Teams, func(row *teams.Team) { row.Blocked = true }) }, oneTeam: true},
		{name: "a team deleted", take: func(t *rapid.T, w *world) { shorten(t, &w.Teams) }, oneTeam: true},
		{name: "members deleted", take: func(_ *rapid.T, w *world) { delete(w.Members, "a") }},
		{name: "an organization blocked", take: func(t *rapid.T, w *world) {
			one(t, w.Organizations, func(row *teams.Organization) { row.Blocked = true })
		}},
		{name: "an organization deleted", take: func(t *rapid.T, w *world) { shorten(t, &w.Organizations) }},
		{name: "a user blocked", take: func(t *rapid.T, w *world) { one(t, w.Users, func(row *teams.User) { row.Blocked = true }) }},
		{name: "a key blocked", take: aKey(func(k *keys.Key) { k.Blocked = true })},
		{name: "a key expired", take: aKey(func(k *keys.Key) { k.ExpiresAt = worldNow() })},
		{name: "a key idle", take: aKey(func(k *keys.Key) { k.IdleExpiresAt = worldNow() })},
		{name: "a key for mapped callers only", take: aKey(func(k *keys.Key) { k.JWTOnly = true })},
		{name: "a key deleted", take: func(t *rapid.T, w *world) { shorten(t, &w.Keys) }},
		{name: "no money", take: budget(func(b *teams.Budget) { *b = teams.Budget{Max: new(teams.Micros)} })},
		{name: "more spent", take: budget(func(b *teams.Budget) { b.Spend, b.ResetAt = b.Spend+10, time.Time{} })},
	}
}

func (w *world) budgets() (budgets []*teams.Budget) {
	for _, key := range w.Keys {
		budgets = append(budgets, &key.Budget)
	}
	for _, team := range w.Teams {
		budgets = append(budgets, &team.Budget)
	}
	for _, org := range w.Organizations {
		budgets = append(budgets, &org.Budget)
	}
	for _, user := range w.Users {
		budgets = append(budgets, &user.Budget)
	}
	return budgets
}

// one changes one of the rows, if there are any.
func one[R any](t *rapid.T, rows []*R, change func(*R)) {
	if len(rows) > 0 {
		change(rows[rapid.IntRange(0, len(rows)-1).Draw(t, "row")])
	}
}

// shorten takes an entry from a list. The last one stays: an empty list restricts nothing.
func shorten[V any](t *rapid.T, list *[]V) {
	if len(*list) > 1 {
		at := rapid.IntRange(0, len(*list)-1).Draw(t, "entry")
		*list = slices.Delete(*list, at, at+1)
	}
}

// begin puts a first entry into a list that restricts nothing.
func begin[V any](list *[]V, entry V) {
	if len(*list) == 0 {
		*list = []V{entry}
	}
}

// shortenOrNarrow takes a pattern from a list, or replaces one by another that matches less.
func shortenOrNarrow(t *rapid.T, list *[]string) {
	narrower := map[string]string{
		"/*": "/v1/*", "/v1/*": "/v1/{x}", "/v1/{x}": "GET /v1/models", "/v1/chat/completions": "POST /v1/chat/completions",
		"openai_routes": "/v1/chat/completions", "management_routes": "/key/*", "/key/*": "/key/generate", "*": "gpt-4o*", "gpt-4o*": "gpt-4o",
	}
	for i, pattern := range *list {
		if narrower[pattern] != "" && rapid.Bool().Draw(t, "narrow") {
			(*list)[i] = narrower[pattern]
			return
		}
	}
	shorten(t, list)
}

// takeClaim takes an entry other than the named one from a list in the token.
func takeClaim(t *rapid.T, w *world, name, kept string) {
	list, _ := w.Claims[name].([]any)
	if len(list) == 0 {
		return
	}
	at := rapid.IntRange(0, len(list)-1).Draw(t, "entry")
	if list[at] != kept {
		w.Claims[name] = slices.Delete(list, at, at+1)
	}
}

// TestNoRestriction: what looks like a restriction and is none, each by a rule of the policy that names it.
func TestNoRestriction(t *testing.T) {
	management := func(w *world) { w.Path, w.Body = "/key/generate", "{}" }
	for why, c := range map[string]struct{ world, change func(*world) }{
		"an empty list restricts nothing": {
			func(w *world) { w.Teams[0].AllowedRoutes = []string{"/v1/embeddings"} },
			func(w *world) { w.Teams[0].AllowedRoutes = nil },
		},
		"an admin has the admin routes and no others": {
			func(w *world) { w.Policy.AdminScope, w.Claims["scope"] = "admin", "admin" },
			func(w *world) { w.Claims["scope"] = "" },
		},
		"admin routes are closed to all others": {
			func(w *world) { w.Policy.AdminRoutes = []string{"/v1/chat/completions", "/x"} },
			func(w *world) { w.Policy.AdminRoutes = []string{"/x"} },
		},
		"a grant opens the admin routes that it names": {
			func(w *world) { management(w); w.Policy.Roles = []teams.Grant{{Name: "user"}} },
			func(w *world) { w.Policy.Roles[0].Routes = []string{"/key/generate"} },
		},
		"of several teams, one that refuses is passed over": {
			func(w *world) { w.severalTeams("a", "b"); w.Teams[0].Budget.Max = new(teams.Micros) },
			func(w *world) { w.Teams[0].Blocked = true },
		},
		"the default team is for a token that names no team of ours": {
			func(w *world) {
				w.severalTeams("a", "gone")
				w.Policy.DefaultTeam, w.Teams[0].Blocked = "b", true
			},
			func(w *world) { w.severalTeams("gone") },
		},
		"without aliases, an alias names no team of ours": {
			func(w *world) {
				w.severalTeams("A")
				w.Policy.DefaultTeam, w.Policy.ByAlias, w.Teams[0].Blocked = "b", true, true
			},
			func(w *world) { w.Policy.ByAlias = false },
		},
		"a caller without a mapping may fall back": {
			func(w *world) { w.NoMatch, w.Mappings[0].Active = mapping.Fallback, false },
			func(w *world) { w.Mappings = nil },
		},
		"a user without a row passes": {
			func(w *world) { w.Users[0].Blocked = true },
			func(w *world) { w.Users = nil },
		},
		"a caller without a user passes": {
			func(w *world) { w.Users[0].Blocked = true },
			func(w *world) { delete(w.Claims, "sub") },
		},
	} {
		t.Run(why, func(t *testing.T) {
			w := plainWorld()
			if d := w.decide(t); !d.Allowed() {
				t.Fatalf("the plain world: %v", d.Err)
			}
			c.world(w)
			if d := w.decide(t); d.Allowed() {
				t.Fatalf("allowed before the change, as %s", d.Source)
			}
			c.change(w)
			if d := w.decide(t); !d.Allowed() {
				t.Fatalf("denied after the change: %v", d.Err)
			}
		})
	}
}

// A registered key serves a caller who selects another of its teams, while it could select the key's. What an
// operator mapped serves whom the operator mapped.
func TestRegisteredKeyOfAnotherTeam(t *testing.T) {
	for name, c := range map[string]struct {
		change func(w *world)
		reason Reason
	}{
		"a team of the token":             {func(*world) {}, ""},
		"a team that does not list it":    {func(w *world) { w.Policy.RequireMember = true }, "team_not_member"},
		"a team that a rule closes":       {func(w *world) { w.Policy.TeamRules = []teams.Rule{{Name: "b", Expression: "team.id == 'b'"}} }, "rule_failed"},
		"a key of another organization":   {func(w *world) { w.Keys[0].OrganizationID = "acme" }, "team_not_member"},
		"a token of another organization": {func(w *world) { w.Claims["org"] = "beta" }, "team_not_member"},
	} {
		for _, registered := range []bool{true, false} {
			w := plainWorld()
			w.severalTeams("b", "a")
			w.Keys[0].TeamID, w.Keys[0].AutoRegistered, w.Mappings[0].AutoRegistered = "a", true, registered
			w.Members = map[teams.TeamID][]teams.UserID{"b": {"alice"}}
			w.Organizations = []*teams.Organization{{ID: "acme"}, {ID: "beta"}}
			c.change(w)
			want := c.reason
			if !registered {
				want = ""
			}
			if d := w.decide(t); d.Outcome.Reason != want {
				t.Errorf("%s, registered %v: %q (%v), want %q", name, registered, d.Outcome.Reason, d.Err, want)
			}
		}
	}
}

// A key of an organization and no team serves a caller of none, or of one in that organization.
func TestKeyOfAnOrganization(t *testing.T) {
	for team, want := range map[teams.TeamID]error{"": nil, "a": teams.ErrTeamNotMember} {
		w := plainWorld()
		w.Organizations = []*teams.Organization{{ID: "acme"}}
		key := &keys.Key{ID: w.Keys[0].ID, OrganizationID: "acme"}
		d := &Decision{Member: teams.Membership{TeamID: team, UserID: "alice", OrganizationID: "beta"}}
		d.Request.Method, d.Request.Path = "POST", "/v1/chat/completions"
		decider := w.server(t, func(*Decision) {}).rules.Load().profiles[""].decider
		if err := decider.use(t.Context(), mapping.Result{Source: mapping.SourceMapping, Key: key}, d); !errors.Is(err, want) {
			t.Errorf("a caller of team %q: %v, want %v", team, err, want)
		}
	}
}

// plainWorld has one caller with a team and a key, and allows its request.
func plainWorld() *world {
	key := &keys.Key{ID: keys.Secret("sk-mapped").ID(), TeamID: "a"}
	return &world{
		NoMatch: mapping.Reject,
		Teams:   []*teams.Team{{ID: "a", Alias: "A"}, {ID: "b"}}, Users: []*teams.User{{ID: "alice"}}, Keys: []*keys.Key{key},
		Mappings: []*mapping.Mapping{{Claim: "client_id", Value: "c1", KeyID: key.ID, Active: true}},
		Claims:   map[string]any{"sub": "alice", "team": "a", "client_id": "c1", "roles": "user"},
		Method:   "POST", Path: "/v1/chat/completions", Body: `{"model":"gpt-4o"}`,
	}
}

// severalTeams makes the token list these teams, and takes the key's away.
func (w *world) severalTeams(list ...any) {
	delete(w.Claims, "team")
	w.Claims["groups"], w.Keys[0].TeamID = list, ""
}

// TestSeveralTeams: who is in several teams may do nothing that it could not do in one of them, or in none.
func TestSeveralTeams(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		several, _ := w.Claims["groups"].([]any)
		if len(several) == 0 {
			return
		}
		d := w.decide(t)
		single := w.clone()
		single.Team = ""
		for n := range len(several) + 1 {
			single.Claims["groups"] = several[:0]
			if n < len(several) {
				single.Claims["groups"] = several[n : n+1]
			}
			if !d.Allowed() || single.decide(t).Allowed() {
				return
			}
		}
		t.Fatalf("allowed as %s with %v, and with no one of them", d.Source, several)
	})
}

// TestMappingOnlyRestricts: a caller that is mapped may do nothing that its team alone could not do.
func TestMappingOnlyRestricts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		unmapped := w.clone()
		unmapped.NoMatch = ""
		if d := w.decide(t); d.Allowed() && !unmapped.decide(t).Allowed() {
			t.Fatalf("allowed as %s, and denied without a mapping", d.Source)
		}
	})
}
