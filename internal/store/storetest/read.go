package storetest

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/extauthz/extauthz/internal/resource"
	"github.com/extauthz/extauthz/internal/store"
	"github.com/extauthz/extauthz/pkg/keys"
	"github.com/extauthz/extauthz/pkg/mapping"
	"github.com/extauthz/extauthz/pkg/teams"
	"github.com/extauthz/extauthz/pkg/token"
)

// rowReads are the calls that return a row.
func rowReads() []string {
	return []string{"Lookup", "Key", "Team", "Organization", "User", "TeamByAlias", "OrganizationByAlias"}
}

func testAbsent(t *testing.T, s Instance, _ Features) {
	for _, name := range rowReads() {
		wantError(t, name, calls(s)[name](t.Context()), teams.ErrNotFound)
	}
}

func testRoundTrip(t *testing.T, s Instance, _ Features) {
	want := everything()
	apply(t, s, want)
	for _, o := range want.Organizations {
		got, err := s.Organization(t.Context(), o.ID)
		wantError(t, "Organization", err, nil)
		equal(t, "organization", got, &o.Organization)
	}
	for _, team := range want.Teams {
		got, err := s.Team(t.Context(), team.ID)
		wantError(t, "Team", err, nil)
		equal(t, "team", got, &team.Team)
	}
	for _, u := range want.Users {
		got, err := s.User(t.Context(), u.ID)
		wantError(t, "User", err, nil)
		equal(t, "user", got, &u.User)
	}
	for _, k := range want.Keys {
		got, err := s.Key(t.Context(), k.ID)
		wantError(t, "Key", err, nil)
		equal(t, "key", got, &k.Key)
	}
	for _, m := range want.Mappings {
		got, err := s.Mapping(t.Context(), mapping.Subject{Issuer: m.Issuer, Claim: m.Claim, Value: m.Value})
		wantError(t, "Mapping", err, nil)
		equal(t, "mapping", got, &m.Mapping)
	}
	equal(t, "export", export(t, s), want)
}

func testIssuerPrecedence(t *testing.T, s Instance, _ Features) {
	apply(t, s, everything()) // "alice": an active row for any issuer, an inactive one of the issuer's own
	for _, test := range []struct {
		issuer token.IssuerURL
		want   mapping.Mapping
	}{
		{issuer, mapping.Mapping{Issuer: issuer, Claim: claim, Value: "alice", KeyID: id("two")}},
		{"https://other.example.com", mapping.Mapping{Claim: claim, Value: "alice", KeyID: id("one"), Active: true}},
		{"", mapping.Mapping{Claim: claim, Value: "alice", KeyID: id("one"), Active: true}},
	} {
		got, err := s.Mapping(t.Context(), mapping.Subject{Issuer: test.issuer, Claim: claim, Value: "alice"})
		wantError(t, "Mapping", err, nil)
		equal(t, fmt.Sprintf("issuer %q", test.issuer), got, &test.want)
	}
	_, err := s.Mapping(t.Context(), mapping.Subject{Issuer: issuer, Claim: "email", Value: "alice"})
	wantError(t, "another claim", err, teams.ErrNotFound)
}

// distinctTexts are texts that some collation, normal form or trimming takes for one another.
func distinctTexts() []string {
	return []string{
		"alice", "Alice", "ALICE", "alice ", " alice", "al ice", "alice\u00a0", "alice\u200b",
		"caf\u00e9", "cafe\u0301", "CAF\u00c9", "stra\u00dfe", "strasse", "\u0130", "i", "I", "\u0131",
		"\u212a", "K", "k", "\ufb01", "fi", "\u2126", "\u03a9", "1", "01", "1.0", "true", "null", "NULL",
	}
}

func testByteExact(t *testing.T, s Instance, _ Features) { registerAll(t, s, distinctTexts()) }

// hostileTexts are texts that mean something to a layer below.
func hostileTexts() []string {
	return []string{
		`'`, `''`, `"`, `\`, `\'`, `%`, `_`, `*`, `[a-z]`, `?`, `$1`, `?1`, `:a`, `@a`, `--`, `/*`, `;`,
		`x' OR '1'='1`, `x'; DROP TABLE jwt_key_mappings; --`, `{"a":1}`, `["a"]`, `{a,b}`, `NULL`, `${HOME}`,
		`%s%d%n`, "\u2028", "\ufeffx", "\U0001f600", "\ufffd", "\uffff", "a\u202eb", strings.Repeat("x", 1024), strings.Repeat("\u00e9", 512),
	}
}

func testHostileText(t *testing.T, s Instance, _ Features) {
	registerAll(t, s, hostileTexts())
	for _, text := range hostileTexts() { // a pattern or a cut would find another row
		_, err := s.Mapping(t.Context(), subject(text+"x"))
		wantError(t, text, err, teams.ErrNotFound)
	}
}

// registerAll registers each text as value, alias, user and list element, and finds each again.
func registerAll(t *testing.T, s Instance, texts []string) {
	t.Helper()
	for i, text := range texts {
		key := registered(fmt.Sprint(i), "")
		key.Alias, key.UserID, key.Models = text, teams.UserID(text), []string{text}
		equal(t, text, register(t, s, subject(text), key).KeyID, key.ID)
	}
	for i, text := range texts {
		m, err := s.Mapping(t.Context(), subject(text))
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		equal(t, "value", m.Value, text)
		equal(t, text, m.KeyID, id(fmt.Sprint(i)))
		key, err := s.Key(t.Context(), m.KeyID)
		wantError(t, "Key", err, nil)
		equal(t, "texts", []string{key.Alias, string(key.UserID), key.Models[0]}, []string{text, text, text})
	}
	sizes(t, s, len(texts), len(texts))
}

// noise is text that does not compress: an index entry must hold all of it.
func noise(name string, size int) string {
	var text strings.Builder
	for i := 0; text.Len() < size; i++ {
		sum := sha256.Sum256(fmt.Append(nil, name, i))
		text.WriteString(base64.RawStdEncoding.EncodeToString(sum[:]))
	}
	return text.String()[:size]
}

func testLongestSubject(t *testing.T, s Instance, _ Features) {
	longest := mapping.Subject{
		Issuer: token.IssuerURL(noise("issuer", 512)), Claim: noise("claim", 1024), Value: noise("value", 1024),
	}
	want := register(t, s, longest, registered("long", ""))
	got, err := s.Mapping(t.Context(), longest)
	wantError(t, "Mapping", err, nil)
	equal(t, "mapping", got, want)
}

// unstorable are texts that no row has. PostgreSQL would answer some with an error.
func unstorable() []string {
	return []string{
		"", "\x00", "a\x00b", "alice\x00", "\n", "a\tb", "\x1f", "\x7f", "\u0080", "\u009f",
		"\xff", "a\xc3", "\xed\xa0\x80", strings.Repeat("x", 1025), strings.Repeat("\u00e9", 513),
	}
}

func testUnstorable(t *testing.T, s Instance, _ Features) {
	apply(t, s, everything())
	for _, text := range unstorable() {
		_, err := s.Mapping(t.Context(), subject(text))
		wantError(t, "value", err, teams.ErrNotFound)
		_, err = s.Team(t.Context(), teams.TeamID(text))
		wantError(t, "Team", err, teams.ErrNotFound)
		_, err = s.Organization(t.Context(), teams.OrganizationID(text))
		wantError(t, "Organization", err, teams.ErrNotFound)
		_, err = s.User(t.Context(), teams.UserID(text))
		wantError(t, "User", err, teams.ErrNotFound)
	}
	_, err := s.Key(t.Context(), id("one")+"\x00")
	wantError(t, "Key", err, teams.ErrNotFound)
}

func testExportEmpty(t *testing.T, s Instance, _ Features) {
	equal(t, "export", export(t, s), &resource.Set{})
	apply(t, s, &resource.Set{})
}

func testEndedContext(t *testing.T, s Instance, features Features) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	expired, cancel := context.WithDeadline(t.Context(), time.Unix(0, 0))
	defer cancel()
	for name, call := range calls(s) {
		if features.Cached && (name == "Member" || slices.Contains(rowReads(), name)) {
			answer := call(t.Context())
			wantError(t, name, call(cancelled), answer)
			continue
		}
		wantError(t, name, call(cancelled), context.Canceled)
		wantError(t, name, call(expired), context.DeadlineExceeded)
	}
	equal(t, "export", export(t, s), &resource.Set{})
}

func testReady(t *testing.T, s Instance, features Features) {
	wantError(t, "Ready", s.Ready(t.Context()), nil)
	s.execute(t, "INSERT INTO extauthz_schema_version (version_id, is_applied) VALUES (99, "+features.truth()+")")
	err := s.Ready(t.Context())
	want := fmt.Sprintf("the database schema is at version 99, this binary needs %d: use a newer extauthz", features.SchemaVersion)
	if err == nil || err.Error() != want {
		t.Errorf("Ready: %v, want %s", err, want)
	}
	if !errors.Is(err, store.ErrSchema) {
		t.Errorf("Ready: %v is no ErrSchema", err)
	}
}

// testKeyAlong: what comes along is the row as it is stored, and a mapping without its key is still a mapping.
func testKeyAlong(t *testing.T, s Instance, features Features) {
	apply(t, s, everything())
	along := func(what string, got *keys.Key, id keys.ID) {
		t.Helper()
		stored, err := s.Key(t.Context(), id)
		wantError(t, "Key", err, nil)
		if !features.KeyAlong {
			stored = nil
		}
		equal(t, what, got, stored)
	}
	for _, m := range everything().Mappings {
		_, key, err := s.Lookup(t.Context(), mapping.Subject{Issuer: m.Issuer, Claim: m.Claim, Value: m.Value})
		wantError(t, "Lookup", err, nil)
		along("the key of a mapping", key, m.KeyID)
	}
	key := registered("new", "team-a")
	key.ExpiresAt = time.Date(2099, 1, 2, 3, 4, 5, 678901999, time.UTC)
	m, stored, err := s.Register(t.Context(), subject("new"), key, 10)
	wantError(t, "Register", err, nil)
	along("the key of a registration", stored, m.KeyID)
	_, stored, err = s.Register(t.Context(), subject("new"), registered("unused", ""), 10)
	wantError(t, "Register", err, nil)
	equal(t, "the key of another registration", stored, (*keys.Key)(nil))

	s.execute(t, features.Unchecked(fmt.Sprintf("DELETE FROM virtual_keys WHERE id = '%s'", key.ID)))
	got, gone, err := s.Lookup(t.Context(), subject("new"))
	wantError(t, "without its key", err, nil)
	equal(t, "without its key", got, m)
	equal(t, "the key that is gone", gone, (*keys.Key)(nil))
}

// testOrganizationAlong does the same with a team and its organization.
func testOrganizationAlong(t *testing.T, s Instance, features Features) {
	apply(t, s, everything())
	for _, team := range everything().Teams {
		got, organization, err := s.TeamAlong(t.Context(), team.ID)
		wantError(t, "TeamAlong", err, nil)
		equal(t, "team", got, &team.Team)
		var want *teams.Organization
		if features.KeyAlong && team.OrganizationID != "" {
			want, err = s.Organization(t.Context(), team.OrganizationID)
			wantError(t, "Organization", err, nil)
		}
		equal(t, "its organization", organization, want)
	}
	for _, id := range []teams.TeamID{"gone", "", "\x00"} {
		_, _, err := s.TeamAlong(t.Context(), id)
		wantError(t, "TeamAlong", err, teams.ErrNotFound)
	}
	s.execute(t, features.Unchecked("DELETE FROM organizations WHERE id = 'acme'"))
	team, gone, err := s.TeamAlong(t.Context(), "team-a")
	wantError(t, "without its organization", err, nil)
	equal(t, "without its organization", team, &everything().Teams[0].Team)
	equal(t, "the organization that is gone", gone, (*teams.Organization)(nil))
}
