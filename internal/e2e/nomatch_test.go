package e2e

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/extauthz/extauthz/pkg/keys"
)

const (
	reject       = "mapping: {claim: client_id, no_match: reject}\n"
	autoRegister = "mapping: {claim: client_id, no_match: auto_register}\n"
	fallback     = "mapping: {claim: client_id, no_match: fallback_team_mapping}\n"

	teamA = "organizations: [{id: acme}]\nteams: [{id: a, organization_id: acme}, {id: b}]\n"
)

func client1() map[string]any {
	return map[string]any{"sub": "alice", "team": "a", "client_id": "client-1"}
}

func without(claims map[string]any, name string) map[string]any {
	delete(claims, name)
	return claims
}

func with(claims map[string]any, name string, value any) map[string]any {
	claims[name] = value
	return claims
}

// TestNoMatch is the table of the no-match policies: each situation under each policy.
func TestNoMatch(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(*testing.T) database) {
		for policy, want := range map[string]struct {
			config                 string
			missing, unmapped      int
			missingWhy, unmappedOf string // reason of a denial, or source of an allow
		}{
			"reject":                {reject, 403, 403, "claim_missing", "no_mapping"},
			"auto_register":         {autoRegister, 403, 200, "claim_missing", "auto_register"},
			"fallback_team_mapping": {fallback, 200, 200, "fallback", "fallback"},
		} {
			t.Run(policy, func(t *testing.T) {
				s := newSite(t, open(t), plan{config: want.config, resources: teamA})
				for _, unusable := range []any{nil, "", 7, true, []string{"client-1"}, map[string]any{"x": 1}, "a\nb", strings.Repeat("x", 1025)} {
					s.outcome(s.as(with(client1(), "client_id", unusable)), want.missing, want.missingWhy)
				}
				s.outcome(s.as(without(client1(), "client_id")), want.missing, want.missingWhy)
				s.outcome(s.as(client1()), want.unmapped, want.unmappedOf)
				s.store.breakMappings(t)
				s.outcome(s.as(with(client1(), "client_id", "client-2")), 503, "store_unavailable")
			})
		}
	})
}

// outcome is expect for a table: what is a reason of a denial, or the source of an allow.
func (s *site) outcome(a answer, status int, what string) {
	s.t.Helper()
	if status != 200 {
		s.expect(a, status, what)
		return
	}
	s.expect(a, 200, "")
	if source := a.sees("x-extauthz-source"); source != what {
		s.t.Fatalf("source %q, want %q", source, what)
	}
	if what == "fallback" && (a.sees("x-extauthz-key-id") != "" || a.sees("x-extauthz-team-id") != "a") {
		s.t.Fatalf("a fallback is the team and no key: %v", a.upstream.Headers)
	}
}

func TestNoStore(t *testing.T) {
	for policy, want := range map[string]struct {
		config string
		status int
		what   string
	}{
		"reject":                {reject, 403, "no_mapping"},
		"auto_register":         {autoRegister, 500, "store_required"},
		"fallback_team_mapping": {fallback, 200, "fallback"},
	} {
		t.Run(policy, func(t *testing.T) {
			s := newSite(t, noStore(), plan{config: want.config})
			for range 2 { // the same, whether cached or not
				s.outcome(s.as(client1()), want.status, want.what)
			}
		})
	}
}

func TestSecondRejectAsksTheStoreNothing(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(*testing.T) database) {
		s := newSite(t, open(t), plan{config: reject, resources: teamA})
		s.expect(s.as(client1()), 403, "no_mapping")
		first := s.servers[0].storeCalls("mapping")
		s.expect(s.as(client1()), 403, "no_mapping")
		if second := s.servers[0].storeCalls("mapping"); first != 1 || second != 1 {
			t.Fatalf("%d look-ups after the first reject, %d after the second; want 1 and 1", first, second)
		}
		s.store.breakMappings(t)
		if s.store.driver == "sqlite" { // somebody else wrote to the file: whatever was cached is asked for again
			s.servers[0].asker().until(time.Now(), s.issuer.Mint(client1()), 503, "store_unavailable")
			return
		}
		s.expect(s.as(client1()), 403, "no_mapping") // a store that cannot answer is not asked
	})
}

// A cached absence must not stand in the way of a registration, nor hide a mapping made meanwhile.
func TestStaleAbsenceUnderAutoRegister(t *testing.T) {
	const limited = "mapping: {claim: client_id, no_match: auto_register, auto_register: {max_keys_per_team: 1}}\n"
	eachStore(t, func(t *testing.T, open func(*testing.T) database) {
		s := newSite(t, open(t), plan{config: limited, resources: teamA + "keys: [{alias: own, secret: sk-0123456789abcdef, team_id: a}]\n"})
		first := s.as(client1())
		s.outcome(first, 200, "auto_register")
		for _, client := range []string{"client-2", "client-3"} {
			s.expect(s.as(with(client1(), "client_id", client)), 403, "registration_limited") // caches the absence
		}
		s.apply("keys: [{hash: " + first.sees("x-extauthz-key-id") + ", alias: " + first.sees("x-extauthz-key-alias") + ", team_id: a, blocked: true}]\n" +
			"mappings: [{claim: client_id, value: client-3, key: own}]\n")
		s.outcome(s.as(with(client1(), "client_id", "client-2")), 200, "auto_register")
		operators := s.as(with(client1(), "client_id", "client-3"))
		s.outcome(operators, 200, "mapping")
		if operators.sees("x-extauthz-key-alias") != "own" {
			t.Fatalf("a registration went past the operator's mapping: %v", operators.upstream.Headers)
		}
	})
}

// 64 first requests of one client at once, through two servers on one PostgreSQL: one key, one mapping,
// no orphan, and everybody gets that key.
func TestConcurrentFirstRequests(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(*testing.T) database) {
		s := newSite(t, open(t), plan{config: autoRegister, resources: teamA, servers: 2})
		token := s.issuer.Mint(client1())
		const callers = 64
		ids := make(chan string, callers)
		var group sync.WaitGroup
		for n := range callers {
			group.Go(func() {
				a, err := s.servers[n%2].send(t.Context(), call{token: token})
				if err != nil || a.status != 200 {
					t.Errorf("%v %v", a, err)
				}
				ids <- a.sees("x-extauthz-key-id")
			})
		}
		group.Wait()
		close(ids)
		set := s.export()
		if len(set.Keys) != 1 || len(set.Mappings) != 1 {
			t.Fatalf("%d keys and %d mappings, want 1 and 1", len(set.Keys), len(set.Mappings))
		}
		for id := range ids {
			if id != string(set.Keys[0].ID) {
				t.Fatalf("a caller got key %q, the store has %q", id, set.Keys[0].ID)
			}
		}
	})
}

func TestVanishedWinnerIsNeverAnAllow(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(*testing.T) database) {
		s := newSite(t, open(t), plan{config: autoRegister, resources: teamA})
		s.store.suppressMappings(t)
		s.expect(s.as(client1()), 503, "registration_conflict")
		if set := s.export(); len(set.Keys) != 0 || len(set.Mappings) != 0 {
			t.Fatalf("the failed registration left %d keys and %d mappings", len(set.Keys), len(set.Mappings))
		}
	})
}

func TestRegisteredKey(t *testing.T) {
	const template = `mapping:
  claim: client_id
  no_match: auto_register
  auto_register: {template: {models: ["gpt-4o*"], rpm_limit: 5, max_budget: "10.5", expires_after: 1h}}
`
	eachStore(t, func(t *testing.T, open func(*testing.T) database) {
		s := newSite(t, open(t), plan{config: template, resources: teamA})
		a := s.as(client1())
		s.outcome(a, 200, "auto_register")
		set := s.export()
		if len(set.Keys) != 1 || len(set.Mappings) != 1 {
			t.Fatalf("%d keys and %d mappings", len(set.Keys), len(set.Mappings))
		}
		key, mapped := set.Keys[0], set.Mappings[0]
		if key.TeamID != "a" || key.UserID != "alice" || key.OrganizationID != "acme" || !key.AutoRegistered ||
			len(key.Models) != 1 || *key.Limits.RPM != 5 || *key.Budget.Max != 10_500_000 || key.ExpiresAt.IsZero() {
			t.Errorf("the key does not carry the validated identity and the template: %+v", key)
		}
		if !mapped.KeyID.Valid() || mapped.KeyID != key.ID || mapped.Value != "client-1" || string(mapped.Issuer) != s.issuer.URL() {
			t.Errorf("the mapping: %+v", mapped.Mapping)
		}
		for header, want := range map[string]string{
			"x-extauthz-key-id": string(key.ID), "x-extauthz-team-id": "a", "x-extauthz-user-id": "alice", "x-extauthz-org-id": "acme",
		} {
			if got := a.sees(header); got != want {
				t.Errorf("%s: %q, want %q", header, got, want)
			}
		}
		again := s.as(client1())
		s.outcome(again, 200, "mapping")
		s.expect(s.servers[0].do(call{token: s.issuer.Mint(client1()), body: `{"model":"o1"}`}), 403, "model_forbidden")
		for _, table := range []string{"virtual_keys", "jwt_key_mappings"} {
			for _, row := range s.store.texts(t, "SELECT CAST("+table+".key_text AS text) FROM (SELECT "+allColumns(table)+" AS key_text FROM "+table+") AS "+table) {
				if strings.Contains(row, keys.SecretPrefix) {
					t.Errorf("%s holds a key: %s", table, row)
				}
			}
		}
	})
}

func allColumns(table string) string {
	if table == "virtual_keys" {
		return "id || alias || user_id"
	}
	return "issuer || claim || value || key_id"
}

// Registration comes after the policy: whom it refuses leaves no trace in the store.
func TestPolicyFailureCreatesNoRow(t *testing.T) {
	policy := autoRegister + `policy:
  email_domains: [corp.example.com]
  roles: [{role: llm_user, routes: [openai_routes]}]
  scopes: [{scope: "llm:chat"}]
`
	good := func() map[string]any {
		return map[string]any{
			"sub": "alice", "team": "a", "client_id": "client-1", "email": "alice@corp.example.com",
			"realm_access": map[string]any{"roles": []string{"llm_user"}}, "scope": "openid llm:chat",
		}
	}
	eachStore(t, func(t *testing.T, open func(*testing.T) database) {
		s := newSite(t, open(t), plan{config: policy, resources: teamA})
		s.expect(s.as(without(good(), "realm_access")), 403, "role_missing")
		s.expect(s.as(with(good(), "scope", "openid")), 403, "scope_missing")
		s.expect(s.as(with(good(), "email", "alice@example.com")), 403, "email_domain")
		s.expect(s.as(with(good(), "email_verified", false)), 403, "email_domain")
		s.expect(s.as(with(good(), "team", "nope")), 403, "team_unknown")
		s.expect(s.as(without(good(), "team")), 403, "team_missing")
		s.expect(s.servers[0].do(call{path: "/v1/messages", token: s.issuer.Mint(good())}), 403, "route_forbidden")
		if set := s.export(); len(set.Keys) != 0 || len(set.Mappings) != 0 {
			t.Fatalf("refused callers left %d keys and %d mappings", len(set.Keys), len(set.Mappings))
		}
		s.outcome(s.as(good()), 200, "auto_register")
		s.expect(s.as(without(good(), "realm_access")), 403, "role_missing") // mapped now, and the role is gone
	})
}

// A registered client that moves to another team gets a new key there; the old one is blocked.
func TestRebind(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(*testing.T) database) {
		s := newSite(t, open(t), plan{config: autoRegister, resources: teamA})
		first := s.as(client1())
		s.outcome(first, 200, "auto_register")
		moved := s.as(with(client1(), "team", "b"))
		s.outcome(moved, 200, "auto_register")
		if moved.sees("x-extauthz-team-id") != "b" || moved.sees("x-extauthz-key-id") == first.sees("x-extauthz-key-id") {
			t.Fatalf("the caller kept its old key: %v", moved.upstream.Headers)
		}
		set := s.export()
		if len(set.Keys) != 2 || len(set.Mappings) != 1 || string(set.Mappings[0].KeyID) != moved.sees("x-extauthz-key-id") {
			t.Fatalf("after the move: %+v", set)
		}
		for _, key := range set.Keys {
			if key.Blocked != (string(key.ID) == first.sees("x-extauthz-key-id")) {
				t.Errorf("key %s of team %s: blocked %v", key.Alias, key.TeamID, key.Blocked)
			}
		}
	})
}
