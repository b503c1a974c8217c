package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/extauthz/extauthz/internal/config"
	configv1 "github.com/extauthz/extauthz/proto/extauthz/config/v1"
)

const minimal = "issuers: [{issuer: https://a.example, audiences: [x]}]\n"

func parse(t *testing.T, yaml string) *configv1.Config {
	t.Helper()
	c, err := config.Parse("f.yaml", []byte(yaml), onlyLevel)
	if err != nil {
		t.Fatalf("%v\nin:\n%s", err, yaml)
	}
	return c
}

func writeFile(t *testing.T, content string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestLoadFullExample(t *testing.T) {
	c, err := config.Load("testdata/full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if got := c.GetIssuers()[0].GetClaims().GetRoles(); got != "realm_access.roles" {
		t.Errorf("claims.roles is %q", got)
	}
	if got := c.GetIssuers()[1].GetClaims().GetTeamId(); got != `https://ci\.example\.com/team` {
		t.Errorf("claims.team_id is %q", got)
	}
	template := c.GetMapping().GetAutoRegister().GetTemplate()
	if template.GetMaxBudget() != "25.50" || template.GetExpiresAfter().AsDuration() != 90*24*time.Hour {
		t.Errorf("template is %v", template)
	}
	if c.GetLog().GetAllowSampleRate() != 0.1 {
		t.Errorf("sample rate is %v", c.GetLog().GetAllowSampleRate())
	}
}

// TestAccepted has what is close to a refusal, and right.
func TestAccepted(t *testing.T) {
	tests := map[string]string{
		"unix socket":             minimal + "server: {address: unix:///run/a.sock, socket_mode: 0600}",
		"every interface":         minimal + "server: {address: ':9001'}",
		"any port, twice":         minimal + "server: {address: '127.0.0.1:0'}\ntelemetry: {address: '127.0.0.1:0'}",
		"IPv6":                    minimal + "server: {address: '[::1]:9001'}",
		"no store":                minimal + "store: {url: none}",
		"registration, no store":  minimal + "store: {url: none}\nmapping: {claim: sub, no_match: auto_register}",
		"postgres":                minimal + `store: {url: "postgres://u:p@db:5432/x?sslmode=require"}`,
		"postgres by socket":      minimal + `store: {url: "postgresql:///x?host=/run/postgresql"}`,
		"loopback issuers":        "issuers: [{issuer: 'http://127.8.9.1:1/a', audiences: [x]}, {issuer: 'http://[::1]', audiences: [x]}, {issuer: http://localhost, audiences: [x]}]",
		"issuers by a slash":      "issuers: [{issuer: https://a.example, audiences: [x]}, {issuer: https://a.example/, audiences: [x]}]",
		"JWKS with a query":       "issuers: [{issuer: https://a.example, audiences: [x], jwks_url: 'https://a.example/keys?p=1'}]",
		"no leeway":               "issuers: [{issuer: https://a.example, audiences: [x], leeway: 0s}]",
		"the issuer's own claim":  "issuers: [{issuer: https://a.example, audiences: [x], mapping: {claim: repo}}]\nmapping: {no_match: reject}",
		"the issuer registers":    "issuers: [{issuer: https://a.example, audiences: [x], mapping: {no_match: auto_register}}]\nmapping: {claim: sub, no_match: reject, auto_register: {max_per_minute: 0}}",
		"selector off":            minimal + `policy: {teams: {selector_header: ""}}`,
		"selector renamed":        minimal + "policy: {teams: {selector_header: x-extauthz-team-id}}\nheaders: {team_id: x-team-id}",
		"a role twice":            "issuers: [{issuer: https://a.example, audiences: [x], claims: {roles: r}}]\npolicy: {roles: [{role: a, routes: [/v1]}, {role: a, routes: [/v2]}]}",
		"routes":                  minimal + "policy: {public_routes: [/, /v1/, '/v1/*', 'GET /v1/{id}/x', '/v1beta/models/{m}:generateContent', mcp_routes]}",
		"two credential headers":  minimal + "credentials: {headers: [x-api-key, authorization]}",
		"comments only in a key":  minimal + "# server:\n",
		"text that looks typed":   minimal + "policy: {teams: {default_team_id: 0042}}",
		"dollars":                 minimal + "policy: {teams: {default_team_id: a$b$}}",
		"CRLF":                    "issuers:\r\n- issuer: https://a.example\r\n  audiences: [x]\r\n",
		"a limit of zero":         minimal + "mapping: {claim: sub, no_match: auto_register, auto_register: {template: {rpm_limit: 0, max_budget: 0}}}",
		"no accepted log records": minimal + "log: {allow_sample_rate: 0}",
	}
	for name, yaml := range tests {
		t.Run(name, func(t *testing.T) { parse(t, yaml) })
	}
}

func TestTextKeepsItsSpelling(t *testing.T) {
	c := parse(t, minimal+"policy: {teams: {default_team_id: 0042}}")
	if got := c.GetPolicy().GetTeams().GetDefaultTeamId(); got != "0042" {
		t.Errorf("0042 became %q", got)
	}
}

func TestExpansion(t *testing.T) {
	values := map[string]string{"TEAM": "a: {b}", "RATE": "0.5", "ON": "true", "MANY": "7", "NEST": "${TEAM}", "EMPTY": ""}
	lookup := func(name string) (string, bool) { v, ok := values[name]; return v, ok }
	yaml := minimal + `
policy: {teams: {default_team_id: "<${TEAM}|${NEST}|$${TEAM}|$TEAM${EMPTY}>"}}
log: {allow_sample_rate: "${RATE}"}
server: {reflection: "${ON}", max_concurrent_streams: "${MANY}", check_timeout: "${MANY}s"}
`
	c, err := config.Parse("f.yaml", []byte(yaml), lookup)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := c.GetPolicy().GetTeams().GetDefaultTeamId(), "<a: {b}|${TEAM}|${TEAM}|$TEAM>"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	s := c.GetServer()
	if c.GetLog().GetAllowSampleRate() != 0.5 || !s.GetReflection() || s.GetMaxConcurrentStreams() != 7 || s.GetCheckTimeout().AsDuration() != 7*time.Second {
		t.Errorf("got %v", c)
	}
}

func TestLoadUsesTheProcessEnvironment(t *testing.T) {
	t.Setenv("EXTAUTHZ_TEST_STORE", "sqlite:/tmp/x.db")
	c, err := config.Load(writeFile(t, minimal+"store:\n  url: ${EXTAUTHZ_TEST_STORE}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got := c.GetStore().GetUrl(); got != "sqlite:/tmp/x.db" {
		t.Errorf("store.url is %q", got)
	}
}

// TestErrorsHideValues puts a secret wherever one may stand, and makes every one of them wrong.
func TestErrorsHideValues(t *testing.T) {
	const secret = "hunter2"
	lookup := func(string) (string, bool) { return secret, true }
	for _, yaml := range []string{
		minimal + "store: {url: hunter2}",
		minimal + "store: {url: [hunter2]}",
		minimal + `store: {url: "postgres://u:hunter2@h:port/x"}`,
		minimal + `store: {url: "sqlite:\u0000hunter2"}`,
		minimal + "store: {url: *hunter2}",
		minimal + "store: {url hunter2-}",
		minimal + `log: {level: "${X}"}`,
		minimal + `log: {allow_sample_rate: "${X}"}`,
		minimal + `server: {reflection: "${X}", address: "${X}"}`,
		minimal + `policy: {public_routes: ["${X}"]}`,
		minimal + `credentials: {headers: ["${X}", "${X}"]}`,
		`issuers: [{issuer: "https://u:hunter2@a.example", audiences: [x]}]`,
		`issuers: [{issuer: "https://u:%zz@hunter2", audiences: [x]}]`,
		`issuers: [{issuer: https://a.example, audiences: [x], jwks_url: "https://u:hunter2@a.example"}]`,
		minimal + "store: {url_file: " + writeFile(t, secret) + "}",
	} {
		_, err := config.Parse("f.yaml", []byte(yaml), lookup)
		if err == nil {
			t.Errorf("accepted:\n%s", yaml)
		} else if strings.Contains(err.Error(), secret) {
			t.Errorf("repeats a secret: %v", err)
		}
	}
}

func TestURLFile(t *testing.T) {
	c := parse(t, minimal+"store: {url_file: "+writeFile(t, "\n postgres://u:p@h/x\n")+"}")
	if got := c.GetStore().GetUrl(); got != "postgres://u:p@h/x" {
		t.Errorf("store.url is %q", got)
	}
	empty := writeFile(t, " \n")
	refuses(t, minimal+"store: {url_file: "+empty+"}", "f.yaml:2:19: store.url_file: names a file that is empty; allowed: a readable file of at most 64 KiB that holds the URL")
	large := writeFile(t, strings.Repeat("x", 64<<10+1))
	refuses(t, minimal+"store: {url_file: "+large+"}", "f.yaml:2:19: store.url_file: the file is too large; allowed: a readable file of at most 64 KiB that holds the URL")
	wrong := writeFile(t, "mysql://u:hunter2@h")
	refuses(t, minimal+"store: {url_file: "+wrong+"}", "f.yaml:2:19: store.url_file: is not the URL of a store; allowed: sqlite:PATH, postgres://…, postgresql://…, none")
}

func TestLoadRefusesWhatItCannotRead(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "none.yaml")
	large := writeFile(t, strings.Repeat("#", config.MaxFileBytes+1))
	for path, reason := range map[string]string{
		missing: "the file cannot be read: no such file or directory",
		large:   "the file is too large",
	} {
		_, err := config.Load(path)
		want := path + ":1:1: document: " + reason + "; allowed: a readable file of at most 1 MiB"
		if err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestMappingOf(t *testing.T) {
	c := parse(t, `
issuers:
- {issuer: https://a.example, audiences: [x]}
- {issuer: https://b.example, audiences: [x], mapping: {claim: repo}}
- {issuer: https://c.example, audiences: [x], claims: {team_id: team}, mapping: {no_match: fallback_team_mapping}}
mapping: {claim: sub, no_match: reject}
`)
	want := []config.Mapping{
		{Claim: "sub", NoMatch: "reject", Mode: "enforce"},
		{Claim: "repo", NoMatch: "reject", Mode: "enforce"},
		{Claim: "sub", NoMatch: "fallback_team_mapping", Mode: "enforce"},
	}
	for i, issuer := range c.GetIssuers() {
		if got := config.MappingOf(c, issuer, nil); got != want[i] {
			t.Errorf("issuer %d: got %v, want %v", i, got, want[i])
		}
	}
}
