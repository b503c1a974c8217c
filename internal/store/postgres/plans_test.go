package postgres

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/extauthz/extauthz/internal/extauthztest/pgtest"
)

// fillRows writes as many rows into each table, without triggers and foreign keys: it is for plans, and for time.
const fillRows = `SET session_replication_role = replica;
	INSERT INTO organizations (id, alias) SELECT 'org-' || n, 'Org ' || n FROM generate_series(1, %[1]d) AS n;
	INSERT INTO teams (id, alias, organization_id) SELECT 'team-' || n, 'Team ' || n, 'org-' || n FROM generate_series(1, %[1]d) AS n;
	INSERT INTO team_members (team_id, user_id) SELECT 'team-' || n %% 100, 'user-' || n FROM generate_series(1, %[1]d) AS n;
	INSERT INTO users (id) SELECT 'user-' || n FROM generate_series(1, %[1]d) AS n;
	INSERT INTO virtual_keys (id, alias, team_id, user_id, models, auto_registered, jwt_only)
		SELECT encode(sha256(n::text::bytea), 'hex'), 'auto-' || n, 'team-' || n %% 1000, 'user-' || n, '{gpt-4o*}', true, true
		FROM generate_series(1, %[1]d) AS n;
	INSERT INTO jwt_key_mappings (issuer, claim, value, key_id, auto_registered)
		SELECT 'https://idp.example.com/realms/acme', 'sub', 'client-' || n, encode(sha256(n::text::bytea), 'hex'), true
		FROM generate_series(1, %[1]d) AS n;
	SET session_replication_role = origin;
	ANALYZE`

// TestPlans: what a check or a registration asks for is found by an index, with the values known to the planner and without.
func TestPlans(t *testing.T) {
	url := pgtest.Start(t).NewDatabase(t)
	if _, _, err := Migrate(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(t.Context()) })
	execute := func(statement string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	execute(fmt.Sprintf(fillRows, 20_000))
	const subject, key = `'https://idp.example.com/realms/acme', 'sub', 'client-7'`, `repeat('0', 64)`
	// What two registrations are given, but for the bound.
	subjects := `'{https://idp.example.com/realms/acme, https://idp.example.com/realms/acme}', '{sub, sub}', '{client-7, x}'`
	newKeys := `'{0, 0}', '{` + strings.Repeat("0", 64) + `, ` + strings.Repeat("1", 64) + `}', '{x, y}', '{team-7, team-7}', '{user-7, user-7}', '{"", ""}',
		'{"{}", "{}"}', '{"{}", "{}"}', '{false, false}', '{true, true}', '{NULL, NULL}', '{NULL, NULL}', '{0, 0}', '{NULL, NULL}', '{NULL, NULL}',
		'{true, true}', '{0, 0}', '{NULL, NULL}', '{NULL, NULL}', '{"", ""}', '{NULL, NULL}'`
	for _, test := range []struct {
		name, statement, arguments string
		indexes                    string // each may be used, and the first must be
	}{
		{"mapping and key", selectMapped, subject, "jwt_key_mappings_pkey virtual_keys_pkey"},
		{"own mapping", selectOwnMapping, subject, "jwt_key_mappings_pkey"},
		{"key", selectKey, key, "virtual_keys_pkey"},
		{"team", selectTeam, `'team-7'`, "teams_pkey"},
		{"team and organization", selectTeamAlong, `'team-7'`, "teams_pkey organizations_pkey"},
		{"team by alias", selectTeamByAlias, `'Team 7'`, "teams_alias"},
		{"organization", selectOrganization, `'org-7'`, "organizations_pkey"},
		{"organization by alias", selectOrganizationByAlias, `'Org 7'`, "organizations_alias"},
		{"user", selectUser, `'user-7'`, "users_pkey"},
		{"member", selectMember, `'team-7', 'user-7'`, "team_members_pkey"},
		{"registrations", registerKeys, subjects + ", '{0, 0}', " + newKeys, "jwt_key_mappings_pkey virtual_keys_registered"},
		{"registrations within a bound", registerKeys, subjects + ", '{1000, 1000}', " + newKeys, "virtual_keys_registered jwt_key_mappings_pkey"},
		{"lock of teams", lockTeams, `'{team-7, team-8}'`, "teams_pkey"},
		{"lock of a key", lockKey, key, "virtual_keys_pkey"},
		{"rebind", pointMapping, subject + ", " + key + ", " + key, "jwt_key_mappings_key"},
		{"spend", takeSpend, key + ", " + key, "virtual_keys_pkey"},
		{"block", blockKey, key, "virtual_keys_pkey"},
		{"touch", touchKey, key + ", now()", "virtual_keys_pkey"},
	} {
		for _, mode := range []string{"force_generic_plan", "force_custom_plan"} {
			execute("SET plan_cache_mode = " + mode)
			execute("PREPARE asked AS " + test.statement)
			result, err := conn.Query(t.Context(), "EXPLAIN (COSTS OFF) EXECUTE asked("+test.arguments+")")
			if err != nil {
				t.Fatal(err)
			}
			lines, err := pgx.CollectRows(result, pgx.RowTo[string])
			if err != nil {
				t.Fatalf("%s: %v", test.name, err)
			}
			checkPlan(t, test.name+", "+mode, strings.Join(lines, "\n"), strings.Fields(test.indexes))
			execute("DEALLOCATE asked")
		}
	}
}

func checkPlan(t *testing.T, name, plan string, indexes []string) {
	t.Helper()
	used := map[string]bool{}
	for line := range strings.Lines(plan) {
		line = strings.TrimSpace(line)
		_, after, found := strings.Cut(line, "Scan using ")
		if !found {
			_, after, found = strings.Cut(line, "Bitmap Index Scan on ")
		}
		if found {
			index, _, _ := strings.Cut(after, " ")
			used[index] = true
		}
		if strings.Contains(line, "Seq Scan") || strings.Contains(line, "Sort") && !strings.Contains(line, "Sort Key") || found && !slices.Contains(indexes, strings.Fields(after)[0]) {
			t.Errorf("%s: %q in\n%s", name, line, plan)
		}
	}
	if !used[indexes[0]] {
		t.Errorf("%s does not use %s:\n%s", name, indexes[0], plan)
	}
}

// Over millions of rows PostgreSQL takes a registration for one that is worth compiling, which takes longer than all else.
func TestWithoutJIT(t *testing.T) {
	url := pgtest.Start(t).NewDatabase(t)
	s, err := Open(t.Context(), Options{URL: url, Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var jit string
	if err := s.pool.QueryRow(t.Context(), "SHOW jit").Scan(&jit); err != nil || jit != "off" {
		t.Errorf("jit is %q: %v", jit, err)
	}
}
