package storetest

import (
	"errors"
	"fmt"
	"testing"

	"github.com/extauthz/extauthz/internal/resource"
	"github.com/extauthz/extauthz/internal/store"
	"github.com/extauthz/extauthz/pkg/teams"
)

// newTeam is a team with everything that a template gives one.
func newTeam(id teams.TeamID) *teams.Team {
	return &teams.Team{
		ID: id, OrganizationID: "acme", Models: []string{"gpt-4o*", `a"b`}, AllowedRoutes: []string{"openai_routes"},
		Budget: teams.Budget{Max: to(teams.Micros(100)), Window: window("1mo"), ResetAt: utc("2099-01-01T00:00:00Z")},
		Limits: teams.Limits{RPM: to(int64(60)), TPM: to(int64(0))},
	}
}

func testRegisterTeam(t *testing.T, s Instance, _ Features) {
	apply(t, s, &resource.Set{Organizations: []resource.Organization{{Organization: teams.Organization{ID: "acme"}}}})
	for _, team := range []*teams.Team{newTeam("new"), {ID: "plain"}} {
		_, err := s.Team(t.Context(), team.ID)
		wantError(t, "before", err, teams.ErrNotFound) // and cached, where there is a cache
		got, err := s.RegisterTeam(t.Context(), team, 0)
		wantError(t, "RegisterTeam", err, nil)
		equal(t, "returned", got, team)
		got, err = s.Team(t.Context(), team.ID)
		wantError(t, "Team", err, nil)
		equal(t, "stored", got, team)
		member, err := s.Member(t.Context(), team.ID, "alice")
		wantError(t, "Member", err, nil)
		equal(t, "a new team lists alice", member, false)
	}
	spent := newTeam("spent")
	spent.Alias, spent.Blocked, spent.Budget.Spend = "alias", true, 7
	got, err := s.RegisterTeam(t.Context(), spent, 0)
	wantError(t, "RegisterTeam", err, nil)
	equal(t, "what a registration does not write", got, newTeam("spent"))
}

// testRegisterTeamTaken finds the team that is there, whatever the bound, and leaves it as it is.
func testRegisterTeamTaken(t *testing.T, s Instance, features Features) {
	apply(t, s, everything())
	age(t, s, features)
	before, times := export(t, s), changed(t, s)
	for _, bound := range []int{0, 1, 100} {
		for _, stored := range before.Teams {
			got, err := s.RegisterTeam(t.Context(), newTeam(stored.ID), bound)
			wantError(t, "RegisterTeam", err, nil)
			equal(t, "a blocked team stays blocked, and all else as it is", got, &stored.Team)
		}
	}
	equal(t, "the store afterwards", export(t, s), before)
	equal(t, "updated_at", changed(t, s), times)
}

// testRegisterTeamAlias makes no team of a name that some team has as its alias, one or several.
func testRegisterTeamAlias(t *testing.T, s Instance, _ Features) {
	apply(t, s, &resource.Set{Teams: []resource.Team{
		{Team: teams.Team{ID: "a", Alias: "one"}}, {Team: teams.Team{ID: "b", Alias: "several"}}, {Team: teams.Team{ID: "c", Alias: "several"}},
		{Team: teams.Team{ID: "d", Alias: "a"}}, {Team: teams.Team{ID: "e"}},
	}})
	before := export(t, s)
	for _, alias := range []teams.TeamID{"one", "several"} {
		for _, bound := range []int{0, 100} {
			got, err := s.RegisterTeam(t.Context(), &teams.Team{ID: alias}, bound)
			wantError(t, string(alias), err, teams.ErrNotFound)
			equal(t, string(alias), got, (*teams.Team)(nil))
		}
	}
	got, err := s.RegisterTeam(t.Context(), &teams.Team{ID: "a"}, 0)
	wantError(t, "an id that is also an alias", err, nil)
	equal(t, "an id that is also an alias", got.Alias, "one")
	equal(t, "the store afterwards", export(t, s), before)
	_, err = s.RegisterTeam(t.Context(), &teams.Team{ID: "One"}, 0)
	wantError(t, "another name", err, nil)
}

func testRegisterTeamInvalid(t *testing.T, s Instance, _ Features) {
	const secret = "sensitive-value"
	for _, text := range unstorable() {
		if text != "" {
			text = secret + text
		}
		_, err := s.RegisterTeam(t.Context(), &teams.Team{ID: teams.TeamID(text)}, 0)
		wantError(t, "id", err, store.ErrInvalid)
		checkSecrets(t, fmt.Sprint(err), []string{secret})
	}
	for what, spoil := range map[string]func(*teams.Team){
		"an unknown organization": func(x *teams.Team) { x.OrganizationID = secret },
		"an empty model":          func(x *teams.Team) { x.Models = []string{""} },
		"a route with a NUL":      func(x *teams.Team) { x.AllowedRoutes = []string{"/\x00"} },
		"a negative budget":       func(x *teams.Team) { x.Budget.Max = to(teams.Micros(-1)) },
		"a negative limit":        func(x *teams.Team) { x.Limits.RPM = to(int64(-1)) },
	} {
		team := &teams.Team{ID: "x"}
		spoil(team)
		for _, bound := range []int{0, 10} {
			_, err := s.RegisterTeam(t.Context(), team, bound)
			wantError(t, what, err, store.ErrInvalid)
			checkSecrets(t, fmt.Sprint(err), []string{secret})
		}
	}
	equal(t, "the store afterwards", export(t, s), &resource.Set{})
	for _, text := range append(distinctTexts(), hostileTexts()...) {
		team, err := s.RegisterTeam(t.Context(), &teams.Team{ID: teams.TeamID(text)}, 0)
		wantError(t, text, err, nil)
		equal(t, text, team, &teams.Team{ID: teams.TeamID(text)})
	}
}

// testRegisterTeamLimited counts every team, and lets nobody past the bound.
func testRegisterTeamLimited(t *testing.T, s Instance, _ Features) {
	seed(t, s) // two teams of the operator
	warm(t, s)
	try := func(name string, bound int) error {
		_, err := s.RegisterTeam(t.Context(), &teams.Team{ID: teams.TeamID(name)}, bound)
		return err
	}
	wantError(t, "below the operator's own", try("x", 1), teams.ErrLimited)
	wantError(t, "at the operator's own", try("x", 2), teams.ErrLimited)
	wantError(t, "one more", try("first", 3), nil)
	wantError(t, "the bound is reached", try("second", 3), teams.ErrLimited)
	wantError(t, "the one that is there", try("first", 3), nil)
	wantError(t, "without a bound", try("second", 0), nil)
	succeeded, limited := 0, 0
	for i, err := range together(32, func(i int) error { return try(fmt.Sprint(i), 9) }) {
		switch {
		case err == nil:
			succeeded++
		case errors.Is(err, teams.ErrLimited):
			limited++
		default:
			t.Errorf("call %d: %v", i, err)
		}
	}
	if succeeded != 5 || limited != 27 {
		t.Errorf("%d teams made and %d refused, want 5 and 27", succeeded, limited)
	}
	equal(t, "teams", len(export(t, s).Teams), 9)
}

// testRegisterTeamOnce has many callers make one team at once, beside an operator who declares it: one row,
// which everybody is given.
func testRegisterTeamOnce(t *testing.T, s Instance, _ Features) {
	seed(t, s)
	warm(t, s)
	type result struct {
		team *teams.Team
		err  error
	}
	for round := range 4 {
		id := teams.TeamID(fmt.Sprint("new", round))
		declared := &resource.Set{Teams: []resource.Team{{Team: teams.Team{ID: id, Alias: "declared", Blocked: true}}}}
		results := together(33, func(i int) result {
			if i == 32 {
				return result{nil, s.Apply(t.Context(), declared)}
			}
			team, err := s.RegisterTeam(t.Context(), &teams.Team{ID: id, Models: []string{fmt.Sprint(i)}}, i%2*100) // with and without a bound
			return result{team, err}
		})
		made := map[string]bool{}
		for _, r := range results {
			wantError(t, "RegisterTeam", r.err, nil)
			if r.team != nil && !r.team.Blocked {
				made[fmt.Sprint(r.team.Models)] = true
			}
		}
		if len(made) > 1 {
			t.Errorf("callers were given several teams: %v", made)
		}
		stored, err := s.Team(t.Context(), id)
		wantError(t, "Team", err, nil)
		equal(t, "what the operator declares counts, before or after", stored, &declared.Teams[0].Team)
	}
}

func testRegisterTeamSuppressed(t *testing.T, s Instance, features Features) {
	s.execute(t, features.Suppress("teams")...)
	for _, bound := range []int{0, 10} {
		team, err := s.RegisterTeam(t.Context(), &teams.Team{ID: "x"}, bound)
		wantError(t, "a suppressed team", err, teams.ErrConflict)
		equal(t, "team", team, (*teams.Team)(nil))
	}
	equal(t, "the store afterwards", export(t, s), &resource.Set{})
}
