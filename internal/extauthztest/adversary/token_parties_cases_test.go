package adversary

import (
	"strings"

	"github.com/extauthz/extauthz/internal/extauthztest/issuertest"
)

const (
	exactIss = "RFC 7519 4.1.1, RFC 8725 3.8: iss is compared byte for byte"
	exactAud = "RFC 7519 4.1.3, RFC 8725 3.9: aud is compared byte for byte"
	skipped  = "CVE-2020-26160, CVE-2024-5798, CVE-2026-55669: the check of aud was skipped"
)

// issuerCases are values of iss that are not exactly a configured issuer's, signed by the home issuer or by a stranger.
func issuerCases() []Case {
	unknown := deny(401, "issuer_unknown")
	iss := func(change func(home string) any) moves {
		return moves{func(a *attempt) { a.claims["iss"] = change(a.world.home.URL()) }}
	}
	return []Case{
		{"absent", exactIss, unknown, moves{claim("iss", absent)}},
		{"null", exactIss, unknown, moves{claim("iss", nil)}},
		{"empty", exactIss, unknown, moves{claim("iss", "")}},
		{"a number", exactIss, unknown, moves{claim("iss", 1)}},
		{"a list with the issuer", exactIss, unknown, iss(func(home string) any { return []string{home} })},
		{"an object", exactIss, unknown, iss(func(home string) any { return map[string]string{"url": home} })},
		{"a stranger's, signed by the stranger", "CVE-2021-21378: an unknown issuer is worse than none", unknown, moves{of(stranger)}},
		{"a stranger's, signed by the home issuer", exactIss, unknown, moves{func(a *attempt) { a.claims["iss"] = a.world.stranger.URL() }}},
		{"the home issuer's, signed by a stranger", "RFC 8725 3.8", deny(401, "token_invalid"), moves{signedBy(stranger)}},
		{"the home issuer's, signed by a stranger with its kid", "RFC 8725 3.8", deny(401, "token_invalid"), moves{signedBy(stranger), header("kid", "ES256-1")}},
		{"with a slash after", exactIss, unknown, iss(func(home string) any { return home + "/" })},
		{"without its last character", exactIss, unknown, iss(func(home string) any { return home[:len(home)-1] })},
		{"in upper case", exactIss, unknown, iss(func(home string) any { return strings.ToUpper(home) })},
		{"with a query", exactIss, unknown, iss(func(home string) any { return home + "?" })},
		{"with a fragment", exactIss, unknown, iss(func(home string) any { return home + "#x" })},
		{"with a path", exactIss, unknown, iss(func(home string) any { return home + "/../" })},
		{"with a user", exactIss, unknown, iss(func(home string) any { return strings.Replace(home, "http://", "http://x@", 1) })},
		{"with another scheme", exactIss, unknown, iss(func(home string) any { return strings.Replace(home, "http://", "https://", 1) })},
		{"with a space before", exactIss, unknown, iss(func(home string) any { return " " + home })},
		{"with a line break after", exactIss, unknown, iss(func(home string) any { return home + "\n" })},
		{"with a NUL after", exactIss, unknown, iss(func(home string) any { return home + "\x00" })},
		{"inside of a longer URL", exactIss, unknown, iss(func(home string) any { return "https://evil.example.com/" + home })},
		{"with a name of the same address", exactIss, unknown, iss(func(home string) any { return strings.Replace(home, "127.0.0.1", "localhost", 1) })},
		{"with the address written otherwise", exactIss, unknown, iss(func(home string) any { return strings.Replace(home, "127.0.0.1", "127.1", 1) })},
		{"of 10 kB", "R10: bounds everywhere", unknown, moves{claim("iss", strings.Repeat("x", 10_000))}},
		{"where its discovery document is", exactIss, unknown, iss(func(home string) any { return home + "/.well-known/openid-configuration" })},
	}
}

// audienceCases are values of aud that do not name this service. All are signed by the home issuer.
func audienceCases() []Case {
	mismatch, invalid := deny(401, "audience_mismatch"), deny(401, "token_invalid")
	aud := func(value any) moves { return moves{claim("aud", value)} }
	return []Case{
		{"absent", skipped, mismatch, moves{claim("aud", absent)}},
		{"null", skipped, mismatch, aud(nil)},
		{"empty", skipped, mismatch, aud("")},
		{"elsewhere service's", exactAud, mismatch, aud("elsewhere")},
		{"an empty list", skipped, mismatch, aud([]string{})},
		{"a list of others", skipped, mismatch, aud([]string{"elsewhere", "third"})},
		{"a list with an empty text", skipped, mismatch, aud([]string{""})},
		{"a list in a list", exactAud, invalid, aud([][]string{{audience}})},
		{"a list with a number beside it", exactAud, invalid, aud([]any{audience, 1})},
		{"a list with null beside it", exactAud, invalid, aud([]any{nil, audience})},
		{"a number", exactAud, invalid, aud(0)},
		{"true", exactAud, invalid, aud(true)},
		{"an object", exactAud, invalid, aud(map[string]bool{audience: true})},
		{"in upper case", exactAud, mismatch, aud(strings.ToUpper(audience))},
		{"with a space after", exactAud, mismatch, aud(audience + " ")},
		{"with a NUL after", exactAud, mismatch, aud(audience + "\x00")},
		{"a prefix", exactAud, mismatch, aud(audience[:len(audience)-1])},
		{"longer", exactAud, mismatch, aud(audience + "-admin")},
		{"several in one text", exactAud, mismatch, aud("elsewhere " + audience)},
		{"several in one text, with a comma", exactAud, mismatch, aud(audience + ",elsewhere")},
		{"a wildcard", exactAud, mismatch, aud("*")},
		{"a URL with the audience in it", exactAud, mismatch, aud("https://" + audience)},
		{"in look-alike letters", exactAud, mismatch, aud("llm‐gateway")},
		{"only as the authorized party", "OpenID Connect Core 2: azp is no audience", mismatch, moves{claim("aud", "elsewhere"), claim("azp", audience)}},
		{"elsewhere tenant's", "RFC 8725 3.9: an audience belongs to its issuer", mismatch, aud("other-gateway")},
		{"a list with it", "control: RFC 7519 4.1.3", allow("mapping"), aud([]string{"elsewhere", audience})},
	}
}

const ownKeys = "RFC 8725 3.8: each issuer has its own keys; measured: keyfunc shares kids among its URLs"

// tenantCases cross the line between two configured issuers. Both call their first key ES256-1.
func tenantCases() []Case {
	return []Case{
		{"the other tenant's own token", "control", allow("mapping").with("of-other"), moves{of(other), client("of-other")}},
		{"one tenant's name, the other's key", ownKeys, deny(401, "token_invalid"), moves{signedBy(other)}},
		{"one tenant's name, the other's key and kid", ownKeys, deny(401, "token_invalid"), moves{signedBy(other), header("kid", "ES256-2")}},
		{"the other's name, one tenant's key", ownKeys, deny(401, "token_invalid"), moves{of(other), signedBy(home)}},
		{"the other's name, one tenant's key and kid", ownKeys, deny(401, "token_invalid"), moves{of(other), signedBy(home), header("kid", "ES256-1")}},
		{"a kid that only the other has", ownKeys, deny(401, "token_invalid"), moves{header("kid", "ES256-2")}},
		{"a token for the first, of the other", "RFC 8725 3.9", deny(401, "audience_mismatch"), moves{of(other), claim("aud", audience)}},
		{"both issuers in the token", "RFC 7519 4", deny(401, "token_malformed"), moves{func(a *attempt) {
			a.claimsText = `{"iss":"` + a.world.other.URL() + `",$base}`
		}}},
		{"a client that only the first maps", "R4: identity is the tuple with the issuer", deny(403, "no_mapping"), moves{of(other), client("of-home")}},
		{"a client that only the other maps", "R4: identity is the tuple with the issuer", deny(403, "no_mapping"), moves{client("of-other")}},
		{"a client whom the first has switched off", "R4, R6: its own row wins", deny(403, "mapping_disabled"), moves{client("split")}},
		{"a client whom the first has switched off, at the other", "control: R4", allow("mapping").with("plain"), moves{of(other), client("split")}},
		{"an issuer of claims that hold the other's name", "R4", deny(403, "no_mapping"), moves{of(other), func(a *attempt) {
			a.claims["client_id"] = a.world.home.URL() + "client_idclient-of-home"
		}}},
		{"an administrator of the other tenant's scope claim", "CVE-2026-12771: management by scope", deny(403, "route_forbidden"), moves{of(other), claim("scp", "extauthz_admin"), path("/key/generate"), body("{}")}},
	}
}

func home(w *world) *issuertest.Issuer { return w.home }

const (
	lastGood = "RFC 7517 5: entries that cannot be used are ignored"
	noSecret = "CVE-2016-10555: a shared secret is no public key"
	bounded  = "R10: bounds everywhere; measured: keyfunc has none"
)

// keySetCase is a hostile or broken issuer: what it serves, and what becomes of its own token. Each has an issuer of its
// own, and the home issuer's tokens must work all the same.
type keySetCase struct {
	name, basis string
	serve       serving
	want        want
	moves       moves
}

func keySetCases() []Case {
	var cases []Case
	for _, c := range hostileIssuers() {
		cases = append(cases, Case{c.name, c.basis, c.want, append(moves{of(hostile(c.name)), client("global")}, c.moves...)})
	}
	return cases
}

func hostile(name string) func(*world) *issuertest.Issuer {
	return func(w *world) *issuertest.Issuer { return w.hostile[name] }
}

func hostileIssuers() []keySetCase {
	unavailable, invalid := deny(503, "issuer_unavailable"), deny(401, "token_invalid")
	return []keySetCase{
		{"served as it should be", "control", served, allow("mapping"), nil},
		{"one entry is garbage", lastGood, publish("garbage", 1, nil, []any{}, map[string]any{"kty": "RSA"}), allow("mapping"), nil},
		{"one entry is a malformed RSA key", "measured: fails the whole refresh in keyfunc", publish(map[string]any{"kty": "RSA", "kid": "x", "n": "!", "e": "AQAB"}), allow("mapping"), nil},
		{"one entry is a key of an unknown type", lastGood, publish(map[string]any{"kty": "AKP", "kid": "x", "alg": "ML-DSA-44", "pub": "AAAA"}), allow("mapping"), nil},
		{"no key at all", lastGood, answer(`{"keys":[]}`), unavailable, nil},
		{"no keys member", "RFC 7517 5.1", answer(`{}`), unavailable, nil},
		{"keys is an object", "RFC 7517 5.1", answer(`{"keys":{}}`), unavailable, nil},
		{"keys is there twice", iJSON, twiceTheKeys, unavailable, nil},
		{"a list instead of a set", "RFC 7517 5", answer(`[]`), unavailable, nil},
		{"no JSON", "RFC 7517 5", answer(`<html>login</html>`), unavailable, nil},
		{"cut short", "RFC 7517 5", answer(`{"keys":[{"kty":"EC"`), unavailable, nil},
		{"an empty answer", "RFC 7517 5", answer(``), unavailable, nil},
		{"nested too deep", tooDeep, answer(`{"keys":` + strings.Repeat("[", 100_000)), unavailable, nil},
		{"larger than 1 MiB", bounded, huge, unavailable, nil},
		{"endless", bounded, endless, unavailable, nil},
		{"slow", bounded, late, unavailable, nil},
		{"101 keys", bounded, crowd(101), unavailable, nil},
		{"a redirect to its keys", "SSRF; measured: followed by keyfunc", redirect, unavailable, nil},
		{"status 500", "R5: an outage is no verdict", status(500), unavailable, nil},
		{"status 404", "R5: an outage is no verdict", status(404), unavailable, nil},
		{"status 204", "R5: an outage is no verdict", status(204), unavailable, nil},
		{"its keys with status 206", "only 200 is an answer", partial, unavailable, nil},
		{"the connection is cut", "R5: an outage is no verdict", hangUp, unavailable, nil},
		{"its key for encryption only", "RFC 7517 4.2", member("use", "enc"), unavailable, nil},
		{"its key for signing only, not for verifying", "RFC 7517 4.3", member("key_ops", []string{"sign"}), unavailable, nil},
		{"key_ops is a text", "RFC 7517 4.3", member("key_ops", "verify"), unavailable, nil},
		{"its key pinned to another algorithm", "RFC 7517 4.4", member("alg", "ES384"), unavailable, nil},
		{"its key with the name of another curve", "RFC 7518 6.2.1", member("crv", "P-384"), unavailable, nil},
		{"its key with the name of another type", "RFC 7518 6.1", member("kty", "OKP"), unavailable, nil},
		{"its key with a point off the curve", "RFC 7518 6.2.1: invalid curve", member("x", strings.Repeat("A", 43)), unavailable, nil},
		{"its kid a number", "RFC 7517 4.5", member("kid", 1), unavailable, nil},
		{"its kid of 300 bytes", bounded, member("kid", strings.Repeat("k", 300)), unavailable, nil},
		{"only a shared secret", noSecret, instead(octKey), invalid, moves{mac("HS256", octSecret), header("kid", "oct")}},
		{"a shared secret beside its key", noSecret, publish(octKey), invalid, moves{mac("HS256", octSecret), header("kid", "oct")}},
		{"an Ed25519 key of order 1", "RFC 8032; accepted by crypto/ed25519: anybody can sign", publish(orderOneKey), invalid, moves{header("alg", "EdDSA"), header("kid", "order-one"), orderOneSignature}},
		{"an RSA key with exponent 1", "Wycheproof JWK: anybody can sign", publish(exponentOneKey), invalid, moves{header("alg", "RS256"), header("kid", "exponent-one"), exponentOneSignature}},
		{"an RSA key of 1024 bits", "NIST SP 800-131A; measured: accepted by keyfunc", publish(shortKey), invalid, moves{header("alg", "RS256"), header("kid", "short"), signedWith("RS256", publishedKey("rsa-1024"))}},
		{"two keys of one name", "RFC 7517 4.5; measured: keyfunc takes the last", publish(attackersKeyNamed("ES256-1")), unavailable, nil},
		{"elsewhere issuer's key under its name", "RFC 8725 3.8: what an issuer publishes counts for that issuer alone", publish(homesKeyNamed("of-home")), invalid, moves{func(a *attempt) {
			a.claims["iss"], a.claims["aud"] = a.world.home.URL(), audience
			a.header["kid"] = "of-home"
		}}},
		{"the first tenant's kid, its own key", ownKeys, publish(), invalid, moves{func(a *attempt) {
			a.claims["iss"], a.claims["aud"] = a.world.home.URL(), audience
		}}},
	}
}
