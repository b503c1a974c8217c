package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/extauthz/extauthz/internal/resource"
	"github.com/extauthz/extauthz/pkg/keys"
	"github.com/extauthz/extauthz/pkg/mapping"
	"github.com/extauthz/extauthz/pkg/teams"
)

// mistakes are single changes to a set, with the error's place.
func mistakes() []struct {
	place string // as in the message, before the reason
	spoil func(*resource.Set)
} {
	long := strings.Repeat("x", 1025)
	return []struct {
		place string
		spoil func(*resource.Set)
	}{
		{"organizations[1].id", func(s *resource.Set) { s.Organizations[1].ID = "" }},
		{"organizations[1].id", func(s *resource.Set) { s.Organizations[1].ID = "acme" }},
		{"organizations[0].alias", func(s *resource.Set) { s.Organizations[0].Alias = "a\x00b" }},
		{"organizations[0].max_budget", func(s *resource.Set) { s.Organizations[0].Budget.Max = to(teams.Micros(-1)) }},
		{"organizations[0].spend", func(s *resource.Set) { s.Organizations[0].Budget.Spend = -1 }},
		{"teams[1].id", func(s *resource.Set) { s.Teams[1].ID = teams.TeamID(long) }},
		{"teams[1].id", func(s *resource.Set) { s.Teams[1].ID = "team-a" }},
		{"teams[1].organization_id", func(s *resource.Set) { s.Teams[1].OrganizationID = "gone" }},
		{"teams[1].organization_id", func(s *resource.Set) { s.Teams[1].OrganizationID = "a\tb" }},
		{"teams[0].models[1]", func(s *resource.Set) { s.Teams[0].Models[1] = "" }},
		{"teams[0].allowed_routes[0]", func(s *resource.Set) { s.Teams[0].AllowedRoutes[0] = "\x00" }},
		{"teams[0].max_budget", func(s *resource.Set) { s.Teams[0].Budget.Max = to(teams.Micros(-1)) }},
		{"teams[0].rpm_limit", func(s *resource.Set) { s.Teams[0].Limits.RPM = to(int64(-1)) }},
		{"teams[0].tpm_limit", func(s *resource.Set) { s.Teams[0].Limits.TPM = to(int64(-1)) }},
		{"users[0].id", func(s *resource.Set) { s.Users[0].ID = "\u0085" }},
		{"users[1].id", func(s *resource.Set) { s.Users[1].ID = "alice" }},
		{"users[0].email", func(s *resource.Set) { s.Users[0].Email = "a\n@b" }},
		{"keys[0].hash", func(s *resource.Set) { s.Keys[0].ID = "abc" }},
		{"keys[1].hash", func(s *resource.Set) { s.Keys[1].ID = s.Keys[0].ID }},
		{"keys[1].alias", func(s *resource.Set) { s.Keys[0].Alias, s.Keys[1].Alias = "same", "same" }},
		{"keys[0].alias", func(s *resource.Set) { s.Keys[0].Alias = "stored" }},
		{"keys[1].team_id", func(s *resource.Set) { s.Keys[1].TeamID = "gone" }},
		{"keys[1].organization_id", func(s *resource.Set) { s.Keys[1].OrganizationID = "gone" }},
		{"keys[1].user_id", func(s *resource.Set) { s.Keys[1].UserID = "\xff" }},
		{"keys[0].expires_at", func(s *resource.Set) { s.Keys[0].ExpiresAt = time.Date(1969, 1, 1, 0, 0, 0, 0, time.UTC) }},
		{"keys[0].models[0]", func(s *resource.Set) { s.Keys[0].Models = []string{long} }},
		{"mappings[0].claim", func(s *resource.Set) { s.Mappings[0].Claim = "" }},
		{"mappings[0].value", func(s *resource.Set) { s.Mappings[0].Value = "x\x00" }},
		{"mappings[0].issuer", func(s *resource.Set) { s.Mappings[0].Issuer = "\n" }},
		{"mappings[1].value", func(s *resource.Set) { s.Mappings[1].Issuer = "" }},
		{"mappings[1].key", func(s *resource.Set) { s.Mappings[1].KeyID = "" }},
		{"mappings[1].key", func(s *resource.Set) { s.Mappings[1].KeyID = "abc" }},
		{"mappings[1].key", func(s *resource.Set) { s.Mappings[1].KeyID = id("gone") }},
		{"mappings[1].key", func(s *resource.Set) { s.Mappings[1].KeyID, s.Mappings[1].KeyAlias = "", "gone" }},
		{"mappings[1].key", func(s *resource.Set) { s.Mappings[1].KeyID, s.Mappings[1].KeyAlias = "", "\x00" }},
	}
}

func testApplyErrors(t *testing.T, s Instance, _ Features) {
	apply(t, s, &resource.Set{Keys: []resource.Key{{Key: keys.Key{ID: id("stored"), Alias: "stored"}}}})
	before := export(t, s)
	for _, mistake := range mistakes() {
		set := everything()
		mistake.spoil(set)
		err := s.Apply(t.Context(), set)
		var refused *resource.Error
		if !errors.As(err, &refused) {
			t.Errorf("%s: %v is no *resource.Error", mistake.place, err)
			continue
		}
		if !strings.HasPrefix(err.Error(), mistake.place+": must ") {
			t.Errorf("%v: want it at %s", err, mistake.place)
		}
	}
	equal(t, "the store afterwards", export(t, s), before)
}

// testApplyAtomic fails at the last row of all, by a constraint that only the database knows.
func testApplyAtomic(t *testing.T, s Instance, _ Features) {
	s.execute(t, "CREATE UNIQUE INDEX own ON jwt_key_mappings (value)")
	err := s.Apply(t.Context(), everything())
	var refused *resource.Error
	if !errors.As(err, &refused) || refused.Section != "mappings" || refused.Index != 1 || !strings.HasPrefix(refused.Reason, "must ") {
		t.Errorf("Apply: %v, want a *resource.Error at mappings[1]", err)
	}
	checkSecrets(t, fmt.Sprint(err), []string{"alice"})
	equal(t, "the store afterwards", export(t, s), &resource.Set{})
}

// changed returns when each table was last changed, and by how many rows.
func changed(t *testing.T, s Instance) (state []string) {
	t.Helper()
	for _, table := range []string{"organizations", "teams", "users", "virtual_keys", "jwt_key_mappings"} {
		var row string
		query := "SELECT COALESCE(CAST(max(updated_at) AS TEXT) || ' ' || CAST(min(updated_at) AS TEXT), '') || ' ' || CAST(count(*) AS TEXT) FROM " + table
		if err := s.Raw.QueryRowContext(t.Context(), query).Scan(&row); err != nil {
			t.Fatalf("%s: %v", table, err)
		}
		state = append(state, row)
	}
	return state
}

func testApplyIdempotent(t *testing.T, s Instance, features Features) {
	apply(t, s, everything())
	age(t, s, features)
	before := changed(t, s)
	apply(t, s, everything())
	apply(t, s, export(t, s))
	equal(t, "updated_at after the same set", changed(t, s), before)

	kept := everything()
	kept.Organizations[0].KeepSpend, kept.Teams[0].KeepSpend, kept.Users[0].KeepSpend, kept.Keys[0].KeepSpend = true, true, true, true
	kept.Keys[1].KeepSpend = true
	kept.Organizations[0].KeepBlocked, kept.Teams[0].KeepBlocked, kept.Users[0].KeepBlocked = true, true, true
	for i := range kept.Keys {
		kept.Keys[i].KeepBlocked, kept.Keys[i].KeepJWTOnly, kept.Keys[i].Sealed = true, true, nil
		kept.Mappings[i].KeepActive = true
	}
	kept.Teams[0].Members = nil
	apply(t, s, kept)
	equal(t, "updated_at after the same set with all kept that can be", changed(t, s), before)

	moved := everything()
	moved.Users[0].Budget.Spend++
	apply(t, s, moved)
	if after := changed(t, s); after[2] == before[2] {
		t.Errorf("a changed user has the old updated_at %s", after[2])
	}
}

// age makes every row an old one: a change in the same millisecond would not be seen.
func age(t *testing.T, s Instance, features Features) {
	t.Helper()
	for _, table := range []string{"organizations", "teams", "users", "virtual_keys", "jwt_key_mappings"} {
		s.execute(t, "UPDATE "+table+" SET updated_at = "+features.epoch())
	}
}

// testApplyUpdates replaces every field of every row, and then by the zero values.
func testApplyUpdates(t *testing.T, s Instance, _ Features) {
	apply(t, s, everything())
	for _, set := range []*resource.Set{swapped(), everything()} {
		apply(t, s, set)
		equal(t, "export", export(t, s), set)
	}
}

// swapped is everything with the content of each pair of rows exchanged, but for what a file cannot
// change.
func swapped() *resource.Set {
	s := everything()
	s.Organizations[0].ID, s.Organizations[1].ID = s.Organizations[1].ID, s.Organizations[0].ID
	s.Organizations[0], s.Organizations[1] = s.Organizations[1], s.Organizations[0]
	s.Teams[0].ID, s.Teams[1].ID = s.Teams[1].ID, s.Teams[0].ID
	s.Teams[0], s.Teams[1] = s.Teams[1], s.Teams[0]
	s.Users[0].ID, s.Users[1].ID = s.Users[1].ID, s.Users[0].ID
	s.Users[0], s.Users[1] = s.Users[1], s.Users[0]
	s.Keys[0].ID, s.Keys[1].ID = s.Keys[1].ID, s.Keys[0].ID
	s.Keys[0].AutoRegistered, s.Keys[1].AutoRegistered = s.Keys[1].AutoRegistered, s.Keys[0].AutoRegistered
	s.Keys[0], s.Keys[1] = s.Keys[1], s.Keys[0]
	s.Mappings[0].KeyID, s.Mappings[1].KeyID = s.Mappings[1].KeyID, s.Mappings[0].KeyID
	s.Mappings[0].Active, s.Mappings[1].Active = s.Mappings[1].Active, s.Mappings[0].Active
	s.Keys[0].Sealed, s.Keys[1].Sealed = s.Keys[1].Sealed, s.Keys[0].Sealed // one that is not stated is kept
	s.Mappings[0].AutoRegistered = !s.Mappings[0].AutoRegistered
	return s
}

func testApplyKeepSpend(t *testing.T, s Instance, _ Features) {
	set := &resource.Set{
		Organizations: []resource.Organization{{Organization: teams.Organization{ID: "o", Budget: teams.Budget{Spend: -5}}, KeepSpend: true}},
		Teams:         []resource.Team{{Team: teams.Team{ID: "t", Budget: teams.Budget{Spend: 5}}, KeepSpend: true}},
		Users:         []resource.User{{User: teams.User{ID: "u", Budget: teams.Budget{Spend: 5}}, KeepSpend: true}},
		Keys:          []resource.Key{{Key: keys.Key{ID: id("k"), Budget: teams.Budget{Spend: 5}}, KeepSpend: true}},
	}
	spends := func() []teams.Micros {
		stored := export(t, s)
		return []teams.Micros{stored.Organizations[0].Budget.Spend, stored.Teams[0].Budget.Spend,
			stored.Users[0].Budget.Spend, stored.Keys[0].Budget.Spend}
	}
	apply(t, s, set)
	equal(t, "spend of new rows", spends(), []teams.Micros{0, 0, 0, 0})
	for i, table := range []string{"organizations", "teams", "users", "virtual_keys"} {
		s.execute(t, fmt.Sprintf("UPDATE %s SET spend_micros = %d", table, i+1))
	}
	set.Organizations[0].Alias, set.Teams[0].Alias, set.Users[0].Email, set.Keys[0].Alias = "x", "x", "x", "x"
	apply(t, s, set)
	equal(t, "kept spend", spends(), []teams.Micros{1, 2, 3, 4})
	equal(t, "the changed alias", export(t, s).Keys[0].Alias, "x")
}

// changes are single changes to everything.
func changes() map[string]func(*resource.Set) {
	other, at := to(teams.Micros(42)), utc("2098-01-01T00:00:00Z")
	one := func(change func(*resource.Key)) func(*resource.Set) {
		return func(s *resource.Set) {
			for i := range s.Keys {
				if s.Keys[i].ID == id("one") {
					change(&s.Keys[i])
				}
			}
		}
	}
	return map[string]func(*resource.Set){
		"organization alias":    func(s *resource.Set) { s.Organizations[0].Alias = "x" },
		"organization blocked":  func(s *resource.Set) { s.Organizations[0].Blocked = false },
		"organization maximum":  func(s *resource.Set) { s.Organizations[0].Budget.Max = other },
		"organization spend":    func(s *resource.Set) { s.Organizations[0].Budget.Spend = 42 },
		"organization window":   func(s *resource.Set) { s.Organizations[0].Budget.Window = window("2mo") },
		"organization reset":    func(s *resource.Set) { s.Organizations[0].Budget.ResetAt = at },
		"team alias":            func(s *resource.Set) { s.Teams[0].Alias = "x" },
		"team organization":     func(s *resource.Set) { s.Teams[0].OrganizationID = "globex" },
		"team models":           func(s *resource.Set) { s.Teams[0].Models = []string{"x"} },
		"team routes":           func(s *resource.Set) { s.Teams[0].AllowedRoutes = nil },
		"team blocked":          func(s *resource.Set) { s.Teams[0].Blocked = false },
		"team maximum":          func(s *resource.Set) { s.Teams[0].Budget.Max = nil },
		"team spend":            func(s *resource.Set) { s.Teams[0].Budget.Spend = 42 },
		"team window":           func(s *resource.Set) { s.Teams[0].Budget.Window = window("1d") },
		"team reset":            func(s *resource.Set) { s.Teams[0].Budget.ResetAt = at },
		"team requests":         func(s *resource.Set) { s.Teams[0].Limits.RPM = to(int64(42)) },
		"team tokens":           func(s *resource.Set) { s.Teams[0].Limits.TPM = nil },
		"team members":          func(s *resource.Set) { s.Teams[0].Members = []teams.UserID{"alice"} },
		"user email":            func(s *resource.Set) { s.Users[0].Email = "x" },
		"user blocked":          func(s *resource.Set) { s.Users[0].Blocked = false },
		"user maximum":          func(s *resource.Set) { s.Users[0].Budget.Max = other },
		"user spend":            func(s *resource.Set) { s.Users[0].Budget.Spend = 42 },
		"user window":           func(s *resource.Set) { s.Users[0].Budget.Window = window("1h") },
		"user reset":            func(s *resource.Set) { s.Users[0].Budget.ResetAt = at },
		"key alias":             one(func(k *resource.Key) { k.Alias = "x" }),
		"key team":              one(func(k *resource.Key) { k.TeamID = "" }),
		"key user":              one(func(k *resource.Key) { k.UserID = "x" }),
		"key organization":      one(func(k *resource.Key) { k.OrganizationID = "globex" }),
		"key models":            one(func(k *resource.Key) { k.Models = nil }),
		"key routes":            one(func(k *resource.Key) { k.AllowedRoutes = []string{"/x"} }),
		"key blocked":           one(func(k *resource.Key) { k.Blocked = false }),
		"key expiry":            one(func(k *resource.Key) { k.ExpiresAt = time.Time{} }),
		"key maximum":           one(func(k *resource.Key) { k.Budget.Max = other }),
		"key spend":             one(func(k *resource.Key) { k.Budget.Spend = 42 }),
		"key window":            one(func(k *resource.Key) { k.Budget.Window = window("1mo") }),
		"key reset":             one(func(k *resource.Key) { k.Budget.ResetAt = at }),
		"key requests":          one(func(k *resource.Key) { k.Limits.RPM = nil }),
		"key tokens":            one(func(k *resource.Key) { k.Limits.TPM = to(int64(42)) }),
		"key jwt_only":          one(func(k *resource.Key) { k.JWTOnly = false }),
		"key idle timeout":      one(func(k *resource.Key) { k.IdleTimeout = time.Hour }),
		"key idle end":          one(func(k *resource.Key) { k.IdleExpiresAt = at }),
		"key sealed":            one(func(k *resource.Key) { k.Sealed = []byte("x") }),
		"mapping key":           func(s *resource.Set) { s.Mappings[0].KeyID = id("two") },
		"mapping active":        func(s *resource.Set) { s.Mappings[0].Active = false },
		"mapping auto_register": func(s *resource.Set) { s.Mappings[0].AutoRegistered = true },
	}
}

// testApplyEachChange changes one field at a time: a row that differs in nothing else must still be written.
func testApplyEachChange(t *testing.T, s Instance, _ Features) {
	for what, change := range changes() {
		apply(t, s, everything())
		want := everything()
		change(want)
		apply(t, s, want)
		equal(t, what, export(t, s), want)
	}
}

// testApplyKeeps applies a set that states nothing but who the rows are: what denies, who the members are and
// the sealed text stay, and everything else becomes the default.
func testApplyKeeps(t *testing.T, s Instance, _ Features) {
	silent := func(suffix string) *resource.Set {
		return &resource.Set{
			Organizations: []resource.Organization{{Organization: teams.Organization{ID: teams.OrganizationID("acme" + suffix)}, KeepBlocked: true}},
			Teams:         []resource.Team{{Team: teams.Team{ID: teams.TeamID("team-a" + suffix)}, KeepBlocked: true}},
			Users:         []resource.User{{User: teams.User{ID: teams.UserID("alice" + suffix)}, KeepBlocked: true}},
			Keys:          []resource.Key{{Key: keys.Key{ID: id("one" + suffix)}, KeepBlocked: true, KeepJWTOnly: true}},
			Mappings: []resource.Mapping{{
				Mapping: mapping.Mapping{Issuer: issuer, Claim: claim, Value: "alice" + suffix, KeyID: id("one" + suffix)}, KeepActive: true,
			}},
		}
	}
	apply(t, s, everything())
	apply(t, s, silent(""))
	want := everything()
	want.Organizations[0].Organization = teams.Organization{ID: "acme", Blocked: true}
	want.Teams[0].Team = teams.Team{ID: "team-a", Blocked: true}
	want.Users[0].User = teams.User{ID: "alice", Blocked: true}
	for i := range want.Keys {
		if want.Keys[i].ID == id("one") {
			want.Keys[i].Key = keys.Key{ID: id("one"), Blocked: true, JWTOnly: true, AutoRegistered: true, Sealed: want.Keys[i].Sealed}
		}
	}
	want.Mappings[1].KeyID = id("one") // and not active
	equal(t, "rows that are there", export(t, s), want)

	apply(t, s, silent("2"))
	all := export(t, s)
	equal(t, "new rows", []bool{all.Organizations[1].Blocked, all.Teams[1].Blocked, all.Users[1].Blocked}, []bool{false, false, false})
	key, err := s.Key(t.Context(), id("one2"))
	wantError(t, "Key", err, nil)
	equal(t, "a new key", key, &keys.Key{ID: id("one2")})
	m, err := s.Mapping(t.Context(), subject("alice2"))
	wantError(t, "Mapping", err, nil)
	equal(t, "a new mapping is active", m.Active, true)
}

func testApplyAliases(t *testing.T, s Instance, _ Features) {
	key := func(name, alias string) resource.Key {
		return resource.Key{Key: keys.Key{ID: id(name), Alias: alias}}
	}
	row := func(value, alias string) resource.Mapping {
		return resource.Mapping{Mapping: mapping.Mapping{Claim: claim, Value: value, Active: true}, KeyAlias: alias}
	}
	mapped := func(value string, name string) {
		t.Helper()
		m, err := s.Mapping(t.Context(), subject(value))
		wantError(t, "Mapping", err, nil)
		if m != nil {
			equal(t, "key of "+value, m.KeyID, id(name))
		}
	}
	apply(t, s, &resource.Set{Keys: []resource.Key{key("1", "x"), key("2", "y"), key("3", "z")}})
	apply(t, s, &resource.Set{Mappings: []resource.Mapping{row("stored", "x")}})
	mapped("stored", "1")
	// The two swap their aliases; the mappings mean the set's keys, then the stored ones.
	apply(t, s, &resource.Set{
		Keys:     []resource.Key{key("1", "y"), key("2", "x")},
		Mappings: []resource.Mapping{row("first", "y"), row("second", "x"), row("third", "z")},
	})
	mapped("first", "1")
	mapped("second", "2")
	mapped("third", "3")
	mapped("stored", "1") // a mapping means a key, not an alias
	err := s.Apply(t.Context(), &resource.Set{Keys: []resource.Key{key("3", "new")}, Mappings: []resource.Mapping{row("v", "z")}})
	var refused *resource.Error
	if !errors.As(err, &refused) || refused.Field != "key" {
		t.Errorf("an alias that the set takes away: %v", err)
	}
	apply(t, s, &resource.Set{Keys: []resource.Key{key("1", ""), key("2", ""), key("4", "x")}})
	sizes(t, s, 4, 4)
}

func testApplyAutoRegistered(t *testing.T, s Instance, _ Features) {
	register(t, s, subject("alice"), registered("auto", ""))
	apply(t, s, &resource.Set{Keys: []resource.Key{
		{Key: keys.Key{ID: id("auto"), Alias: "renamed"}},
		{Key: keys.Key{ID: id("new"), AutoRegistered: true}},
	}})
	apply(t, s, &resource.Set{Keys: []resource.Key{{Key: keys.Key{ID: id("new"), Alias: "n"}}}})
	for _, k := range export(t, s).Keys {
		equal(t, "auto_registered of "+k.Alias, k.AutoRegistered, true)
	}
}

// testApplyConcurrently applies sets that name the same rows in opposite orders, beside registrations
// and rebinds: nothing may deadlock, and no mapping may lose its key.
func testApplyConcurrently(t *testing.T, s Instance, _ Features) {
	seed(t, s)
	warm(t, s)
	register(t, s, subject("alice"), registered("old", "team-a"))
	errs := together(24, func(i int) error {
		switch i % 4 {
		case 0:
			_, _, err := s.Register(t.Context(), subject(fmt.Sprint(i)), registered(fmt.Sprint(i), "team-a"), 100)
			return err
		case 1:
			_, err := s.Rebind(t.Context(), subject("alice"), id("old"), registered(fmt.Sprint(i), "team-b"), 0)
			if errors.Is(err, mapping.ErrConflict) {
				return nil
			}
			return err
		}
		return s.Apply(t.Context(), contended(i))
	})
	for i, err := range errs {
		if err != nil {
			t.Errorf("call %d: %v", i, err)
		}
	}
	sizes(t, s, 50+2+6, 50+1+6)
}

// contended is a set of the same rows for every i, in one of two orders and with other content.
func contended(i int) *resource.Set {
	set := new(resource.Set)
	for n := range 50 {
		name := fmt.Sprint("contended", n)
		set.Users = append(set.Users, resource.User{User: teams.User{ID: teams.UserID(name), Email: fmt.Sprint(i)}})
		set.Keys = append(set.Keys, resource.Key{Key: keys.Key{ID: id(name), Alias: name, TeamID: "team-a", Blocked: i%3 == 0}})
		set.Mappings = append(set.Mappings, resource.Mapping{
			Mapping: mapping.Mapping{Claim: claim, Value: name, Active: i%3 == 0}, KeyAlias: name,
		})
	}
	if i%4 == 2 {
		slices.Reverse(set.Users)
		slices.Reverse(set.Keys)
		slices.Reverse(set.Mappings)
	}
	return set
}
