package storetest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/extauthz/extauthz/internal/resource"
	"github.com/extauthz/extauthz/pkg/keys"
	"github.com/extauthz/extauthz/pkg/teams"
)

// resets are budgets of one window each, and where a reset at an instant moves them.
func resets() []struct {
	why, window  string
	resetAt, now string
	next         string // empty: never again
	notDue       bool
} {
	return []struct {
		why, window  string
		resetAt, now string
		next         string
		notDue       bool
	}{
		{"at the very instant", "1d", "2027-01-02T00:00:00Z", "2027-01-02T00:00:00Z", "2027-01-03T00:00:00Z", false},
		{"a microsecond before", "1d", "2027-01-02T00:00:00Z", "2027-01-01T23:59:59.999999Z", "", true},
		{"without a window", "", "2027-01-02T00:00:00Z", "2027-01-02T00:00:00Z", "", false},
		{"into a month of 31 days", "1mo", "2027-03-01T00:00:00Z", "2027-03-01T00:00:00Z", "2027-04-01T00:00:00Z", false},
		{"on the 31st", "1mo", "2027-01-01T00:00:00Z", "2027-01-31T23:59:59.999999Z", "2027-02-01T00:00:00Z", false},
		{"into a shorter month", "1mo", "2027-01-31T00:00:00Z", "2027-01-31T00:00:00Z", "2027-02-01T00:00:00Z", false},
		{"in December", "1mo", "2026-12-01T00:00:00Z", "2026-12-31T12:00:00Z", "2027-01-01T00:00:00Z", false},
		{"over the new year", "2mo", "2026-11-01T00:00:00Z", "2026-12-15T00:00:00Z", "2027-02-01T00:00:00Z", false},
		{"months after it was due", "1mo", "2026-02-01T00:00:00Z", "2027-07-15T00:00:00Z", "2027-08-01T00:00:00Z", false},
		{"in a February of 29 days", "1mo", "2028-02-01T00:00:00Z", "2028-02-29T23:59:59Z", "2028-03-01T00:00:00Z", false},
		{"before a leap day", "1d", "2028-02-28T00:00:00Z", "2028-02-28T10:00:00Z", "2028-02-29T00:00:00Z", false},
		{"on a leap day", "1d", "2028-02-29T00:00:00Z", "2028-02-29T10:00:00Z", "2028-03-01T00:00:00Z", false},
		{"without a leap day", "1d", "2027-02-28T00:00:00Z", "2027-02-28T10:00:00Z", "2027-03-01T00:00:00Z", false},
		{"in 2100, which has none", "1d", "2100-02-28T00:00:00Z", "2100-02-28T10:00:00Z", "2100-03-01T00:00:00Z", false},
		{"on a Sunday", "1w", "2026-11-23T00:00:00Z", "2026-11-29T23:59:59.999999Z", "2026-11-30T00:00:00Z", false},
		{"on a Monday", "1w", "2026-11-30T00:00:00Z", "2026-11-30T00:00:00Z", "2026-12-07T00:00:00Z", false},
		{"two weeks, on a Wednesday", "2w", "2026-11-23T00:00:00Z", "2026-11-25T08:00:00Z", "2026-12-07T00:00:00Z", false},
		{"a week over the new year", "1w", "2026-12-28T00:00:00Z", "2026-12-31T00:00:00Z", "2027-01-04T00:00:00Z", false},
		{"by a clock ahead of UTC", "1d", "2027-01-01T00:00:00Z", "2027-01-02T01:00:00+14:00", "2027-01-02T00:00:00Z", false},
		{"by a clock behind UTC", "1mo", "2027-02-01T00:00:00Z", "2027-01-31T20:00:00-11:00", "2027-03-01T00:00:00Z", false},
		{"not yet, by a clock ahead of UTC", "1d", "2027-01-02T00:00:00Z", "2027-01-02T01:00:00+14:00", "", true},
		{"hours", "6h", "2027-01-01T10:00:00Z", "2027-01-01T10:59:59.999999Z", "2027-01-01T16:00:00Z", false},
		{"minutes", "15m", "2027-01-01T10:00:00Z", "2027-01-01T10:07:30Z", "2027-01-01T10:22:00Z", false},
		{"seconds", "1000s", "2027-01-01T10:00:00Z", "2027-01-01T10:00:00.5Z", "2027-01-01T10:16:40Z", false},
	}
}

// testBudgetReset resets one row of each table, window by window.
func testBudgetReset(t *testing.T, s Instance, features Features) {
	for _, test := range resets() {
		before := teams.Budget{Max: to(teams.Micros(9)), Spend: 7, Window: window(test.window), ResetAt: utc(test.resetAt)}
		apply(t, s, spenders(before))
		age(t, s, features)
		aged := changed(t, s)
		want, wantReset := before, 0
		if !test.notDue {
			wantReset = 4
			want.Spend, want.ResetAt = 0, time.Time{}
			if test.next != "" {
				want.ResetAt = utc(test.next)
			}
		}
		now, err := time.Parse(time.RFC3339, test.now) // in its own zone
		wantError(t, test.now, err, nil)
		for _, wantReset := range []int{wantReset, 0} { // a second time, nothing is due
			reset, err := s.ResetBudgets(t.Context(), now)
			if err != nil || reset != wantReset {
				t.Errorf("%s: %d rows reset, %v; want %d", test.why, reset, err, wantReset)
			}
		}
		equal(t, test.why, budgets(t, s), [4]teams.Budget{want, want, want, want})
		if touched := fmt.Sprint(changed(t, s)) != fmt.Sprint(aged); touched == test.notDue {
			t.Errorf("%s: updated_at moved: %v", test.why, touched)
		}
	}
}

// spenders is a set of one row of each table with this budget.
func spenders(b teams.Budget) *resource.Set {
	return &resource.Set{
		Organizations: []resource.Organization{{Organization: teams.Organization{ID: "o", Budget: b}}},
		Teams:         []resource.Team{{Team: teams.Team{ID: "t", Budget: b}}},
		Users:         []resource.User{{User: teams.User{ID: "u", Budget: b}}},
		Keys:          []resource.Key{{Key: keys.Key{ID: id("k"), Budget: b}}},
	}
}

// budgets are those of the rows that spenders declares, as a decision reads them.
func budgets(t *testing.T, s Instance) (found [4]teams.Budget) {
	t.Helper()
	organization, err := s.Organization(t.Context(), "o")
	wantError(t, "Organization", err, nil)
	team, err := s.Team(t.Context(), "t")
	wantError(t, "Team", err, nil)
	user, err := s.User(t.Context(), "u")
	wantError(t, "User", err, nil)
	key, err := s.Key(t.Context(), id("k"))
	wantError(t, "Key", err, nil)
	return [4]teams.Budget{organization.Budget, team.Budget, user.Budget, key.Budget}
}

// testBudgetResetOnce lets several replicas reset at once more rows than one reads at a time: each row is
// reset by one of them, and what is spent afterwards stays.
func testBudgetResetOnce(t *testing.T, s Instance, _ Features) {
	const rows = 505
	due := utc("2027-01-01T00:00:00Z")
	set := new(resource.Set)
	for i := range rows {
		set.Users = append(set.Users, resource.User{User: teams.User{
			ID: teams.UserID(fmt.Sprint(i)), Budget: teams.Budget{Spend: 7, Window: window("1d"), ResetAt: due},
		}})
	}
	apply(t, s, set)
	type result struct {
		reset int
		err   error
	}
	total := 0
	for _, r := range together(3, func(int) result {
		reset, err := s.ResetBudgets(t.Context(), due)
		return result{reset, err}
	}) {
		wantError(t, "ResetBudgets", r.err, nil)
		total += r.reset
	}
	if total != rows {
		t.Errorf("%d resets of %d rows", total, rows)
	}
	s.execute(t, "UPDATE users SET spend_micros = 5")
	if reset, err := s.ResetBudgets(t.Context(), due.Add(24*time.Hour-time.Microsecond)); err != nil || reset != 0 {
		t.Errorf("within the new window: %d rows reset, %v", reset, err)
	}
	for _, user := range export(t, s).Users {
		equal(t, "budget", user.Budget, teams.Budget{Spend: 5, Window: window("1d"), ResetAt: due.Add(24 * time.Hour)})
	}
}

// testApplyWindows follows the reset of a budget, and the end of an idle key, through changes of its window.
func testApplyWindows(t *testing.T, s Instance, features Features) {
	times := 0
	declare := func(w string, idle time.Duration, resetAt, idleAt time.Time) {
		times++ // another maximum each time, so that the row is written
		set := spenders(teams.Budget{Max: to(teams.Micros(times)), Window: window(w), ResetAt: resetAt})
		set.Keys[0].IdleTimeout, set.Keys[0].IdleExpiresAt = idle, idleAt
		apply(t, s, set)
	}
	idle := func() time.Time { return export(t, s).Keys[0].IdleExpiresAt }
	stated := utc("2098-07-06T05:04:03.000002Z")

	started := time.Now()
	declare("1000mo", time.Hour, time.Time{}, time.Time{})
	for _, b := range budgets(t, s) {
		if first, last := window("1000mo").End(started), window("1000mo").End(time.Now()); b.ResetAt.Before(first) || b.ResetAt.After(last) {
			t.Errorf("a new window ends at %v, want %v to %v", b.ResetAt, first, last)
		}
	}
	if at := idle(); at.Before(started.Add(time.Hour).Truncate(time.Microsecond)) || at.After(time.Now().Add(time.Hour)) {
		t.Errorf("a new key is idle at %v", at)
	}
	s.execute(t, "UPDATE virtual_keys SET idle_expires_at = "+features.literal("'2098-01-01T00:00:00Z'", fmt.Sprint(utc("2098-01-01T00:00:00Z").UnixMicro())))
	for _, table := range []string{"organizations", "teams", "users", "virtual_keys"} {
		s.execute(t, "UPDATE "+table+" SET budget_reset_at = "+features.literal("'2098-01-01T00:00:00Z'", fmt.Sprint(utc("2098-01-01T00:00:00Z").UnixMicro())))
	}
	check := func(why string, resetAt, idleAt time.Time) {
		t.Helper()
		for _, b := range budgets(t, s) {
			equal(t, why+": reset", b.ResetAt, resetAt)
		}
		equal(t, why+": idle", idle(), idleAt)
	}
	declare("1000mo", time.Hour, time.Time{}, time.Time{})
	check("the same windows", utc("2098-01-01T00:00:00Z"), utc("2098-01-01T00:00:00Z"))
	declare("1000mo", time.Hour, stated, stated)
	check("stated", stated, stated)
	declare("1mo", 2*time.Hour, time.Time{}, time.Time{})
	for _, b := range budgets(t, s) {
		if !b.ResetAt.Before(stated) || !b.ResetAt.After(started) {
			t.Errorf("another window ends at %v", b.ResetAt)
		}
	}
	if at := idle(); !at.Before(stated) || !at.After(started) {
		t.Errorf("another timeout ends at %v", at)
	}
	declare("1mo", 2*time.Hour, stated, stated)
	declare("", 0, time.Time{}, time.Time{})
	check("no window", time.Time{}, time.Time{})
	declare("", 0, stated, stated)
	check("stated without a window", stated, stated)
}

// testWindowConstraints writes windows past the store that no reader could take for one.
func testWindowConstraints(t *testing.T, s Instance, features Features) {
	apply(t, s, spenders(teams.Budget{Window: window("1d"), ResetAt: utc("2027-01-01T00:00:00Z")}))
	before := budgets(t, s)
	for _, table := range []string{"organizations", "teams", "users", "virtual_keys"} {
		refusedSQL(t, s, table, "budget_window", strings.Split("'d'|'0d'|'01d'|'1001d'|'1y'|'1'|'-1d'|'1 d'|' 1d'|'1d '|'1D'|'1.5d'|'1moo'|NULL", "|"),
			"UPDATE "+table+" SET budget_window = %s")
		refusedSQL(t, s, table, "budget_reset_at", []string{"NULL", features.literal("'infinity'", "253402300800000000")},
			"UPDATE "+table+" SET budget_reset_at = %s")
	}
	equal(t, "the budgets afterwards", budgets(t, s), before)
}
