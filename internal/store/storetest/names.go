package storetest

import (
	"errors"
	"testing"

	"github.com/extauthz/extauthz/internal/resource"
	"github.com/extauthz/extauthz/pkg/teams"
)

// testMembers asks who is a member, and changes the members in every way that a set can.
func testMembers(t *testing.T, s Instance, _ Features) {
	declare := func(members []teams.UserID) {
		apply(t, s, &resource.Set{Teams: []resource.Team{
			{Team: teams.Team{ID: "a"}, Members: members}, {Team: teams.Team{ID: "b"}, Members: []teams.UserID{"bob"}}, {Team: teams.Team{ID: "c"}},
		}})
	}
	check := func(why string, want ...teams.UserID) {
		t.Helper()
		listed := map[teams.UserID]bool{}
		for _, user := range want {
			listed[user] = true
		}
		for _, user := range []teams.UserID{"alice", "bob", "carol", "Alice", "alice ", "", "*", "a\x00", "\xff"} {
			member, err := s.Member(t.Context(), "a", user)
			wantError(t, "Member", err, nil)
			if member != listed[user] {
				t.Errorf("%s: %q is a member: %v", why, user, member)
			}
		}
		equal(t, why, export(t, s).Teams[0].Members, append([]teams.UserID{}, want...))
	}
	declare(nil)
	check("never stated")
	declare([]teams.UserID{"bob", "alice"})
	check("stated", "alice", "bob")
	declare(nil)
	check("left alone", "alice", "bob")
	declare([]teams.UserID{"alice", "carol"})
	check("replaced", "alice", "carol")
	declare([]teams.UserID{})
	check("none")
	declare([]teams.UserID{"alice"})

	for _, test := range []struct {
		team teams.TeamID
		user teams.UserID
		want bool
	}{
		{"a", "alice", true}, {"b", "alice", false}, {"b", "bob", true}, {"c", "alice", false}, {"gone", "alice", false}, {"", "alice", false}, {"A", "alice", false},
	} {
		member, err := s.Member(t.Context(), test.team, test.user)
		wantError(t, "Member", err, nil)
		equal(t, string(test.team+" lists "+teams.TeamID(test.user)), member, test.want)
	}
	for _, text := range append(hostileTexts(), distinctTexts()...) {
		declare([]teams.UserID{teams.UserID(text)})
		member, err := s.Member(t.Context(), "a", teams.UserID(text))
		wantError(t, "Member", err, nil)
		equal(t, text, member, true)
		member, err = s.Member(t.Context(), "a", teams.UserID(text+"x"))
		wantError(t, "Member", err, nil)
		equal(t, text+"x", member, false)
	}
}

// testAliases names teams and organizations by an alias: the one that has it, and none if several have it.
func testAliases(t *testing.T, s Instance, _ Features) {
	declare := func(aliases ...string) {
		set := new(resource.Set)
		for i, alias := range aliases {
			name := string(rune('a' + i))
			set.Organizations = append(set.Organizations, resource.Organization{Organization: teams.Organization{ID: teams.OrganizationID(name), Alias: alias}})
			set.Teams = append(set.Teams, resource.Team{Team: teams.Team{ID: teams.TeamID(name), Alias: alias}})
		}
		apply(t, s, set)
	}
	check := func(alias, want string) {
		t.Helper()
		team, err := s.TeamByAlias(t.Context(), alias)
		organization, errOrganization := s.OrganizationByAlias(t.Context(), alias)
		if want == "" {
			wantError(t, "team "+alias, err, teams.ErrNotFound)
			wantError(t, "organization "+alias, errOrganization, teams.ErrNotFound)
			return
		}
		wantError(t, "team "+alias, err, nil)
		wantError(t, "organization "+alias, errOrganization, nil)
		if err == nil && errOrganization == nil {
			equal(t, alias, []string{string(team.ID), team.Alias, string(organization.ID), organization.Alias}, []string{want, alias, want, alias})
		}
	}
	declare("one", "several", "several", "", "b")
	check("one", "a")
	check("several", "")
	for range 2 { // from the store, and again
		_, err := s.TeamByAlias(t.Context(), "several")
		wantError(t, "an alias of several teams", err, teams.ErrAmbiguous)
		_, err = s.OrganizationByAlias(t.Context(), "several")
		wantError(t, "an alias of several organizations", err, teams.ErrAmbiguous)
		if _, err := s.TeamByAlias(t.Context(), "gone"); errors.Is(err, teams.ErrAmbiguous) {
			t.Error("an alias of no team is one of several")
		}
	}
	check("b", "e") // another team's id
	for _, alias := range append([]string{"", "a", "One", "one ", "gone", "%", "on_"}, unstorable()...) {
		check(alias, "")
	}
	declare("one", "several", "now another", "one", "b")
	check("several", "b")
	check("now another", "c")
	check("one", "")
	for _, text := range append(hostileTexts(), distinctTexts()...) {
		declare(text)
		check(text, "a")
		check(text+"x", "")
	}
}
