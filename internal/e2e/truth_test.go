package e2e

import (
	"net/http"
	"testing"
	"time"

	"github.com/extauthz/extauthz/internal/extauthztest/issuertest/localissuer"
)

// The truth table of the policy: what is declared, who asks for what, and what becomes of it. It reads as
// the policy's documentation, and each line runs through the real server on both stores.

// line is one line of the table: allow(…) or deny(…).
type line struct {
	why    string
	token  map[string]any // nil: none
	key    string         // a direct virtual key instead of a token
	call   call
	status int
	what   string // the source of an allow, the reason of a denial
}

func allow(why string, token map[string]any, c call, source string) line {
	return line{why: why, token: token, call: c, status: 200, what: source}
}

func deny(why string, token map[string]any, c call, status int, reason string) line {
	return line{why: why, token: token, call: c, status: status, what: reason}
}

// direct makes a line's credential a virtual key.
func (l line) direct(key string) line {
	l.key = key
	return l
}

// table is a policy and its lines.
type table struct {
	name, config, resources string
	lines                   []line
}

// claimsOf returns a token's claims: name, value, name, value, …
func claimsOf(pairs ...any) map[string]any {
	claims := map[string]any{"sub": "alice"}
	for n := 0; n < len(pairs); n += 2 {
		claims[pairs[n].(string)] = pairs[n+1]
	}
	return claims
}

func roles(names ...string) map[string]any { return map[string]any{"roles": names} }

func post(path string, body ...string) call {
	c := call{method: http.MethodPost, path: path, body: chatBody}
	if len(body) > 0 {
		c.body = body[0]
	}
	return c
}

func get(path string) call { return call{method: http.MethodGet, path: path} }

func model(name string) call { return call{body: `{"model":"` + name + `"}`} }

func (c call) with(name, value string) call {
	c.headers = append(append([][2]string(nil), c.headers...), [2]string{name, value})
	return c
}

func TestTruth(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(*testing.T) database) {
		for _, table := range tables() {
			t.Run(table.name, func(t *testing.T) {
				s := newSite(t, open(t), plan{config: table.config, resources: table.resources})
				for _, l := range table.lines {
					t.Run(l.why, func(t *testing.T) {
						s := *s
						s.t = t
						c := l.call
						c.token = l.key
						if l.token != nil {
							c.token = s.issuer.Mint(l.token)
						}
						s.outcome(s.servers[0].do(c), l.status, l.what)
					})
				}
			})
		}
	})
}

func tables() []table {
	return []table{tokens(), rolesAndScopes(), rules(), teamsAndAliases(), teamsFromTokens(), modelsAndRoutes(), budgetsAndKeys(), registrations(), directKeys()}
}

func tokens() table {
	now := time.Now()
	at := func(d time.Duration) int64 { return now.Add(d).Unix() }
	return table{name: "tokens", resources: teamA, lines: []line{
		allow("a token", claimsOf("team", "a"), call{}, "team"),
		deny("no token", nil, call{}, 401, "token_missing"),
		deny("no JWT", nil, call{}, 401, "token_malformed").direct("x"),
		deny("with two dots, no virtual key either", nil, call{}, 401, "token_malformed").direct("sk-a.b.c"),
		deny("expired", claimsOf("team", "a", "iat", at(-2*time.Hour), "exp", at(-time.Hour)), call{}, 401, "token_expired"),
		deny("without an end", claimsOf("team", "a", "exp", localissuer.Absent), call{}, 401, "token_invalid"),
		deny("for longer than a day", claimsOf("team", "a", "exp", at(25*time.Hour)), call{}, 401, "token_invalid"),
		deny("not valid yet", claimsOf("team", "a", "nbf", at(time.Hour)), call{}, 401, "token_not_yet_valid"),
		deny("from the future", claimsOf("team", "a", "iat", at(time.Hour), "exp", at(2*time.Hour)), call{}, 401, "token_not_yet_valid"),
		deny("for others", claimsOf("team", "a", "aud", "others"), call{}, 401, "audience_mismatch"),
		allow("for others too", claimsOf("team", "a", "aud", []string{"others", "llm-gateway"}), call{}, "team"),
		deny("of another issuer", claimsOf("team", "a", "iss", "https://other.example.com"), call{}, 401, "issuer_unknown"),
		deny("no team", claimsOf(), call{}, 403, "team_missing"),
		deny("an empty team", claimsOf("team", ""), call{}, 403, "team_missing"),
	}}
}

func rolesAndScopes() table {
	user, both := claimsOf("realm_access", roles("user"), "scope", "chat"), claimsOf("realm_access", roles("user", "ops"), "scope", "chat all")
	mgmt, chat := post("/team/new", "{}"), call{}
	return table{name: "roles and scopes", config: `
policy:
  public_routes: [GET /v1/models, "GET /open/*"]
  admin: {scope: admin, routes: [management_routes, /secret]}
  email_domains: []
  roles:
  - {role: user, routes: [openai_routes], models: ["gpt-4o*"]}
  - {role: ops, routes: ["POST /team/new", /v1/messages]}
  - {role: free}
  scopes:
  - {scope: chat, routes: [/v1/chat/completions, /v1/models]}
  - {scope: all}
  teams: {default_team_id: everyone}
`, resources: "teams: [{id: everyone}]\n", lines: []line{
		allow("a role and a scope that permit it", user, chat, "team"),
		deny("no role", claimsOf("scope", "chat"), chat, 403, "role_missing"),
		deny("no scope", claimsOf("realm_access", roles("user")), chat, 403, "scope_missing"),
		deny("a role nobody configured", claimsOf("realm_access", roles("guest"), "scope", "chat"), chat, 403, "role_missing"),
		deny("a role's name is case-sensitive", claimsOf("realm_access", roles("User"), "scope", "chat"), chat, 403, "role_missing"),
		deny("a role's name is not a prefix", claimsOf("realm_access", roles("use"), "scope", "chat"), chat, 403, "role_missing"),
		deny("roles in a number", claimsOf("realm_access", map[string]any{"roles": 1}, "scope", "chat"), chat, 403, "role_missing"),
		allow("a role as a single text", claimsOf("realm_access", map[string]any{"roles": "user"}, "scope", "chat"), chat, "team"),
		deny("a text is not taken apart", claimsOf("realm_access", map[string]any{"roles": "user ops"}, "scope", "chat"), chat, 403, "role_missing"),
		allow("scopes as a list", claimsOf("realm_access", roles("user"), "scope", []string{"x", "chat"}), chat, "team"),
		deny("a scope's name is not a part", claimsOf("realm_access", roles("user"), "scope", "chatty"), chat, 403, "scope_missing"),
		deny("the role's models", user, model("o1"), 403, "model_forbidden"),
		deny("the role's models, none in the body", user, post("", `{}`), 403, "model_required"),
		deny("the role's routes", user, post("/v1/messages"), 403, "route_forbidden"),
		deny("the scope's routes", user, post("/v1/embeddings"), 403, "route_forbidden"),
		allow("another scope permits it", both, post("/v1/embeddings"), "team"),
		allow("another role permits it", both, post("/v1/messages"), "team"),
		allow("a role without lists restricts nothing", claimsOf("realm_access", roles("free"), "scope", "all"), model("o1"), "team"),
		deny("but names no admin route", claimsOf("realm_access", roles("free"), "scope", "all"), mgmt, 403, "route_forbidden"),
		allow("an admin route that a role names", both, mgmt, "team"),
		deny("another admin route", both, post("/key/generate", "{}"), 403, "route_forbidden"),
		deny("an own admin route", claimsOf("realm_access", roles("free"), "scope", "all"), get("/secret"), 403, "route_forbidden"),
		allow("an admin there", claimsOf("scope", "admin"), get("/secret"), "admin"),
		allow("an admin on a management route", claimsOf("scope", "admin"), mgmt, "admin"),
		deny("an admin elsewhere", claimsOf("scope", "admin all", "realm_access", roles("free")), chat, 403, "route_forbidden"),
		allow("a public route without a token", nil, get("/v1/models"), ""),
		allow("a public route with a token", user, get("/v1/models"), ""),
		allow("below a public route", nil, get("/open/a/b"), ""),
		deny("beside a public route", nil, get("/opened/a"), 401, "token_missing"),
		deny("the public route's parent", nil, get("/open"), 401, "token_missing"),
		deny("a public route with another method", nil, post("/v1/models"), 401, "token_missing"),
		deny("a public route in another case", nil, get("/V1/models"), 401, "token_missing"),
		deny("a public route with a bad token", nil, get("/v1/models").with("Authorization", "Bearer x"), 401, "token_malformed"),
		deny("a public route with another scheme", nil, get("/v1/models").with("Authorization", "Basic x"), 401, "token_malformed"),
		deny("two credentials", nil, chat.with("Authorization", "Bearer a").with("Authorization", "Bearer b"), 401, "credentials_ambiguous"),
		deny("a list of credentials", nil, chat.with("Authorization", "Bearer a,Bearer b"), 401, "credentials_ambiguous"),
	}}
}

func rules() table {
	mfa := func(pairs ...any) map[string]any {
		return claimsOf(append([]any{"amr", []string{"pwd", "mfa"}, "email", "alice@corp.example.com", "team", "a"}, pairs...)...)
	}
	return table{name: "rules", config: `
policy:
  admin: {scope: admin}
  email_domains: [corp.example.com, Example.ORG]
  rules:
  - {name: mfa, expression: "'mfa' in claims.amr", message: "multi-factor login required"}
  - {name: no-o1-for-interns, expression: "!(identity.user_id.startsWith('intern-') && request.model.startsWith('o1'))"}
  - {name: level, expression: "!has(claims.level) || claims.level >= 2"}
  - {name: trial, expression: "false", mode: shadow}
  teams:
    rules: [{name: alias, expression: "team.alias != 'frozen'"}]
`, resources: "teams: [{id: a, alias: A}, {id: f, alias: frozen}]\n", lines: []line{
		allow("all rules hold", mfa(), call{}, "team"),
		deny("a rule is false", mfa("amr", []string{"pwd"}), call{}, 403, "rule_failed"),
		deny("a rule's claim is missing", mfa("amr", nil), call{}, 403, "rule_failed"),
		deny("a rule's claim has another type", mfa("amr", 7), call{}, 403, "rule_failed"),
		deny("a rule about the model", mfa("sub", "intern-7"), model("o1-mini"), 403, "rule_failed"),
		allow("another model", mfa("sub", "intern-7"), call{}, "team"),
		allow("a number that is enough", mfa("level", 2), call{}, "team"),
		deny("a number that is not", mfa("level", 1), call{}, 403, "rule_failed"),
		deny("a number as text", mfa("level", "3"), call{}, 403, "rule_failed"),
		allow("a fraction", mfa("level", 2.5), call{}, "team"),
		deny("a team's rule", mfa("team", "f"), call{}, 403, "rule_failed"),
		deny("an admin meets the rules", claimsOf("scope", "admin", "email", "a@corp.example.com"), post("/key/new", "{}"), 403, "rule_failed"),
		allow("an admin who meets them", mfa("scope", "admin"), post("/key/new", "{}"), "admin"),
		deny("an email of another domain", mfa("email", "alice@evil.com"), call{}, 403, "email_domain"),
		deny("of a subdomain", mfa("email", "alice@x.corp.example.com"), call{}, 403, "email_domain"),
		deny("of a domain that ends alike", mfa("email", "alice@xcorp.example.com"), call{}, 403, "email_domain"),
		deny("with two @", mfa("email", "alice@evil.com@corp.example.com"), call{}, 403, "email_domain"),
		deny("none", mfa("email", nil), call{}, 403, "email_domain"),
		deny("a list", mfa("email", []string{"alice@corp.example.com"}), call{}, 403, "email_domain"),
		allow("in another case", mfa("email", "alice@CORP.Example.com"), call{}, "team"),
		allow("of the second domain", mfa("email", "alice@example.org"), call{}, "team"),
		deny("not verified", mfa("email_verified", false), call{}, 403, "email_domain"),
		deny("not verified, as text", mfa("email_verified", "false"), call{}, 403, "email_domain"),
		allow("verified", mfa("email_verified", true), call{}, "team"),
		deny("an admin's domain", mfa("scope", "admin", "email", "a@evil.com"), post("/key/new", "{}"), 403, "email_domain"),
	}}
}

func teamsAndAliases() table {
	ask := func(team string) call { return call{}.with("X-Team-Id", team) }
	listed := func(teams ...string) map[string]any { return claimsOf("groups", teams) }
	return table{name: "teams", config: `
policy: {teams: {default_team_id: everyone, by_alias: true}}
`, resources: `
organizations: [{id: acme, alias: Acme Inc}, {id: closed, blocked: true}]
teams:
- {id: a, alias: Alpha, organization_id: acme}
- {id: mini, alias: Twin, models: ["*-mini"]}
- {id: embed, alias: Twin, allowed_routes: [/v1/embeddings]}
- {id: stopped, blocked: true}
- {id: closed, organization_id: closed}
- {id: everyone, allowed_routes: [/v1/chat/completions]}
users: [{id: mallory, blocked: true}]
`, lines: []line{
		allow("the token's team", claimsOf("team", "a"), call{}, "team"),
		allow("by its alias", claimsOf("team", "Alpha"), call{}, "team"),
		deny("an alias in another case", claimsOf("team", "ALPHA"), call{}, 403, "team_unknown"),
		deny("an alias of two teams", claimsOf("team", "Twin"), call{}, 403, "team_unknown"),
		deny("a team nobody knows", claimsOf("team", "nope"), call{}, 403, "team_unknown"),
		allow("no team: the default", claimsOf(), call{}, "team"),
		deny("the default team's routes", claimsOf(), post("/v1/embeddings"), 403, "route_forbidden"),
		deny("a team as a number", claimsOf("team", 7), call{}, 403, "identity_unusable"),
		deny("a list of teams with a number in it, none known", claimsOf("groups", []any{"x", 7}), call{}, 403, "team_unknown"),
		deny("a blocked team", claimsOf("team", "stopped"), call{}, 403, "team_blocked"),
		deny("a team of a blocked organization", claimsOf("team", "closed"), call{}, 403, "org_blocked"),
		allow("the first of the list that permits it", listed("embed", "a"), call{}, "team"),
		allow("groups that are no teams are passed over", listed("x", "y", "a"), call{}, "team"),
		allow("none of the list is a team: the default", listed("x", "y"), call{}, "team"),
		deny("one is, and does not permit it", listed("x", "embed"), call{}, 403, "route_forbidden"),
		deny("the first refusal is told", listed("mini", "stopped"), call{}, 403, "model_forbidden"),
		allow("a blocked one is passed over", listed("stopped", "a"), call{}, "team"),
		allow("asked for one of the list", listed("mini", "a"), ask("a"), "team"),
		allow("asked for it by its alias", listed("mini", "a"), ask("Alpha"), "team"),
		allow("listed by alias, asked for by id", listed("mini", "Alpha"), ask("a"), "team"),
		deny("asked for one that does not permit it", listed("mini", "a"), ask("mini"), 403, "model_forbidden"),
		deny("asked for another's", listed("mini"), ask("a"), 403, "team_not_member"),
		deny("asked for one that does not exist", listed("mini"), ask("nope"), 403, "team_not_member"),
		deny("asked for the default", listed("mini"), ask("everyone"), 403, "team_not_member"),
		deny("asked for several", listed("mini", "a"), ask("a,mini"), 400, "request_malformed"),
		allow("an organization of the token", claimsOf("team", "a", "org", "acme"), call{}, "team"),
		allow("by its alias", claimsOf("team", "a", "org", "Acme Inc"), call{}, "team"),
		deny("an unknown one", claimsOf("team", "a", "org", "nope"), call{}, 403, "org_unknown"),
		deny("a blocked one", claimsOf("team", "mini", "org", "closed"), model("gpt-4o-mini"), 403, "org_blocked"),
		deny("a team of another", claimsOf("team", "closed", "org", "acme"), call{}, 403, "team_not_member"),
		deny("a blocked user", claimsOf("team", "a", "sub", "mallory"), call{}, 403, "user_blocked"),
	}}
}

// teamsFromTokens runs in order: lines leave teams behind.
func teamsFromTokens() table {
	team := func(name string, more ...any) map[string]any {
		return claimsOf(append([]any{"team", name}, more...)...)
	}
	ask := func(name string) call { return call{}.with("X-Team-Id", name) }
	return table{name: "teams from tokens", config: `
policy:
  rules: [{name: no-guests, expression: "claims.sub != 'guest'"}]
  teams:
    by_alias: true
    rules: [{name: frozen, expression: "!team.id.startsWith('frozen')"}]
    auto_register: {max_teams: 8, template: {organization_id: acme, models: ["gpt-4o*"], allowed_routes: [openai_routes]}}
`, resources: `
organizations: [{id: acme}, {id: other}]
teams:
- {id: a, alias: Alpha}
- {id: b, alias: Twin}
- {id: c, alias: Twin}
- {id: stopped, blocked: true}
users: [{id: mallory, blocked: true}]
`, lines: []line{
		deny("a rule refuses", team("new", "sub", "guest"), call{}, 403, "rule_failed"),
		deny("a model outside the template", team("new"), model("o1"), 403, "model_forbidden"),
		deny("a route outside the template", team("new"), post("/v1/messages"), 403, "route_forbidden"),
		deny("an administrative route", team("new"), post("/team/new", "{}"), 403, "route_forbidden"),
		deny("a team rule that sees the new team", team("frozen-1"), call{}, 403, "rule_failed"),
		deny("another organization in the token", team("new", "org", "other"), call{}, 403, "team_not_member"),
		deny("a blocked user", team("new", "sub", "mallory"), call{}, 403, "user_blocked"),
		deny("a team as a number", team("new", "team", 7), call{}, 403, "identity_unusable"),
		deny("a team with a space at its end", team("new "), call{}, 403, "identity_unusable"),
		deny("a list makes none", claimsOf("groups", []string{"new"}), call{}, 403, "team_unknown"),
		deny("a list, and the client asks for one", claimsOf("groups", []string{"new"}), ask("new"), 403, "team_unknown"),
		deny("only the client asks for it", team("a"), ask("new"), 403, "team_not_member"),
		allow("an alias of one team", team("Alpha"), call{}, "team"),
		deny("an alias of several", team("Twin"), call{}, 403, "team_unknown"),
		deny("a blocked team stays blocked", team("stopped"), call{}, 403, "team_blocked"),
		allow("a new team", team("new"), call{}, "team"),
		allow("which is there now", team("new"), call{}, "team"),
		deny("with the template's models", team("new"), model("o1"), 403, "model_forbidden"),
		allow("and which a list may name", claimsOf("groups", []string{"hr", "new"}), call{}, "team"),
		allow("another, with a list beside it", team("new-2", "groups", []string{"a"}), ask("new-2"), "team"),
		allow("of the template's organization", team("new-3", "org", "acme"), call{}, "team"),
		allow("a name is bytes: another team", team("NEW"), call{}, "team"),
		deny("the store is full", team("new-4"), call{}, 403, "registration_limited"),
		deny("and stays so", team("new-4"), call{}, 403, "registration_limited"),
		allow("for new teams only", team("new-3"), call{}, "team"),
	}}
}

func modelsAndRoutes() table {
	restricted := claimsOf("team", "mini")
	form := func(path, text string) call {
		return post(path, text).with("Content-Type", "multipart/form-data; boundary=x")
	}
	field := func(name, value string) string {
		return "--x\r\nContent-Disposition: form-data; name=\"" + name + "\"\r\n\r\n" + value + "\r\n"
	}
	return table{name: "models and routes", config: "", resources: `
teams:
- {id: mini, models: ["*-mini", "gemini-2*", "whisper-1"]}
- {id: narrow, allowed_routes: ["POST /v1/chat/completions", "GET /v1/responses/{id}", "/v1/files/*", google_routes]}
`, lines: []line{
		allow("a permitted model", restricted, model("gpt-4o-mini"), "team"),
		deny("another", restricted, model("gpt-4o"), 403, "model_forbidden"),
		deny("in another case", restricted, model("GPT-4O-MINI"), 403, "model_forbidden"),
		deny("none", restricted, post("", `{"messages":[]}`), 403, "model_required"),
		deny("null", restricted, post("", `{"model":null}`), 403, "model_required"),
		deny("a list of models", restricted, post("", `{"model":["gpt-4o-mini"]}`), 403, "model_required"),
		deny("no JSON", restricted, post("", `model`), 403, "model_required"),
		deny("two models", restricted, post("", `{"model":"gpt-4o-mini","model":"gpt-4o"}`), 400, "model_ambiguous"),
		deny("one hidden behind an escape", restricted, post("", `{"model":"gpt-4o-mini","mod\u0065l":"gpt-4o"}`), 400, "model_ambiguous"),
		deny("one in another case", restricted, post("", `{"Model":"gpt-4o","model":"gpt-4o-mini"}`), 400, "model_ambiguous"),
		allow("one inside of another object", restricted, post("", `{"model":"gpt-4o-mini","metadata":{"model":"gpt-4o"}}`), "team"),
		deny("another in the query", restricted, post("/v1/chat/completions?model=gpt-4o", `{"model":"gpt-4o-mini"}`), 400, "model_ambiguous"),
		allow("the same in the query", restricted, post("/v1/chat/completions?model=gpt-4o-mini", `{"model":"gpt-4o-mini"}`), "team"),
		deny("a compressed body", restricted, model("gpt-4o-mini").with("Content-Encoding", "gzip"), 403, "model_required"),
		deny("text after the body's end", restricted, post("", `{"model":"gpt-4o-mini"}{"model":"gpt-4o"}`), 403, "model_required"),
		allow("Azure's path", restricted, post("/openai/deployments/gpt-4o-mini/chat/completions", `{}`), "team"),
		deny("Azure's path, another model", restricted, post("/openai/deployments/gpt-4o/chat/completions", `{}`), 403, "model_forbidden"),
		deny("Azure's path and the body disagree", restricted, post("/openai/deployments/gpt-4o-mini/chat/completions", `{"model":"gpt-4o"}`), 400, "model_ambiguous"),
		allow("Google's path", restricted, post("/v1beta/models/gemini-2.0-flash:generateContent", `{"contents":[]}`), "team"),
		deny("Google's path, another model", restricted, post("/v1beta/models/gemini-1.5-pro:generateContent", `{"contents":[]}`), 403, "model_forbidden"),
		allow("a form", restricted, form("/v1/images/edits", field("prompt", "x")+field("model", "gpt-image-mini")+"--x--\r\n"), "team"),
		deny("a form with another model", restricted, form("/v1/images/edits", field("model", "gpt-image")+"--x--\r\n"), 403, "model_forbidden"),
		deny("a form with two", restricted, form("/v1/images/edits", field("model", "gpt-image-mini")+field("model", "gpt-image")+"--x--\r\n"), 400, "model_ambiguous"),
		deny("a form without one", restricted, form("/v1/images/edits", field("prompt", "x")+"--x--\r\n"), 403, "model_required"),
		allow("no model on the route", restricted, get("/v1/models"), "team"),
		allow("no model for a tool server", restricted, post("/mcp", `{"method":"tools/list"}`), "team"),
		deny("a batch hides its models", restricted, post("/v1/batches", `{"input_file_id":"f"}`), 403, "model_required"),
		deny("realtime without a model", restricted, get("/v1/realtime"), 403, "model_required"),
		allow("realtime", restricted, get("/v1/realtime?model=gpt-realtime-mini"), "team"),
		deny("realtime with another", restricted, get("/v1/realtime?model=gpt-realtime"), 403, "model_forbidden"),
		allow("a route with its method", claimsOf("team", "narrow"), call{}, "team"),
		deny("with another", claimsOf("team", "narrow"), get("/v1/chat/completions"), 403, "route_forbidden"),
		allow("a segment", claimsOf("team", "narrow"), get("/v1/responses/r1"), "team"),
		deny("two segments", claimsOf("team", "narrow"), get("/v1/responses/r1/input_items"), 403, "route_forbidden"),
		allow("everything below", claimsOf("team", "narrow"), get("/v1/files/f1/content"), "team"),
		allow("a group", claimsOf("team", "narrow"), post("/v1beta/models/gemini-2.0-flash:countTokens", `{}`), "team"),
		deny("a trailing slash is another route", claimsOf("team", "narrow"), post("/v1/chat/completions/"), 403, "route_forbidden"),
		deny("a parameter in the path", claimsOf("team", "narrow"), post("/v1/chat/completions;x=1"), 400, "path_ambiguous"),
		deny("an escaped escape", claimsOf("team", "narrow"), get("/v1/files/%252e%252e/secret"), 400, "path_ambiguous"),
	}}
}

func budgetsAndKeys() table {
	client := func(name string, pairs ...any) map[string]any {
		return claimsOf(append([]any{"team", "a", "client_id", name}, pairs...)...)
	}
	past, soon := time.Now().Add(-time.Minute).UTC().Format(time.RFC3339), time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	return table{name: "keys and budgets", config: reject, resources: `
organizations: [{id: poor, max_budget: 1, spend: 1}, {id: rich, max_budget: 2, spend: 1}]
teams:
- {id: a}
- {id: b}
- {id: spent, max_budget: 10, spend: 10}
- {id: poor, organization_id: poor}
- {id: rich, organization_id: rich}
- {id: renewed, max_budget: 10, spend: 10, budget_window: 1d, budget_reset_at: ` + past + `}
users: [{id: spender, max_budget: 0}]
keys:
- {alias: plain, secret: sk-plain-0123456789, team_id: a}
- {alias: other, secret: sk-other-0123456789, team_id: b, user_id: service}
- {alias: teamless, secret: sk-teamless-0123456789}
- {alias: stopped, secret: sk-stopped-0123456789, team_id: a, blocked: true}
- {alias: over, secret: sk-over-0123456789, team_id: a, expires_at: ` + past + `}
- {alias: notyet, secret: sk-notyet-0123456789, team_id: a, expires_at: ` + soon + `}
- {alias: idle, secret: sk-idle-0123456789, team_id: a, idle_timeout: 1h, idle_expires_at: ` + past + `}
- {alias: busy, secret: sk-busy-0123456789, team_id: a, idle_timeout: 1h}
- {alias: broke, secret: sk-broke-0123456789, team_id: a, max_budget: 0.000001, spend: 0.000001}
- {alias: nearly, secret: sk-nearly-0123456789, team_id: a, max_budget: 0.000002, spend: 0.000001}
- {alias: renewed, secret: sk-renewed-0123456789, team_id: a, max_budget: 1, spend: 5, budget_window: 1h, budget_reset_at: ` + past + `}
- {alias: waiting, secret: sk-waiting-0123456789, team_id: a, max_budget: 1, spend: 5, budget_window: 1h, budget_reset_at: ` + soon + `}
- {alias: nothing, secret: sk-nothing-0123456789, team_id: a, max_budget: 0}
- {alias: of-spent, secret: sk-of-spent-0123456789, team_id: spent}
- {alias: registered, secret: sk-registered-0123456789, team_id: a, auto_registered: true, jwt_only: true}
- {alias: of-rich, secret: sk-of-rich-0123456789, team_id: a, organization_id: rich, auto_registered: true, jwt_only: true}
mappings:
- {claim: client_id, value: plain, key: plain}
- {claim: client_id, value: other, key: other}
- {claim: client_id, value: teamless, key: teamless}
- {claim: client_id, value: stopped, key: stopped}
- {claim: client_id, value: over, key: over}
- {claim: client_id, value: notyet, key: notyet}
- {claim: client_id, value: idle, key: idle}
- {claim: client_id, value: busy, key: busy}
- {claim: client_id, value: broke, key: broke}
- {claim: client_id, value: nearly, key: nearly}
- {claim: client_id, value: renewed, key: renewed}
- {claim: client_id, value: waiting, key: waiting}
- {claim: client_id, value: nothing, key: nothing}
- {claim: client_id, value: of-spent, key: of-spent}
- {claim: client_id, value: off, key: plain, active: false}
- {claim: client_id, value: registered, key: registered, auto_registered: true}
- {claim: client_id, value: of-rich, key: of-rich, auto_registered: true}
`, lines: []line{
		allow("mapped", client("plain"), call{}, "mapping"),
		deny("not mapped", client("nobody"), call{}, 403, "no_mapping"),
		deny("nothing to map", client("", "client_id", nil), call{}, 403, "claim_missing"),
		deny("switched off", client("off"), call{}, 403, "mapping_disabled"),
		allow("a key of another team: the operator's choice", client("other"), call{}, "mapping"),
		allow("a key without a team", client("teamless"), call{}, "mapping"),
		allow("a registered key", client("registered"), call{}, "mapping"),
		allow("another team of the token asked for", client("registered", "team", nil, "groups", []string{"a", "b"}), call{}.with("X-Team-Id", "b"), "mapping"),
		deny("its team left", client("registered", "team", "b"), call{}, 403, "team_not_member"),
		deny("its organization left", client("of-rich"), call{}, 403, "team_not_member"),
		deny("its organization left, by way of another team", client("of-rich", "team", nil, "groups", []string{"b", "a"}), call{}, 403, "team_not_member"),
		deny("a blocked key", client("stopped"), call{}, 403, "key_blocked"),
		deny("an expired key", client("over"), call{}, 403, "key_expired"),
		allow("one that expires later", client("notyet"), call{}, "mapping"),
		deny("one that was not used for too long", client("idle"), call{}, 403, "key_expired"),
		allow("one that was used", client("busy"), call{}, "mapping"),
		deny("a key's budget, to the millionth", client("broke"), call{}, 429, "budget_exceeded"),
		allow("a millionth is left", client("nearly"), call{}, "mapping"),
		deny("a budget of nothing", client("nothing"), call{}, 429, "budget_exceeded"),
		allow("a budget whose window has ended", client("renewed"), call{}, "mapping"),
		deny("one whose window has not", client("waiting"), call{}, 429, "budget_exceeded"),
		deny("the caller's team's budget", client("plain", "team", "spent"), call{}, 429, "budget_exceeded"),
		deny("the key's team's budget", client("of-spent"), call{}, 429, "budget_exceeded"),
		allow("a team's budget whose window has ended", client("plain", "team", "renewed"), call{}, "mapping"),
		deny("the organization's budget", client("plain", "team", "poor"), call{}, 429, "budget_exceeded"),
		allow("an organization with money", client("plain", "team", "rich"), call{}, "mapping"),
		deny("the user's budget", client("plain", "sub", "spender"), call{}, 429, "budget_exceeded"),
	}}
}

// registrations are in order: each line finds what those before it registered.
func registrations() table {
	client := func(name any, team string) map[string]any { return claimsOf("team", team, "client_id", name) }
	return table{name: "registrations", config: `
mapping: {claim: client_id, no_match: auto_register, auto_register: {max_keys_per_team: 1, template: {models: ["gpt-4o*"]}}}
policy: {teams: {default_team_id: ""}}
`, resources: teamA, lines: []line{
		deny("nothing to register", client(nil, "a"), call{}, 403, "claim_missing"),
		deny("nobody's team", claimsOf("client_id", "c1"), call{}, 403, "team_missing"),
		deny("the template's models, at once", client("c1", "a"), model("o1"), 403, "model_forbidden"),
		allow("registered all the same", client("c1", "a"), call{}, "mapping"),
		deny("one key for each team", client("c2", "a"), call{}, 403, "registration_limited"),
		allow("and one for the other", client("c2", "b"), call{}, "auto_register"),
		deny("no room in the team moved to", client("c1", "b"), call{}, 403, "registration_limited"),
		allow("back in its own", client("c1", "a"), call{}, "mapping"),
	}}
}

func directKeys() table {
	key := func(name string, c call, status int, what string) line {
		return line{why: name + " " + what, call: c, status: status, what: what}.direct("sk-" + name + "-0123456789")
	}
	return table{name: "direct keys", config: reject + `policy:
  public_routes: [GET /v1/models]
  roles: [{role: nobody}]
  rules: [{name: tokens-only, expression: "claims.sub != ''"}]
  teams: {rules: [{name: open, expression: "!has(team.alias) || team.alias != 'closed'"}]}
`, resources: `
organizations: [{id: stopped, blocked: true}]
teams:
- {id: a}
- {id: closed, alias: closed}
- {id: stopped, blocked: true}
- {id: org, organization_id: stopped}
- {id: embed, allowed_routes: [/v1/embeddings]}
users: [{id: mallory, blocked: true}]
keys:
- {alias: plain, secret: sk-plain-0123456789, team_id: a}
- {alias: bare, secret: sk-bare-0123456789}
- {alias: jwt, secret: sk-jwt-0123456789, team_id: a, jwt_only: true}
- {alias: stopped, secret: sk-stopped-0123456789, team_id: a, blocked: true}
- {alias: over, secret: sk-over-0123456789, team_id: a, expires_at: 2020-01-01T00:00:00Z}
- {alias: mini, secret: sk-mini-0123456789, team_id: a, models: ["*-mini"]}
- {alias: narrow, secret: sk-narrow-0123456789, team_id: a, allowed_routes: [/v1/embeddings]}
- {alias: broke, secret: sk-broke-0123456789, team_id: a, max_budget: 0}
- {alias: ofclosed, secret: sk-ofclosed-0123456789, team_id: closed}
- {alias: ofstopped, secret: sk-ofstopped-0123456789, team_id: stopped}
- {alias: oforg, secret: sk-oforg-0123456789, team_id: org}
- {alias: ofembed, secret: sk-ofembed-0123456789, team_id: embed}
- {alias: mallory, secret: sk-mallory-0123456789, team_id: a, user_id: mallory}
`, lines: []line{
		key("plain", call{}, 200, "virtual_key"),
		key("bare", call{}, 200, "virtual_key"),
		key("unknown", call{}, 401, "key_unknown"),
		key("jwt", call{}, 401, "key_unknown"),
		key("stopped", call{}, 403, "key_blocked"),
		key("over", call{}, 403, "key_expired"),
		key("mini", call{}, 403, "model_forbidden"),
		key("mini", model("gpt-4o-mini"), 200, "virtual_key"),
		key("narrow", call{}, 403, "route_forbidden"),
		key("broke", call{}, 429, "budget_exceeded"),
		key("ofclosed", call{}, 403, "rule_failed"),
		key("ofstopped", call{}, 403, "team_blocked"),
		key("oforg", call{}, 403, "org_blocked"),
		key("ofembed", call{}, 403, "route_forbidden"),
		key("ofembed", post("/v1/embeddings"), 200, "virtual_key"),
		key("mallory", call{}, 403, "user_blocked"),
		key("plain", post("/key/generate", "{}"), 403, "route_forbidden"),
		key("plain", get("/v1/models"), 200, ""),
		key("unknown", get("/v1/models"), 401, "key_unknown"),
	}}
}
