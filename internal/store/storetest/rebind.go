package storetest

import (
	"fmt"
	"testing"

	"github.com/extauthz/extauthz/internal/resource"
	"github.com/extauthz/extauthz/pkg/keys"
	"github.com/extauthz/extauthz/pkg/mapping"
)

func testRebind(t *testing.T, s Instance, _ Features) {
	seed(t, s)
	register(t, s, subject("alice"), registered("old", "team-a"))
	register(t, s, subject("bob"), registered("bystander", "team-a"))
	m, err := s.Rebind(t.Context(), subject("alice"), id("old"), registered("new", "team-b"), 0)
	wantError(t, "Rebind", err, nil)
	want := &mapping.Mapping{Issuer: issuer, Claim: claim, Value: "alice", KeyID: id("new"), Active: true, AutoRegistered: true}
	equal(t, "returned", m, want)
	stored, err := s.Mapping(t.Context(), subject("alice"))
	wantError(t, "Mapping", err, nil)
	equal(t, "stored", stored, want)
	for name, blocked := range map[string]bool{"old": true, "new": false, "bystander": false} {
		key, err := s.Key(t.Context(), id(name))
		wantError(t, "Key", err, nil)
		equal(t, name+" is blocked", key.Blocked, blocked)
	}
	sizes(t, s, 3, 2)
}

func testRebindRefused(t *testing.T, s Instance, features Features) {
	seed(t, s)
	global := mapping.Mapping{Claim: claim, Value: "global", KeyID: id("global"), Active: true}
	apply(t, s, &resource.Set{
		Keys: []resource.Key{
			{Key: *registered("global", "")}, {Key: keys.Key{ID: id("operator")}},
		},
		Mappings: []resource.Mapping{
			{Mapping: global},
			{Mapping: mapping.Mapping{Issuer: issuer, Claim: claim, Value: "operator", KeyID: id("operator"), Active: true, AutoRegistered: true}},
			{Mapping: mapping.Mapping{Issuer: issuer, Claim: claim, Value: "operators", KeyID: id("global"), Active: true}},
		},
	})
	for _, name := range []string{"inactive", "blocked", "expired", "other"} {
		register(t, s, subject(name), registered(name, "team-a"))
	}
	s.execute(t,
		fmt.Sprintf("UPDATE jwt_key_mappings SET active = %s WHERE value = 'inactive'", features.falsehood()),
		fmt.Sprintf("UPDATE virtual_keys SET blocked = %s WHERE id = '%s'", features.truth(), id("blocked")),
		fmt.Sprintf("UPDATE virtual_keys SET expires_at = %s WHERE id = '%s'", features.epoch(), id("expired")))
	before := export(t, s)
	for what, attempt := range map[string]struct{ value, old string }{
		"an inactive mapping":       {"inactive", "inactive"},
		"a blocked key":             {"blocked", "blocked"},
		"an expired key":            {"expired", "expired"},
		"an operator's key":         {"operator", "operator"},
		"an operator's mapping":     {"operators", "global"},
		"another subject's key":     {"other", "global"},
		"a mapping of any issuer":   {"global", "global"},
		"a subject without mapping": {"nobody", "other"},
		"a key that is gone":        {"other", "gone"},
	} {
		_, err := s.Rebind(t.Context(), subject(attempt.value), id(attempt.old), registered("new", "team-b"), 0)
		wantError(t, what, err, mapping.ErrConflict)
	}
	taken := registered("new", "team-b")
	taken.Alias = "blocked"
	_, err := s.Rebind(t.Context(), subject("other"), id("other"), taken, 0)
	wantError(t, "a taken alias", err, mapping.ErrConflict)
	equal(t, "the store afterwards", export(t, s), before)
}

// testRebindRace has two subjects that share a key: the first rebind blocks it, and all others must
// see that. Otherwise a rebind could undo a revocation that it overlaps.
func testRebindRace(t *testing.T, s Instance, _ Features) {
	seed(t, s)
	warm(t, s)
	for round := range 5 {
		rebindTogether(t, s, fmt.Sprint(round))
	}
	sizes(t, s, 10, 10)
}

func rebindTogether(t *testing.T, s Instance, round string) {
	t.Helper()
	subjects := []mapping.Subject{subject("alice" + round), subject("bob" + round)}
	old := register(t, s, subjects[0], registered("old"+round, "team-a")).KeyID
	shared := mapping.Mapping{Issuer: issuer, Claim: claim, Value: subjects[1].Value, KeyID: old, Active: true, AutoRegistered: true}
	apply(t, s, &resource.Set{Mappings: []resource.Mapping{{Mapping: shared}}})
	outcomes := together(32, func(i int) outcome {
		m, err := s.Rebind(t.Context(), subjects[i%2], old, registered(fmt.Sprint(round, "-", i), "team-b"), 0)
		return outcome{m, err}
	})
	if succeeded, _ := tally(t, outcomes, mapping.ErrConflict); succeeded != 1 {
		t.Errorf("%d rebinds of one key succeeded, want 1", succeeded)
	}
	for i, o := range outcomes {
		if o.err != nil {
			equal(t, "mapping of a refused rebind", o.mapping, (*mapping.Mapping)(nil))
			continue
		}
		stored, err := s.Mapping(t.Context(), subjects[i%2])
		wantError(t, "Mapping", err, nil)
		equal(t, "mapping", stored, o.mapping)
	}
}

func testRebindSuppressed(t *testing.T, s Instance, features Features) {
	seed(t, s)
	register(t, s, subject("alice"), registered("old", "team-a"))
	s.execute(t, features.Suppress("virtual_keys")...)
	_, err := s.Rebind(t.Context(), subject("alice"), id("old"), registered("new", "team-b"), 0)
	wantError(t, "a suppressed key", err, mapping.ErrConflict)
	key, err := s.Key(t.Context(), id("old"))
	wantError(t, "Key", err, nil)
	equal(t, "the old key is blocked", key.Blocked, false)
	sizes(t, s, 1, 1)
}
