package teams_test

import (
	"strings"
	"testing"

	"github.com/extauthz/extauthz/pkg/teams"
)

func TestRoutes(t *testing.T) {
	routes, err := teams.NewRoutes(map[string][]string{"mine": {"POST /mine/{id}", "info_routes"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []struct {
		pattern, method, path string
		match                 bool
	}{
		{"/v1/chat", "POST", "/v1/chat", true},
		{"/v1/chat", "GET", "/v1/chat", true},
		{"/v1/chat", "POST", "/v1/chatx", false},
		{"/v1/chat", "POST", "/v1/chat/", false},
		{"/v1/chat", "POST", "/v1/chat/x", false},
		{"/v1/chat", "POST", "/V1/chat", false},
		{"/v1/chat", "POST", "/v1", false},
		{"/v1/chat", "POST", "/", false},
		{"/", "GET", "/", true},
		{"/", "GET", "/x", false},
		{"POST /v1/chat", "POST", "/v1/chat", true},
		{"POST /v1/chat", "GET", "/v1/chat", false},
		{"POST /v1/chat", "post", "/v1/chat", false},
		{"POST /v1/chat", "POSTX", "/v1/chat", false},
		{"/v1/*", "GET", "/v1/a", true},
		{"/v1/*", "GET", "/v1/a/b/c", true},
		{"/v1/*", "GET", "/v1/", true},
		{"/v1/*", "GET", "/v1", false},
		{"/v1/*", "GET", "/v10/a", false},
		{"/*", "GET", "/", true},
		{"/*", "GET", "/anything/below", true},
		{"/v1/{id}", "GET", "/v1/a", true},
		{"/v1/{id}", "GET", "/v1/", false},
		{"/v1/{id}", "GET", "/v1/a/b", false},
		{"/v1/{id}/x", "GET", "/v1/a/x", true},
		{"/m/{model}:generate", "POST", "/m/gemini:generate", true},
		{"/m/{model}:generate", "POST", "/m/:generate", false},
		{"/m/{model}:generate", "POST", "/m/gemini:generated", false},
		{"/m/v{n}", "GET", "/m/v1", true},
		{"/m/v{n}", "GET", "/m/x1", false},
		{"/v1/chat", "PROPFIND", "/v1/chat", false}, // unknown methods match only a pattern that names them
		{"PROPFIND /v1/chat", "PROPFIND", "/v1/chat", true},
		{"/v1/chat", "", "/v1/chat", false},
		{"/v1/chat", "GET HEAD", "/v1/chat", false},
		{"openai_routes", "POST", "/v1/chat/completions", true},
		{"openai_routes", "POST", "/chat/completions", true},
		{"openai_routes", "POST", "/openai/deployments/gpt-4o/chat/completions", true},
		{"openai_routes", "POST", "/v1/messages", false},
		{"openai_routes", "POST", "/key/generate", false},
		{"anthropic_routes", "POST", "/v1/messages", true},
		{"anthropic_routes", "GET", "/v1/messages", false},
		{"google_routes", "POST", "/v1beta/models/gemini-2.0-flash:streamGenerateContent", true},
		{"google_routes", "POST", "/v1beta/models/gemini-2.0-flash:delete", false},
		{"mcp_routes", "POST", "/mcp", true},
		{"info_routes", "GET", "/v1/models", true},
		{"management_routes", "POST", "/key/generate", true},
		{"management_routes", "POST", "/keys", false},
		{"management_routes", "POST", "/key", true},
		{"management_routes", "PROPFIND", "/key", false},
		{"management_routes", "", "/key", false},
		{"mine", "POST", "/mine/7", true},
		{"mine", "GET", "/v1/models", true},
		{"mine", "GET", "/mine/7", false},
		{"no_such_group", "GET", "/no_such_group", false},
		{"no_such_group", "GET", "no_such_group", false},
		{"", "GET", "/", false},
		{"v1/chat", "GET", "/v1/chat", false},
	} {
		if got := routes.Match([]string{line.pattern}, line.method, line.path); got != line.match {
			t.Errorf("%q matches %s %s: %v, want %v", line.pattern, line.method, line.path, got, line.match)
		}
	}
	if !routes.Allow(nil, "GET", "/x") || routes.Match(nil, "GET", "/x") {
		t.Error("an empty list restricts nothing and matches nothing")
	}
}

func TestBadRoutesAreNamed(t *testing.T) {
	routes, err := teams.NewRoutes(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{
		"", "nosuchgroup", "post /v1", "POST  /v1", "POST v1/x", "/v1/../x", "/v1//x", "/v1/./x", "/v1/*/x", "/v1/a*",
		"/v1/{a}{b}", "/v1/{}", "/v1/}a{", "/v1?x=1", "/v1#x", "/v1%2Fx", `/v1\x`, "/v1/a b", "/v1;x", "/v1\x00",
	} {
		err := routes.Check(pattern)
		if err == nil {
			t.Errorf("%q is accepted", pattern)
		} else if strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: the error has several lines: %v", pattern, err)
		}
		if routes.Match([]string{pattern}, "GET", "/v1") {
			t.Errorf("%q, which is invalid, matches", pattern)
		}
	}
}

// Every pattern of the built-in groups must be one that Check accepts.
func TestBuiltinGroupsAreValid(t *testing.T) {
	routes, err := teams.NewRoutes(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range routes.Groups() {
		own, err := teams.NewRoutes(map[string][]string{"copy": {name}})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, pattern := range own.Members("copy") {
			if err := own.Check(pattern); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestOwnGroups(t *testing.T) {
	for name, groups := range map[string]map[string][]string{
		"a built-in name":  {"openai_routes": {"/x"}},
		"a bad name":       {"My Group": {"/x"}},
		"a bad pattern":    {"mine": {"x/y"}},
		"an unknown group": {"mine": {"other"}},
	} {
		if _, err := teams.NewRoutes(groups); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func FuzzMatch(f *testing.F) {
	f.Add("/v1/*", "GET", "/v1/x")
	f.Add("POST /m/{model}:go", "POST", "/m/a:go")
	routes, err := teams.NewRoutes(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, pattern, method, path string) {
		matched := routes.Match([]string{pattern}, method, path)
		if routes.Check(pattern) != nil || !matched {
			return
		}
		// A pattern without placeholders and wildcards matches its own text and nothing else.
		_, literal, named := strings.Cut(pattern, " ")
		if !named {
			literal = pattern
		}
		if strings.HasPrefix(literal, "/") && !strings.ContainsAny(literal, "*{") && literal != path {
			t.Fatalf("%q matches %q", pattern, path)
		}
	})
}
