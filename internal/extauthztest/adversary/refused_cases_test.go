package adversary

import (
	"strings"
)

// Refusal is a file or a statement that must be refused: a configuration that would leave a door open, or a row that
// would mean two things.
type Refusal struct {
	Name  string
	Basis string
	Text  string
	Says  string // what the error must hold, besides the place
}

const (
	openDoor = "SECURITY 1: bad security configuration stops the start"
	peers    = "SECURITY 5: operator mistakes"
)

// mistakes are configurations with which the server must not start.
func mistakes() []Refusal {
	const (
		issuer = "issuers:\n- issuer: https://idp.example.com\n  audiences: [llm-gateway]\n  claims: {user_id: sub, team_id: team}\n"
		mapped = issuer + "mapping: {claim: sub, no_match: reject}\n"
	)
	change := func(old, with string) string { return strings.Replace(issuer, old, with, 1) }
	return []Refusal{
		{"nothing", openDoor, "", "issuers"},
		{"no issuer", openDoor, "issuers: []\n", "issuers"},
		{"no audiences", "RFC 8725 3.9; Pomerium refuses them too", change("  audiences: [llm-gateway]\n", ""), "audiences"},
		{"empty audiences", "RFC 8725 3.9", change("[llm-gateway]", "[]"), "audiences"},
		{"an empty audience", "RFC 8725 3.9", change("[llm-gateway]", `[""]`), "audiences"},
		{"an issuer over http", "whoever is on the way can sign tokens", change("https://", "http://"), "http, but not on a loopback host"},
		{"an issuer with a password", "secrets in errors and logs", change("https://", "https://user:hunter2@"), "has a user in it"},
		{"an issuer with a fragment", "OpenID Connect Discovery 2", change("example.com", "example.com/#x"), "has a fragment"},
		{"an issuer with a query", "OpenID Connect Discovery 2", change("example.com", "example.com/?x"), "has a query"},
		{"an issuer that is no URL", openDoor, change("https://idp.example.com", "idp"), "is not a URL"},
		{"an issuer twice", "which of two counts is anyone's guess", issuer + strings.TrimPrefix(issuer, "issuers:\n"), "is already the issuer"},
		{"a key set over http", "whoever is on the way can sign tokens", change("  audiences", "  jwks_url: http://idp.example.com/keys\n  audiences"), "http, but not on a loopback host"},
		{"a key set from a file", "CVE-2026-41413: jwksUri", change("  audiences", "  jwks_url: file:///etc/keys\n  audiences"), "is not a URL"},
		{"the algorithm HS256", "CVE-2016-10555", change("  audiences", "  algorithms: [HS256]\n  audiences"), "whoever can check its signatures can also forge them"},
		{"the algorithm none", "CVE-2015-9235", change("  audiences", "  algorithms: [none]\n  audiences"), "anybody can write a token"},
		{"an unknown algorithm", "RFC 8725 3.1", change("  audiences", "  algorithms: [RS1]\n  audiences"), "algorithms"},
		{"no algorithms", "RFC 8725 3.1; Pomerium TestNew_EmptyAlgs", change("  audiences", "  algorithms: []\n  audiences"), "algorithms"},
		{"no types", "RFC 8725 3.11", change("  audiences", "  types: []\n  audiences"), "types"},
		{"a leeway of ten minutes", "a revoked caller lives on", change("  audiences", "  leeway: 10m\n  audiences"), "leeway"},
		{"a negative leeway", peers, change("  audiences", "  leeway: -1s\n  audiences"), "leeway"},
		{"a lifetime of zero", peers, change("  audiences", "  max_lifetime: 0s\n  audiences"), "max_lifetime"},
		{"keys that age before they are fetched again", "IdP outages", change("  audiences", "  jwks_refresh: 1h\n  jwks_max_age: 1m\n  audiences"), "jwks_max_age"},
		{"a CA file that is not there", openDoor, change("  audiences", "  ca_file: /nonexistent/ca.pem\n  audiences"), "ca_file"},
		{"a claim path with an empty name", "a claim path has one meaning", change("user_id: sub", "user_id: a..b"), "claims.user_id"},

		{"a mapping without a no-match policy", "SPEC 2: it has no default", issuer + "mapping: {claim: sub}\n", "must be chosen"},
		{"a no-match policy that does not exist", peers, issuer + "mapping: {claim: sub, no_match: allow}\n", "no_match"},
		{"a no-match policy without a claim", peers, issuer + "mapping: {no_match: reject}\n", "no claim is"},
		{"a fallback for callers without a team", "SECURITY 1: fallback team missing", change("team_id: team", "email: email") + "mapping: {claim: sub, no_match: fallback_team_mapping}\n", "can have none"},
		{"a profile with a fallback for callers without a team", "SECURITY 1: fallback team missing", change("team_id: team", "email: email") + "mapping: {claim: sub, no_match: reject}\nprofiles: [{name: x, mapping: {no_match: fallback_team_mapping}}]\n", "can have none"},
		{"a profile without a no-match policy", peers, issuer + "profiles: [{name: x, mapping: {claim: sub}}]\n", "must be chosen"},
		{"two profiles of one name", peers, mapped + "profiles: [{name: x}, {name: x}]\n", "is the name of another profile"},
		{"a template without registration", peers, mapped[:len(mapped)-2] + ", auto_register: {max_per_minute: 1}}\n", "no issuer registers"},
		{"a template's budget that is no number", "NaN compares false with everything", issuer + "mapping: {claim: sub, no_match: auto_register, auto_register: {template: {max_budget: NaN}}}\n", "max_budget"},
		{"a template's budget that is infinite", "budgets are exact decimals", issuer + "mapping: {claim: sub, no_match: auto_register, auto_register: {template: {max_budget: .inf}}}\n", "max_budget"},
		{"a template's negative limit", peers, issuer + "mapping: {claim: sub, no_match: auto_register, auto_register: {template: {rpm_limit: -1}}}\n", "rpm_limit"},

		{"a misspelled key", "a typo must not turn a rule off", mapped + "polcy: {}\n", "unknown key"},
		{"a misspelled key of a rule", "a typo must not turn a rule off", mapped + "policy: {email_domain: [corp.example.com]}\n", "unknown key"},
		{"a key twice", "which of two counts differs by reader", mapped + "mapping: {claim: sub, no_match: reject}\n", "is stated twice"},
		{"a variable that is not set", "an empty value must not stand for it", mapped + "server: {address: '${NOT_SET_ANYWHERE}'}\n", "NOT_SET_ANYWHERE"},
		{"a second document", "which of two counts differs by reader", mapped + "---\nmode: shadow\n", "document"},
		{"a mode that does not exist", peers, mapped + "mode: off\n", "mode"},
		{"an outage answer that does not exist", peers, mapped + "outage_response: allow\n", "outage_response"},

		{"a public route that ends in a star", "SECURITY 6: /public never matches /publicx", mapped + "policy: {public_routes: [\"/public*\"]}\n", "public_routes"},
		{"a public route with a star inside", "SECURITY 6: whole segments", mapped + "policy: {public_routes: [\"/*/models\"]}\n", "public_routes"},
		{"a public route with dots", "no canonical path matches it", mapped + "policy: {public_routes: [/public/../v1]}\n", "public_routes"},
		{"a public route with an escape", "no canonical path matches it", mapped + "policy: {public_routes: [\"/v1%2fmodels\"]}\n", "public_routes"},
		{"a public route as a regular expression", "CVE-2026-39350: dots in regular expressions", mapped + "policy: {public_routes: ['^/v1/.*$']}\n", "public_routes"},
		{"a group of routes that does not exist", peers, mapped + "policy: {public_routes: [openai]}\n", "public_routes"},
		{"no admin routes", "an empty list would mean the default", mapped + "policy: {admin: {routes: []}}\n", "admin.routes"},
		{"roles that no issuer reads", "a rule that nobody can meet, or that was meant for somebody", mapped + "policy: {roles: [{role: user}]}\n", "no issuer reads the claim"},
		{"an admin scope that no issuer reads", "a rule that nobody can meet", mapped + "policy: {admin: {scope: admin}}\n", "no issuer reads the claim"},
		{"email domains that no issuer reads", "a rule that nobody can meet", mapped + "policy: {email_domains: [corp.example.com]}\n", "no issuer reads the claim"},
		{"an email domain with a wildcard", "email_domains are exact", change("user_id: sub", "email: email") + "policy: {email_domains: [\"*.example.com\"]}\n", "email_domains"},
		{"an email domain with an @", "email_domains are exact", change("user_id: sub", "email: email") + "policy: {email_domains: [\"@example.com\"]}\n", "email_domains"},
		{"a rule that does not compile", "a rule must not fail on requests", mapped + "policy: {rules: [{name: x, expression: \"claims.\"}]}\n", "does not compile"},
		{"a rule that is no condition", "a text is not true", mapped + "policy: {rules: [{name: x, expression: \"'true'\"}]}\n", "does not compile"},
		{"a rule over a variable that does not exist", "a rule must not fail on requests", mapped + "policy: {rules: [{name: x, expression: \"token.sub == 'x'\"}]}\n", "does not compile"},
		{"a rule of 5,000 bytes", "CVE-2025-25207: cost limits", mapped + "policy: {rules: [{name: x, expression: \"" + strings.Repeat("true && ", 640) + "true\"}]}\n", "is longer than 4096 bytes"},

		{"two identity headers of one name", "R7: own the header names", mapped + "headers: {team_id: x-user, user_id: x-user}\n", "is the same header"},
		{"an identity header that is the credential", "R7: own the header names", mapped + "headers: {team_id: authorization}\n", "headers.team_id"},
		{"an identity header in upper case", "HTTP/2 has lower case alone", mapped + "headers: {team_id: X-Team}\n", "headers.team_id"},
		{"an identity header with an underscore", "CVE-2026-54762", mapped + "headers: {team_id: x_team}\n", "headers.team_id"},
		{"a credential header that is an identity header", "R7: own the header names", mapped + "credentials: {headers: [x-extauthz-user-id]}\n", "is the same header"},
		{"a selector that is an identity header", "R7: own the header names", mapped + "policy: {teams: {selector_header: x-extauthz-team-id}}\n", "is the same header"},
		{"a profile's selector that is an identity header", "R7: own the header names", mapped + "profiles: [{name: x, policy: {teams: {selector_header: x-extauthz-team-id}}}]\n", "is the same header"},
		{"a profile's model header that is an identity header", "R7: own the header names", mapped + "profiles: [{name: x, policy: {model_headers: [x-extauthz-source]}}]\n", "is the same header"},
		{"a key header that is an identity header", "R7: own the header names", mapped + "key_header: {name: x-extauthz-key-id}\n", "is the same header"},
		{"virtual keys for the upstream that nobody can open", peers, mapped + "upstream_credential: virtual_key\n", "keys are not sealed"},
		{"a keyset that is not there", openDoor, mapped + "sealing: {keyset_file: /nonexistent/keyset.json}\n", "keyset"},

		{"a store of an unknown kind", peers, mapped + "store: {url: 'mysql://user:hunter2@host/db'}\n", "store.url"},
		{"a store's URL twice", "which of two counts is anyone's guess", mapped + "store: {url: none, url_file: x}\n", "store.url_file"},
		{"a store that may take longer than the check", "503 within the deadline", mapped + "store: {timeout: 10s}\n", "store.timeout"},
		{"teams in the file beside a store", "which of two counts is anyone's guess", mapped + "policy: {teams: {static: [{id: a}]}}\n", "static"},
		{"telemetry on the port of the checks", "SECURITY 5: transport", mapped + "server: {address: '127.0.0.1:9001'}\ntelemetry: {address: '127.0.0.1:9001'}\n", "telemetry"},
		{"a message bound of 4 GiB", "R10: bounds everywhere", mapped + "server: {max_message_bytes: 4294967295}\n", "max_message_bytes"},
		{"a check that may take an hour", "R10: bounds everywhere", mapped + "server: {check_timeout: 1h}\n", "check_timeout"},
		{"a cache that keeps rows for ever", "revocation latency", mapped + "cache: {ttl: 8760h}\n", "cache.ttl"},
		{"a mapping that is kept for ever", "revocation latency", mapped[:len(mapped)-2] + ", cache_ttl: 8760h}\n", "cache_ttl"},
	}
}

const (
	exactMoney = "SECURITY 5: budgets are exact; NaN and infinity compare false with everything"
	oneRow     = "SECURITY 5: a row has one meaning"
	plainText  = "PostgreSQL refuses NUL (22021), SQLite stores it: neither gets it"
)

// refusedRows are resources that must be refused, with their place in the file.
func refusedRows() []Refusal {
	const key = "keys: [{alias: k, hash: 00000000000000000000000000000000000000000000000000000000000000ff"
	with := func(field string) string { return key + ", " + field + "}]\n" }
	mapping := func(field string) string {
		return key + "}]\nmappings: [{claim: client_id, key: k, " + field + "}]\n"
	}
	return []Refusal{
		{"a budget that is no number", exactMoney, with("max_budget: NaN"), "max_budget"},
		{"a budget that is YAML's no number", exactMoney, with("max_budget: .nan"), "max_budget"},
		{"an infinite budget", exactMoney, with("max_budget: .inf"), "max_budget"},
		{"a negative budget", exactMoney, with("max_budget: -1"), "max_budget"},
		{"a budget of minus zero", exactMoney, with("max_budget: -0"), "max_budget"},
		{"a budget with an exponent", exactMoney, with("max_budget: 1e300"), "max_budget"},
		{"a budget with seven decimals", exactMoney, with("max_budget: 0.0000001"), "max_budget"},
		{"a budget that overflows", exactMoney, with("max_budget: 9223372036854775807"), "max_budget"},
		{"a budget in hexadecimal", exactMoney, with("max_budget: 0x10"), "max_budget"},
		{"a budget with separators", exactMoney, with("max_budget: 1_000"), "max_budget"},
		{"a budget in full-width digits", exactMoney, with("max_budget: １０"), "max_budget"},
		{"an empty budget", exactMoney, with(`max_budget: ""`), "max_budget"},
		{"a negative spend", exactMoney, with("max_budget: 1, spend: -1"), "spend"},
		{"a spend that is no number", exactMoney, with("max_budget: 1, spend: NaN"), "spend"},
		{"a spend that overflows", exactMoney, with("max_budget: 1, spend: 99999999999999999999"), "spend"},
		{"a team's budget that is no number", exactMoney, "teams: [{id: a, max_budget: NaN}]\n", "max_budget"},
		{"an organization's negative budget", exactMoney, "organizations: [{id: a, max_budget: -0.5}]\n", "max_budget"},
		{"a user's infinite budget", exactMoney, "users: [{id: a, max_budget: Infinity}]\n", "max_budget"},
		{"a window of zero", "a budget that is always new", with("budget_window: 0d"), "budget_window"},
		{"a window of an unknown unit", exactMoney, with("budget_window: 1y"), "budget_window"},
		{"a negative limit", "0 is a real limit, and absence is none", with("rpm_limit: -1"), "rpm_limit"},
		{"a limit with a fraction", "0 is a real limit, and absence is none", with("rpm_limit: 0.5"), "rpm_limit"},
		{"an expiry that is no date", "a key that never expires by mistake", with("expires_at: never"), "expires_at"},
		{"an expiry without a zone", "an hour more or less", with("expires_at: 2030-01-01T00:00:00"), "expires_at"},

		{"a key without text and hash", oneRow, "keys: [{alias: k}]\n", "keys[0]"},
		{"a key with text and hash", oneRow, with("secret: sk-x"), "keys[0]"},
		{"a hash in upper case", "a key is found by its lower-case hash", "keys: [{alias: k, hash: 00000000000000000000000000000000000000000000000000000000000000FF}]\n", "hash"},
		{"a hash that is too short", "a key is found by its lower-case hash", "keys: [{alias: k, hash: ff}]\n", "hash"},
		{"a text that is no key", "it would be read as a token", "keys: [{alias: k, secret: x}]\n", "secret"},
		{"a key twice", oneRow, key + "}, {alias: l, hash: 00000000000000000000000000000000000000000000000000000000000000ff}]\n", "is the same key"},
		{"an alias twice", oneRow, key + "}, {alias: k, hash: 00000000000000000000000000000000000000000000000000000000000000fe}]\n", "is the alias of an earlier key"},
		{"a key of a team that does not exist", "a key without its restrictions", with("team_id: nope"), "team_id"},
		{"a mapping to a key that does not exist", "dangling rows", "mappings: [{claim: client_id, value: x, key: nope}]\n", "key"},
		{"a mapping without a value", oneRow, mapping(`value: ""`), "value"},
		{"a mapping without a claim", oneRow, key + "}]\nmappings: [{value: x, key: k}]\n", "claim"},
		{"a mapping of a value with NUL", plainText, mapping(`value: "x\0"`), "value"},
		{"a mapping of a value with a line break", plainText, mapping(`value: "x\n"`), "value"},
		{"a mapping of a value of 1,025 bytes", oneRow, mapping("value: " + strings.Repeat("x", 1025)), "value"},
		{"a mapping twice", oneRow, key + "}]\nmappings: [{claim: c, value: x, key: k}, {claim: c, value: x, key: k}]\n", "has the issuer, claim and value of an earlier mapping"},
		{"a team without an id", oneRow, "teams: [{alias: x}]\n", "id"},
		{"a team with a control character", plainText, "teams: [{id: \"a\\x01\"}]\n", "id"},
		{"a model that is empty", "an empty pattern matches nothing, or everything", with(`models: [""]`), "models"},
		{"a misspelled field", "a typo must not unblock", with("blockd: true"), "unknown key"},
		{"a field twice", "which of two counts differs by reader", with("blocked: true, blocked: false"), "is stated twice"},
		{"blocked in another word", "YAML 1.1 and 1.2 differ", with("blocked: yes"), "blocked"},
	}
}

// refusedStatements are hand-written SQL that the database itself must refuse, on both stores.
func refusedStatements() []Refusal {
	const (
		key     = "0000000000000000000000000000000000000000000000000000000000000001"
		insert  = "INSERT INTO jwt_key_mappings (issuer, claim, value, key_id) VALUES "
		unknown = "00000000000000000000000000000000000000000000000000000000000000ee"
	)
	set := func(column string) string { return "UPDATE virtual_keys SET " + column + " WHERE id = '" + key + "'" }
	return []Refusal{
		{"a negative budget", exactMoney, set("max_budget_micros = -1"), ""},
		{"a budget that is no number", exactMoney, set("max_budget_micros = 'NaN'"), ""},
		{"a budget that overflows", exactMoney, set("max_budget_micros = 9223372036854775808"), ""},
		{"a negative spend", exactMoney, set("spend_micros = -1"), ""},
		{"no spend", exactMoney, set("spend_micros = NULL"), ""},
		{"a spend that overflows", exactMoney, set("spend_micros = 9223372036854775807 + 1"), ""},
		{"a negative limit", exactMoney, set("rpm_limit = -1"), ""},
		{"a window that is none", exactMoney, set("budget_window = '0d'"), ""},
		{"a window without its end", exactMoney, set("budget_window = '1d', budget_reset_at = NULL"), ""},
		{"neither blocked nor not", oneRow, set("blocked = NULL"), ""},
		{"a hash in upper case", oneRow, set("id = '" + strings.ToUpper(unknown) + "'"), ""},
		{"a key of a team that does not exist", oneRow, set("team_id = 'nope'"), ""},
		{"a mapping of no issuer", "issuer is never NULL: two rows would be one", insert + "(NULL, 'c', 'x', '" + key + "')", ""},
		{"a mapping without a value", oneRow, insert + "('', 'c', '', '" + key + "')", ""},
		{"a mapping of a value with a control character", plainText, insert + "('', 'c', 'x' || chr(1), '" + key + "')", ""},
		{"a mapping of a value of 1,025 bytes", oneRow, insert + "('', 'c', '" + strings.Repeat("x", 1025) + "', '" + key + "')", ""},
		{"a mapping to a key that does not exist", oneRow, insert + "('', 'c', 'x', '" + unknown + "')", ""},
		{"a mapping twice", oneRow, insert + "('', 'c', 'x', '" + key + "'), ('', 'c', 'x', '" + key + "')", ""},
		{"taking a mapping's key away", "R6: its caller would become an unmapped one", "DELETE FROM virtual_keys WHERE id = '" + key + "'", ""},
	}
}
