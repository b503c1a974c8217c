package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/extauthz/extauthz/internal/resource"
	"github.com/extauthz/extauthz/pkg/teams"
)

// newTeams is a policy under which tokens make teams.
const newTeams = "policy: {teams: {auto_register: {max_per_minute: 0, template: {organization_id: acme, models: [\"gpt-4o*\"], allowed_routes: [openai_routes], max_budget: 10.5, budget_window: 1mo, rpm_limit: 60, tpm_limit: 0}}}}\n"

// ofTeam is a token's claims with the team that it names.
func ofTeam(team string) map[string]any { return with(client1(), "team", team) }

// A team that a token names is made from the template, once, and its limits apply from its first request on.
func TestTeamFromToken(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(*testing.T) database) {
		s := newSite(t, open(t), plan{config: autoRegister + newTeams, resources: teamA})
		before := s.export()
		first := s.as(ofTeam("new"))
		s.outcome(first, 200, "auto_register")
		if first.sees("x-extauthz-team-id") != "new" || first.sees("x-extauthz-org-id") != "acme" {
			t.Errorf("the upstream saw %v", first.upstream.Headers)
		}
		s.outcome(s.as(ofTeam("new")), 200, "mapping")
		if calls := s.servers[0].storeCalls("register_team"); calls != 1 {
			t.Errorf("the team was written %d times", calls)
		}
		set := s.export()
		made := set.Teams[len(set.Teams)-1]
		if ends := made.Budget.ResetAt; !ends.After(time.Now()) || ends.Day() != 1 || time.Until(ends) > 31*24*time.Hour {
			t.Errorf("its budget starts again at %v", ends)
		}
		ceiling, rpm, tpm := teams.Micros(10_500_000), int64(60), int64(0)
		want := resource.Team{Members: []teams.UserID{}, Team: teams.Team{
			ID: "new", OrganizationID: "acme", Models: []string{"gpt-4o*"}, AllowedRoutes: []string{"openai_routes"},
			Budget: teams.Budget{Max: &ceiling, Window: made.Budget.Window, ResetAt: made.Budget.ResetAt}, Limits: teams.Limits{RPM: &rpm, TPM: &tpm},
		}}
		if len(set.Teams) != len(before.Teams)+1 || made.Budget.Window.String() != "1mo" || !reflect.DeepEqual(made, want) {
			t.Errorf("the team is %+v\nwant %+v", made, want)
		}
		if key := set.Keys[0]; key.TeamID != "new" {
			t.Errorf("the registered key is of team %q", key.TeamID)
		}
		s.store.exec(t, "UPDATE teams SET spend_micros = max_budget_micros WHERE id = 'new'")
		s.expect(s.serve(plan{}).do(call{token: s.issuer.Mint(ofTeam("new"))}), 429, "budget_exceeded")
		s.store.exec(t, "UPDATE teams SET blocked = true WHERE id = 'new'")
		s.expect(s.serve(plan{}).do(call{token: s.issuer.Mint(ofTeam("new"))}), 403, "team_blocked")
		if again := s.export().Teams; len(again) != len(set.Teams) || !again[len(again)-1].Blocked {
			t.Errorf("a blocked team was made anew: %+v", again)
		}
	})
}

// Whom the policy refuses leaves no team behind.
func TestRefusedCallerMakesNoTeam(t *testing.T) {
	policy := `policy:
  roles: [{role: user}]
  scopes: [{scope: chat}]
  email_domains: [corp.example.com]
  teams:
    rules: [{name: named, expression: "team.id == 'good'"}]
    auto_register: {template: {organization_id: acme, models: ["gpt-4o*"]}}
`
	good := func() map[string]any {
		return map[string]any{
			"sub": "alice", "team": "good", "email": "alice@corp.example.com", "realm_access": roles("user"), "scope": "chat",
		}
	}
	eachStore(t, func(t *testing.T, open func(*testing.T) database) {
		s := newSite(t, open(t), plan{config: policy, resources: teamA})
		before := s.export()
		s.expect(s.as(without(good(), "realm_access")), 403, "role_missing")
		s.expect(s.as(with(good(), "scope", "other")), 403, "scope_missing")
		s.expect(s.as(with(good(), "email", "alice@example.com")), 403, "email_domain")
		s.expect(s.as(with(good(), "team", "bad")), 403, "rule_failed")
		s.expect(s.as(with(good(), "org", "nope")), 403, "org_unknown")
		s.expect(s.servers[0].do(call{token: s.issuer.Mint(good()), body: `{"model":"o1"}`}), 403, "model_forbidden")
		s.expect(s.servers[0].do(call{token: "x" + s.issuer.Mint(good())}), 401, "token_malformed")
		if after := s.export(); !reflect.DeepEqual(after, before) {
			t.Errorf("refused callers left %+v", after)
		}
		s.outcome(s.as(good()), 200, "team")
	})
}

// 32 first requests of one team at once, through two servers: one team and one key, everybody passes, and
// only one of them spends the issuer's rate.
func TestConcurrentFirstRequestsOfATeam(t *testing.T) {
	config := autoRegister + "policy: {teams: {auto_register: {max_per_minute: 1, template: {rpm_limit: 5}}}}\n"
	eachStore(t, func(t *testing.T, open func(*testing.T) database) {
		s := newSite(t, open(t), plan{config: config, resources: teamA, servers: 2})
		token := s.issuer.Mint(ofTeam("new"))
		var group sync.WaitGroup
		for n := range 32 {
			group.Go(func() {
				a, err := s.servers[n%2].send(t.Context(), call{token: token})
				if err != nil || a.status != 200 || a.sees("x-extauthz-team-id") != "new" {
					t.Errorf("%v %v", a, err)
				}
			})
		}
		group.Wait()
		set := s.export()
		if len(set.Teams) != 3 || len(set.Keys) != 1 || len(set.Mappings) != 1 {
			t.Errorf("%d teams, %d keys, %d mappings; want 3, 1 and 1", len(set.Teams), len(set.Keys), len(set.Mappings))
		}
		for _, server := range s.servers {
			if calls := server.storeCalls("register_team"); calls > 1 {
				t.Errorf("one server wrote the team %d times", calls)
			}
		}
		s.expect(s.as(ofTeam("second")), 403, "registration_limited") // the rate is spent
		s.outcome(s.as(client1()), 200, "auto_register")              // for new teams only
	})
}

// A team that cannot be written is no allow, and one that the store cannot be asked for is not taken for a
// new one.
func TestNoTeamWithoutItsStore(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(*testing.T) database) {
		s := newSite(t, open(t), plan{config: newTeams, resources: teamA})
		s.store.suppress(t, "teams")
		s.expect(s.as(ofTeam("new")), 503, "registration_conflict")
		s.store.refuse(t, "teams")
		s.expect(s.as(ofTeam("new")), 503, "store_unavailable")
		if set := s.export(); len(set.Teams) != 2 {
			t.Errorf("teams: %+v", set.Teams)
		}
		s.store.exec(t, "ALTER TABLE teams RENAME TO gone")
		s.expect(s.as(ofTeam("other")), 503, "store_unavailable")
	})
}

// A stale absence, here of a team that the operator declared meanwhile, is not what decides.
func TestStaleAbsenceOfATeam(t *testing.T) {
	config := "policy: {teams: {auto_register: {max_teams: 2, template: {}}}}\n"
	eachStore(t, func(t *testing.T, open func(*testing.T) database) {
		s := newSite(t, open(t), plan{config: config, resources: teamA})
		s.expect(s.as(ofTeam("late")), 403, "registration_limited") // caches the absence
		s.apply("teams: [{id: late, models: [o1]}, {id: x, alias: later}]\n")
		s.expect(s.as(ofTeam("late")), 403, "model_forbidden") // by the operator's row
		s.expect(s.as(ofTeam("later")), 403, "team_unknown")
	})
}

func TestExplainOfANewTeam(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(*testing.T) database) {
		s := newSite(t, open(t), plan{config: autoRegister + strings.Replace(newTeams, "teams: {", "teams: {by_alias: true, ", 1),
			resources: "organizations: [{id: acme}]\nteams: [{id: a}, {id: c, alias: Twin}, {id: d, alias: Twin}]\n"})
		before := s.export()
		explain := func(team string) explained {
			token := filepath.Join(t.TempDir(), "token")
			if err := os.WriteFile(token, []byte(s.issuer.Mint(ofTeam(team))), 0o600); err != nil {
				t.Fatal(err)
			}
			command := exec.CommandContext(t.Context(), binary, "explain", "--config", s.config, "--token-file", token, "--body", chatBody, "-o", "json")
			command.Env = environment()
			out, _ := command.Output() // the answer is looked at
			var e explained
			if err := json.Unmarshal(out, &e); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			return e
		}
		e := explain("new")
		if e.Decision != "allow" || e.Headers["x-extauthz-team-id"] != "new" || e.Headers["x-extauthz-source"] != "auto_register" ||
			!e.says("team", `would register team "new"`) || !e.says("mapping", "would register a new key") {
			t.Errorf("%+v", e)
		}
		if e := explain("Twin"); e.Decision != "deny" || e.Reason != "team_unknown" || !strings.Contains(e.Error, "several have the alias") {
			t.Errorf("%+v", e)
		}
		if after := s.export(); !reflect.DeepEqual(after, before) {
			t.Errorf("explain wrote to the store: %+v", after)
		}
	})
}
