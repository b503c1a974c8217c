package storetest

import (
	"cmp"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/extauthz/extauthz/internal/resource"
	"github.com/extauthz/extauthz/internal/store"
	"github.com/extauthz/extauthz/pkg/keys"
	"github.com/extauthz/extauthz/pkg/mapping"
	"github.com/extauthz/extauthz/pkg/teams"
)

func testRegister(t *testing.T, s Instance, _ Features) {
	apply(t, s, everything())
	key := everything().Keys[0].Key
	key.ID, key.Alias = id("new"), "new"
	key.ExpiresAt = time.Date(2027, 1, 2, 3, 4, 5, 678901999, time.FixedZone("", 3600))
	want := &mapping.Mapping{Issuer: issuer, Claim: claim, Value: "new", KeyID: key.ID, Active: true, AutoRegistered: true}
	_, err := s.Mapping(t.Context(), subject("new"))
	wantError(t, "before", err, teams.ErrNotFound) // and cached, where there is a cache
	equal(t, "registered", register(t, s, subject("new"), &key), want)
	m, err := s.Mapping(t.Context(), subject("new"))
	wantError(t, "Mapping", err, nil)
	equal(t, "mapping", m, want)

	got, err := s.Key(t.Context(), key.ID)
	wantError(t, "Key", err, nil)
	key.ExpiresAt = time.Date(2027, 1, 2, 2, 4, 5, 678901000, time.UTC)
	equal(t, "key", got, &key)

	equal(t, "again", register(t, s, subject("new"), registered("unused", "")), want)
	inactive := &mapping.Mapping{Issuer: issuer, Claim: claim, Value: "alice", KeyID: id("two")}
	equal(t, "an inactive mapping", register(t, s, subject("alice"), registered("unused", "")), inactive)
	sizes(t, s, 3, 3)
	global := mapping.Subject{Issuer: "https://other.example.com", Claim: claim, Value: "alice"}
	equal(t, "beside a mapping of any issuer", register(t, s, global, registered("other", "")).KeyID, id("other"))
}

func testRegisterOnce(t *testing.T, s Instance, _ Features) {
	seed(t, s)
	registerTogether(t, s, func(i int) *keys.Key { return registered(fmt.Sprint(i), "team-a") })
}

// testRegisterOneAlias lets the registrations meet at the alias, before they meet at the mapping.
func testRegisterOneAlias(t *testing.T, s Instance, _ Features) {
	seed(t, s)
	registerTogether(t, s, func(i int) *keys.Key {
		key := registered(fmt.Sprint(i), "team-a")
		key.Alias = "alice"
		return key
	})
}

// testRegisterMixed registers at once who may be and who may not, twins among them: each gets its own answer.
func testRegisterMixed(t *testing.T, s Instance, _ Features) {
	seed(t, s)
	const each, bound = 40, 10
	attempts := []struct {
		subject, team string
		bound         int
	}{{"", "team-a", 1000}, {"", "", 0}, {"twin", "team-a", 0}, {"", "team-b", bound}, {"", "gone", 0}, {"", "gone", 5}}
	outcomes := together(len(attempts)*each, func(i int) outcome {
		a, name := attempts[i%len(attempts)], fmt.Sprint(i)
		m, key, err := s.Register(t.Context(), subject(cmp.Or(a.subject, name)), registered(name, teams.TeamID(a.team)), a.bound)
		if err == nil && key != nil && (key.ID != m.KeyID || key.ID != id(name)) {
			t.Errorf("registration %d: a mapping to %s, and the key %s", i, m.KeyID, key.ID)
		}
		return outcome{m, err}
	})
	of := func(attempt int) (list []outcome) {
		for i := attempt; i < len(outcomes); i += len(attempts) {
			list = append(list, outcomes[i])
		}
		return list
	}
	for _, everybody := range []int{0, 1, 2} {
		tally(t, of(everybody), nil)
	}
	for i := range each {
		equal(t, "a new subject", outcomes[i*len(attempts)].mapping.KeyID, id(fmt.Sprint(i*len(attempts))))
		equal(t, "a twin", of(2)[i].mapping, of(2)[0].mapping)
	}
	if succeeded, _ := tally(t, of(3), mapping.ErrLimited); succeeded != bound {
		t.Errorf("%d keys in a team that may have %d", succeeded, bound)
	}
	for _, nobody := range []int{4, 5} {
		if succeeded, _ := tally(t, of(nobody), store.ErrInvalid); succeeded != 0 {
			t.Errorf("%d keys in a team that is not there", succeeded)
		}
	}
	sizes(t, s, 2*each+1+bound, 2*each+1+bound)
}

func registerTogether(t *testing.T, s Instance, key func(i int) *keys.Key) {
	t.Helper()
	outcomes := together(64, func(i int) outcome {
		m, _, err := s.Register(t.Context(), subject("alice"), key(i), i%2*100) // with and without a bound
		return outcome{m, err}
	})
	if succeeded, _ := tally(t, outcomes, nil); succeeded != len(outcomes) {
		t.Fatalf("%d of %d registrations succeeded", succeeded, len(outcomes))
	}
	for _, o := range outcomes[1:] {
		equal(t, "mapping", o.mapping, outcomes[0].mapping)
	}
	sizes(t, s, 1, 1)
	equal(t, "the mapping's key", export(t, s).Keys[0].ID, outcomes[0].mapping.KeyID)
}

func testRegisterSuppressed(t *testing.T, s Instance, features Features) {
	seed(t, s)
	s.execute(t, features.Suppress("jwt_key_mappings")...)
	for _, bound := range []int{0, 10} {
		m, _, err := s.Register(t.Context(), subject("alice"), registered("alice", "team-a"), bound)
		wantError(t, "a suppressed mapping", err, mapping.ErrConflict)
		equal(t, "mapping", m, (*mapping.Mapping)(nil))
	}
	sizes(t, s, 0, 0)
	s.execute(t, features.Suppress("virtual_keys")...)
	_, _, err := s.Register(t.Context(), subject("alice"), registered("alice", "team-a"), 0)
	wantError(t, "a suppressed key", err, mapping.ErrConflict)
	sizes(t, s, 0, 0)
}

func testRegisterUnknownTeam(t *testing.T, s Instance, _ Features) {
	for _, bound := range []int{0, 10} {
		_, _, err := s.Register(t.Context(), subject("alice"), registered("alice", "gone"), bound)
		wantError(t, "an unknown team", err, store.ErrInvalid)
		checkSecrets(t, fmt.Sprint(err), []string{"gone", string(id("alice"))})
	}
	sizes(t, s, 0, 0)
}

func testRegisterAliasTaken(t *testing.T, s Instance, _ Features) {
	register(t, s, subject("alice"), registered("alice", ""))
	key := registered("bob", "")
	key.Alias = "alice"
	_, _, err := s.Register(t.Context(), subject("bob"), key, 0)
	wantError(t, "a taken alias", err, mapping.ErrConflict)
	_, _, err = s.Register(t.Context(), subject("bob"), registered("alice", ""), 0)
	wantError(t, "a taken id", err, mapping.ErrConflict)
	sizes(t, s, 1, 1)
}

func testLimited(t *testing.T, s Instance, features Features) {
	seed(t, s)
	bounded := func(value string, team teams.TeamID, bound int) error {
		_, _, err := s.Register(t.Context(), subject(value), registered(value, team), bound)
		return err
	}
	for _, team := range []teams.TeamID{"team-a", ""} {
		name := func(n int) string { return fmt.Sprint(team, n) }
		wantError(t, "first", bounded(name(1), team, 2), nil)
		wantError(t, "second", bounded(name(2), team, 2), nil)
		wantError(t, "third", bounded(name(3), team, 2), mapping.ErrLimited)
		wantError(t, "one that exists", bounded(name(1), team, 2), nil)
		wantError(t, "without a bound", bounded(name(4), team, 0), nil)
		s.execute(t, fmt.Sprintf("UPDATE virtual_keys SET blocked = %s WHERE id IN ('%s', '%s')", features.truth(), id(name(1)), id(name(2))))
		wantError(t, "blocked keys do not count", bounded(name(3), team, 2), nil)
	}
	operators := resource.Key{Key: keys.Key{ID: id("operator's"), TeamID: "team-b"}}
	apply(t, s, &resource.Set{Keys: []resource.Key{operators}})
	wantError(t, "an operator's key does not count", bounded("b", "team-b", 1), nil)
	sizes(t, s, 10, 9)
}

func testLimitedConcurrently(t *testing.T, s Instance, _ Features) {
	seed(t, s)
	for _, team := range []teams.TeamID{"team-a", ""} {
		outcomes := together(32, func(i int) outcome {
			value := fmt.Sprint(team, i)
			m, _, err := s.Register(t.Context(), subject(value), registered(value, team), 5)
			return outcome{m, err}
		})
		if succeeded, limited := tally(t, outcomes, mapping.ErrLimited); succeeded != 5 || limited != 27 {
			t.Errorf("team %q: %d registered and %d refused, want 5 and 27", team, succeeded, limited)
		}
	}
	sizes(t, s, 10, 10)
}

// testWritersWait holds a team's row in another transaction.
func testWritersWait(t *testing.T, s Instance, features Features) {
	seed(t, s)
	tx, err := s.Raw.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.ExecContext(t.Context(), "UPDATE teams SET alias = 'changing' WHERE id = 'team-a'"); err != nil {
		t.Fatal(err)
	}
	bounded := func(value string, bound int) error {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		_, _, err := s.Register(ctx, subject(value), registered(value, "team-a"), bound)
		return err
	}
	wantError(t, "with a bound", bounded("bounded", 5), context.DeadlineExceeded)
	if features.ConcurrentWriters {
		wantError(t, "without a bound", bounded("free", 0), nil)
	} else {
		wantError(t, "without a bound", bounded("free", 0), context.DeadlineExceeded)
	}
	if _, err := s.Team(t.Context(), "team-a"); err != nil {
		t.Errorf("a reader waits for a writer: %v", err)
	}
	wantError(t, "Rollback", tx.Rollback(), nil)
	wantError(t, "afterwards", bounded("bounded", 5), nil)
}
