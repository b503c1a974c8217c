package storetest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/extauthz/extauthz/internal/store"
	"github.com/extauthz/extauthz/pkg/keys"
	"github.com/extauthz/extauthz/pkg/mapping"
	"github.com/extauthz/extauthz/pkg/teams"
	"github.com/extauthz/extauthz/pkg/token"
)

// truth, falsehood and epoch are SQL literals that stores spell differently.
func (f Features) truth() string     { return f.literal("true", "1") }
func (f Features) falsehood() string { return f.literal("false", "0") }
func (f Features) epoch() string     { return f.literal("'1970-01-01T00:00:00Z'", "0") }

func (f Features) literal(typed, integer string) string {
	if f.Integers {
		return integer
	}
	return typed
}

func testRegisterInvalid(t *testing.T, s Instance, _ Features) {
	secret := "sensitive-value"
	for _, text := range unstorable() {
		bad := text
		if bad != "" {
			bad = secret + text
		}
		for what, sub := range map[string]mapping.Subject{
			"value":  subject(bad),
			"claim":  {Issuer: issuer, Claim: bad, Value: "v"},
			"issuer": {Issuer: token.IssuerURL(bad), Claim: claim, Value: ""},
		} {
			_, _, err := s.Register(t.Context(), sub, registered("x", ""), 0)
			wantError(t, what, err, store.ErrInvalid)
			_, err = s.Rebind(t.Context(), sub, id("x"), registered("y", ""), 0)
			wantError(t, what, err, store.ErrInvalid)
			checkSecrets(t, fmt.Sprint(err), []string{secret})
		}
	}
	_, _, err := s.Register(t.Context(), mapping.Subject{Issuer: token.IssuerURL(strings.Repeat("x", 513)), Claim: claim, Value: "v"}, registered("x", ""), 0)
	wantError(t, "a long issuer", err, store.ErrInvalid)
	for what, spoil := range invalidKeys() {
		key := registered("x", "")
		spoil(key)
		_, _, err := s.Register(t.Context(), subject("x"), key, 0)
		wantError(t, what, err, store.ErrInvalid)
	}
	sizes(t, s, 0, 0)
}

func invalidKeys() map[string]func(*keys.Key) {
	return map[string]func(*keys.Key){
		"no id":            func(k *keys.Key) { k.ID = "" },
		"upper-case id":    func(k *keys.Key) { k.ID = keys.ID(strings.ToUpper(string(k.ID))) },
		"NUL alias":        func(k *keys.Key) { k.Alias = "a\x00" },
		"long user":        func(k *keys.Key) { k.UserID = teams.UserID(strings.Repeat("u", 1025)) },
		"control team":     func(k *keys.Key) { k.TeamID = "t\n" },
		"bad organization": func(k *keys.Key) { k.OrganizationID = "\xff" },
		"empty model":      func(k *keys.Key) { k.Models = []string{""} },
		"NUL route":        func(k *keys.Key) { k.AllowedRoutes = []string{"/a", "/b\x00"} },
		"negative maximum": func(k *keys.Key) { k.Budget.Max = to(teams.Micros(-1)) },
		"negative spend":   func(k *keys.Key) { k.Budget.Spend = -1 },
		"negative rpm":     func(k *keys.Key) { k.Limits.RPM = to(int64(-1)) },
		"negative tpm":     func(k *keys.Key) { k.Limits.TPM = to(int64(-1)) },
		"far expiry":       func(k *keys.Key) { k.ExpiresAt = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"old expiry":       func(k *keys.Key) { k.ExpiresAt = time.Date(1, 1, 1, 0, 0, 0, 1, time.UTC) },
	}
}

// testConstraints writes past the store: the schema itself must refuse what the store refuses.
func testConstraints(t *testing.T, s Instance, features Features) {
	apply(t, s, everything())
	key := string(id("one"))
	texts := []string{"'a\x01'", "'a\n'", "'\x7f'", "'\u0080'", "'\u009f'", "'" + strings.Repeat("x", 1025) + "'",
		"'" + strings.Repeat("\u00e9", 513) + "'", "'a' || " + features.Character + "(0)", "'a' || " + features.Character + "(0) || 'b'", "NULL"}
	required := append([]string{"''"}, texts...)
	refusedSQL(t, s, "organizations", "id", required, "UPDATE organizations SET id = %s WHERE id = 'globex'")
	refusedSQL(t, s, "teams", "id", required, "UPDATE teams SET id = %s WHERE id = 'team-b'")
	refusedSQL(t, s, "users", "id", required, "UPDATE users SET id = %s WHERE id = 'bob'")
	for table, columns := range map[string][]string{
		"organizations": {"alias"}, "teams": {"alias"}, "users": {"email"}, "virtual_keys": {"alias", "user_id"},
	} {
		for _, column := range columns {
			refusedSQL(t, s, table, column, texts, "UPDATE "+table+" SET "+column+" = %s")
		}
	}
	for _, column := range []string{"claim", "value"} {
		refusedSQL(t, s, "jwt_key_mappings", column, required, "UPDATE jwt_key_mappings SET "+column+" = %s WHERE issuer = ''")
	}
	refusedSQL(t, s, "jwt_key_mappings", "issuer", append(texts, "'"+strings.Repeat("x", 513)+"'"),
		"UPDATE jwt_key_mappings SET issuer = %s WHERE issuer = ''")
	refusedSQL(t, s, "virtual_keys", "id", append(required, "'"+strings.ToUpper(key)+"'", "'"+key[1:]+"'", "'"+key+"0'",
		"'"+key[1:]+"\n'", "'"+key[1:]+"' || "+features.Character+"(0)"), "UPDATE virtual_keys SET id = %s WHERE alias = ''")
	refusedSQL(t, s, "virtual_keys", "expires_at", []string{features.literal("'infinity'", "253402300800000000"), features.literal("'-infinity'", "-1")},
		"UPDATE virtual_keys SET expires_at = %s")
	for table, columns := range map[string][]string{
		"organizations": {"max_budget_micros", "spend_micros"}, "users": {"max_budget_micros", "spend_micros"},
		"teams":        {"max_budget_micros", "spend_micros", "rpm_limit", "tpm_limit"},
		"virtual_keys": {"max_budget_micros", "spend_micros", "rpm_limit", "tpm_limit"},
	} {
		for _, column := range columns {
			refusedSQL(t, s, table, column, []string{"-1", "'NaN'", "9223372036854775808"}, "UPDATE "+table+" SET "+column+" = %s")
		}
	}
	refusedSQL(t, s, "teams", "organization_id", []string{"'gone'", "''"}, "UPDATE teams SET organization_id = %s")
	refusedSQL(t, s, "virtual_keys", "team_id", []string{"'gone'", "''"}, "UPDATE virtual_keys SET team_id = %s")
	refusedSQL(t, s, "virtual_keys", "organization_id", []string{"'gone'", "''"}, "UPDATE virtual_keys SET organization_id = %s")
	refusedSQL(t, s, "virtual_keys", "alias", []string{"'one'"}, "UPDATE virtual_keys SET alias = %s WHERE alias = ''")
	refusedSQL(t, s, "jwt_key_mappings", "unique", []string{"''"}, "UPDATE jwt_key_mappings SET issuer = %s")
	equal(t, "the store afterwards", export(t, s), everything())
}

func refusedSQL(t *testing.T, s Instance, table, column string, values []string, statement string) {
	t.Helper()
	for _, value := range values {
		if _, err := s.Raw.ExecContext(t.Context(), fmt.Sprintf(statement, value)); err == nil {
			t.Errorf("%s.%s can be %.40q", table, column, value)
		}
	}
}

// testListElements writes lists that must not be taken for shorter or empty ones.
func testListElements(t *testing.T, s Instance, features Features) {
	apply(t, s, everything())
	for _, value := range []string{"'x'", "''", "NULL", "'{\"a\": 1}'"} {
		if features.ChecksElements && value == "'{\"a\": 1}'" {
			continue // an array with one odd but legal text, in PostgreSQL's own syntax
		}
		refusedSQL(t, s, "teams", "models", []string{value}, "UPDATE teams SET models = %s")
	}
	lists := []string{`'[null]'`, `'[1]'`, `'[""]'`, `'["a", null]'`, `'[["a"]]'`, `'["a\u0000"]'`, `'["a\n"]'`, `'["\ud800\udc00", {}]'`}
	if features.ChecksElements {
		lists = []string{`'{NULL}'`, `'{a,NULL}'`, `'{""}'`, `'{{a},{b}}'`, `E'{"a\n"}'`}
	}
	for _, list := range lists {
		_, err := s.Raw.ExecContext(t.Context(), "UPDATE teams SET models = "+list+" WHERE id = 'team-a'")
		if features.ChecksElements {
			if err == nil {
				t.Errorf("models can be %s", list)
			}
			continue
		}
		wantError(t, list, err, nil)
		if team, err := s.Team(t.Context(), "team-a"); err == nil {
			t.Errorf("models of %s are read as %q", list, team.Models)
		}
	}
}

func testMappedKeyStays(t *testing.T, s Instance, _ Features) {
	apply(t, s, everything())
	for _, statement := range []string{
		fmt.Sprintf("DELETE FROM virtual_keys WHERE id = '%s'", id("one")),
		"DELETE FROM teams WHERE id = 'team-a'",
		"DELETE FROM organizations WHERE id = 'acme'",
	} {
		if _, err := s.Raw.ExecContext(t.Context(), statement); err == nil {
			t.Errorf("%s: succeeds", statement)
		}
	}
	equal(t, "the store afterwards", export(t, s), everything())
	s.execute(t, "DELETE FROM users", "DELETE FROM jwt_key_mappings", "DELETE FROM virtual_keys", "DELETE FROM teams", "DELETE FROM organizations")
}
