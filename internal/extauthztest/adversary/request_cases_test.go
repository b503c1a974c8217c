package adversary

import (
	"strings"
)

const (
	oneCredential = "CVE-2020-25017, CVE-2026-26308, CVE-2026-31838: exactly one Authorization"
	oneScheme     = "RFC 6750 2.1, RFC 9110 11.1"
	otherPlaces   = "the credential is read where the configuration says, and nowhere else"
	keyHash       = "CVE-2025-54999: a key is found by its hash; the hash is no key"
)

// credentialCases are what stands in place of one bearer token.
func credentialCases() []Case {
	missing, malformed := deny(401, "token_missing"), deny(401, "token_malformed")
	ambiguous, unknown := deny(401, "credentials_ambiguous"), deny(401, "key_unknown")
	value := func(v string) moves { return moves{authorization(v)} }
	unsendable := forge(nil) // Envoy drops an empty copy of this header itself (measured)
	return []Case{
		{"none", "RFC 6750 3", missing, moves{anonymous}},
		{"an empty one", "RFC 6750 3", missing, moves{anonymous, send("authorization", "")}},
		{"the scheme alone", oneScheme, malformed, value("Bearer")},
		{"the scheme and a space", oneScheme, malformed, value("Bearer ")},
		{"the token alone", oneScheme, malformed, value("$token")},
		{"another scheme, Basic", oneScheme, malformed, value("Basic dXNlcjpwYXNz")},
		{"another scheme, Basic with the token", oneScheme, malformed, value("Basic $token")},
		{"another scheme, Digest", oneScheme, malformed, value("Digest username=x")},
		{"another scheme, DPoP", "RFC 9449 7.1", malformed, value("DPoP $token")},
		{"another scheme, Token", oneScheme, malformed, value("Token $token")},
		{"a scheme that begins alike", oneScheme, malformed, value("BearerX $token")},
		{"two spaces after the scheme", oneScheme, malformed, value("Bearer  $token")},
		{"a tab after the scheme", oneScheme, malformed, value("Bearer\t$token")},
		{"a no-break space after the scheme", oneScheme, malformed, value("Bearer\u00a0$token")},
		{"an equals sign after the scheme", oneScheme, malformed, value("Bearer=$token")},
		{"a colon after the scheme", oneScheme, malformed, value("Bearer: $token")},
		{"a parameter after the token", oneScheme, malformed, value("Bearer $token realm=x")},
		{"the scheme in lower case", "control: " + oneScheme, allow("mapping"), value("bearer $token")},
		{"the scheme in upper case", "control: " + oneScheme, allow("mapping"), value("BEARER $token")},

		{"the token twice", oneCredential, ambiguous, moves{send("authorization", "Bearer $token")}},
		{"a second one that is bad", oneCredential, ambiguous, moves{send("authorization", "Bearer x")}},
		{"a first one that is bad", oneCredential, ambiguous, moves{authorization("Bearer x"), send("authorization", "Bearer $token")}},
		{"a second one that is empty", oneCredential, ambiguous, moves{send("authorization", ""), unsendable}},
		{"a first one that is empty", oneCredential, ambiguous, moves{anonymous, send("authorization", ""), send("authorization", "Bearer $token"), unsendable}},
		{"two empty ones on a public route", oneCredential, ambiguous, moves{get("/v1/models"), anonymous, send("authorization", ""), send("authorization", ""), unsendable}},
		{"a second one in another case", oneCredential, ambiguous, moves{send("AUTHORIZATION", "Bearer $token")}},
		{"a second one of another scheme", oneCredential, ambiguous, moves{send("authorization", "Basic dXNlcjpwYXNz")}},
		{"a list of two", oneCredential, ambiguous, value("Bearer $token,Bearer $token")},
		{"a list of two with a space", oneCredential, ambiguous, value("Bearer $token, Bearer x")},
		{"a comma after it", oneCredential, ambiguous, value("Bearer $token,")},
		{"three", oneCredential, ambiguous, moves{send("authorization", "Bearer $token"), send("authorization", "Bearer $token")}},
		{"a key as the second", oneCredential, ambiguous, moves{func(a *attempt) { send("authorization", "Bearer "+a.world.secrets["direct"])(a) }}},

		{"in Proxy-Authorization", otherPlaces, missing, moves{anonymous, send("proxy-authorization", "Bearer $token")}},
		{"in X-Authorization", otherPlaces, missing, moves{anonymous, send("x-authorization", "Bearer $token")}},
		{"in X-Forwarded-Authorization", otherPlaces, missing, moves{anonymous, send("x-forwarded-authorization", "Bearer $token")}},
		{"in a cookie", otherPlaces, missing, moves{anonymous, send("cookie", "access_token=$token; authorization=Bearer $token")}},
		{"in the query", "RFC 6750 2.3, RFC 9700 4.3.2", missing, moves{anonymous, path("/v1/chat/completions?access_token=$token")}},
		{"in a form", "RFC 6750 2.2", missing, moves{anonymous, form("application/x-www-form-urlencoded", "access_token=$token&model=gpt-4o-mini")}},
		{"in Sec-WebSocket-Protocol", otherPlaces, missing, moves{anonymous, send("sec-websocket-protocol", "bearer, $token")}},
		{"in x-api-key", otherPlaces, missing, moves{anonymous, send("x-api-key", "$token")}},
		{"one beside it in another header", "control: " + otherPlaces, allow("mapping"), moves{send("x-api-key", "x")}},

		{"a bad one on a public route", "CVE-2021-21378: a bad credential is worse than none", malformed, moves{get("/v1/models"), authorization("Bearer x")}},
		{"another scheme on a public route", "CVE-2021-21378", malformed, moves{get("/v1/models"), authorization("Basic dXNlcjpwYXNz")}},
		{"a stranger's on a public route", "CVE-2021-21378", deny(401, "issuer_unknown"), moves{of(stranger), get("/v1/models")}},
		{"an unknown key on a public route", "CVE-2021-21378", unknown, moves{get("/v1/models"), authorization("Bearer sk-unknown-0123456789")}},
		{"none on a public route", "control", allow(""), moves{get("/v1/models"), anonymous}},

		{"a virtual key", "control", allow("virtual_key").with("direct"), moves{secret("direct")}},
		{"a key that is not known", keyHash, unknown, value("Bearer sk-unknown-0123456789")},
		{"the prefix of a key alone", keyHash, unknown, value("Bearer sk-")},
		{"a key of 20 kB", "R10: bounds everywhere", unknown, value("Bearer sk-" + strings.Repeat("x", 20_000))},
		{"the hash of a key", keyHash, malformed, moves{func(a *attempt) { a.authorization = "Bearer " + a.world.hash("direct") }}},
		{"the hash of a key with the prefix", keyHash, unknown, moves{func(a *attempt) { a.authorization = "Bearer sk-" + a.world.hash("direct") }}},
		{"a key in upper case", keyHash, malformed, moves{func(a *attempt) { a.authorization = "Bearer " + strings.ToUpper(a.world.secrets["direct"]) }}},
		{"a key without its last letter", keyHash, unknown, moves{func(a *attempt) {
			a.authorization = "Bearer " + strings.TrimSuffix(a.world.secrets["direct"], a.world.secrets["direct"][len(a.world.secrets["direct"])-1:])
		}}},
		{"a key with a letter more", keyHash, unknown, moves{func(a *attempt) { a.authorization = "Bearer " + a.world.secrets["direct"] + "x" }}},
		{"a key with two dots", "a key never has them: it is read as a token", malformed, value("Bearer sk-a.b.c")},
		{"a key with SQL", "CVE-2024-27289", unknown, value("Bearer sk-' OR '1'='1")},
		{"a key for mapped callers only", "SPEC 2: nobody presents a registered key", unknown, moves{secret("jwt-only")}},
		{"a blocked key", "R6", deny(403, "key_blocked"), moves{secret("blocked")}},
		{"an expired key", "R6", deny(403, "key_expired"), moves{secret("expired")}},
		{"a key on an admin route", "CVE-2026-12771", deny(403, "route_forbidden"), moves{secret("direct"), path("/key/generate"), body("{}")}},
		{"a key of a blocked team", "R6", deny(403, "team_blocked"), moves{secret("of-stopped")}},
	}
}

const (
	canonical = "R8, SECURITY 6: a path that is not canonical is refused"
	slashes   = "CVE-2021-29492, CVE-2021-31920: //, %2F, %5C"
	dots      = "CVE-2019-9901, CVE-2026-33494: dot segments"
	fragment  = "CVE-2021-32779, CVE-2021-39156, CVE-2023-47106, CVE-2026-41059: fragments"
	nul       = "CVE-2019-9900: NUL"
	authority = "CVE-2026-26205: //host parsed as an authority"
	original  = "CVE-2023-27487, CVE-2026-40575: where the request came from is not for the client to say"
	segments  = "SECURITY 6: whole segments, compared byte for byte"
)

// pathCases try to reach /key/generate, which is for admins, or a protected route, from one that is permitted or public.
func pathCases() []Case {
	ambiguous, forbidden, missing := deny(400, "path_ambiguous"), deny(403, "route_forbidden"), deny(401, "token_missing")
	return []Case{
		{"canonical", "control", allow("mapping"), moves{get("/v1/files/f-1")}},
		{"canonical, with escapes", "control", allow("mapping"), moves{get("/v1/files/a%20b%C3%A9")}},
		{"an admin route from a user", "control of the cases below", forbidden, moves{get("/key/generate")}},
		{"dot segments", dots, ambiguous, moves{get("/v1/files/../../key/generate")}},
		{"dot segments at the end", dots, ambiguous, moves{get("/v1/files/../../key/generate/..")}},
		{"a single dot", dots, ambiguous, moves{get("/./key/generate")}},
		{"a dot at the end", dots, ambiguous, moves{get("/key/generate/.")}},
		{"escaped dots", dots, ambiguous, moves{get("/v1/files/%2e%2e/%2e%2e/key/generate")}},
		{"half escaped dots", dots, ambiguous, moves{get("/v1/files/.%2E/%2e./key/generate")}},
		{"dots escaped twice", dots, ambiguous, moves{get("/v1/files/%252e%252e/%252e%252e/key/generate")}},
		{"dots with a parameter", "Tomcat reads ..;/ as ../", ambiguous, moves{get("/v1/files/..;/..;x=1/key/generate")}},
		{"dots in overlong UTF-8", dots, ambiguous, moves{get("/v1/files/%c0%ae%c0%ae/%c0%ae%c0%ae/key/generate")}},
		{"dots in the form of IIS", "IIS reads %u002e", ambiguous, moves{get("/v1/files/%u002e%u002e/key/generate")}},
		{"three dots", "control: a name", allow("mapping"), moves{get("/v1/files/...")}},
		{"escaped slashes", slashes, ambiguous, moves{get("/v1/files/x%2f..%2f..%2f..%2fkey%2fgenerate")}},
		{"a slash escaped twice", slashes, ambiguous, moves{get("/v1/files/..%252f..%252f..%252fkey%252fgenerate")}},
		{"an escaped slash in front", slashes, ambiguous, moves{get("/%2fkey/generate")}},
		{"a slash in overlong UTF-8", slashes, ambiguous, moves{get("/v1/files/..%c0%af..%c0%afkey/generate")}},
		{"backslashes", slashes, ambiguous, moves{get(`/v1/files\..\..\key\generate`)}},
		{"escaped backslashes", slashes, ambiguous, moves{get("/v1/files/..%5c..%5ckey%5cgenerate")}},
		{"two slashes in front", authority, ambiguous, moves{get("//key/generate")}},
		{"an authority in front", authority, ambiguous, moves{get("//api.example.com/key/generate")}},
		{"two slashes inside", slashes, ambiguous, moves{get("/v1//models"), repaired("/v1/models")}},
		{"two slashes at the end", slashes, ambiguous, moves{get("/key/generate//")}},
		{"three slashes", slashes, ambiguous, moves{get("/v1/files///key/generate"), repaired("/v1/files/key/generate")}},
		{"a parameter", "Tomcat and Jetty cut it off before they route", ambiguous, moves{get("/key;x=1/generate")}},
		{"an escaped semicolon", "Spring reads %3B as a parameter", ambiguous, moves{get("/key%3b/generate")}},
		{"a fragment", fragment, ambiguous, moves{get("/v1/files/x#/../../key/generate")}},
		{"a fragment after the admin route", fragment, ambiguous, moves{get("/key/generate#/v1/files/x")}},
		{"an escaped fragment", fragment, ambiguous, moves{get("/key/generate%23/v1/files/x")}},
		{"a fragment in the query", fragment, ambiguous, moves{get("/v1/files/x?a#b")}},
		{"an escaped question mark", canonical, ambiguous, moves{get("/key/generate%3f/v1/files")}},
		{"a NUL", nul, ambiguous, moves{get("/v1/files/x\x00/../key/generate")}},
		{"an escaped NUL", nul, ambiguous, moves{get("/key/generate%00")}},
		{"a NUL in the query", nul, ambiguous, moves{get("/v1/files/x?a=\x00")}},
		{"a control character", canonical, ambiguous, moves{get("/key/\x01generate")}},
		{"a control character in the query", "request splitting at an HTTP/1.1 upstream", ambiguous, moves{get("/v1/files/x?a=\x7f")}},
		{"a space in the query", "request splitting at an HTTP/1.1 upstream", ambiguous, moves{get("/v1/files/x?a HTTP/1.1")}},
		{"an escaped line break", canonical, ambiguous, moves{get("/key/generate%0d%0a")}},
		{"an escaped C1 control character", canonical, ambiguous, moves{get("/key/generate%c2%85")}},
		{"a space", canonical, ambiguous, moves{get("/key/generate x")}},
		{"a tab", canonical, ambiguous, moves{get("/key/generate\t")}},
		{"a letter outside ASCII", canonical, ambiguous, moves{get("/v1/files/é")}},
		{"an escape cut short", canonical, ambiguous, moves{get("/v1/files/x%2")}},
		{"an escape that is none", canonical, ambiguous, moves{get("/v1/files/%zz")}},
		{"an escaped escape", canonical, ambiguous, moves{get("/v1/files/%2565")}},
		{"invalid UTF-8 in an escape", canonical, ambiguous, moves{get("/v1/files/%ff")}},
		{"no slash in front", "CVE-2026-33186: a path without its slash", ambiguous, moves{get("key/generate")}},
		{"empty", canonical, ambiguous, moves{get("")}},
		{"an asterisk", "RFC 9112 3.2.4", ambiguous, moves{get("*"), method("OPTIONS")}},
		{"absolute form", "RFC 9112 3.2.2", ambiguous, moves{get("http://api.example.com/key/generate")}},
		{"absolute form of another host", "RFC 9112 3.2.2", ambiguous, moves{get("http://127.0.0.1/key/generate")}},
		{"another scheme", "RFC 9112 3.2.2", ambiguous, moves{get("file:///etc/passwd")}},
		{"an admin route with escapes", canonical, forbidden, moves{get("/%6bey/%67enerate")}},
		{"an admin route in the query", "CVE-2025-54576: skip-auth by query", allow("mapping"), moves{get("/v1/files/x?/key/generate")}},
		{"an admin route with a slash after", segments, forbidden, moves{get("/key/generate/")}},
		{"an admin route with a full-width slash", "control of normalisation: data, and no admin route", forbidden, moves{get("/key%EF%BC%8Fgenerate")}},
		{"an admin route in upper case", segments, forbidden, moves{get("/KEY/generate")}},
		{"an admin route with a suffix", segments, forbidden, moves{get("/key/generate.json")}},
		{"an admin route below a prefix", segments, forbidden, moves{get("/api/key/generate")}},

		{"a public route", "control", allow(""), moves{anonymous, get("/public/x")}},
		{"a public route's parent", segments, missing, moves{anonymous, get("/public")}},
		{"beside a public route", segments, missing, moves{anonymous, get("/publicx")}},
		{"a public route in upper case", segments, missing, moves{anonymous, get("/PUBLIC/x")}},
		{"a public route with another method", segments, missing, moves{anonymous, get("/public/x"), method("POST")}},
		{"a public route in the query", "CVE-2025-54576: skip-auth by query", missing, moves{anonymous, get("/v1/chat/completions?/public/x")}},
		{"from a public route by dots", dots, ambiguous, moves{anonymous, get("/public/../v1/chat/completions")}},
		{"from a public route by escaped dots", dots, ambiguous, moves{anonymous, get("/public/%2e%2e/v1/chat/completions")}},
		{"from a public route by an escaped slash", slashes, ambiguous, moves{anonymous, get("/public/..%2fv1%2fchat%2fcompletions")}},
		{"to a public route by a fragment", fragment, ambiguous, moves{anonymous, get("/v1/chat/completions#/public/x")}},
		{"to a public route by a parameter", "Tomcat and Jetty cut it off before they route", ambiguous, moves{anonymous, get("/v1/chat/completions;/public/x")}},

		{"X-Original-URL", original, missing, moves{anonymous, get("/v1/chat/completions"), send("x-original-url", "/public/x")}},
		{"X-Rewrite-URL", original, missing, moves{anonymous, get("/v1/chat/completions"), send("x-rewrite-url", "/public/x")}},
		{"X-Forwarded-Uri", original, missing, moves{anonymous, get("/v1/chat/completions"), send("x-forwarded-uri", "/public/x")}},
		{"X-Forwarded-Path", original, missing, moves{anonymous, get("/v1/chat/completions"), send("x-forwarded-path", "/public/x")}},
		{"X-Envoy-Original-Path", original, missing, moves{anonymous, get("/v1/chat/completions"), send("x-envoy-original-path", "/public/x")}},
		{"X-Envoy-Original-Path on an admin route", original, forbidden, moves{get("/key/generate"), send("x-envoy-original-path", "/v1/files/x")}},
		{"X-HTTP-Method-Override", original, missing, moves{anonymous, get("/public/x"), method("POST"), send("x-http-method-override", "GET")}},
		{"X-Forwarded-Prefix", original, forbidden, moves{get("/key/generate"), send("x-forwarded-prefix", "/v1/files")}},
		{"the path in a second pseudo-header", "CVE-2020-25017", missing, moves{anonymous, send(":path", "/public/x"), forge(nil)}},
	}
}

const (
	exactMethod = "SECURITY 6: methods are compared exactly; unknown ones take the strictest rule"
	oneHost     = "CVE-2021-39155, SECURITY 6: an authority that two readers split in two ways is refused"
)

// methodCases are methods and hosts that do not mean what they seem to.
func methodCases() []Case {
	bad, forbidden := deny(400, "request_malformed"), deny(403, "route_forbidden")
	onHost := func(name string) moves { return moves{host(name)} }
	return []Case{
		{"CONNECT", "CVE-2025-64763: early CONNECT data", bad, moves{method("CONNECT")}},
		{"an empty method", exactMethod, bad, moves{method("")}},
		{"a method with a space", "request splitting", bad, moves{method("GET /public/x")}},
		{"a method with a line break", "request splitting", bad, moves{method("GET\r\nx: y")}},
		{"a method outside ASCII", exactMethod, bad, moves{method("GÉT")}},
		{"a method with a slash", "RFC 9110 5.6.2", bad, moves{method("GE/T")}},
		{"get in lower case on a public route", exactMethod, deny(401, "token_missing"), moves{anonymous, get("/public/x"), method("get")}},
		{"post in lower case", exactMethod, forbidden, moves{method("post")}},
		{"an unknown method", exactMethod, forbidden, moves{method("PURGE")}},
		{"TRACE", exactMethod, forbidden, moves{get("/v1/files/x"), method("TRACE")}},
		{"TRACK", exactMethod, forbidden, moves{get("/v1/files/x"), method("TRACK")}},
		{"DEBUG on an admin route", exactMethod, forbidden, moves{get("/key/generate"), method("DEBUG")}},
		{"an unknown method on an admin route, without roles", exactMethod, forbidden, moves{profile("rules"), get("/key/generate"), method("PROPFIND")}},
		{"a method in lower case on an admin route, without roles", exactMethod, forbidden, moves{profile("rules"), path("/key/generate"), method("post")}},
		{"HEAD on a public route for GET", exactMethod, deny(401, "token_missing"), moves{anonymous, get("/public/x"), method("HEAD")}},

		{"a user in the host", oneHost, bad, onHost("internal@api.example.com")},
		{"two hosts", oneHost, bad, onHost("api.example.com,internal")},
		{"a path in the host", oneHost, bad, onHost("api.example.com/public")},
		{"a backslash in the host", oneHost, bad, onHost(`api.example.com\@internal`)},
		{"a space in the host", oneHost, bad, onHost("api.example.com internal")},
		{"a NUL in the host", oneHost, bad, onHost("api.example.com\x00internal")},
		{"a tab in the host", oneHost, bad, onHost("api.example.com\tinternal")},
		{"a fragment in the host", oneHost, bad, onHost("api.example.com#internal")},
		{"a query in the host", oneHost, bad, onHost("api.example.com?internal")},
		{"another host", "control: no rule depends on the host", allow("mapping"), onHost("internal.example.com")},
		{"X-Forwarded-Host", "control: it is not read", allow("mapping"), moves{send("x-forwarded-host", "internal")}},
	}
}

const (
	ownNames = "R7: own the header names; CVE-2026-30851, CVE-2025-64484"
	twins    = "R7; CVE-2026-34457, CVE-2026-54762: underscores are read as hyphens"
	internal = "CVE-2024-7207, CVE-2024-45806: x-envoy-* of a client's"
	hop      = "CVE-2024-45410, CVE-2026-29054, GHSA-w9mr-28mw-j8hg: Connection strips identity headers"
)

// headersCases are headers with which a client says who it is. They are allowed: the client may send them, and the
// upstream must not see them.
func headersCases() []Case {
	var cases []Case
	add := func(name, basis string, m ...move) {
		cases = append(cases, Case{name, basis, allow("mapping").with("plain"), m})
	}
	for _, name := range identityHeaders() {
		add(name, ownNames, spoof(name))
		add(strings.ReplaceAll(name, "-", "_"), twins, spoof(strings.ReplaceAll(name, "-", "_")))
	}
	add("in upper case", ownNames, spoof("X-EXTAUTHZ-TEAM-ID"))
	add("one hyphen an underscore", twins, spoof("x-extauthz-team_id"))
	add("another hyphen an underscore, in upper case", twins, spoof("X_Extauthz-Team-Id"))
	add("twice", ownNames, spoof("x-extauthz-team-id"), spoof("x-extauthz-team-id"))
	add("twice, once as its twin", twins, spoof("x-extauthz-team-id"), spoof("x_extauthz_team_id"))
	add("named by Connection", hop, spoof("x-extauthz-team-id"), send("connection", "x-extauthz-team-id"))
	add("named by Connection alone", hop, send("connection", "x-extauthz-team-id, x-extauthz-user-id, x-extauthz-key-id"))
	add("the mark of failing open", "ENVOY: a client's copy reaches the upstream", spoof("x-envoy-auth-failure-mode-allowed"))
	add("the mark of failing open, with underscores", twins, spoof("x_envoy_auth_failure_mode_allowed"))
	public := func(name string, m ...move) {
		cases = append(cases, Case{name, ownNames, allow(""), append(moves{anonymous, get("/public/x")}, m...)})
	}
	public("on a public route", spoof("x-extauthz-user-id"), spoof("x-extauthz-key-id"))
	public("on a public route, with underscores", spoof("x_extauthz_user_id"), spoof("x-extauthz_key_id"))
	fallback := func(name string, m ...move) {
		cases = append(cases, Case{name, ownNames, allow("fallback").with("-"), append(moves{client("nobody"), profile("fallback")}, m...)})
	}
	fallback("a key for a caller without one", spoof("x-extauthz-key-id"), spoof("x-extauthz-key-alias"))
	fallback("a key for a caller without one, with underscores", spoof("x_extauthz_key_id"), spoof("x-extauthz_key-alias"))
	return append(cases,
		Case{"a role in a header", "CVE-2026-33495: untrusted headers", deny(403, "role_missing"), moves{roles(nil), send("x-roles", "user"), send("x-extauthz-role", "user")}},
		Case{"the source admin", ownNames, deny(403, "route_forbidden"), moves{path("/key/generate"), body("{}"), send("x-extauthz-source", "admin")}},
		Case{"a team that is not the token's", "SPEC 6: the selector must name one of the token's", deny(403, "team_not_member"), moves{send("x-team-id", "b")}},
		Case{"two teams", "CVE-2020-25017: duplicate headers", deny(400, "request_malformed"), moves{send("x-team-id", "a"), send("x-team-id", "b")}},
		Case{"the same team twice", "CVE-2020-25017: duplicate headers", deny(400, "request_malformed"), moves{send("x-team-id", "a"), send("x-team-id", "a")}},
		Case{"a team and an empty one", "CVE-2020-25017: duplicate headers", deny(400, "request_malformed"), moves{send("x-team-id", "a"), send("x-team-id", "")}},
		Case{"a list of teams", "CVE-2020-25017: the joined value", deny(400, "request_malformed"), moves{send("x-team-id", "a,b")}},
		Case{"a team with a control character", nul, deny(400, "request_malformed"), moves{send("x-team-id", "a\x01")}},
		Case{"a team in invalid UTF-8", "PostgreSQL refuses it (22021), SQLite does not", deny(403, "team_not_member"), moves{profile("alias"), send("x-team-id", "a\xff")}},
		Case{"a team in look-alike letters", lookAlike, deny(403, "team_not_member"), moves{profile("alias"), send("x-team-id", "а")}},
		Case{"a team of 10 kB", "R10: bounds everywhere", deny(400, "request_malformed"), moves{profile("alias"), send("x-team-id", strings.Repeat("a", 10_000))}},
		Case{"a team by the alias of another", "SPEC 6", deny(403, "team_not_member"), moves{profile("alias"), send("x-team-id", "Beta")}},
		Case{"a team by an alias that two have", "SPEC 6: it names none", deny(403, "team_not_member"), moves{profile("alias"), send("x-team-id", "Twin")}},
		Case{"a profile of the client's", "the profile is the route's", deny(403, "no_mapping"), moves{client("nobody"), send("x-extauthz-profile", "fallback"), send("profile", "fallback")}},
		Case{"x-envoy-internal", internal, deny(401, "token_missing"), moves{anonymous, send("x-envoy-internal", "true")}},
		Case{"x-envoy-peer-metadata", internal, deny(401, "token_missing"), moves{anonymous, send("x-envoy-peer-metadata", "e30=")}},
		Case{"x-forwarded-for loopback", internal, deny(401, "token_missing"), moves{anonymous, send("x-forwarded-for", "127.0.0.1")}},
		Case{"x-forwarded-client-cert", "RFC 9440; Caddy CVE-2026-27586", deny(401, "token_missing"), moves{anonymous, send("x-forwarded-client-cert", "By=spiffe://x;Subject=\"CN=admin\"")}},
		Case{"the user agent of a health check", "CVE-2026-34457: skip-auth by User-Agent", deny(401, "token_missing"), moves{anonymous, send("user-agent", "GoogleHC/1.0"), send("x-health-check", "1")}},
	)
}

// identityHeaders are the headers that an allow sets or removes.
func identityHeaders() []string {
	var names []string
	for _, name := range []string{"key-id", "key-alias", "team-id", "user-id", "user-email", "org-id", "source", "decision-id"} {
		names = append(names, "x-extauthz-"+name)
	}
	return names
}
