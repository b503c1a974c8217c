package authz

import (
	"testing"

	"github.com/extauthz/extauthz/pkg/keys"
	"github.com/extauthz/extauthz/pkg/mapping"
	"github.com/extauthz/extauthz/pkg/teams"
)

// singleCheck is one check of the decision: a world that is allowed, and the one thing that it refuses.
type singleCheck struct {
	world  func(*world)
	source mapping.Source // of the world as it is
	spoil  func(*world)
	reason Reason // of the world spoiled
}

// TestEachCheck: of each check of the decision, that it alone stands between a request and an ALLOW.
func TestEachCheck(t *testing.T) {
	for _, checks := range []map[string]singleCheck{checksOfCredentials(), checksOfKeys(), checksOfDirectKeys(), checksOfBudgets()} {
		for name, c := range checks {
			t.Run(name, func(t *testing.T) {
				w := plainWorld()
				c.world(w)
				if d := w.decide(t); d.Source != c.source {
					t.Fatalf("source %q (%v), want %q", d.Source, d.Err, c.source)
				}
				c.spoil(w)
				if d := w.decide(t); d.Outcome.Reason != c.reason {
					t.Fatalf("reason %q (source %q, %v), want %q", d.Outcome.Reason, d.Source, d.Err, c.reason)
				}
			})
		}
	}
}

func mappedWorld(*world) {}

// directWorld has the mapped caller's key as the credential.
func directWorld(w *world) { w.Claims, w.Key, w.VirtualKeys = nil, "sk-mapped", true }

// adminWorld has a proxy admin whom no other step would let pass: it has neither a team nor a mapping.
func adminWorld(w *world) {
	w.Policy.AdminScope, w.Claims["scope"], w.Path = "admin", "admin", "/key/generate"
	delete(w.Claims, "team")
	w.Teams, w.Mappings = nil, nil
}

func publicWorld(w *world) { w.Policy.PublicRoutes = []string{"POST /v1/chat/completions"} }

func noKeys(w *world) { w.Keys = nil }

func checksOfCredentials() map[string]singleCheck {
	public := func(change func(*world)) func(*world) {
		return func(w *world) { change(w); publicWorld(w) }
	}
	return map[string]singleCheck{
		"no credential":                   {public(func(w *world) { w.Claims = nil }), SourcePublic, func(w *world) { w.Policy.PublicRoutes = nil }, "token_missing"},
		"no credential, another route":    {public(func(w *world) { w.Claims = nil }), SourcePublic, func(w *world) { w.Path = "/v1/completions" }, "token_missing"},
		"virtual keys are off":            {directWorld, SourceVirtualKey, func(w *world) { w.VirtualKeys = false }, "token_malformed"},
		"an unknown key":                  {directWorld, SourceVirtualKey, noKeys, "key_unknown"},
		"an unknown key, a public route":  {public(directWorld), SourcePublic, noKeys, "key_unknown"},
		"a key with a token's two dots":   {directWorld, SourceVirtualKey, func(w *world) { w.Key = "sk-a.b.c" }, "token_malformed"},
		"a key for mapped callers only":   {directWorld, SourceVirtualKey, func(w *world) { w.Keys[0].JWTOnly = true }, "key_unknown"},
		"admitted":                        {mappedWorld, mapping.SourceMapping, func(w *world) { w.Policy.Roles = []teams.Grant{{Name: "ops"}} }, "role_missing"},
		"placed":                          {mappedWorld, mapping.SourceMapping, func(w *world) { w.Teams[0].Blocked = true }, "team_blocked"},
		"no admin":                        {adminWorld, SourceAdmin, func(w *world) { w.Policy.AdminScope = "" }, "route_forbidden"},
		"an admin, no admin route":        {adminWorld, SourceAdmin, func(w *world) { w.Path = "/v1/chat/completions" }, "route_forbidden"},
		"a blocked admin":                 {adminWorld, SourceAdmin, func(w *world) { w.Users[0].Blocked = true }, "user_blocked"},
		"an admin's rules":                {adminWorld, SourceAdmin, func(w *world) { w.Policy.Rules = []teams.Rule{{Name: "x", Expression: "false"}} }, "rule_failed"},
		"not mapped":                      {mappedWorld, mapping.SourceMapping, func(w *world) { w.Mappings = nil }, "no_mapping"},
		"nothing to map":                  {mappedWorld, mapping.SourceMapping, func(w *world) { delete(w.Claims, "client_id") }, "claim_missing"},
		"a mapping that is off":           {mappedWorld, mapping.SourceMapping, func(w *world) { w.Mappings[0].Active = false }, "mapping_disabled"},
		"a mapping whose key is gone":     {mappedWorld, mapping.SourceMapping, noKeys, "mapping_disabled"},
		"a path that is not canonical":    {public(mappedWorld), SourcePublic, func(w *world) { w.Path = "/v1//chat/completions" }, "path_ambiguous"},
		"a team of the client's own wish": {mappedWorld, mapping.SourceMapping, func(w *world) { w.Team = "b" }, "team_not_member"},
	}
}

// checksOfKeys are of a mapped caller's key, and of the team, user and organization behind it.
func checksOfKeys() map[string]singleCheck {
	spoil := func(reason Reason, spoil func(*world)) singleCheck {
		return singleCheck{mappedWorld, mapping.SourceMapping, spoil, reason}
	}
	// ofOthers has a key of another team, user and organization than the caller's.
	ofOthers := func(reason Reason, spoil func(*world)) singleCheck {
		return singleCheck{othersKey, mapping.SourceMapping, spoil, reason}
	}
	return map[string]singleCheck{
		"a blocked key":        spoil("key_blocked", func(w *world) { w.Keys[0].Blocked = true }),
		"an expired key":       spoil("key_expired", func(w *world) { w.Keys[0].ExpiresAt = worldNow() }),
		"an idle key":          spoil("key_expired", func(w *world) { w.Keys[0].IdleExpiresAt = worldNow() }),
		"a key's routes":       spoil("route_forbidden", func(w *world) { w.Keys[0].AllowedRoutes = []string{"/v1/embeddings"} }),
		"a key's models":       spoil("model_forbidden", func(w *world) { w.Keys[0].Models = []string{"o1"} }),
		"a key's team":         ofOthers("team_blocked", func(w *world) { w.Teams[1].Blocked = true }),
		"its routes":           ofOthers("route_forbidden", func(w *world) { w.Teams[1].AllowedRoutes = []string{"/v1/embeddings"} }),
		"its models":           ofOthers("model_forbidden", func(w *world) { w.Teams[1].Models = []string{"o1"} }),
		"its organization":     ofOthers("team_not_member", func(w *world) { w.Teams[1].OrganizationID = "beta" }),
		"a key's organization": ofOthers("org_blocked", func(w *world) { w.Organizations[0].Blocked = true }),
		"a key's user":         ofOthers("user_blocked", func(w *world) { w.Users[1].Blocked = true }),
		"a key without a team, of another organization": ofOthers("team_not_member", func(w *world) {
			w.Keys[0].TeamID, w.Claims["org"] = "", "beta"
		}),
		"a registered key of a team that the token does not list": ofOthers("team_not_member", func(w *world) {
			w.Keys[0].AutoRegistered, w.Mappings[0].AutoRegistered = true, true
		}),
	}
}

// othersKey makes the caller's key one of another team, user and organization.
func othersKey(w *world) {
	w.Organizations = []*teams.Organization{{ID: "acme"}, {ID: "beta"}}
	w.Users = append(w.Users, &teams.User{ID: "carol"})
	w.Keys[0].TeamID, w.Keys[0].UserID, w.Keys[0].OrganizationID = "b", "carol", "acme"
}

func checksOfDirectKeys() map[string]singleCheck {
	spoil := func(reason Reason, spoil func(*world)) singleCheck {
		return singleCheck{func(w *world) { othersKey(w); directWorld(w) }, SourceVirtualKey, spoil, reason}
	}
	return map[string]singleCheck{
		"a direct key, an admin route":  spoil("route_forbidden", func(w *world) { w.Path = "/key/generate" }),
		"a direct key's team":           spoil("team_blocked", func(w *world) { w.Teams[1].Blocked = true }),
		"a direct key's team rules":     spoil("rule_failed", func(w *world) { w.Policy.TeamRules = []teams.Rule{{Name: "x", Expression: "team.id == 'a'"}} }),
		"a direct key's user":           spoil("user_blocked", func(w *world) { w.Users[1].Blocked = true }),
		"a direct key's organization":   spoil("org_blocked", func(w *world) { w.Organizations[0].Blocked = true }),
		"a direct key that is blocked":  spoil("key_blocked", func(w *world) { w.Keys[0].Blocked = true }),
		"a direct key that has expired": spoil("key_expired", func(w *world) { w.Keys[0].ExpiresAt = worldNow() }),
		"a direct key's routes":         spoil("route_forbidden", func(w *world) { w.Keys[0].AllowedRoutes = []string{"/v1/embeddings"} }),
		"a direct key's models":         spoil("model_forbidden", func(w *world) { w.Keys[0].Models = []string{"o1"} }),
	}
}

// checksOfBudgets spend each budget that stands behind a request, with a key and without.
func checksOfBudgets() map[string]singleCheck {
	type budgets map[string]func(*world) *teams.Budget
	ofKey := budgets{
		"the key":                func(w *world) *teams.Budget { return &w.Keys[0].Budget },
		"the key's team":         func(w *world) *teams.Budget { return &w.Teams[1].Budget },
		"the key's user":         func(w *world) *teams.Budget { return &w.Users[1].Budget },
		"the key's organization": func(w *world) *teams.Budget { return &w.Organizations[0].Budget },
	}
	ofCaller := budgets{
		"the caller's team":         func(w *world) *teams.Budget { return &w.Teams[0].Budget },
		"the caller's user":         func(w *world) *teams.Budget { return &w.Users[0].Budget },
		"the caller's organization": func(w *world) *teams.Budget { return &w.Organizations[1].Budget },
	}
	caller := func(policy mapping.NoMatch) func(*world) {
		return func(w *world) { othersKey(w); w.Claims["org"] = "beta"; w.NoMatch = policy }
	}
	checks := make(map[string]singleCheck)
	for of, kind := range map[string]struct {
		world   func(*world)
		source  mapping.Source
		budgets []budgets
	}{
		"a mapped caller": {caller(mapping.Reject), mapping.SourceMapping, []budgets{ofKey, ofCaller}},
		"a direct key":    {func(w *world) { othersKey(w); directWorld(w) }, SourceVirtualKey, []budgets{ofKey}},
		"a fallback":      {func(w *world) { caller(mapping.Fallback)(w); w.Mappings = nil }, mapping.SourceFallback, []budgets{ofCaller}},
		"a team":          {caller(""), mapping.SourceTeam, []budgets{ofCaller}},
	} {
		for _, list := range kind.budgets {
			for whose, budget := range list {
				spend := func(w *world) { *budget(w) = teams.Budget{Max: new(teams.Micros)} }
				checks[of+", nothing left to "+whose] = singleCheck{kind.world, kind.source, spend, "budget_exceeded"}
			}
		}
	}
	return checks
}

// A request is made for the team and organization of its key, and for the caller's own user.
func TestWhomARequestIsFor(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*world)
		team   teams.TeamID
		user   teams.UserID
		org    teams.OrganizationID
	}{
		"a key of others":             {func(*world) {}, "b", "alice", "acme"},
		"the caller has no user":      {func(w *world) { delete(w.Claims, "sub") }, "b", "carol", "acme"},
		"the key has no team":         {func(w *world) { w.Keys[0].TeamID, w.Claims["org"] = "", "acme" }, "a", "alice", "acme"},
		"neither team nor user":       {func(w *world) { *w.Keys[0] = keys.Key{ID: w.Keys[0].ID}; w.Claims["org"] = "beta" }, "a", "alice", "beta"},
		"a team without organization": {func(w *world) { w.Keys[0].OrganizationID, w.Claims["org"] = "", "beta" }, "b", "alice", ""},
		"a direct key":                {directWorld, "b", "carol", "acme"},
	} {
		w := plainWorld()
		othersKey(w)
		c.change(w)
		d := w.decide(t)
		m := d.Member
		if !d.Allowed() || m.TeamID != c.team || m.UserID != c.user || m.OrganizationID != c.org {
			t.Errorf("%s: for %q, %q, %q (%v), want %q, %q, %q", name, m.TeamID, m.UserID, m.OrganizationID, d.Err, c.team, c.user, c.org)
		}
		if (m.Team == nil || m.Team.ID != c.team) || (m.User == nil || m.User.ID != c.user) || (m.Organization != nil) != (c.org != "") {
			t.Errorf("%s: its rows are %v, %v, %v", name, m.Team, m.User, m.Organization)
		}
	}
	w := plainWorld()
	adminWorld(w)
	if d := w.decide(t); d.Member != (teams.Membership{UserID: "alice"}) {
		t.Errorf("an admin: for %+v", d.Member)
	}
	// Only a caller without a team may use a key of another organization that has no team.
	acme := &teams.Organization{ID: "acme"}
	m := keyMember(teams.Membership{UserID: "alice", OrganizationID: "beta"}, teams.Membership{OrganizationID: "acme", Organization: acme})
	if m.OrganizationID != "acme" || m.Organization != acme || m.UserID != "alice" {
		t.Errorf("a caller without a team: %+v", m)
	}
}
