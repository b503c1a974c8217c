package authz

import (
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/extauthz/extauthz/pkg/keys"
	"github.com/extauthz/extauthz/pkg/mapping"
	"github.com/extauthz/extauthz/pkg/teams"
	"github.com/extauthz/extauthz/pkg/token"
)

// The words of drawn worlds are few, so that requests, rows and lists meet.

func routePatterns() []string {
	return []string{
		"/v1/chat/completions", "POST /v1/chat/completions", "/v1/*", "/*", "openai_routes", "own", "/v1/{x}", "GET /v1/models",
		"/key/generate", "management_routes",
	}
}

func modelPatterns() []string { return []string{"gpt-4o", "gpt-4o*", "*-mini", "*", "o1"} }

// worldRules hold for some callers only, and for no more of them when a role or a scope is taken away.
func worldRules() []teams.Rule {
	return []teams.Rule{
		{Name: "true", Expression: "true"}, {Name: "no-o1", Expression: "request.model != 'o1'"},
		{Name: "role", Expression: "'user' in identity.roles"}, {Name: "shadowed", Expression: "false", Shadow: true},
	}
}

func drawSome[V any](t *rapid.T, label string, values []V, most int) []V {
	n := max(0, rapid.IntRange(-3, most).Draw(t, label))
	return rapid.Permutation(values).Draw(t, label)[:n]
}

// drawMost draws all of the values, or all but the last of a random order.
func drawMost[V any](t *rapid.T, label string, values ...V) []V {
	n := len(values)
	if seldom(t, label, 5) {
		n--
	}
	return rapid.Permutation(values).Draw(t, label)[:n]
}

func drawOne[V any](t *rapid.T, label string, values ...V) V {
	return rapid.SampledFrom(values).Draw(t, label)
}

// seldom is true once in n times.
func seldom(t *rapid.T, label string, n int) bool {
	faces := make([]bool, n) // rapid draws numbers with a bias, elements without
	faces[n-1] = true
	return drawOne(t, label, faces...)
}

func drawGrants(t *rapid.T, label string, names ...string) []teams.Grant {
	var grants []teams.Grant
	for _, name := range drawSome(t, label, names, len(names)) {
		grants = append(grants, teams.Grant{
			Name: name, Routes: drawSome(t, name+" routes", routePatterns(), 2), Models: drawSome(t, name+" models", modelPatterns(), 2),
		})
	}
	return grants
}

func drawBudget(t *rapid.T, label string) teams.Budget {
	if !seldom(t, label, 5) {
		return teams.Budget{}
	}
	limit := teams.Micros(10)
	return teams.Budget{Max: &limit, Spend: drawOne[teams.Micros](t, label, 0, 9, 10), ResetAt: drawOne(t, label, time.Time{}, worldNow(), worldNow().Add(time.Hour))}
}

func drawPolicy(t *rapid.T) worldPolicy {
	p := worldPolicy{
		Roles: drawGrants(t, "role", "user", "ops"), Scopes: drawGrants(t, "scope", "chat", "all"),
		DefaultTeam: drawOne[teams.TeamID](t, "default team", "", "", "c", "gone"),
		ByAlias:     rapid.Bool().Draw(t, "by alias"), RequireMember: seldom(t, "require member", 6),
		RouteGroups: map[string][]string{"own": drawSome(t, "own", []string{"/v1/chat/completions", "/v1/embeddings", "/key/*"}, 3)},
	}
	if seldom(t, "rules", 4) {
		p.Rules, p.IssuerRules, p.TeamRules = drawSome(t, "rules", worldRules(), 2), drawSome(t, "issuer's", worldRules(), 1), drawSome(t, "team's", worldRules(), 1)
	}
	if seldom(t, "admins", 4) {
		p.AdminScope, p.AdminRoutes = "admin", drawSome(t, "admin routes", []string{"management_routes", "/v1/models"}, 2)
	}
	if seldom(t, "public", 6) {
		p.PublicRoutes = drawSome(t, "public routes", routePatterns(), 2)
	}
	if seldom(t, "domains", 4) {
		p.EmailDomains = drawSome(t, "domains", []string{"corp.example", "other.example"}, 2)
	}
	return p
}

func drawClaims(t *rapid.T) map[string]any {
	claims := map[string]any{"sub": drawOne(t, "sub", "alice", "alice", "bob")}
	set := func(name string, value any, present bool) {
		if present {
			claims[name] = value
		}
	}
	list := func(words []string) []any {
		var values []any
		for _, word := range words {
			values = append(values, word)
		}
		return values
	}
	set("email", drawOne(t, "email", "alice@corp.example", "alice@corp.example", "alice@evil.example"), !seldom(t, "no email", 6))
	set("client_id", drawOne(t, "client", "c1", "c1", "c1", "c2"), !seldom(t, "no client", 6))
	set("org", drawOne(t, "org", "acme", "Acme Inc", "beta"), seldom(t, "with org", 6))
	set("roles", list(drawMost(t, "roles", "user", "ops", "x")), true)
	set("scope", list(append(drawMost(t, "scopes", "chat", "all"), drawSome(t, "admin", []string{"admin"}, 1)...)), true)
	switch drawOne(t, "team claim", "one", "one", "one", "list", "list", "list", "none") {
	case "one":
		claims["team"] = drawOne(t, "team", "a", "a", "a", "b", "A", "gone")
	case "list":
		claims["groups"] = list(drawOne(t, "groups", []string{"a", "b"}, []string{"b", "a"}, []string{"gone", "a", "b"}, []string{"B", "a", "b"}, []string{"gone", "A"}, []string{"a"}, []string{"gone"}))
	}
	return claims
}

func drawKey(t *rapid.T, secret keys.Secret, alias string) *keys.Key {
	k := &keys.Key{
		ID: secret.ID(), Alias: alias,
		TeamID: drawOne[teams.TeamID](t, "key's team", "a", "a", "b", ""), UserID: drawOne[teams.UserID](t, "key's user", "", "alice", "carol"),
		OrganizationID: drawOne[teams.OrganizationID](t, "key's org", "", "", "acme"),
		Models:         drawSome(t, "key's models", modelPatterns(), 2), AllowedRoutes: drawSome(t, "key's routes", routePatterns(), 2),
		Blocked: seldom(t, "key blocked", 8), JWTOnly: seldom(t, "jwt only", 6), Budget: drawBudget(t, "key's budget"),
		AutoRegistered: rapid.Bool().Draw(t, "registered"),
	}
	if seldom(t, "expiry", 6) {
		k.ExpiresAt = drawOne(t, "expires", worldNow(), worldNow().Add(1))
	}
	return k
}

func drawRows(t *rapid.T, w *world) {
	for _, id := range []teams.TeamID{"a", "b", "c"} {
		w.Teams = append(w.Teams, &teams.Team{
			ID: id, Alias: map[teams.TeamID]string{"a": "A", "b": "B", "c": ""}[id],
			OrganizationID: drawOne[teams.OrganizationID](t, "team's org", "", "", "acme"),
			Models:         drawSome(t, "team's models", modelPatterns(), 2), AllowedRoutes: drawSome(t, "team's routes", routePatterns(), 2),
			Blocked: seldom(t, "team blocked", 8), Budget: drawBudget(t, "team's budget"),
		})
	}
	for id, alias := range map[teams.OrganizationID]string{"acme": "Acme Inc", "beta": ""} {
		w.Organizations = append(w.Organizations, &teams.Organization{ID: id, Alias: alias})
	}
	slices.SortFunc(w.Organizations, func(a, b *teams.Organization) int { return len(a.Alias) - len(b.Alias) })
	for _, org := range w.Organizations {
		org.Blocked, org.Budget = seldom(t, "org blocked", 8), drawBudget(t, "org's budget")
	}
	for _, id := range []teams.UserID{"alice", "carol"} {
		w.Users = append(w.Users, &teams.User{ID: id, Blocked: seldom(t, "user blocked", 8), Budget: drawBudget(t, "user's budget")})
	}
	w.Members = map[teams.TeamID][]teams.UserID{"a": drawMost[teams.UserID](t, "members", "alice", "bob"), "b": drawMost[teams.UserID](t, "members", "alice", "bob")}
	w.Keys = []*keys.Key{drawKey(t, "sk-mapped", "mapped"), drawKey(t, "sk-other", "other")}
	for _, issuer := range drawMost[token.IssuerURL](t, "mappings", worldIssuer, "") {
		w.Mappings = append(w.Mappings, &mapping.Mapping{
			Issuer: issuer, Claim: "client_id", Value: "c1", KeyID: drawOne(t, "mapped to", w.Keys...).ID,
			Active: !seldom(t, "inactive", 8), AutoRegistered: rapid.Bool().Draw(t, "registered"),
		})
	}
}

// drawWorld draws a world in which the caller has good chances.
func drawWorld(t *rapid.T) *world {
	w := &world{
		Policy: drawPolicy(t), VirtualKeys: !seldom(t, "no virtual keys", 6),
		NoMatch: drawOne(t, "no match", "", mapping.Reject, mapping.AutoRegister, mapping.Fallback),
		Shadow:  seldom(t, "shadow", 12), MappingShadow: seldom(t, "mapping shadow", 6),
		Method: "POST", Path: "/v1/chat/completions", Body: drawOne(t, "body", `{"model":"gpt-4o"}`, `{"model":"gpt-4o"}`, `{"model":"gpt-4o"}`, `{"model":"gpt-4o-mini"}`, `{"model":"o1"}`, `{}`),
	}
	drawRows(t, w)
	switch {
	case seldom(t, "no credential", 12):
	case seldom(t, "direct key", 5):
		w.Key = "sk-other"
	default:
		w.Claims = drawClaims(t)
	}
	if seldom(t, "elsewhere", 6) {
		w.Method, w.Path = drawOne(t, "method", "GET", "POST", "PURGE"), drawOne(t, "path", "/v1/models", "/key/generate", "/v1/embeddings")
	}
	if w.Body == `{"model":"gpt-4o"}` {
		w.Query = drawOne(t, "query", "", "", "model=gpt-4o", "x=1&model=gpt-4o&y=%20")
	}
	if w.Claims["groups"] != nil {
		w.Team = drawOne(t, "asked for", "", "", "a", "b", "A")
	}
	return w
}
