package storetest

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/extauthz/extauthz/internal/resource"
	"github.com/extauthz/extauthz/internal/store"
	"github.com/extauthz/extauthz/pkg/keys"
	"github.com/extauthz/extauthz/pkg/teams"
)

// testSealed stores sealed texts byte for byte, and keeps one that is not stated.
func testSealed(t *testing.T, s Instance, features Features) {
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	declare := func(sealed []byte) error {
		return s.Apply(t.Context(), &resource.Set{Keys: []resource.Key{{Key: keys.Key{ID: id("k"), Sealed: sealed}}}})
	}
	check := func(why string, want []byte) {
		t.Helper()
		key, err := s.Key(t.Context(), id("k"))
		wantError(t, why, err, nil)
		equal(t, why, key.Sealed, want)
		equal(t, why+", exported", export(t, s).Keys[0].Sealed, want)
	}
	wantError(t, "without a text", declare(nil), nil)
	check("without a text", nil)
	for _, sealed := range [][]byte{every, {0}, bytes.Repeat([]byte{0xff}, 3072)} {
		wantError(t, "a text", declare(sealed), nil)
		check("a text", sealed)
		wantError(t, "not stated", declare(nil), nil)
		check("not stated", sealed)
	}
	before := export(t, s)
	for _, sealed := range [][]byte{{}, bytes.Repeat([]byte{1}, 3073)} {
		if err := declare(sealed); err == nil || !strings.HasPrefix(err.Error(), "keys[0].sealed: must be 1 to 3072 bytes long") {
			t.Errorf("a text of %d bytes: %v", len(sealed), err)
		}
		key := registered("x", "")
		key.Sealed = sealed
		_, _, err := s.Register(t.Context(), subject("x"), key, 0)
		wantError(t, "a text that is too short or too long", err, store.ErrInvalid)
	}
	refusedSQL(t, s, "virtual_keys", "sealed", []string{features.literal(`'\x'`, "x''"), features.literal(`decode(repeat('00', 3073), 'hex')`, "zeroblob(3073)")},
		"UPDATE virtual_keys SET sealed = %s")
	equal(t, "the store afterwards", export(t, s), before)
}

// testSealedForOneRow moves a sealed text to another row, as somebody who can write to the database might: it
// opens in its own row only, before and after a rotation of the keyset.
func testSealedForOneRow(t *testing.T, s Instance, _ Features) {
	keyset, err := keys.NewKeyset(t.Context(), nil)
	wantError(t, "NewKeyset", err, nil)
	rotated, err := keys.RotateKeyset(t.Context(), keyset, nil)
	wantError(t, "RotateKeyset", err, nil)
	old, current := newSealer(t, keyset), newSealer(t, rotated)
	own, other := keys.Generate(), keys.Generate()
	sealed, err := old.Seal(own)
	wantError(t, "Seal", err, nil)
	key := registered("own", "")
	key.ID, key.Sealed = own.ID(), sealed
	register(t, s, subject("own"), key)
	apply(t, s, &resource.Set{Keys: []resource.Key{{Key: keys.Key{ID: other.ID()}}}})
	s.execute(t, fmt.Sprintf("UPDATE virtual_keys SET sealed = (SELECT o.sealed FROM virtual_keys AS o WHERE o.id = '%s') WHERE id = '%s'", own.ID(), other.ID()))

	stored := func(id keys.ID) []byte {
		key, err := s.Key(t.Context(), id)
		wantError(t, "Key", err, nil)
		return key.Sealed
	}
	equal(t, "the moved text", stored(other.ID()), stored(own.ID()))
	for _, sealer := range []*keys.Sealer{old, current} {
		text, err := sealer.Open(stored(own.ID()), own.ID())
		wantError(t, "in its own row", err, nil)
		equal(t, "text", string(text), string(own))
		_, err = sealer.Open(stored(other.ID()), other.ID())
		wantError(t, "in another row", err, keys.ErrSealed)
	}
	again, err := current.Seal(own)
	wantError(t, "Seal", err, nil)
	apply(t, s, &resource.Set{Keys: []resource.Key{{Key: keys.Key{ID: own.ID(), Sealed: again}}}})
	if !current.Current(stored(own.ID()), own.ID()) {
		t.Error("the text that the new key sealed is not the stored one")
	}
	_, err = old.Open(stored(own.ID()), own.ID())
	wantError(t, "with the keyset from before", err, keys.ErrSealed)
}

func newSealer(t *testing.T, keyset []byte) *keys.Sealer {
	t.Helper()
	sealer, err := keys.NewSealer(t.Context(), keyset, nil)
	if err != nil {
		t.Fatal(err)
	}
	return sealer
}

// templated is a key with everything that a template of registrations gives one.
func templated(name string, team teams.TeamID) *keys.Key {
	key := registered(name, team)
	key.OrganizationID = "acme"
	key.Models, key.AllowedRoutes = []string{"gpt-4o*", name}, []string{"openai_routes", "/" + name}
	key.JWTOnly = true
	key.ExpiresAt = utc("2099-01-02T03:04:05.678901Z")
	key.IdleTimeout, key.IdleExpiresAt = 90*time.Minute, utc("2098-01-02T03:04:05.678901Z")
	key.Sealed = []byte("sealed " + name)
	key.Budget = teams.Budget{Max: to(teams.Micros(5_000_000)), Window: window("1w"), ResetAt: utc("2098-12-29T00:00:00Z")}
	key.Limits = teams.Limits{RPM: to(int64(60)), TPM: to(int64(100_000))}
	return key
}

// testTemplates reads back what a registration and a rebind write, field by field. The rebound key has its
// own template and the spend of the old one; the old key keeps all but that it is blocked.
func testTemplates(t *testing.T, s Instance, features Features) {
	seed(t, s)
	apply(t, s, &resource.Set{Organizations: []resource.Organization{{Organization: teams.Organization{ID: "acme"}}}})
	check := func(why string, want *keys.Key) {
		t.Helper()
		got, err := s.Key(t.Context(), want.ID)
		wantError(t, why, err, nil)
		equal(t, why, got, want)
	}
	old, renewed := templated("old", "team-a"), templated("new", "team-b")
	register(t, s, subject("alice"), old)
	check("registered", old)
	s.execute(t, fmt.Sprintf("UPDATE virtual_keys SET spend_micros = 123 WHERE id = '%s'", old.ID))
	old.Budget.Spend = 123
	check("spent", old)

	renewed.Budget.Max, renewed.Budget.Window, renewed.Budget.ResetAt = nil, window("1d"), utc("2098-12-30T00:00:00Z")
	_, err := s.Rebind(t.Context(), subject("alice"), old.ID, renewed, 0)
	wantError(t, "Rebind", err, nil)
	old.Blocked, renewed.Budget.Spend = true, 123
	check("the old key", old)
	check("the new key", renewed)

	plain := registered("plain", "")
	register(t, s, subject("bob"), plain)
	check("without a template", plain)
	refusedSQL(t, s, "virtual_keys", "idle_timeout", []string{"-1", "3153600000000001", "NULL"}, "UPDATE virtual_keys SET idle_timeout = %s")
	refusedSQL(t, s, "virtual_keys", "jwt_only", []string{"NULL", features.literal("'2'", "2")}, "UPDATE virtual_keys SET jwt_only = %s")
	refusedSQL(t, s, "virtual_keys", "idle_expires_at", []string{"NULL"}, "UPDATE virtual_keys SET idle_expires_at = %s WHERE idle_timeout > 0")
}
