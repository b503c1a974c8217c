package adversary

import (
	"strings"
	"time"
)

const (
	twice     = "RFC 7519 4; measured: golang-jwt takes the last"
	badText   = "RFC 8259 8.1, RFC 7493 2.1; measured: both become U+FFFD, and two subjects one"
	afterJSON = "measured: accepted by golang-jwt with WithJSONNumber"
	onlyJSON  = "RFC 7519 7.2: the claims are a JSON object"
	tooDeep   = "CVE-2025-6203, CVE-2025-12044, CVE-2025-59043"
)

// jsonCases are claims whose JSON has two readings, or none. All are signed by the issuer.
func jsonCases() []Case {
	malformed := deny(401, "token_malformed")
	text := func(claims string) moves { return moves{claimsText(claims)} }
	return []Case{
		{"sub twice, the victim last", twice, malformed, text(`{$base,"sub":"subject-root"}`)},
		{"sub twice, the victim first", twice, malformed, text(`{"sub":"subject-root",$base}`)},
		{"sub twice, the same", twice, malformed, text(`{$base,"sub":"subject-alice"}`)},
		{"sub twice, once escaped", twice, malformed, text(`{$base,"\u0073ub":"subject-root"}`)},
		{"iss twice", twice, malformed, text(`{"iss":"https://stranger.example.com",$base}`)},
		{"aud twice", twice, malformed, text(`{"aud":"elsewhere",$base}`)},
		{"exp twice, the past first", twice, malformed, text(`{"exp":1,$base}`)},
		{"exp twice, the past last", twice, malformed, text(`{$base,"exp":1}`)},
		{"the mapped claim twice", twice, malformed, text(`{$base,"client_id":"client-blocked"}`)},
		{"roles twice, deep inside", twice, malformed, text(`{$base,"x":{"roles":["a"],"roles":["user"]}}`)},
		{"an object in a list has a name twice", twice, malformed, text(`{$base,"x":[{"a":1,"a":2}]}`)},
		{"an expired exp and an Exp that is not", "measured: encoding/json ignores case in structs", deny(401, "token_expired"), moves{claim("exp", 1), claim("Exp", js("4102444800"))}},
		{"an aud of others and an AUD that is ours", "measured: encoding/json ignores case in structs", deny(401, "audience_mismatch"), moves{claim("aud", "elsewhere"), claim("AUD", audience)}},
		{"an iss of a stranger and an Iss that is ours", "measured: encoding/json ignores case in structs", deny(401, "issuer_unknown"), moves{claim("iss", "https://stranger.example.com"), claim("Iss", "x")}},
		{"exp with a look-alike letter", "RFC 7519 4.1.4", deny(401, "token_invalid"), moves{claim("exp", absent), claim("еxp", js("4102444800"))}},

		{"claims a list", onlyJSON, malformed, text(`[{$base}]`)},
		{"claims a text", onlyJSON, malformed, text(`"claims"`)},
		{"claims a number", onlyJSON, malformed, text(`1`)},
		{"claims null", onlyJSON, malformed, text(`null`)},
		{"claims no JSON", onlyJSON, malformed, text(`sub=subject-alice`)},
		{"claims cut short", onlyJSON, malformed, text(`{$base`)},
		{"claims empty", "RFC 7519 4.1.1", deny(401, "issuer_unknown"), text(`{}`)},
		{"a second object after the claims", afterJSON, malformed, text(`{$base}{"sub":"subject-root"}`)},
		{"a word after the claims", afterJSON, malformed, text(`{$base}x`)},
		{"a NUL after the claims", afterJSON, malformed, text("{$base}\x00")},
		{"white space after the claims", "control: RFC 8259 2", allow("mapping"), text("{$base} \n\t\r")},
		{"a byte order mark before the claims", "RFC 8259 8.1", malformed, text("\xef\xbb\xbf{$base}")},
		{"claims in UTF-16", "RFC 8259 8.1", malformed, text("\xff\xfe{\x00}\x00")},
		{"a comment in the claims", "RFC 8259 2", malformed, text(`{$base/*,"a":1*/}`)},
		{"a comma too many", "RFC 8259 4", malformed, text(`{$base,}`)},
		{"a member without quotes", "RFC 8259 4", malformed, text(`{$base,admin:true}`)},
		{"single quotes", "RFC 8259 7", malformed, text(`{$base,'admin':true}`)},
		{"a line break in a text", "RFC 8259 7", malformed, text("{$base,\"x\":\"a\nb\"}")},
		{"an unknown escape", "RFC 8259 7", malformed, text(`{$base,"x":"\x61"}`)},
		{"NaN", "RFC 8259 6", malformed, text(`{$base,"level":NaN}`)},
		{"Infinity", "RFC 8259 6", malformed, text(`{$base,"level":-Infinity}`)},
		{"a number with a leading zero", "RFC 8259 6", malformed, text(`{$base,"level":012}`)},
		{"a number with a plus", "RFC 8259 6", malformed, text(`{$base,"level":+1}`)},
		{"a hexadecimal number", "RFC 8259 6", malformed, text(`{$base,"level":0x10}`)},
		{"a number that no float holds", "control: numbers stay text", allow("mapping"), text(`{$base,"level":1e400}`)},

		{"invalid UTF-8 in sub", badText, malformed, moves{claim("sub", absent), claimsText("{$base,\"sub\":\"subject-\xff\"}")}},
		{"overlong UTF-8 in sub", badText, malformed, moves{claim("sub", absent), claimsText("{$base,\"sub\":\"subject-\xc1\xa1lice\"}")}},
		{"a surrogate in UTF-8 in sub", badText, malformed, moves{claim("sub", absent), claimsText("{$base,\"sub\":\"subject-\xed\xa0\x80\"}")}},
		{"a cut character in sub", badText, malformed, moves{claim("sub", absent), claimsText("{$base,\"sub\":\"subject-\xe2\x82\"}")}},
		{"a lone high surrogate in sub", badText, malformed, moves{claim("sub", absent), claimsText(`{$base,"sub":"subject-\ud800"}`)}},
		{"a lone low surrogate in sub", badText, malformed, moves{claim("sub", absent), claimsText(`{$base,"sub":"subject-\udc00"}`)}},
		{"surrogates in the wrong order", badText, malformed, moves{claim("sub", absent), claimsText(`{$base,"sub":"subject-\udc00\ud800"}`)}},
		{"invalid UTF-8 in a member's name", badText, malformed, text("{$base,\"\xff\":1}")},
		{"a lone surrogate in the mapped claim", badText, malformed, moves{claim("client_id", absent), claimsText(`{$base,"client_id":"client-\ud83d"}`)}},
		{"a pair of surrogates", "control: RFC 8259 7", allow("mapping"), text(`{$base,"x":"\ud83d\ude00"}`)},

		{"lists nested 33 deep", tooDeep, malformed, text(`{$base,"x":` + strings.Repeat("[", 32) + strings.Repeat("]", 32) + `}`)},
		{"lists nested 31 deep", "control: R10", allow("mapping"), text(`{$base,"x":` + strings.Repeat("[", 30) + strings.Repeat("]", 30) + `}`)},
		{"lists nested 5,000 deep", tooDeep, malformed, text(`{$base,"x":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `}`)},
		{"objects nested 1,000 deep", tooDeep, malformed, text(`{$base,"x":` + strings.Repeat(`{"a":`, 1000) + "1" + strings.Repeat("}", 1000) + `}`)},
		{"lists that never end", tooDeep, malformed, text(`{$base,"x":` + strings.Repeat("[", 5000))},
		{"properties of every object", "control: maps have no prototype", allow("mapping"), text(`{$base,"__proto__":{"admin":true},"constructor":1}`)},
	}
}

const (
	numericDate = "RFC 7519 2: a NumericDate is a number"
	overflow    = "measured: golang-jwt's float to int64 conversion overflows into the past"
	required    = "measured: golang-jwt takes exp as optional"
)

// dateCases are exp, nbf and iat outside of what they can mean. All are signed by the issuer.
func dateCases() []Case {
	invalid := deny(401, "token_invalid")
	expired, early := deny(401, "token_expired"), deny(401, "token_not_yet_valid")
	set := func(name, value string) moves { return moves{claim(name, js(value))} }
	return []Case{
		{"exp absent", required, invalid, moves{claim("exp", absent)}},
		{"exp null", required, invalid, set("exp", "null")},
		{"exp zero", "measured: read as absent by golang-jwt", invalid, set("exp", "0")},
		{"exp minus zero", numericDate, invalid, set("exp", "-0")},
		{"exp negative", numericDate, invalid, set("exp", "-1")},
		{"exp a text", numericDate, invalid, set("exp", `"4102444800"`)},
		{"exp true", numericDate, invalid, set("exp", "true")},
		{"exp a list", numericDate, invalid, set("exp", "[4102444800]")},
		{"exp an object", numericDate, invalid, set("exp", `{"$numberLong":"4102444800"}`)},
		{"exp a date in text", numericDate, invalid, set("exp", `"2100-01-01T00:00:00Z"`)},
		{"exp 1e300", overflow, invalid, set("exp", "1e300")},
		{"exp 1e400", "no float holds it", invalid, set("exp", "1e400")},
		{"exp 2^63", overflow, invalid, set("exp", "9223372036854775808")},
		{"exp 2^53", "the first integer that a float confuses", invalid, set("exp", "9007199254740992")},
		{"exp 1e18", "measured: accepted by golang-jwt: a token for ever", invalid, set("exp", "1e18")},
		{"exp in milliseconds", "a token for 50,000 years", invalid, set("exp", "4102444800000")},
		{"exp in the year 2100", "RFC 8725: bounded lifetime", invalid, set("exp", "4102444800")},
		{"exp in 25 hours", "RFC 8725: bounded lifetime", invalid, moves{date("exp", 25*time.Hour)}},
		{"exp in 25 hours, no iat", "RFC 8725: bounded lifetime", invalid, moves{date("exp", 25*time.Hour), claim("iat", absent)}},
		{"exp in an hour, iat a day ago", "RFC 8725: bounded lifetime", invalid, moves{date("exp", time.Hour), date("iat", -24*time.Hour)}},
		{"exp 40 s ago", "RFC 7519 4.1.4", expired, moves{date("exp", -40*time.Second), date("iat", -time.Hour)}},
		{"exp an hour ago", "RFC 7519 4.1.4", expired, moves{date("exp", -time.Hour), date("iat", -2*time.Hour)}},
		{"exp in 1970", "RFC 7519 4.1.4", expired, set("exp", "1")},
		{"exp in 2001, with an exponent", "RFC 7519 4.1.4", expired, set("exp", "1e9")},
		{"exp 5e-324", "the smallest float", expired, set("exp", "5e-324")},
		{"exp 10 s ago", "control: the leeway is 30 s", allow("mapping"), moves{date("exp", -10*time.Second), date("iat", -time.Hour)}},
		{"exp with a fraction", "control: RFC 7519 2", allow("mapping"), moves{func(a *attempt) { a.claims["exp"] = float64(a.now.Unix()) + 300.5 }}},
		{"expired, and a forged signature", "CVE-2024-51744: joined errors", invalid, moves{date("exp", -time.Hour), date("iat", -2*time.Hour), signedWith("ES256", attackersEC)}},

		{"nbf in a minute", "RFC 7519 4.1.5", early, moves{date("nbf", time.Minute)}},
		{"nbf in ten years", "RFC 7519 4.1.5", early, moves{date("nbf", 10*365*24*time.Hour)}},
		{"nbf 1e300", overflow, invalid, set("nbf", "1e300")},
		{"nbf 2^63", overflow, invalid, set("nbf", "9223372036854775808")},
		{"nbf 2^53", "the first integer that a float confuses", invalid, set("nbf", "9007199254740992")},
		{"nbf 1e400", "no float holds it", invalid, set("nbf", "1e400")},
		{"nbf a text", numericDate, invalid, set("nbf", `"1"`)},
		{"nbf null", numericDate, invalid, set("nbf", "null")},
		{"nbf false", numericDate, invalid, set("nbf", "false")},
		{"nbf a list", numericDate, invalid, set("nbf", "[1]")},
		{"nbf negative", numericDate, invalid, set("nbf", "-1")},
		{"nbf after exp", "RFC 7519 4.1.5", early, moves{date("nbf", 10*time.Minute)}},
		{"nbf in 10 s", "control: the leeway is 30 s", allow("mapping"), moves{date("nbf", 10*time.Second)}},

		{"iat in a minute", "measured: not checked by golang-jwt without WithIssuedAt", early, moves{date("iat", time.Minute)}},
		{"iat in 2100", "measured: not checked by golang-jwt without WithIssuedAt", early, set("iat", "4102444800")},
		{"iat 1e300", overflow, invalid, set("iat", "1e300")},
		{"iat 2^63", overflow, invalid, set("iat", "9223372036854775808")},
		{"iat a text", "measured: accepted by golang-jwt", invalid, set("iat", `"now"`)},
		{"iat null", "measured: accepted by golang-jwt", invalid, set("iat", "null")},
		{"iat a list", numericDate, invalid, set("iat", "[1]")},
		{"iat zero", numericDate, invalid, set("iat", "0")},
		{"iat negative", numericDate, invalid, set("iat", "-86400")},
		{"iat in 10 s", "control: the leeway is 30 s", allow("mapping"), moves{date("iat", 10*time.Second)}},
		{"iat absent", "control: RFC 7519 4.1.6: optional", allow("mapping"), moves{claim("iat", absent)}},
	}
}
