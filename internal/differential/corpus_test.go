package differential

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// sample is one token of the corpus; class says how it was made.
type sample struct{ class, token string }

// The classes whose verdict is plain.
const good, foreign = "good", "signed by somebody else"

// corpus makes the tokens. It is the same in each run.
type corpus struct {
	policy
	own, others []key // others are somebody else's of the same names
	rng         *rand.Rand
	seen        map[string]bool
	samples     []sample
}

func newCorpus(p policy, own, others []key) *corpus {
	c := &corpus{policy: p, own: own, others: others, rng: rand.New(rand.NewPCG(1, 2)), seen: map[string]bool{}}
	c.good()
	c.editedMembers()
	c.dates()
	c.jsonTexts()
	c.flips()
	c.swaps()
	c.spellings()
	c.algorithms()
	c.signatures()
	c.mixtures()
	return c
}

// add takes a token up unless it is there already.
func (c *corpus) add(class, token string) {
	if !c.seen[token] {
		c.seen[token] = true
		c.samples = append(c.samples, sample{class, token})
	}
}

// members are those of a JSON object, in order, perhaps with a name twice: values are JSON text.
type members [][2]string

func (m members) set(name, value string) members {
	return append(m.without(name), [2]string{name, value})
}

// twice puts a member before the others, which may have the name too.
func (m members) twice(name, value string) members {
	return append(members{{name, value}}, m...)
}

func (m members) without(name string) members {
	return slices.DeleteFunc(slices.Clone(m), func(member [2]string) bool { return member[0] == name })
}

func (m members) String() string {
	list := make([]string, len(m))
	for n, member := range m {
		list[n] = quote(member[0]) + ":" + member[1]
	}
	return "{" + strings.Join(list, ",") + "}"
}

func quote(text string) string {
	quoted, err := json.Marshal(text)
	if err != nil {
		panic(err)
	}
	return string(quoted)
}

func (k key) header() members {
	return members{{"alg", quote(k.alg)}, {"kid", quote(k.kid)}, {"typ", `"JWT"`}}
}

func (c *corpus) claims() members {
	return members{
		{"iss", quote(c.Issuer)}, {"aud", quote(c.Audience)}, {"sub", `"alice"`},
		{"iat", fmt.Sprint(c.Now)}, {"exp", fmt.Sprint(c.Now + 300)},
	}
}

func (k key) token(header, claims string) string {
	input := encode([]byte(header)) + "." + encode([]byte(claims))
	return input + "." + encode(k.sign(input))
}

func (c *corpus) anyKey() key { return c.own[c.rng.IntN(len(c.own))] }

// signer is the key itself, or one time in ten somebody else's of the same name.
func (c *corpus) signer(k key) key {
	if c.rng.IntN(10) > 0 {
		return k
	}
	for _, other := range c.others {
		if other.kid == k.kid {
			return other
		}
	}
	return k
}

func pick[T any](c *corpus, list []T) T { return list[c.rng.IntN(len(list))] }

// good are tokens that all must accept, and their like of somebody else's.
func (c *corpus) good() {
	for n, k := range c.own {
		for _, claims := range []members{
			c.claims(), c.claims().without("iat"), c.claims().set("nbf", fmt.Sprint(c.Now)), c.claims().set("aud", `["x",`+quote(c.Audience)+`]`),
			c.claims().set("groups", `["a","b"]`), c.claims().set("exp", fmt.Sprintf("%d.5", c.Now+60)), c.claims().set("n", "1e400"),
		} {
			c.add(good, k.token(k.header().String(), claims.String()))
			c.add(good, k.token(k.header().without("typ").String(), claims.String()))
			c.add(foreign, c.others[n].token(k.header().String(), claims.String()))
		}
	}
}

// values are what members are set to.
func (c *corpus) values() []string {
	list := []string{
		"null", "true", "false", "0", "-0", "-1", "1", "1e300", "1e400", "-1e400", "1e18", "9007199254740992", "9223372036854775808", "0.5",
		"[]", "{}", "[null]", `[""]`, `{"a":[{"b":1}]}`, `""`, `" "`, `"\u0000"`, `"a\u0000"`, `"\u00e9"`, `"\ud83d\ude00"`, `"\ud800"`, `"*"`,
	}
	for _, text := range []string{
		"none", "None", "HS256", "RS256", "RS512", "PS256", "ES256", "ES384", "EdDSA", "Ed25519", "rsa", "ec", "ed", "RSA", "nobody", "JWT", "jwt",
		"at+jwt", "application/at+jwt", "logout+jwt", "dpop+jwt", "exp", "b64", c.Issuer, c.Issuer + "/", c.Audience, strings.Repeat("k", 257),
	} {
		list = append(list, quote(text), "["+quote(text)+"]")
	}
	for _, seconds := range []int64{-300, 0, 300} {
		list = append(list, fmt.Sprint(c.Now+seconds), quote(fmt.Sprint(c.Now+seconds)), fmt.Sprintf("[%d]", c.Now+seconds))
	}
	return list
}

// editedMembers sets, doubles and drops members of the header and of the claims.
func (c *corpus) editedMembers() {
	for _, name := range []string{
		"alg", "kid", "typ", "crit", "b64", "jku", "jwk", "x5u", "x5c", "x5t", "cty", "zip", "enc", "p2c", "ALG", "Kid", "",
	} {
		k := c.anyKey()
		c.add("header without "+name, k.token(k.header().without(name).String(), c.claims().String()))
		for _, value := range c.values() {
			k := c.anyKey()
			c.add("header "+name, c.signer(k).token(k.header().set(name, value).String(), c.claims().String()))
			c.add("header twice "+name, c.signer(k).token(k.header().twice(name, value).String(), c.claims().String()))
		}
	}
	for _, name := range []string{"iss", "aud", "exp", "nbf", "iat", "sub", "jti", "EXP", "Aud", "other", ""} {
		k := c.anyKey()
		c.add("claims without "+name, k.token(k.header().String(), c.claims().without(name).String()))
		for _, value := range c.values() {
			k := c.anyKey()
			c.add("claim "+name, c.signer(k).token(k.header().String(), c.claims().set(name, value).String()))
			c.add("claim twice "+name, c.signer(k).token(k.header().String(), c.claims().twice(name, value).String()))
		}
	}
}

// dates go around every bound.
func (c *corpus) dates() {
	const day = 86400
	for _, name := range []string{"exp", "nbf", "iat"} {
		for _, seconds := range []float64{
			-400 * day, -3600, -61, -31, -30.5, -30, -29.5, -29, -1, -0.5, 0, 0.5, 1, 29, 29.5, 30, 30.5, 31, 61, 3600,
			day - 1, day, day + 1, day + 31, 365 * day, 1e6 * day, 1e12,
		} {
			for _, format := range []string{"%.0f", "%.1f", "%.9e", `"%.0f"`} {
				k, date := c.anyKey(), fmt.Sprintf(format, float64(c.Now)+seconds)
				c.add("date "+name, k.token(k.header().String(), c.claims().set(name, date).String()))
			}
		}
	}
}

// jsonTexts are texts of header and claims that readers may read differently.
func (c *corpus) jsonTexts() {
	for _, change := range []func(string) string{
		func(s string) string { return " \r\n\t" + s + " \n" }, func(s string) string { return "\uFEFF" + s }, func(s string) string { return s + "x" },
		func(s string) string { return s + "{}" }, func(s string) string { return s + "\x00" }, func(s string) string { return s[:len(s)-1] },
		func(s string) string { return s[:len(s)-1] + ",}" }, func(s string) string { return s[:len(s)-1] + "/**/}" },
		func(s string) string { return "[" + s + "]" }, func(s string) string { return quote(s) }, func(string) string { return "" },
		func(string) string { return "null" }, func(string) string { return "{}" }, func(string) string { return "1" },
		func(s string) string { return s[:len(s)-1] + ",\"x\":\"\xff\"}" }, func(s string) string { return s[:len(s)-1] + ",\"\xff\":1}" },
		func(s string) string { return s[:len(s)-1] + ",\"x\":\"\xed\xa0\x80\"}" }, func(s string) string { return s[:len(s)-1] + ",\"x\":\"\xc0\xaf\"}" },
		func(s string) string { return s[:len(s)-1] + `,"x":"\ud800"}` }, func(s string) string { return s[:len(s)-1] + `,"x":{"y":1,"y":2}}` },
		func(s string) string { return s[:len(s)-1] + `,"x":NaN}` }, func(s string) string { return s[:len(s)-1] + `,"x":Infinity}` },
		func(s string) string { return s[:len(s)-1] + `,"x":01}` }, func(s string) string { return s[:len(s)-1] + `,"x":+1}` },
		func(s string) string { return s[:len(s)-1] + `,"x":.5}` }, func(s string) string { return s[:len(s)-1] + ",\"x\":\"\n\"}" },
		func(s string) string { return strings.ReplaceAll(s, `"`, `'`) }, func(s string) string { return strings.Replace(s, `"alg"`, `"\u0061lg"`, 1) },
		func(s string) string { return strings.Replace(s, `"iss"`, `"\u0069ss"`, 1) }, func(s string) string { return strings.ReplaceAll(s, "/", `\/`) },
		func(s string) string {
			return s[:len(s)-1] + `,"x":` + strings.Repeat("[", 31) + strings.Repeat("]", 31) + "}"
		},
		func(s string) string {
			return s[:len(s)-1] + `,"x":` + strings.Repeat("[", 32) + strings.Repeat("]", 32) + "}"
		},
		func(s string) string {
			return s[:len(s)-1] + `,"x":` + strings.Repeat("[", 900) + strings.Repeat("]", 900) + "}"
		},
		func(s string) string { return s[:len(s)-1] + `,"x":"` + strings.Repeat("x", 12000) + `"}` },
		func(s string) string { return s[:len(s)-1] + `,"x":"` + strings.Repeat("x", 20000) + `"}` },
	} {
		for _, k := range c.own {
			c.add("JSON of the header", k.token(change(k.header().String()), c.claims().String()))
			c.add("JSON of the claims", k.token(k.header().String(), change(c.claims().String())))
		}
	}
}
