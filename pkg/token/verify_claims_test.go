package token_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/extauthz/extauthz/internal/extauthztest/issuertest/localissuer"
	"github.com/extauthz/extauthz/pkg/token"
)

// claim is a list of one claim.
func claim(name string, value any) map[string]any { return map[string]any{name: value} }

func TestVerifyIssuer(t *testing.T) {
	r := newRig(t)
	runTokenCases(t, r, []tokenCase{
		{name: "missing", want: "issuer unknown", claims: claim("iss", localissuer.Absent)},
		{name: "null", want: "issuer unknown", claims: claim("iss", nil)},
		{name: "a number", want: "issuer unknown", claims: claim("iss", 1)},
		{name: "a list of it", want: "issuer unknown", claims: claim("iss", []string{r.URL()})},
		{name: "an object", want: "issuer unknown", claims: claim("iss", map[string]any{"iss": r.URL()})},
		{name: "empty", want: "issuer unknown", claims: claim("iss", "")},
		{name: "trailing slash", want: "issuer unknown", claims: claim("iss", r.URL()+"/")},
		{name: "trailing space", want: "issuer unknown", claims: claim("iss", r.URL()+" ")},
		{name: "trailing NUL", want: "issuer unknown", claims: claim("iss", r.URL()+"\x00")},
		{name: "other case", want: "issuer unknown", claims: claim("iss", strings.ToUpper(r.URL()))},
		{name: "cut short", want: "issuer unknown", claims: claim("iss", r.URL()[:len(r.URL())-1])},
		{name: "somebody else", want: "issuer unknown", claims: claim("iss", "https://somebody.example")},
		{name: "ISS only", want: "issuer unknown", payload: `{"ISS":"$iss","aud":"$aud","iat":$now,"exp":$exp}`},
		{name: "ISS beside", payload: `{` + good + `,"ISS":"https://somebody.example"}`},
		{name: "written with escapes", payload: `{` + strings.Replace(good, `"iss"`, `"\u0069ss"`, 1) + `}`},
	})
}

func TestVerifyAudience(t *testing.T) {
	r := newRigWith(t, func(i *token.Issuer) { i.Audiences = []string{"extauthz", "second"} })
	runTokenCases(t, r, []tokenCase{
		{name: "string", claims: claim("aud", "extauthz")},
		{name: "other configured one", claims: claim("aud", "second")},
		{name: "array", claims: claim("aud", []string{"extauthz"})},
		{name: "array with others", claims: claim("aud", []string{"a", "b", "second"})},
		{name: "missing", want: "audience mismatch", claims: claim("aud", localissuer.Absent)},
		{name: "null", want: "audience mismatch", claims: claim("aud", nil)},
		{name: "empty string", want: "audience mismatch", claims: claim("aud", "")},
		{name: "empty array", want: "audience mismatch", claims: claim("aud", []string{})},
		{name: "another", want: "audience mismatch", claims: claim("aud", "somebody")},
		{name: "array of others", want: "audience mismatch", claims: claim("aud", []string{"somebody", ""})},
		{name: "prefix", want: "audience mismatch", claims: claim("aud", "extauth")},
		{name: "longer", want: "audience mismatch", claims: claim("aud", "extauthz2")},
		{name: "other case", want: "audience mismatch", claims: claim("aud", "ExtAuthz")},
		{name: "space", want: "audience mismatch", claims: claim("aud", "extauthz ")},
		{name: "list in a string", want: "audience mismatch", claims: claim("aud", "extauthz second")},
		{name: "comma list in a string", want: "audience mismatch", claims: claim("aud", "extauthz,second")},
		{name: "wildcard", want: "audience mismatch", claims: claim("aud", "*")},
		{name: "a number", want: "invalid", claims: claim("aud", 1)},
		{name: "true", want: "invalid", claims: claim("aud", true)},
		{name: "an object", want: "invalid", claims: claim("aud", map[string]any{"extauthz": true})},
		{name: "array with a number", want: "invalid", claims: claim("aud", []any{"extauthz", 1})},
		{name: "array with null", want: "invalid", claims: claim("aud", []any{nil, "extauthz"})},
		{name: "nested array", want: "invalid", claims: claim("aud", []any{[]string{"extauthz"}})},
		{name: "AUD only", want: "audience mismatch", payload: `{"iss":"$iss","AUD":"$aud","iat":$now,"exp":$exp}`},
		{name: "AUD beside a wrong aud", want: "audience mismatch",
			payload: `{"iss":"$iss","aud":"x","AUD":"$aud","iat":$now,"exp":$exp}`},
	})
}

func TestVerifyDates(t *testing.T) {
	r := newRig(t)
	at := func(seconds float64) float64 { return float64(r.Now().Unix()) + seconds }
	const day = 86400
	cases := []tokenCase{
		{name: "exp now", claims: claim("exp", at(0))},
		{name: "exp within leeway", claims: claim("exp", at(-29))},
		{name: "exp within leeway by a fraction", claims: claim("exp", at(-29.5))},
		{name: "exp at the end of leeway", want: "expired", claims: claim("exp", at(-30))},
		{name: "exp past", want: "expired", claims: claim("exp", at(-3600))},
		{name: "exp 1", want: "expired", claims: claim("exp", 1)},
		{name: "exp missing", want: "invalid", claims: claim("exp", localissuer.Absent)},
		{name: "nbf now", claims: claim("nbf", at(0))},
		{name: "nbf past", claims: claim("nbf", 1)},
		{name: "nbf at the end of leeway", claims: claim("nbf", at(30))},
		{name: "nbf beyond leeway", want: "not yet valid", claims: claim("nbf", at(30.5))},
		{name: "nbf next year", want: "not yet valid", claims: claim("nbf", at(365*day))},
		{name: "iat missing", claims: claim("iat", localissuer.Absent)},
		{name: "iat at the end of leeway", claims: claim("iat", at(30))},
		{name: "iat beyond leeway", want: "not yet valid", claims: claim("iat", at(30.5))},
		{name: "iat next year", want: "not yet valid", claims: claim("iat", at(365*day))},
		{name: "iat a fraction", claims: claim("iat", at(-0.25))},
		{name: "longest lifetime", claims: map[string]any{"iat": at(0), "exp": at(day)}},
		{name: "longer lifetime", want: "invalid", claims: map[string]any{"iat": at(0), "exp": at(day + 1)}},
		{name: "longer lifetime, long ago", want: "invalid", claims: map[string]any{"iat": at(-day), "exp": at(1)}},
		{name: "iat 1", want: "invalid", claims: claim("iat", 1)},
		{name: "longest lifetime without iat", claims: map[string]any{"iat": localissuer.Absent, "exp": at(day)}},
		{name: "longer lifetime without iat", want: "invalid", claims: map[string]any{"iat": localissuer.Absent, "exp": at(day + 1)}},
		{name: "largest date", want: "invalid", claims: claim("exp", 1<<53-1)},
		{name: "expired, and of too long a life", want: "expired", claims: map[string]any{"iat": 1, "exp": at(-60)}},
		{name: "exp past beside Exp", want: "expired", payload: `{"iss":"$iss","aud":"$aud","exp":1,"Exp":$exp}`},
		{name: "Exp only", want: "invalid", payload: `{"iss":"$iss","aud":"$aud","Exp":$exp}`},
		{name: "NBF beside", payload: `{` + good + `,"NBF":1e300,"Iat":"x"}`},
		{name: "exp with an exponent", payload: `{"iss":"$iss","aud":"$aud","exp":1.8000001E9}`},
	}
	for _, name := range []string{"exp", "nbf", "iat"} {
		for _, text := range []string{
			`"1800000100"`, `""`, `null`, `true`, `[1800000100]`, `{}`, `0`, `-0`, `-1`, `-1800000000`,
			`1e300`, `1e400`, `-1e400`, `1e18`, `1e-400`, `9223372036854775807`, `9223372036854775808`,
			`9007199254740992`, `18446744073709551616`, `1` + strings.Repeat("0", 400),
		} {
			payload := strings.NewReplacer(`"iat":$now`, `"x":1`, `"exp":$exp`, `"y":1`).Replace(good)
			if name != "exp" {
				payload = strings.Replace(good, `"iat":$now`, `"x":1`, 1)
			}
			cases = append(cases, tokenCase{name: fmt.Sprintf("%s %.24s", name, text), want: "invalid",
				payload: fmt.Sprintf(`{%s,%q:%s}`, payload, name, text)})
		}
	}
	runTokenCases(t, r, cases)
}

// TestVerifyLimitsAreTheIssuers changes leeway and lifetime.
func TestVerifyLimitsAreTheIssuers(t *testing.T) {
	r := newRigWith(t, func(i *token.Issuer) { i.Leeway, i.MaxLifetime = time.Nanosecond, time.Minute })
	at := func(seconds int64) int64 { return r.Now().Unix() + seconds }
	r.wantVerdict(t, r.Mint(claim("exp", at(60))), "")
	r.wantVerdict(t, r.Mint(claim("exp", at(61))), "invalid")
	r.wantVerdict(t, r.Mint(claim("exp", at(0))), "")
	r.wantVerdict(t, r.Mint(map[string]any{"exp": at(-1), "iat": at(-2)}), "expired")
	r.wantVerdict(t, r.Mint(map[string]any{"exp": at(30), "nbf": at(1)}), "not yet valid")
}

// TestVerifyJSON checks that claims have one meaning.
func TestVerifyJSON(t *testing.T) {
	deep := func(n int) string {
		return `{` + good + `,"x":` + strings.Repeat(`{"x":`, n) + "1" + strings.Repeat("}", n) + `}`
	}
	runTokenCases(t, newRig(t), []tokenCase{
		{name: "good", payload: `{` + good + `,"sub":"somebody"}`},
		{name: "white space around", payload: " \r\n\t{" + good + "} \n"},
		{name: "a surrogate pair", payload: `{` + good + `,"sub":"\ud83d\ude00"}`},
		{name: "replacement character", payload: `{` + good + `,"sub":"` + "\uFFFD" + `"}`},
		{name: "empty object", want: "issuer unknown", payload: `{}`},
		{name: "null", want: "malformed", payload: `null`},
		{name: "array", want: "malformed", payload: `[{` + good + `}]`},
		{name: "string", want: "malformed", payload: `"$iss"`},
		{name: "number", want: "malformed", payload: `1`},
		{name: "not JSON", want: "malformed", payload: `iss=$iss`},
		{name: "white space only", want: "malformed", payload: ` `},
		{name: "cut short", want: "malformed", payload: `{` + good},
		{name: "text after", want: "malformed", payload: `{` + good + `}x`},
		{name: "object after", want: "malformed", payload: `{` + good + `}{` + good + `}`},
		{name: "brace after", want: "malformed", payload: `{` + good + `}}`},
		{name: "NUL after", want: "malformed", payload: `{` + good + "}\x00"},
		{name: "byte order mark", want: "malformed", payload: "\uFEFF{" + good + `}`},
		{name: "trailing comma", want: "malformed", payload: `{` + good + `,}`},
		{name: "comment", want: "malformed", payload: `{` + good + `/**/}`},
		{name: "NaN", want: "malformed", payload: `{` + good + `,"nbf":NaN}`},
		{name: "leading zero", want: "malformed", payload: `{` + good + `,"nbf":01}`},
		{name: "plus sign", want: "malformed", payload: `{` + good + `,"nbf":+1}`},
		{name: "hexadecimal", want: "malformed", payload: `{` + good + `,"nbf":0x1}`},
		{name: "single quotes", want: "malformed", payload: `{` + good + `,'a':1}`},
		{name: "raw control character", want: "malformed", payload: `{` + good + ",\"a\":\"\x01\"}"},
		{name: "exp twice", want: "malformed", payload: `{` + good + `,"exp":$exp}`},
		{name: "iss twice", want: "malformed", payload: `{"iss":"https://somebody.example",` + good + `}`},
		{name: "sub twice", want: "malformed", payload: `{` + good + `,"sub":"alice","sub":"somebody"}`},
		{name: "sub twice by an escape", want: "malformed", payload: `{` + good + `,"sub":"alice","s\u0075b":"somebody"}`},
		{name: "nested twice", want: "malformed", payload: `{` + good + `,"a":{"b":[{"c":1,"c":2}]}}`},
		{name: "name twice in different objects", payload: `{` + good + `,"a":{"b":1},"c":{"b":1}}`},
		{name: "invalid UTF-8 value", want: "malformed", payload: `{` + good + ",\"sub\":\"tom\xff\"}"},
		{name: "invalid UTF-8 name", want: "malformed", payload: `{` + good + ",\"sub\xff\":1}"},
		{name: "overlong UTF-8", want: "malformed", payload: `{` + good + ",\"sub\":\"\xc0\xaf\"}"},
		{name: "surrogate in UTF-8", want: "malformed", payload: `{` + good + ",\"sub\":\"\xed\xa0\x80\"}"},
		{name: "lone high surrogate", want: "malformed", payload: `{` + good + `,"sub":"\ud800"}`},
		{name: "lone low surrogate", want: "malformed", payload: `{` + good + `,"sub":"\udc00"}`},
		{name: "swapped surrogates", want: "malformed", payload: `{` + good + `,"sub":"\ude00\ud83d"}`},
		{name: "lone surrogate in a name", want: "malformed", payload: `{` + good + `,"\ud800":1}`},
		{name: "32 deep", payload: deep(31)},
		{name: "33 deep", want: "malformed", payload: deep(32)},
		{name: "2000 deep", want: "malformed", payload: deep(1500)},
		{name: "unused bits", want: "malformed", payload: `{` + good + `}`, edit: withUnusedBits},
	})
}

// withUnusedBits changes bits of the claims that do not count. The issuer's port changes the length, so the
// segment is replaced by one that surely has such bits.
func withUnusedBits(raw string) string {
	parts := strings.Split(raw, ".")
	parts[1] = "e31" // {} is e30
	return strings.Join(parts, ".")
}
