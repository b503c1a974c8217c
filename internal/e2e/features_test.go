package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// newKeyset makes a keyset and returns its path.
func newKeyset(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keyset.json")
	if out, err := exec.CommandContext(t.Context(), binary, "keyset", "new", path).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return path
}

// The upstream gets the caller's virtual key in place of the JWT, and a caller without one is denied.
func TestUpstreamGetsTheVirtualKey(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(*testing.T) database) {
		keyset := newKeyset(t)
		config := autoRegister + "upstream_credential: virtual_key\nsealing: {keyset_file: " + keyset + "}\n"
		const secret = "sk-upstream-0123456789"
		s := newSite(t, open(t), plan{config: config, resources: teamA + `
keys: [{alias: sealed, secret: ` + secret + `, team_id: a}, {alias: hashed, hash: ` + strings.Repeat("ab", 32) + `, team_id: a}]
mappings: [{claim: client_id, value: sealed, key: sealed}, {claim: client_id, value: hashed, key: hashed}]
`})
		as := func(client string) answer { return s.as(with(client1(), "client_id", client)) }
		mapped := as("sealed")
		s.outcome(mapped, 200, "mapping")
		if got := mapped.sees("authorization"); got != "Bearer "+secret {
			t.Errorf("the upstream got %q", got)
		}
		s.expect(as("hashed"), 500, "key_secret_unavailable")
		registered := as("new")
		s.outcome(registered, 200, "auto_register")
		first := registered.sees("authorization")
		if !strings.HasPrefix(first, "Bearer sk-") || len(first) != len("Bearer sk-")+43 {
			t.Errorf("the upstream got %q for a registered caller", first)
		}
		direct := s.servers[0].do(call{token: secret})
		s.outcome(direct, 200, "virtual_key")
		if got := direct.sees("authorization"); got != "Bearer "+secret {
			t.Errorf("the upstream got %q for a direct key", got)
		}
		s.expect(s.servers[0].do(call{token: strings.TrimPrefix(first, "Bearer ")}), 401, "key_unknown") // for mapped callers only

		s.cli("keyset", "rotate", keyset)
		s.servers[0].awaitLog("keyset reloaded")
		s.outcome(as("sealed"), 200, "mapping") // sealed with the old key
		rotated := as("after-rotation")
		s.outcome(rotated, 200, "auto_register")
		if err := os.WriteFile(keyset, []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
		s.servers[0].awaitLog("keyset not reloaded")
		s.outcome(as("after-rotation"), 200, "mapping") // the last good keyset stays
	})
}

// A key whose text a file has is sealed once: to apply the file again touches no row. After a rotation it is
// sealed with the new key, again once, and the upstream gets the same text throughout.
func TestApplySealsOnce(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(*testing.T) database) {
		keyset := newKeyset(t)
		const secret = "sk-upstream-0123456789"
		resources := teamA + "keys: [{alias: sealed, secret: " + secret + ", team_id: a}]\nmappings: [{claim: client_id, value: client-1, key: sealed}]\n"
		s := newSite(t, open(t), plan{config: reject + "upstream_credential: virtual_key\nsealing: {keyset_file: " + keyset + "}\n", resources: resources})
		state := func() string {
			key := s.export().Keys[0]
			return fmt.Sprintf("%x of %s", key.Sealed, s.store.texts(t, "SELECT CAST(updated_at AS text) FROM virtual_keys"))
		}
		first := state()
		s.apply(resources)
		if again := state(); again != first {
			t.Errorf("applied again: %s, want %s", again, first)
		}
		s.cli("keyset", "rotate", keyset)
		s.apply(resources)
		rotated := state()
		if rotated == first {
			t.Error("the key is not sealed anew after the rotation")
		}
		s.apply(resources)
		if again := state(); again != rotated {
			t.Errorf("applied again after the rotation: %s, want %s", again, rotated)
		}
		s.servers[0].awaitLog("keyset reloaded")
		a := s.as(client1())
		s.outcome(a, 200, "mapping")
		if got := a.sees("authorization"); got != "Bearer "+secret {
			t.Errorf("the upstream got %q", got)
		}
	})
}

// awaitLog waits for a line of the server's log.
func (v *server) awaitLog(message string) {
	v.t.Helper()
	v.awaitLogs(message, 1)
}

// awaitLogs waits for so many such lines.
func (v *server) awaitLogs(message string, lines int) {
	v.t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for strings.Count(v.logged(), message) < lines {
		select {
		case <-deadline:
			v.t.Fatalf("the log never said %q:\n%s", message, v.logged())
		case <-tick.C:
		}
	}
}

func TestShadowAndProfiles(t *testing.T) {
	config := reject + `policy:
  roles: [{role: user}]
profiles:
- {name: shadow, mode: shadow}
- {name: strict, policy: {rules: [{name: never, expression: "false", message: closed for everyone}]}}
- {name: lenient, policy: {}, mapping: {no_match_mode: shadow}}
`
	profile := func(name string) func(map[string]any) {
		return func(tree map[string]any) { setProfile(tree, name) }
	}
	eachStore(t, func(t *testing.T, open func(*testing.T) database) {
		user := with(client1(), "realm_access", roles("user"))
		for name, c := range map[string]struct {
			profile      string
			claims       map[string]any
			status       int
			what, shadow string
		}{
			"none":                   {"", user, 403, "no_mapping", ""},
			"shadow, no mapping":     {"shadow", user, 200, "shadow", "no_mapping"},
			"shadow, no role":        {"shadow", client1(), 200, "shadow", "role_missing"},
			"shadow, no token":       {"shadow", nil, 200, "shadow", "token_missing"},
			"strict":                 {"strict", user, 403, "rule_failed", ""},
			"lenient":                {"lenient", client1(), 200, "fallback", "no_mapping"},
			"a profile nobody knows": {"nope", user, 500, "profile_unknown", ""},
		} {
			t.Run(name, func(t *testing.T) {
				s := newSite(t, open(t), plan{config: config, resources: teamA, envoy: profile(c.profile)})
				request := call{}
				if c.claims != nil {
					request.token = s.issuer.Mint(c.claims)
				}
				a := s.servers[0].do(request)
				s.outcome(a, c.status, c.what)
				if c.what == "rule_failed" && !strings.Contains(a.body, "closed for everyone") {
					t.Errorf("the rule's message is not told: %s", a.body)
				}
				if c.shadow != "" {
					s.servers[0].awaitLog(`"shadow_reason":"` + c.shadow + `"`)
					if metrics := s.servers[0].get("/metrics").Body; !strings.Contains(metrics, `extauthz_shadowed_denials_total{reason="`+c.shadow+`"} 1`) {
						t.Error("the shadowed denial was not counted")
					}
				}
			})
		}
	})
}

// setProfile makes every route select a profile.
func setProfile(tree map[string]any, name string) {
	if name == "" {
		return
	}
	host := tree["static_resources"].(map[string]any)["listeners"].([]any)[0].(map[string]any)["filter_chains"].([]any)[0].(map[string]any)["filters"].([]any)[0].(map[string]any)["typed_config"].(map[string]any)["route_config"].(map[string]any)["virtual_hosts"].([]any)[0].(map[string]any)
	host["typed_per_filter_config"] = map[string]any{"envoy.filters.http.ext_authz": map[string]any{
		"@type":          "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute",
		"check_settings": map[string]any{"context_extensions": map[string]any{"profile": name}},
	}}
}

// explain decides as the server does, says why, and writes nothing.
func TestExplain(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(*testing.T) database) {
		s := newSite(t, open(t), plan{config: autoRegister + "policy: {rules: [{name: amr, expression: \"'mfa' in claims.amr\"}]}\n", resources: teamA})
		explain := func(claims map[string]any) (int, explained) {
			token := filepath.Join(t.TempDir(), "token")
			if err := os.WriteFile(token, []byte(s.issuer.Mint(claims)), 0o600); err != nil {
				t.Fatal(err)
			}
			command := exec.CommandContext(t.Context(), binary, "explain", "--config", s.config, "--token-file", token, "--body", chatBody, "-o", "json")
			command.Env = environment()
			out, _ := command.Output() // the exit code is looked at
			var e explained
			if err := json.Unmarshal(out, &e); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			return command.ProcessState.ExitCode(), e
		}
		code, e := explain(with(client1(), "amr", []string{"mfa"}))
		if code != 0 || e.Decision != "allow" || e.Headers["x-extauthz-source"] != "auto_register" || !e.says("mapping", "would register") || !e.says("policy", `rule "amr" holds`) {
			t.Errorf("exit code %d: %+v", code, e)
		}
		if set := s.export(); len(set.Keys) != 0 || len(set.Mappings) != 0 {
			t.Errorf("explain wrote to the store: %+v", set)
		}
		code, e = explain(client1())
		if code != 3 || e.Decision != "deny" || e.Reason != "rule_failed" || !strings.Contains(e.Error, "amr") {
			t.Errorf("exit code %d: %+v", code, e)
		}
		s.outcome(s.as(with(client1(), "amr", []string{"mfa"})), 200, "auto_register")
		code, e = explain(with(client1(), "amr", []string{"mfa"}))
		if code != 0 || e.Headers["x-extauthz-source"] != "mapping" || !e.says("mapping", "the issuer's own mapping (store)") {
			t.Errorf("exit code %d: %+v", code, e)
		}
	})
}

type explained struct {
	Decision, Reason, Error string
	Headers                 map[string]string
	Steps                   []struct{ Step, Detail string }
}

func (e explained) says(step, detail string) bool {
	for _, s := range e.Steps {
		if s.Step == step && strings.Contains(s.Detail, detail) {
			return true
		}
	}
	return false
}

func TestMembersAndStaticTeams(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(*testing.T) database) {
		s := newSite(t, open(t), plan{config: "policy: {teams: {require_member: true}}\n", resources: "teams: [{id: a, members: [alice]}, {id: b}]\n"})
		s.outcome(s.as(client1()), 200, "team")
		s.expect(s.as(with(client1(), "team", "b")), 403, "team_not_member")
		s.expect(s.as(with(client1(), "sub", "bob")), 403, "team_not_member")
	})
	s := newSite(t, noStore(), plan{config: fallback + "policy: {teams: {static: [{id: a, models: [gpt-4o]}, {id: b, blocked: true}]}}\n"})
	s.outcome(s.as(client1()), 200, "fallback")
	s.expect(s.servers[0].do(call{token: s.issuer.Mint(client1()), body: `{"model":"o1"}`}), 403, "model_forbidden")
	s.expect(s.as(with(client1(), "team", "b")), 403, "team_blocked")
	s.expect(s.as(with(client1(), "team", "c")), 403, "team_unknown")
}

// A budget whose window ended is reset in the store too, and templates shape the keys of their team.
func TestBudgetResetAndTemplates(t *testing.T) {
	past := time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)
	config := `mapping:
  claim: client_id
  no_match: auto_register
  auto_register:
    template: {rpm_limit: 1}
    templates: [{team_id: b, template: {rpm_limit: 2, budget_window: 1d, max_budget: 5, idle_timeout: 1h}}]
`
	eachStore(t, func(t *testing.T, open func(*testing.T) database) {
		s := newSite(t, open(t), plan{config: config, resources: teamA + "users: [{id: u, max_budget: 1, spend: 1, budget_window: 1d, budget_reset_at: " + past + "}]\n"})
		s.outcome(s.as(client1()), 200, "auto_register")
		s.outcome(s.as(map[string]any{"sub": "bob", "team": "b", "client_id": "client-2"}), 200, "auto_register")
		s.servers[0].awaitLog(`"budgets reset"`)
		set := s.export()
		for _, key := range set.Keys {
			ofB := key.TeamID == "b"
			if *key.Limits.RPM != map[bool]int64{false: 1, true: 2}[ofB] || ofB != (key.Budget.Window.String() == "1d") || ofB != (key.IdleTimeout == time.Hour) || !key.JWTOnly {
				t.Errorf("key of team %s: %+v", key.TeamID, key.Key)
			}
		}
		if user := set.Users[0]; user.Budget.Spend != 0 || !user.Budget.ResetAt.After(time.Now()) {
			t.Errorf("the user's budget was not reset: %+v", user.Budget)
		}
	})
}
