package teams_test

import (
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/extauthz/extauthz/pkg/teams"
)

// FuzzRoutes: a valid pattern matches what its regular expression matches, an invalid one at most itself,
// and lists and groups match what their members match.
func FuzzRoutes(f *testing.F) {
	for _, seed := range [][3]string{
		{"/v1/chat/completions", "POST", "/v1/chat/completions"}, {"GET /v1/files/*", "GET", "/v1/files/a/b"},
		{"/m/{model}:generateContent", "POST", "/m/a:b:generateContent"}, {"/*", "PURGE", "/"}, {"/public", "GET", "/publicx"},
		{"/a/{x}-{y}", "GET", "/a/b"}, {"/a/*/b", "GET", "/a/*/b"}, {"/{}", "GET", "/a"}, {"PURGE /a", "PURGE", "/a"}, {"openai_routes", "GET", "/v1/models"},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	f.Fuzz(func(t *testing.T, pattern, method, path string) {
		if !utf8.ValidString(pattern) {
			return // a configuration and a row hold text
		}
		routes, err := teams.NewRoutes(nil)
		if err != nil {
			t.Fatal(err)
		}
		valid, got := routes.Check(pattern) == nil, routes.Match([]string{pattern}, method, path)
		switch {
		case !strings.Contains(pattern, "/") && valid: // a group
			if got != routes.Match(routes.Members(pattern), method, path) {
				t.Errorf("the group matches: %v, its members do not agree", got)
			}
		case valid:
			if want := matchesExpression(pattern, method, path); got != want {
				t.Errorf("matched: %v, the expression: %v", got, want)
			}
		case got && pattern != path && pattern != method+" "+path:
			t.Error("an invalid pattern matched more than itself")
		}
		if got && !routes.Covers([]string{pattern}, method, path) {
			t.Error("matched and not covered")
		}
		if !routes.Allow(nil, method, path) || routes.Allow([]string{pattern}, method, path) != got {
			t.Error("a list with one pattern does not allow what the pattern matches")
		}
		if both := routes.Match([]string{"/other", pattern}, method, path); both != (got || routes.Match([]string{"/other"}, method, path)) {
			t.Error("a longer list does not match what its patterns match")
		}
		if own, err := teams.NewRoutes(map[string][]string{"own": {pattern}}); (err == nil) != valid || valid && own.Match([]string{"own"}, method, path) != got {
			t.Errorf("a group of the pattern does not match what the pattern matches (%v)", err)
		}
	})
}

var placeholder = regexp.MustCompile(`\\\{.+?\\\}`)

// matchesExpression is what the documentation says of a pattern, as a regular expression.
func matchesExpression(pattern, method, path string) bool {
	want, route, named := strings.Cut(pattern, " ")
	if !named {
		want, route = "GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS", pattern
	}
	below := strings.HasSuffix(route, "/*")
	expression := placeholder.ReplaceAllString(regexp.QuoteMeta(strings.TrimSuffix(route, "*")), `[^/]+`)
	if below {
		expression += ".*"
	}
	return regexp.MustCompile("^(?s:(?:" + want + ") " + expression + ")$").MatchString(method + " " + path)
}
