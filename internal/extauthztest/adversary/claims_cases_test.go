package adversary

import (
	"strings"
)

const (
	oneText   = "R4: an identity is one text, byte for byte; absence must not mean fewer restrictions"
	unsafe    = "CVE-2023-27493: no header can carry it unchanged"
	lookAlike = "R4: no case folding, trimming or Unicode normalisation"
	unusable  = "SPEC: a usable value is a non-empty text of at most 1,024 bytes without control characters"
)

// identityCases are claims that are there and identify nobody.
func identityCases() []Case {
	bad := deny(403, "identity_unusable")
	sub := func(value any) moves { return moves{claim("sub", value)} }
	return []Case{
		{"sub a number", oneText, bad, sub(7)},
		{"sub a list with a blocked user", oneText, bad, sub([]string{"subject-mallory"})},
		{"sub an object", oneText, bad, sub(map[string]string{"id": "subject-mallory"})},
		{"sub true", oneText, bad, sub(true)},
		{"sub with a NUL", "R4; PostgreSQL refuses NUL, SQLite stores it", bad, sub("subject-mallory\x00")},
		{"sub with a line break", unsafe, bad, sub("subject-alice\r\nx-extauthz-team-id: b")},
		{"sub with DEL", unsafe, bad, sub("subject-alice\x7f")},
		{"sub with a C1 control character", unsafe, bad, sub("subject-alice\u0085")},
		{"sub with a line separator", "log injection", bad, sub("subject-alice\u2028")},
		{"sub with a space before", unsafe, bad, sub(" subject-mallory")},
		{"sub with a space after", unsafe, bad, sub("subject-mallory ")},
		{"sub with a no-break space after", unsafe, bad, sub("subject-mallory\u00a0")},
		{"sub of 1,025 bytes", unusable, bad, sub(strings.Repeat("s", 1025))},
		{"sub a blocked user", "R6", deny(403, "user_blocked"), sub("subject-mallory")},
		{"sub null", "control: as absent", allow("mapping"), sub(nil)},
		{"sub of 1,024 bytes", "control: " + unusable, allow("mapping"), sub(strings.Repeat("s", 1024))},
		{"sub in another script", "control: UTF-8 is carried as it is", allow("mapping"), sub("subject-алиса")},

		{"team a number", oneText, bad, moves{claim("team", 7)}},
		{"team a list", oneText, bad, moves{claim("team", []string{"a"})}},
		{"team an object", oneText, bad, moves{claim("team", map[string]string{"id": "a"})}},
		{"team false", oneText, bad, moves{claim("team", false)}},
		{"team with a NUL", oneText, bad, moves{claim("team", "a\x00")}},
		{"team with a space", oneText, bad, moves{claim("team", "a ")}},
		{"team in another case", lookAlike, deny(403, "team_unknown"), moves{claim("team", "A")}},
		{"team in look-alike letters", lookAlike, deny(403, "team_unknown"), moves{claim("team", "а")}},
		{"team with a wildcard", "CVE-2025-46569: data in queries", deny(403, "team_unknown"), moves{claim("team", "%")}},
		{"team with SQL", "CVE-2024-27289, CVE-2026-33815", deny(403, "team_unknown"), moves{claim("team", "a' OR '1'='1")}},
		{"team empty", oneText, deny(403, "team_missing"), moves{claim("team", "")}},
		{"team absent", oneText, deny(403, "team_missing"), moves{claim("team", absent)}},
		{"team null", oneText, deny(403, "team_missing"), moves{claim("team", nil)}},
		{"teams, none a text", oneText, deny(403, "team_unknown"), moves{claim("team", absent), claim("groups", []any{7, nil, []string{"a"}})}},
		{"teams, 201 unknown ones", "R10: bounds everywhere", deny(403, "team_unknown"), moves{claim("team", absent), claim("groups", unknownTeams(201))}},
		{"teams, the known one after 200 others", "R10: at most 200 are looked up", deny(403, "team_unknown"), moves{claim("team", absent), claim("groups", append(unknownTeams(200), "a"))}},

		{"organization a number", oneText, bad, moves{claim("org", 7)}},
		{"organization a list", oneText, bad, moves{claim("org", []string{"acme"})}},
		{"organization unknown", oneText, deny(403, "org_unknown"), moves{claim("org", "nope")}},
		{"organization blocked", "R6", deny(403, "org_blocked"), moves{claim("org", "closed"), claim("team", "b")}},
		{"organization of others", "R4: tenants", deny(403, "team_not_member"), moves{claim("org", "poor")}},

		{"email with a line break", "control: it is not carried", allow("mapping"), moves{claim("email", "a@corp.example.com\r\nx-extauthz-team-id: b")}},
		{"email with a space", "control: it is not carried", allow("mapping"), moves{claim("email", " a@corp.example.com")}},
	}
}

func unknownTeams(n int) []string {
	teams := make([]string, n)
	for i := range teams {
		teams[i] = "unknown-" + strings.Repeat("x", i%3) + string(rune('a'+i%26))
	}
	return teams
}

// mappedValueCases are values of the mapped claim that are nearly a mapped one, or try to be something else than data.
func mappedValueCases() []Case {
	missing, unmapped := deny(403, "claim_missing"), deny(403, "no_mapping")
	value := func(v any) moves { return moves{claim("client_id", v)} }
	var cases []Case
	for _, c := range []struct {
		name, basis string
		value       any
		missing     bool
	}{
		{"absent", unusable, absent, true},
		{"null", unusable, nil, true},
		{"empty", unusable, "", true},
		{"a number", unusable, 7, true},
		{"true", unusable, true, true},
		{"a list with a mapped value", unusable, []string{"client-plain"}, true},
		{"an object", unusable, map[string]string{"client_id": "client-plain"}, true},
		{"with a NUL after", "PostgreSQL refuses NUL (22021), SQLite stores it", "client-plain\x00", true},
		{"with a line break after", unusable, "client-plain\n", true},
		{"with a tab before", unusable, "\tclient-plain", true},
		{"with a C1 control character", unusable, "client-plain\u009f", true},
		{"with a paragraph separator", unusable, "client-plain\u2029", true},
		{"of 1,025 bytes", unusable, strings.Repeat("c", 1025), true},
		{"of 1,024 bytes", unusable, strings.Repeat("c", 1024), false},
		{"of 1,024 bytes in two-byte letters", unusable, strings.Repeat("é", 512), false},
		{"in another case", lookAlike, "Client-Plain", false},
		{"with a space before", lookAlike, " client-plain", false},
		{"with a space after", lookAlike, "client-plain ", false},
		{"with a no-break space after", lookAlike, "client-plain\u00a0", false},
		{"with a zero-width space", lookAlike, "client-\u200bplain", false},
		{"with a byte order mark", lookAlike, "\ufeffclient-plain", false},
		{"with a right-to-left mark", lookAlike, "client-plain\u200f", false},
		{"with a soft hyphen", lookAlike, "client-\u00adplain", false},
		{"with a Cyrillic letter", lookAlike, "client-рlain", false},
		{"in full-width letters", lookAlike, "ｃｌｉｅｎｔ－ｐｌａｉｎ", false},
		{"with a dotless i", lookAlike, "clıent-plaın", false},
		{"with the Kelvin sign", lookAlike, "client-\u212A", false},
		{"decomposed, where the composed is mapped", lookAlike, "client-cafe\u0301", false},
		{"a prefix", lookAlike, "client-plai", false},
		{"longer", lookAlike, "client-plain2", false},
		{"percent-encoded", lookAlike, "client%2Dplain", false},
		{"with an HTML entity", lookAlike, "client&#45;plain", false},
		{"the alias of the key", "R4", "plain", false},
		{"a wildcard of SQL", "CVE-2025-46569: data in queries", "client-%", false},
		{"a placeholder of SQL", "CVE-2025-46569: data in queries", "client-plai_", false},
		{"a wildcard", "CVE-2025-46569: data in queries", "*", false},
		{"SQL", "CVE-2024-27289, CVE-2024-27304, CVE-2026-41889", "x' OR '1'='1", false},
		{"SQL that writes", "CVE-2026-39946", "x'); DELETE FROM jwt_key_mappings; --", false},
		{"a word for absence", "sentinel collisions", "null", false},
		{"another word for absence", "sentinel collisions", "__none__", false},
		{"a word for the zero value", "sentinel collisions", "<nil>", false},
		{"with separators of cache keys", "CVE-2026-33496: cache key confusion", "client_id:client-plain", false},
		{"with a separator that joins tuples", "CVE-2026-35030: cache key confusion", "|client_id|client-plain", false},
		{"a JSON text", "CVE-2025-46569", `{"$ne":null}`, false},
		{"a template", "CVE-2025-46569", "${client}{{client}}", false},
	} {
		want := unmapped
		if c.missing {
			want = missing
		}
		cases = append(cases, Case{c.name, c.basis, want, value(c.value)})
		// What is nearly mapped registers as itself, and what is unusable never.
		if registered := allow("auto_register").with("auto"); c.missing {
			cases = append(cases, Case{c.name + ", with auto_register", c.basis, missing, append(value(c.value), profile("register"))})
		} else {
			cases = append(cases, Case{c.name + ", with auto_register", "control: " + c.basis, registered, append(value(c.value), profile("register"))})
		}
	}
	return append(cases,
		Case{"composed, as it is mapped", "control", allow("mapping").with("composed"), value("client-caf\u00e9")},
		Case{"absent, with fallback_team_mapping", "control: SPEC 2: the team, and no key", allow("fallback").with("-"), append(value(absent), profile("fallback"))},
		Case{"unknown, with fallback_team_mapping", "control: SPEC 2: the team, and no key", allow("fallback").with("-"), append(value("nobody"), profile("fallback"))},
		Case{"with a NUL, with fallback_team_mapping", "control: SPEC 2: the team, and no key", allow("fallback").with("-"), append(value("client-plain\x00"), profile("fallback"))},
		Case{"unknown, with fallback_team_mapping and a blocked team", "R6", deny(403, "team_blocked"), append(value("nobody"), profile("fallback"), claim("team", "stopped"))},
		Case{"unknown, with auto_register and no team", "SPEC 2: nothing is registered without a team", deny(403, "team_missing"), append(value("nobody"), profile("register"), claim("team", absent))},
		Case{"unknown, with auto_register and no role", "SPEC 2: registration comes after the policy", deny(403, "role_missing"), append(value("nobody"), profile("register"), roles(nil))},
	)
}

const (
	byName   = "roles and scopes are compared byte for byte, as members of a list"
	rfcScope = "RFC 6749 3.3: only a space parts scopes"
	oneAt    = "CVE-2026-40574: addresses with several @"
)

// policyCases bend roles, scopes, email domains and rules.
func policyCases() []Case {
	noRole, forbidden, domain := deny(403, "role_missing"), deny(403, "route_forbidden"), deny(403, "email_domain")
	rule := deny(403, "rule_failed")
	admin := func(scope any) moves { return moves{claim("scope", scope), path("/key/generate"), body("{}")} }
	email := func(address any) moves { return moves{profile("rules"), claim("email", address)} }
	amr := func(value any) moves { return moves{profile("rules"), claim("amr", value)} }
	return []Case{
		{"no roles", byName, noRole, moves{claim("realm_access", absent)}},
		{"roles null", byName, noRole, moves{roles(nil)}},
		{"roles a number", byName, noRole, moves{roles(1)}},
		{"roles an object", byName, noRole, moves{roles(map[string]bool{"user": true})}},
		{"a role in another case", byName, noRole, moves{roles([]string{"User"})}},
		{"a role with a space", byName, noRole, moves{roles([]string{"user "})}},
		{"a role longer than ours", byName, noRole, moves{roles([]string{"users"})}},
		{"a role in look-alike letters", byName, noRole, moves{roles([]string{"usеr"})}},
		{"several roles in one text", byName, noRole, moves{roles("user admin")}},
		{"several roles with a comma", byName, noRole, moves{roles("guest,user")}},
		{"a role in a list in the list", byName, noRole, moves{roles([][]string{{"user"}})}},
		{"a role as a member's name", byName, noRole, moves{roles([]any{map[string]string{"user": "user"}})}},
		{"roles under a name with a dot", "a claim path descends at a dot", noRole, moves{claim("realm_access", absent), claim("realm_access.roles", []string{"user"})}},
		{"roles in a list of objects", "a claim path has no way into a list", noRole, moves{claim("realm_access", []any{map[string]any{"roles": []string{"user"}}})}},
		{"roles in JSON text", "a claim path has no way into a text", noRole, moves{claim("realm_access", `{"roles":["user"]}`)}},
		{"the roles of another claim", byName, noRole, moves{claim("realm_access", absent), claim("roles", []string{"user"})}},

		{"a user on an admin route", "CVE-2026-12771: management by scope", forbidden, moves{path("/key/generate"), body("{}")}},
		{"the admin scope on an admin route", "control", allow("admin").with("-"), admin("openid extauthz_admin")},
		{"the admin scope elsewhere", "CVE-2026-12771", forbidden, moves{claim("scope", "extauthz_admin")}},
		{"the admin scope in another case", byName, forbidden, admin("Extauthz_Admin")},
		{"the admin scope longer", byName, forbidden, admin("extauthz_admin2")},
		{"the admin scope after a tab", rfcScope, forbidden, admin("openid\textauthz_admin")},
		{"the admin scope after a line break", rfcScope, forbidden, admin("openid\nextauthz_admin")},
		{"the admin scope after a no-break space", rfcScope, forbidden, admin("openid\u00a0extauthz_admin")},
		{"the admin scope after a comma", rfcScope, forbidden, admin("openid,extauthz_admin")},
		{"the admin scope in quotes", rfcScope, forbidden, admin(`"extauthz_admin"`)},
		{"the admin scope in a list in the list", byName, forbidden, admin([][]string{{"extauthz_admin"}})},
		{"the admin scope in one element with another", byName, forbidden, admin([]string{"openid extauthz_admin"})},
		{"the admin scope as a member's name", byName, forbidden, admin(map[string]bool{"extauthz_admin": true})},
		{"the admin scope as a role", byName, deny(403, "role_missing"), append(admin("openid"), roles([]string{"extauthz_admin"}))},
		{"a blocked admin", "R6", deny(403, "user_blocked"), append(admin("extauthz_admin"), claim("sub", "subject-root"))},

		{"no role, and no mapping", "R3: the policy comes before the store", noRole, moves{roles(nil), client("nobody")}},
		{"an admin route, and no mapping", "R3: the policy comes before the store", forbidden, moves{client("nobody"), path("/key/generate"), body("{}")}},
		{"no role, and a mapping that is switched off", "R3: the policy comes before the store", noRole, moves{roles(nil), client("off")}},
		{"no role, and an unknown team", "R3: the policy comes before the store", noRole, moves{roles(nil), claim("team", "nope")}},

		{"an email of our domain", "control", allow("mapping"), email("alice@corp.example.com")},
		{"an email of another domain", "email_domains", domain, email("alice@evil.example.com")},
		{"an email of a subdomain", "email_domains", domain, email("alice@x.corp.example.com")},
		{"an email of a domain that ends alike", "email_domains", domain, email("alice@evilcorp.example.com")},
		{"an email of a domain that begins alike", "email_domains", domain, email("alice@corp.example.com.evil.com")},
		{"an email with two @", oneAt, domain, email("alice@evil.com@corp.example.com")},
		{"an email with a quoted @", oneAt, domain, email(`"alice@evil.com"@corp.example.com`)},
		{"an email without a name", oneAt, domain, email("@corp.example.com")},
		{"an email with a NUL", oneAt, domain, email("alice@evil.com\x00@corp.example.com")},
		{"an email with a line break", oneAt, domain, email("alice@corp.example.com\nbcc:x@evil.com")},
		{"an email with a comment", oneAt, domain, email("alice@corp.example.com(evil.com)")},
		{"an email with a dot after", "email_domains", domain, email("alice@corp.example.com.")},
		{"an email with the Kelvin sign", "Unicode case folding makes distinct domains equal", domain, email("alice@\u212Aorp.example.com")},
		{"an email in full-width letters", "Unicode normalisation makes distinct domains equal", domain, email("alice@ｃｏｒｐ.example.com")},
		{"a list of emails", oneText, domain, email([]string{"alice@corp.example.com"})},
		{"no email", "email_domains", domain, email(absent)},
		{"an email that is not verified", "OpenID Connect Core 5.1", domain, append(email("alice@corp.example.com"), claim("email_verified", false))},
		{"an email that is not verified, in text", "OpenID Connect Core 5.1", domain, append(email("alice@corp.example.com"), claim("email_verified", "false"))},
		{"an email that is verified by a number", "OpenID Connect Core 5.1", domain, append(email("alice@corp.example.com"), claim("email_verified", 1))},
		{"an email whose verification is null", "OpenID Connect Core 5.1", domain, append(email("alice@corp.example.com"), claim("email_verified", nil))},

		{"a rule's claim absent", "a condition that errors is no match", rule, amr(absent)},
		{"a rule's claim null", "a condition that errors is no match", rule, amr(nil)},
		{"a rule's claim a text that holds the word", "a condition that errors is no match", rule, amr("mfa")},
		{"a rule's claim a number", "a condition that errors is no match", rule, amr(1)},
		{"a rule's claim an empty list", "rules", rule, amr([]string{})},
		{"a rule's claim in another case", "rules", rule, amr([]string{"MFA"})},
		{"a rule's claim the name of a member", "control: CEL: `in` looks at a map's names", allow("mapping"), amr(map[string]bool{"mfa": true})},
		{"a rule over a list of the client's", "CVE-2025-25207: cost limit", rule, moves{profile("rules"), claim("bomb", manyNumbers())}},
		{"a rule that converts a text", "a condition that errors is no match; its error quotes the claim", rule, moves{profile("rules"), claim("level", "a-secret-level")}},
		{"a rule that looks a text up", "a condition that errors is no match; its error quotes the claim", rule, moves{profile("rules"), claim("tier", "a-secret-tier")}},
		{"a rule that compiles a text", "a condition that errors is no match; its error quotes the claim", rule, moves{profile("rules"), claim("pattern", "a-secret-pattern(")}},
	}
}

// manyNumbers makes a rule that compares each with each too dear.
func manyNumbers() []int {
	numbers := make([]int, 1000)
	for i := range numbers {
		numbers[i] = i
	}
	return numbers
}
