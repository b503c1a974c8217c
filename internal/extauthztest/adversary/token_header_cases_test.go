package adversary

import (
	"strings"
)

const (
	joseTyp  = "RFC 8725 3.11: explicit typing"
	critBits = "RFC 7515 4.1.11, CVE-2025-59420, CVE-2026-32597; measured: accepted by golang-jwt"
	algNames = "RFC 7515 4.1.1: names are case-sensitive; RFC 8725 3.1"
	iJSON    = "RFC 7493 2: one meaning for each JSON text"
)

// headerCases are tricks with the members of the JOSE header.
func headerCases() []Case {
	return []Case{
		{"the token as it is", "control", allow("mapping").with("plain"), nil},
		{"another allowed algorithm, RS256", "control", allow("mapping"), moves{alg("RS256")}},
		{"another allowed algorithm, EdDSA", "control", allow("mapping"), moves{alg("EdDSA")}},

		{"alg none, no signature", "CVE-2015-9235, RFC 8725 3.2", deny(401, "token_malformed"), moves{header("alg", "none"), signature("")}},
		{"alg none, the signature kept", "CVE-2015-9235", deny(401, "token_invalid"), moves{header("alg", "none")}},
		{"alg None", "CVE-2015-9235: filters that compare case", deny(401, "token_invalid"), moves{header("alg", "None")}},
		{"alg NONE", "CVE-2015-9235: filters that compare case", deny(401, "token_invalid"), moves{header("alg", "NONE")}},
		{"alg nOnE", "CVE-2022-23540", deny(401, "token_invalid"), moves{header("alg", "nOnE")}},
		{"alg none with a space", "CVE-2015-9235", deny(401, "token_invalid"), moves{header("alg", "none ")}},
		{"alg none, a signature of one character", "CVE-2015-9235", deny(401, "token_malformed"), moves{header("alg", "none"), signature("A")}},
		{"alg empty", "RFC 7515 4.1.1", deny(401, "token_invalid"), moves{header("alg", "")}},
		{"alg absent", "RFC 7515 4.1.1: MUST be present", deny(401, "token_malformed"), moves{header("alg", absent)}},
		{"alg null", "RFC 7515 4.1.1", deny(401, "token_malformed"), moves{header("alg", nil)}},
		{"alg a number", "RFC 7515 4.1.1", deny(401, "token_malformed"), moves{header("alg", 256)}},
		{"alg a list", "RFC 7515 4.1.1", deny(401, "token_malformed"), moves{header("alg", []string{"ES256"})}},
		{"alg an object", "RFC 7515 4.1.1", deny(401, "token_malformed"), moves{header("alg", map[string]string{"name": "ES256"})}},
		{"alg true", "RFC 7515 4.1.1", deny(401, "token_malformed"), moves{header("alg", true)}},
		{"alg in lower case", algNames, deny(401, "token_invalid"), moves{header("alg", "es256")}},
		{"alg with a space before", algNames, deny(401, "token_invalid"), moves{header("alg", " ES256")}},
		{"alg with a space after", algNames, deny(401, "token_invalid"), moves{header("alg", "ES256 ")}},
		{"alg with a NUL", algNames, deny(401, "token_invalid"), moves{header("alg", "ES256\x00")}},
		{"alg in full-width letters", algNames, deny(401, "token_invalid"), moves{header("alg", "ＥＳ２５６")}},
		{"alg of 10 kB", algNames, deny(401, "token_invalid"), moves{header("alg", strings.Repeat("X", 10_000))}},
		{"alg ES256K", "RFC 8725 3.1: only what the configuration allows", deny(401, "token_invalid"), moves{header("alg", "ES256K")}},
		{"alg Ed25519", "RFC 9864; not in the allow-list", deny(401, "token_invalid"), moves{alg("EdDSA"), header("alg", "Ed25519")}},
		{"alg of an encryption, dir", "RFC 7516", deny(401, "token_invalid"), moves{header("alg", "dir"), header("enc", "A128GCM")}},
		{"alg of an encryption, PBES2", "CVE-2023-49290", deny(401, "token_invalid"), moves{header("alg", "PBES2-HS256+A128KW"), header("p2c", 2_000_000_000)}},
		{"alg of an encryption, RSA-OAEP", "RFC 7516", deny(401, "token_invalid"), moves{header("alg", "RSA-OAEP-256")}},

		{"HS256 with the public key's PEM", "CVE-2016-10555", deny(401, "token_invalid"), moves{alg("RS256"), mac("HS256", publicPEM("RS256"))}},
		{"HS256 with the public key's PEM, no kid", "CVE-2016-10555", deny(401, "token_invalid"), moves{alg("RS256"), mac("HS256", publicPEM("RS256")), header("kid", absent)}},
		{"HS256 with the public key's DER", "CVE-2024-33663", deny(401, "token_invalid"), moves{alg("RS256"), mac("HS256", publicDER("RS256"))}},
		{"HS256 with the EC key's PEM", "CVE-2024-33663", deny(401, "token_invalid"), moves{mac("HS256", publicPEM("ES256"))}},
		{"HS384 with the public key's PEM", "CVE-2022-29217", deny(401, "token_invalid"), moves{alg("RS256"), mac("HS384", publicPEM("RS256"))}},
		{"HS512 with the public key's PEM", "CVE-2022-29217", deny(401, "token_invalid"), moves{alg("RS256"), mac("HS512", publicPEM("RS256"))}},
		{"HS256 with the JWK's modulus", "CVE-2026-48526", deny(401, "token_invalid"), moves{alg("RS256"), mac("HS256", publicNumber("RS256", "n"))}},
		{"HS256 with the JWK's x", "CVE-2026-48526", deny(401, "token_invalid"), moves{mac("HS256", publicNumber("ES256", "x"))}},
		{"HS256 with no secret", "CVE-2022-23540", deny(401, "token_invalid"), moves{mac("HS256", constant(""))}},
		{"HS256 with the secret that tutorials use", "RFC 8725 3.5", deny(401, "token_invalid"), moves{mac("HS256", constant("secret"))}},
		{"RS256 in the header, HMAC in the signature", "CVE-2016-10555", deny(401, "token_invalid"), moves{alg("RS256"), mac("HS256", publicPEM("RS256")), header("alg", "RS256")}},
		{"RS512 by the issuer's key", "RFC 8725 3.1: not in the allow-list", deny(401, "token_invalid"), moves{alg("RS256"), header("alg", "RS512"), signedWith("RS512", homesKey("RS256"))}},
		{"PS256 by the issuer's key", "RFC 8725 3.1: not in the allow-list", deny(401, "token_invalid"), moves{alg("RS256"), header("alg", "PS256"), signedWith("PS256", homesKey("RS256"))}},
		{"RS256 in the header, PS256 in the signature", "RFC 7518 3.5", deny(401, "token_invalid"), moves{alg("RS256"), signedWith("PS256", homesKey("RS256"))}},
		{"ES384 by another key", "RFC 8725 3.1", deny(401, "token_invalid"), moves{header("alg", "ES384"), signedWith("ES384", attackersP384)}},
		{"ES256 with an RSA key's kid", "RFC 8725 3.1: the algorithm fits the key", deny(401, "token_invalid"), moves{header("kid", "RS256-1")}},
		{"RS256 with an EC key's kid", "RFC 8725 3.1", deny(401, "token_invalid"), moves{alg("RS256"), header("kid", "ES256-1")}},
		{"EdDSA with an EC key's kid", "RFC 8725 3.1", deny(401, "token_invalid"), moves{alg("EdDSA"), header("kid", "ES256-1")}},
		{"ES256 with an Ed25519 key's kid", "RFC 8725 3.1", deny(401, "token_invalid"), moves{header("kid", "EdDSA-1")}},

		{"crit with an unknown extension", critBits, deny(401, "token_invalid"), moves{header("crit", []string{"bork"})}},
		{"crit with an unknown extension that is there", critBits, deny(401, "token_invalid"), moves{header("crit", []string{"bork"}), header("bork", 1)}},
		{"crit with a registered claim", critBits, deny(401, "token_invalid"), moves{header("crit", []string{"exp"}), header("exp", 1)}},
		{"crit with alg", "RFC 7515 4.1.11: MUST NOT name what the RFC defines", deny(401, "token_invalid"), moves{header("crit", []string{"alg"})}},
		{"crit empty", "RFC 7515 4.1.11: MUST NOT be empty", deny(401, "token_invalid"), moves{header("crit", []string{})}},
		{"crit null", critBits, deny(401, "token_invalid"), moves{header("crit", nil)}},
		{"crit a text", critBits, deny(401, "token_invalid"), moves{header("crit", "bork")}},
		{"crit a number", critBits, deny(401, "token_invalid"), moves{header("crit", 1)}},
		{"crit with the same name twice", critBits, deny(401, "token_invalid"), moves{header("crit", []string{"b64", "b64"}), header("b64", true)}},
		{"b64 false, critical", "RFC 7797 6; measured: accepted by golang-jwt", deny(401, "token_invalid"), moves{header("crit", []string{"b64"}), header("b64", false)}},
		{"b64 false, not critical", "RFC 7797 6: MUST be critical", deny(401, "token_invalid"), moves{header("b64", false)}},
		{"b64 true", "RFC 7797 7: no JWT has it", deny(401, "token_invalid"), moves{header("b64", true)}},
		{"Crit in another case is another member", "control: RFC 7515 4: names are case-sensitive", allow("mapping"), moves{header("Crit", []string{"bork"})}},

		{"typ of a logout token", joseTyp, deny(401, "token_invalid"), moves{header("typ", "logout+jwt")}},
		{"typ of a DPoP proof", joseTyp, deny(401, "token_invalid"), moves{header("typ", "dpop+jwt")}},
		{"typ of a security event", joseTyp, deny(401, "token_invalid"), moves{header("typ", "secevent+jwt")}},
		{"typ of a request object", joseTyp, deny(401, "token_invalid"), moves{header("typ", "oauth-authz-req+jwt")}},
		{"typ JWE", joseTyp, deny(401, "token_invalid"), moves{header("typ", "JWE")}},
		{"typ JOSE+JSON", joseTyp, deny(401, "token_invalid"), moves{header("typ", "JOSE+JSON")}},
		{"typ empty", joseTyp, deny(401, "token_invalid"), moves{header("typ", "")}},
		{"typ null", joseTyp, deny(401, "token_malformed"), moves{header("typ", nil)}},
		{"typ a number", joseTyp, deny(401, "token_malformed"), moves{header("typ", 1)}},
		{"typ a list", joseTyp, deny(401, "token_malformed"), moves{header("typ", []string{"JWT"})}},
		{"typ with a space", joseTyp, deny(401, "token_invalid"), moves{header("typ", "JWT ")}},
		{"typ with a NUL", joseTyp, deny(401, "token_invalid"), moves{header("typ", "JWT\x00")}},
		{"typ of another tree", joseTyp, deny(401, "token_invalid"), moves{header("typ", "text/jwt")}},
		{"typ with a parameter", joseTyp, deny(401, "token_invalid"), moves{header("typ", "JWT;charset=utf-7")}},
		{"typ in full-width letters", joseTyp, deny(401, "token_invalid"), moves{header("typ", "ＪＷＴ")}},
		{"typ absent", "control: RFC 7519 5.1: optional", allow("mapping"), moves{header("typ", absent)}},
		{"typ jwt", "control: RFC 7515 4.1.9: media types ignore case", allow("mapping"), moves{header("typ", "jwt")}},
		{"typ of an access token", "control: RFC 9068 2.1", allow("mapping"), moves{header("typ", "application/at+jwt")}},

		{"a key in the header that signed", "CVE-2018-0114: jwk", deny(401, "token_invalid"), moves{own("jwk", attackersJWK), signedWith("ES256", attackersEC)}},
		{"a key in the header that signed, no kid", "CVE-2018-0114: jwk", deny(401, "token_invalid"), moves{own("jwk", attackersJWK), header("kid", absent), signedWith("ES256", attackersEC)}},
		{"a key in the header that signed, its own kid", "CVE-2018-0114: jwk", deny(401, "token_invalid"), moves{own("jwk", attackersJWK), header("kid", "mine"), signedWith("ES256", attackersEC)}},
		{"jku of the attacker's", "RFC 8725 3.10: jku", deny(401, "token_invalid"), moves{own("jku", attackersURL), signedBy(stranger)}},
		{"jku of the attacker's, an unknown kid", "RFC 8725 3.10: jku", deny(401, "token_invalid"), moves{own("jku", attackersURL), header("kid", "mine"), signedBy(stranger)}},
		{"x5u of the attacker's", "RFC 8725 3.10: x5u", deny(401, "token_invalid"), moves{own("x5u", attackersURL), signedBy(stranger)}},
		{"x5c of the attacker's", "CVE-2018-0114: x5c", deny(401, "token_invalid"), moves{header("x5c", []string{"MIIB"}), signedWith("ES256", attackersEC)}},
		{"x5t that is no hash", "RFC 7515 4.1.7", deny(401, "token_invalid"), moves{header("x5t", "../../etc/passwd"), signedWith("ES256", attackersEC)}},
		{"a key in the header of a good token", "control: CVE-2018-0114: it is not read", allow("mapping"), moves{own("jwk", attackersJWK)}},

		{"no header at all", "RFC 7515 3", deny(401, "token_malformed"), moves{headerText("{}")}},
		{"the header a list", "RFC 7515 3", deny(401, "token_malformed"), moves{headerText(`[{"alg":"ES256"}]`)}},
		{"the header a text", "RFC 7515 3", deny(401, "token_malformed"), moves{headerText(`"ES256"`)}},
		{"the header null", "RFC 7515 3", deny(401, "token_malformed"), moves{headerText("null")}},
		{"the header no JSON", "RFC 7515 5.2", deny(401, "token_malformed"), moves{headerText("alg=ES256")}},
		{"alg twice, none first", "RFC 7515 4; measured: golang-jwt takes the last", deny(401, "token_malformed"), moves{headerText(`{"alg":"none","alg":"ES256","kid":"ES256-1"}`)}},
		{"alg twice, none last", "RFC 7515 4", deny(401, "token_malformed"), moves{headerText(`{"alg":"ES256","kid":"ES256-1","alg":"none"}`)}},
		{"alg twice, once escaped", "RFC 7515 4; measured", deny(401, "token_malformed"), moves{headerText(`{"\u0061lg":"none","alg":"ES256","kid":"ES256-1"}`)}},
		{"kid twice", "RFC 7515 4; measured", deny(401, "token_malformed"), moves{headerText(`{"kid":"mine","alg":"ES256","kid":"ES256-1"}`)}},
		{"typ twice", "RFC 7515 4; measured", deny(401, "token_malformed"), moves{headerText(`{"typ":"logout+jwt","typ":"JWT","alg":"ES256","kid":"ES256-1"}`)}},
		{"a member of a member twice", iJSON, deny(401, "token_malformed"), moves{headerText(`{"alg":"ES256","kid":"ES256-1","x":{"a":1,"a":2}}`)}},
		{"text after the header", iJSON, deny(401, "token_malformed"), moves{headerText(`{"alg":"ES256","kid":"ES256-1"}{"alg":"none"}`)}},
		{"a byte order mark before the header", "RFC 8259 8.1", deny(401, "token_malformed"), moves{headerText("\xef\xbb\xbf" + `{"alg":"ES256","kid":"ES256-1"}`)}},
		{"a comment in the header", "RFC 8259", deny(401, "token_malformed"), moves{headerText(`{"alg":"ES256",/**/"kid":"ES256-1"}`)}},
		{"a trailing comma in the header", "RFC 8259", deny(401, "token_malformed"), moves{headerText(`{"alg":"ES256","kid":"ES256-1",}`)}},
		{"single quotes in the header", "RFC 8259", deny(401, "token_malformed"), moves{headerText(`{'alg':'ES256','kid':'ES256-1'}`)}},
		{"invalid UTF-8 in the header", "RFC 8259 8.1; measured", deny(401, "token_malformed"), moves{headerText("{\"alg\":\"ES256\",\"kid\":\"ES256-1\",\"x\":\"\xff\"}")}},
		{"a lone surrogate in the header", "RFC 7493 2.1; measured", deny(401, "token_malformed"), moves{headerText(`{"alg":"ES256","kid":"ES256-1","x":"\ud800"}`)}},
		{"the header nested too deep", "CVE-2025-6203, CVE-2025-59043", deny(401, "token_malformed"), moves{headerText(`{"alg":"ES256","kid":"ES256-1","x":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`)}},
		{"claims compressed", "CVE-2024-28180: zip", deny(401, "token_malformed"), moves{header("zip", "DEF"), segment(1, decoded(func([]byte) []byte { return []byte{0xab, 0x56, 0x0a, 0x00} }))}},
		{"a nested token as claims", "RFC 7519 5.2: cty JWT", deny(401, "token_malformed"), moves{header("cty", "JWT"), claimsText("eyJhbGciOiJub25lIn0.e30.")}},
	}
}

const (
	opaqueKid = "RFC 7515 4.1.4, RFC 8725 3.10: a kid is an opaque name"
)

// kidCases are tricks with the name of the key.
func kidCases() []Case {
	unknown := func(kid string) moves { return moves{header("kid", kid)} }
	forged := func(kid string) moves { return moves{header("kid", kid), signedWith("ES256", attackersEC)} }
	return []Case{
		{"absent, and one key fits", "control: RFC 7515 4.1.4: optional", allow("mapping"), moves{header("kid", absent)}},
		{"absent, and two keys fit", "measured: keyfunc tries every key", deny(401, "token_invalid"), moves{of(other), header("kid", absent)}},
		{"absent, by a key that is not published", "RFC 8725 3.10", deny(401, "token_invalid"), moves{header("kid", absent), signedWith("ES256", attackersEC)}},
		{"of 256 bytes", "the longest name that is looked up", deny(401, "token_invalid"), unknown(strings.Repeat("k", 256))},
		{"of 257 bytes", "R10: bounds everywhere", deny(401, "token_malformed"), unknown(strings.Repeat("k", 257))},
		{"empty", opaqueKid, deny(401, "token_invalid"), unknown("")},
		{"null", opaqueKid, deny(401, "token_malformed"), moves{header("kid", nil)}},
		{"a number", opaqueKid, deny(401, "token_malformed"), moves{header("kid", 1)}},
		{"a list", opaqueKid, deny(401, "token_malformed"), moves{header("kid", []string{"ES256-1"})}},
		{"an object", opaqueKid, deny(401, "token_malformed"), moves{header("kid", map[string]string{"$ne": ""})}},
		{"true", opaqueKid, deny(401, "token_malformed"), moves{header("kid", true)}},
		{"in another case", opaqueKid, deny(401, "token_invalid"), unknown("es256-1")},
		{"with a space", opaqueKid, deny(401, "token_invalid"), unknown("ES256-1 ")},
		{"with a NUL", opaqueKid, deny(401, "token_invalid"), unknown("ES256-1\x00")},
		{"with a line break", "log injection", deny(401, "token_invalid"), unknown("x\n{\"level\":\"INFO\",\"msg\":\"decision\",\"decision\":\"allow\"}")},
		{"a path", opaqueKid, deny(401, "token_invalid"), forged("../../../../../../dev/null")},
		{"a file with a known text, as HMAC key", opaqueKid, deny(401, "token_invalid"), moves{header("kid", "/proc/sys/kernel/randomize_va_space"), mac("HS256", constant("2"))}},
		{"SQL", opaqueKid, deny(401, "token_invalid"), forged("x' UNION SELECT 'secret'--")},
		{"SQL that sleeps", opaqueKid, deny(401, "token_invalid"), forged("x'; SELECT pg_sleep(10);--")},
		{"a command", opaqueKid, deny(401, "token_invalid"), forged("|sleep 10")},
		{"a template", opaqueKid, deny(401, "token_invalid"), forged("{{7*7}}${jndi:ldap://127.0.0.1/a}")},
		{"a URL", "RFC 8725 3.10: nothing is fetched", deny(401, "token_invalid"), forged("http://169.254.169.254/latest/meta-data")},
		{"a property of every object", opaqueKid, deny(401, "token_invalid"), forged("__proto__")},
		{"in look-alike letters", opaqueKid, deny(401, "token_invalid"), unknown("ЕS256-1")},
		{"of a key for encryption", "RFC 7517 4.2; Wycheproof JWS 353-356; measured: accepted by keyfunc", deny(401, "token_invalid"), moves{header("kid", "encryption"), signedWith("ES256", publishedKey("encryption"))}},
		{"of a key that wraps keys", "RFC 7517 4.3; measured: accepted by keyfunc", deny(401, "token_invalid"), moves{header("kid", "wrapping"), signedWith("ES256", publishedKey("wrapping"))}},
		{"of a shared secret in the key set", "CVE-2016-10555: oct", deny(401, "token_invalid"), moves{mac("HS256", octSecret), header("kid", "oct")}},
		{"of an RSA key of 1024 bits", "NIST SP 800-131A; Wycheproof JWK 7; measured: accepted by keyfunc", deny(401, "token_invalid"), moves{alg("RS256"), header("kid", "rsa-1024"), signedWith("RS256", publishedKey("rsa-1024"))}},
		{"of a key pinned to another algorithm", "RFC 7517 4.4; RFC 8725 3.1", deny(401, "token_invalid"), moves{alg("RS256"), header("kid", "pinned-ps256"), signedWith("RS256", publishedKey("pinned-ps256"))}},
		{"of a key on another curve", "RFC 7518 3.4; measured: accepted by golang-jwt for some lengths", deny(401, "token_invalid"), moves{header("kid", "p384"), signedWith("ES384", publishedKey("p384"))}},
		{"of a key for any RSA algorithm", "control: RFC 7517 4.4: alg is optional", allow("mapping"), moves{alg("RS256"), header("kid", "any-rsa"), signedWith("RS256", publishedKey("any-rsa"))}},
		{"of a key for any RSA algorithm, RS512", "RFC 8725 3.1: not in the allow-list", deny(401, "token_invalid"), moves{header("alg", "RS512"), header("kid", "any-rsa"), signedWith("RS512", publishedKey("any-rsa"))}},
		{"of a key for any RSA algorithm, RS384", "RFC 8725 3.1: not in the allow-list", deny(401, "token_invalid"), moves{header("alg", "RS384"), header("kid", "any-rsa"), signedWith("RS384", publishedKey("any-rsa"))}},
		{"of a key for any RSA algorithm, PS256", "RFC 8725 3.1: not in the allow-list", deny(401, "token_invalid"), moves{header("alg", "PS256"), header("kid", "any-rsa"), signedWith("PS256", publishedKey("any-rsa"))}},
		{"of a key for any algorithm of its curve, ES384", "RFC 8725 3.1: not in the allow-list", deny(401, "token_invalid"), moves{header("alg", "ES384"), header("kid", "any-p384"), signedWith("ES384", publishedKey("any-p384"))}},
		{"of two keys", "RFC 7517 4.5; Wycheproof JWK, duplicate kid", deny(401, "token_invalid"), moves{header("kid", "twice"), signedWith("ES256", publishedKey("twice"))}},
	}
}
