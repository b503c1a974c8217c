package teams_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/extauthz/extauthz/internal/cache"
	"github.com/extauthz/extauthz/internal/cache/cachetest"
	"github.com/extauthz/extauthz/internal/trace"
	"github.com/extauthz/extauthz/pkg/teams"
)

var errDown = errors.New("down")

// table is a directory whose rows a test changes, and that counts what it is asked.
type table struct {
	teams   map[teams.TeamID]teams.Team
	orgs    map[teams.OrganizationID]teams.Organization
	users   map[teams.UserID]teams.User
	members map[string]bool
	down    bool
	asked   int // for organizations

	whileRead func() // is called after a team was read, before it is returned
}

func find[K comparable, V any](d *table, rows map[K]V, fits func(V) bool) (*V, error) {
	if d.down {
		return nil, errDown
	}
	for _, row := range rows {
		if fits(row) {
			return &row, nil
		}
	}
	return nil, teams.ErrNotFound
}

func (d *table) Team(_ context.Context, id teams.TeamID) (*teams.Team, error) {
	return find(d, d.teams, func(t teams.Team) bool { return t.ID == id })
}

// TeamAlong brings the organization along if there is one.
func (d *table) TeamAlong(ctx context.Context, id teams.TeamID) (*teams.Team, *teams.Organization, error) {
	team, err := d.Team(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	if d.whileRead != nil {
		defer d.whileRead()
	}
	organization, _ := d.Organization(ctx, team.OrganizationID)
	return team, organization, nil
}

func (d *table) TeamByAlias(_ context.Context, alias string) (*teams.Team, error) {
	return find(d, d.teams, func(t teams.Team) bool { return t.Alias == alias })
}

func (d *table) Organization(_ context.Context, id teams.OrganizationID) (*teams.Organization, error) {
	d.asked++
	return find(d, d.orgs, func(o teams.Organization) bool { return o.ID == id })
}

func (d *table) OrganizationByAlias(_ context.Context, alias string) (*teams.Organization, error) {
	return find(d, d.orgs, func(o teams.Organization) bool { return o.Alias == alias })
}

func (d *table) User(_ context.Context, id teams.UserID) (*teams.User, error) {
	return find(d, d.users, func(u teams.User) bool { return u.ID == id })
}

func (d *table) Member(_ context.Context, team teams.TeamID, user teams.UserID) (bool, error) {
	if d.down {
		return false, errDown
	}
	return d.members[string(team)+"/"+string(user)], nil
}

func (d *table) RegisterTeam(_ context.Context, team *teams.Team, _ int) (*teams.Team, error) {
	return team, nil
}

func newTable() *table {
	return &table{
		teams:   map[teams.TeamID]teams.Team{"a": {ID: "a", Alias: "A"}},
		orgs:    map[teams.OrganizationID]teams.Organization{"o": {ID: "o", Alias: "O"}},
		users:   map[teams.UserID]teams.User{},
		members: map[string]bool{},
	}
}

func newCached(t *testing.T, d *table, ttl time.Duration) *teams.CachedDirectory {
	t.Helper()
	c := teams.NewCachedDirectory(d, teams.CacheOptions{
		TTL: ttl, Space: cachetest.Space(t), LoadTimeout: time.Minute, ServeStale: time.Hour,
	})
	t.Cleanup(c.Close)
	return c
}

// A change is seen through everything that the row is looked up by, and its absence too.
func TestChangesAreSeen(t *testing.T) {
	d := newTable()
	c := newCached(t, d, time.Hour)
	// state is what every kind of look-up finds.
	state := func() [8]bool {
		found := func(err error) bool {
			if err != nil && !errors.Is(err, teams.ErrNotFound) {
				t.Fatal(err)
			}
			return err == nil
		}
		ctx := t.Context()
		_, byID := c.Team(ctx, "a")
		_, byOld := c.TeamByAlias(ctx, "A")
		_, byNew := c.TeamByAlias(ctx, "B")
		_, org := c.Organization(ctx, "o")
		_, orgByOld := c.OrganizationByAlias(ctx, "O")
		_, orgByNew := c.OrganizationByAlias(ctx, "P")
		_, user := c.User(ctx, "u")
		member, err := c.Member(ctx, "a", "u")
		if err != nil {
			t.Fatal(err)
		}
		return [8]bool{found(byID), found(byOld), found(byNew), found(org), found(orgByOld), found(orgByNew), found(user), member}
	}
	expect := func(what string, want [8]bool) {
		t.Helper()
		if got := state(); got != want {
			t.Errorf("%s: got %v, want %v", what, got, want)
		}
	}
	before := [8]bool{true, true, false, true, true, false, false, false}
	expect("at first", before)
	d.teams["a"], d.orgs["o"] = teams.Team{ID: "a", Alias: "B"}, teams.Organization{ID: "o", Alias: "P"}
	d.users["u"], d.members["a/u"] = teams.User{ID: "u"}, true
	expect("changed, and not told", before)
	c.TeamsChanged([]uint64{cache.Digest("a"), cache.Digest("A"), cache.Digest("B")})
	expect("teams", [8]bool{true, false, true, true, true, false, false, false})
	c.OrganizationsChanged([]uint64{cache.Digest("o"), cache.Digest("O"), cache.Digest("P")})
	expect("organizations", [8]bool{true, false, true, true, false, true, false, false})
	c.UsersChanged([]uint64{cache.Digest("u")})
	expect("users", [8]bool{true, false, true, true, false, true, true, false})
	c.MembersChanged([]uint64{cache.Digest("a", "u")})
	expect("members", [8]bool{true, false, true, true, false, true, true, true})
	*d = *newTable()
	c.Changed()
	expect("everything", before)
}

// A team's organization is kept when it comes along, unless it was changed since.
func TestOrganizationComesAlong(t *testing.T) {
	d := newTable()
	d.teams["a"] = teams.Team{ID: "a", OrganizationID: "o"}
	c := newCached(t, d, time.Hour)
	read := func(wantAlias string, wantAsked int) {
		t.Helper()
		if _, err := c.Team(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		d.asked = 0
		organization, err := c.Organization(t.Context(), "o")
		if err != nil || organization.Alias != wantAlias || d.asked != wantAsked {
			t.Errorf("%+v, %v, asked for %d times; want the alias %s, and %d", organization, err, d.asked, wantAlias, wantAsked)
		}
	}
	read("O", 0)
	c.Changed()
	d.whileRead = func() {
		d.orgs["o"] = teams.Organization{ID: "o", Alias: "P"}
		c.OrganizationsChanged([]uint64{cache.Digest("o")})
	}
	read("P", 1)
}

// The use of a row that the store cannot give anew is noted for the decision.
func TestStaleRowsAreNoted(t *testing.T) {
	d := newTable()
	c := newCached(t, d, time.Nanosecond)
	look := func(ctx context.Context) error {
		_, team := c.Team(ctx, "a")
		_, err := c.User(ctx, "u")
		if !errors.Is(err, teams.ErrNotFound) {
			team = errors.Join(team, err)
		}
		return team
	}
	record := &trace.Record{}
	if err := look(trace.With(t.Context(), record)); err != nil || record.Stale {
		t.Fatalf("%v, stale %v", err, record.Stale)
	}
	d.down = true
	if err := look(trace.With(t.Context(), record)); err != nil || !record.Stale {
		t.Fatalf("%v, stale %v; want a stale row and a stale absence", err, record.Stale)
	}
	if err := look(t.Context()); err != nil { // nobody records
		t.Fatal(err)
	}
	c.TeamsChanged(nil)
	if err := look(t.Context()); !errors.Is(err, errDown) {
		t.Fatalf("got %v; what was told to have changed is not used", err)
	}
}
