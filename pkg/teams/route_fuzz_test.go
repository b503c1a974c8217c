package teams_test

import (
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/extauthz/extauthz/pkg/teams"
)

// FuzzRoutes: a pattern matches what its regular expression matches, in which what is wrong with it stands
// for itself, and lists and groups match what their members match.
func FuzzRoutes(f *testing.F) {
	for _, seed := range [][3]string{
		{"/v1/chat/completions", "POST", "/v1/chat/completions"}, {"GET /v1/files/*", "GET", "/v1/files/a/b"},
		{"/m/{model}:generateContent", "POST", "/m/a:b:generateContent"}, {"/*", "PURGE", "/"}, {"/public", "GET", "/publicx"},
		{"/a/{x}-{y}", "GET", "/a/b"}, {"/a/*/b", "GET", "/a/*/b"}, {"/{}", "GET", "/a"}, {"PURGE /a", "PURGE", "/a"}, {"openai_routes", "GET", "/v1/models"}, {"/a/*/*", "GET", "/a/*/b"},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	f.Fuzz(func(t *testing.T, pattern, method, path string) {
		if !utf8.ValidString(pattern) || !strings.HasPrefix(path, "/") {
			return // a configuration and a row hold text, and package authz refuses any other path
		}
		routes, err := teams.NewRoutes(nil)
		if err != nil {
			t.Fatal(err)
		}
		valid, got := routes.Check(pattern) == nil, routes.Match([]string{pattern}, method, path)
		want := strings.Contains(pattern, "/") && matchesExpression(pattern, method, path)
		if members := routes.Members(pattern); members != nil {
			want = routes.Match(members, method, path)
		}
		if got != want {
			t.Errorf("matched: %v, want %v", got, want)
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

var placeholder = regexp.MustCompile(`^([^{}]*)\{[^{}]+\}([^{}]*)$`)

// matchesExpression is what the documentation says of a pattern, as a regular expression.
func matchesExpression(pattern, method, path string) bool {
	want, route, named := strings.Cut(pattern, " ")
	if !named {
		want, route = "GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS", pattern
	} else {
		want = regexp.QuoteMeta(want)
	}
	if !strings.HasPrefix(route, "/") {
		return false
	}
	segments := strings.Split(route, "/")
	for i, segment := range segments {
		parts := placeholder.FindStringSubmatch(segment)
		switch {
		case segment == "*" && i == len(segments)-1:
			segments[i] = ".*"
		case parts != nil:
			segments[i] = regexp.QuoteMeta(parts[1]) + "[^/]+" + regexp.QuoteMeta(parts[2])
		default:
			segments[i] = regexp.QuoteMeta(segment)
		}
	}
	return regexp.MustCompile("^(?s:(?:" + want + ") " + strings.Join(segments, "/") + ")$").MatchString(method + " " + path)
}
