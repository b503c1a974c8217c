package teams_test

import (
	"context"
	"errors"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/extauthz/extauthz/internal/trace"
	"github.com/extauthz/extauthz/pkg/teams"
)

// memory is a store of a test's teams. It is safe for concurrent use.
type memory struct {
	directory
	aliases map[string]error // what an alias that names no team means

	mu       sync.Mutex
	bound    int                                // of the last registration
	asked    int                                // how often a team was to be registered
	register func(*teams.Team) *teams.Team      // nil: it is written as it is
	refuse   error                              // what a registration returns instead
	hold     func(context.Context, *teams.Team) // called before a registration

	reads   int           // after that many reads of teams,
	allRead chan struct{} // this is closed
}

func newMemory() *memory { return &memory{directory: rows(), aliases: map[string]error{}} }

func (m *memory) Team(ctx context.Context, id teams.TeamID) (*teams.Team, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.reads--; m.reads == 0 {
		close(m.allRead)
	}
	return m.directory.Team(ctx, id)
}

func (m *memory) TeamByAlias(_ context.Context, alias string) (*teams.Team, error) {
	if err := m.aliases[alias]; err != nil {
		return nil, err
	}
	return nil, teams.ErrNotFound
}

func (m *memory) RegisterTeam(ctx context.Context, team *teams.Team, most int) (*teams.Team, error) {
	if m.hold != nil {
		m.hold(ctx, team)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked, m.bound = m.asked+1, most
	if m.refuse != nil {
		return nil, m.refuse
	}
	if m.register != nil {
		team = m.register(team)
	}
	m.teams[team.ID] = team
	return team, nil
}

func own(team teams.TeamID) *teams.Identity {
	return &teams.Identity{Issuer: "https://a.example", TeamID: team, TeamExpected: true}
}

func TestTeamRegistration(t *testing.T) {
	down := errors.New("the store is down")
	small := teams.Template{Models: []string{"gpt-4o*"}, AllowedRoutes: []string{"openai_routes"}}
	of := func(org teams.OrganizationID) teams.Template { return teams.Template{OrganizationID: org} }
	never := []teams.Rule{{Name: "never", Expression: "team.id != 'new'"}}
	for name, c := range map[string]struct {
		template teams.Template
		config   teams.Config
		id       *teams.Identity
		request  teams.Request
		spoil    func(*memory)
		err      error
		asked    int // how often the store is asked to write
	}{
		"the token's team":                      {id: own("new"), request: chat("x"), asked: 1},
		"the client asks for it too":            {id: own("new"), request: selecting("new"), asked: 1},
		"a list beside it":                      {id: &teams.Identity{TeamID: "new", TeamIDs: []teams.TeamID{"a"}}, request: chat("x"), asked: 1},
		"within the template":                   {template: small, id: own("new"), request: chat("gpt-4o-mini"), asked: 1},
		"of a list":                             {id: &teams.Identity{TeamIDs: []teams.TeamID{"new"}}, request: chat("x"), err: teams.ErrTeamUnknown},
		"of a list, and asked for":              {id: &teams.Identity{TeamIDs: []teams.TeamID{"new"}}, request: selecting("new"), err: teams.ErrTeamUnknown},
		"only the client asks for it":           {id: own("a"), request: selecting("new"), err: teams.ErrTeamNotMember},
		"only the client, and no team":          {id: &teams.Identity{}, request: selecting("new"), err: teams.ErrTeamNotMember},
		"the default":                           {id: &teams.Identity{}, config: teams.Config{DefaultTeam: "new"}, request: chat("x"), err: teams.ErrTeamUnknown},
		"a model outside the template":          {template: small, id: own("new"), request: chat("o1"), err: teams.ErrModelForbidden},
		"a route outside the template":          {template: small, id: own("new"), request: teams.Request{Method: "POST", Path: "/other"}, err: teams.ErrRouteForbidden},
		"a blocked organization":                {template: of("closed"), id: own("new"), request: chat("x"), err: teams.ErrOrganizationBlocked},
		"an unknown organization":               {template: of("gone"), id: own("new"), request: chat("x"), err: teams.ErrOrganizationUnknown},
		"another organization than the token's": {template: of("acme"), id: &teams.Identity{TeamID: "new", OrganizationID: "other"}, request: chat("x"), err: teams.ErrTeamNotMember},
		"an unknown organization in the token":  {id: &teams.Identity{TeamID: "new", OrganizationID: "gone"}, request: chat("x"), err: teams.ErrOrganizationUnknown},
		"a blocked user":                        {id: &teams.Identity{TeamID: "new", UserID: "mallory"}, request: chat("x"), err: teams.ErrUserBlocked},
		"a team rule":                           {config: teams.Config{TeamRules: never}, id: own("new"), request: chat("x"), err: teams.ErrRuleFailed},
		"members only":                          {config: teams.Config{RequireMember: true}, id: &teams.Identity{TeamID: "new", UserID: "u"}, request: chat("x"), err: teams.ErrTeamNotMember},
		"a team that is blocked":                {id: own("blocked"), request: chat("x"), err: teams.ErrTeamBlocked},
		"an alias of several":                   {config: teams.Config{ByAlias: true}, id: own("new"), request: chat("x"), spoil: func(m *memory) { m.aliases["new"] = teams.ErrAmbiguous }, err: teams.ErrTeamUnknown},
		"an alias that cannot be read":          {config: teams.Config{ByAlias: true}, id: own("new"), request: chat("x"), spoil: func(m *memory) { m.aliases["new"] = down }, err: down},
		"a store that cannot be read":           {id: own("new"), request: chat("x"), spoil: func(m *memory) { m.err = down }, err: down},
		"a store that cannot be written":        {id: own("new"), request: chat("x"), spoil: func(m *memory) { m.refuse = down }, err: down, asked: 1},
		"the store knows it as an alias":        {id: own("new"), request: chat("x"), spoil: func(m *memory) { m.refuse = teams.ErrNotFound }, err: teams.ErrTeamUnknown, asked: 1},
		"the store is full":                     {id: own("new"), request: chat("x"), spoil: func(m *memory) { m.refuse = teams.ErrLimited }, err: teams.ErrLimited, asked: 1},
		"the winner vanished":                   {id: own("new"), request: chat("x"), spoil: func(m *memory) { m.refuse = teams.ErrConflict }, err: teams.ErrConflict, asked: 1},
		"the winner is blocked": {id: own("new"), request: chat("x"), spoil: func(m *memory) {
			m.register = func(*teams.Team) *teams.Team { return &teams.Team{ID: "new", Blocked: true} }
		}, err: teams.ErrTeamBlocked, asked: 1},
		"the winner's team rules": {config: teams.Config{TeamRules: []teams.Rule{{Name: "frozen", Expression: "team.alias != 'frozen'"}}}, id: own("new"), request: chat("x"), spoil: func(m *memory) {
			m.register = func(*teams.Team) *teams.Team { return &teams.Team{ID: "new", Alias: "frozen"} }
		}, err: teams.ErrRuleFailed, asked: 1},
		"the winner's models": {id: own("new"), request: chat("x"), spoil: func(m *memory) {
			m.register = func(*teams.Team) *teams.Team { return &teams.Team{ID: "new", Models: []string{"y"}} }
		}, err: teams.ErrModelForbidden, asked: 1},
		"the winner's organization": {id: own("new"), request: chat("x"), spoil: func(m *memory) {
			m.register = func(*teams.Team) *teams.Team { return &teams.Team{ID: "new", OrganizationID: "closed"} }
		}, err: teams.ErrOrganizationBlocked, asked: 1},
	} {
		t.Run(name, func(t *testing.T) {
			store := newMemory()
			if c.spoil != nil {
				c.spoil(store)
			}
			c.config.AutoRegister = &teams.AutoRegister{Template: c.template, MaxTeams: 7}
			policy, err := teams.NewPolicy(c.config, store, store)
			if err != nil {
				t.Fatal(err)
			}
			m, err := policy.Place(t.Context(), c.id, c.request)
			if !errors.Is(err, c.err) || (c.err == nil) != (err == nil) {
				t.Errorf("error %v, want %v", err, c.err)
			}
			if store.asked != c.asked {
				t.Errorf("the store was asked to write %d times, want %d", store.asked, c.asked)
			}
			if store.asked > 0 && store.bound != 7 {
				t.Errorf("the store was told of a bound of %d", store.bound)
			}
			if c.err == nil && (m.TeamID != "new" || m.Team != store.teams["new"] || m.Team == nil) {
				t.Errorf("placed in %+v", m)
			}
		})
	}
}

// goneAfter is a store that cannot be read any more after so many teams.
type goneAfter struct {
	*memory
	reads int
	err   error
}

func (g *goneAfter) Team(ctx context.Context, id teams.TeamID) (*teams.Team, error) {
	if g.reads--; g.reads < 0 {
		return nil, g.err
	}
	return g.memory.Team(ctx, id)
}

// An outage between the look-up of a team and its registration is no absence.
func TestTeamRegistrationInAnOutage(t *testing.T) {
	store := &goneAfter{newMemory(), 1, errors.New("down")}
	policy, err := teams.NewPolicy(teams.Config{AutoRegister: &teams.AutoRegister{}}, store, store)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := policy.Place(t.Context(), own("new"), chat("x")); !errors.Is(err, store.err) || store.asked != 0 {
		t.Errorf("%v, written %d times", err, store.asked)
	}
}

// Without the configuration, and without a store, nothing is registered.
func TestNoTeamRegistration(t *testing.T) {
	store := newMemory()
	for name, p := range map[string]func() (*teams.Policy, error){
		"not configured": func() (*teams.Policy, error) { return teams.NewPolicy(teams.Config{}, store, store) },
		"no registrar": func() (*teams.Policy, error) {
			return teams.NewPolicy(teams.Config{AutoRegister: &teams.AutoRegister{}}, store, nil)
		},
	} {
		policy, err := p()
		if err != nil {
			t.Fatal(err)
		}

		if _, err := policy.Place(t.Context(), own("new"), chat("x")); !errors.Is(err, teams.ErrTeamUnknown) || store.asked != 0 {
			t.Errorf("%s: %v, asked %d times", name, err, store.asked)
		}
	}
}

func TestTeamTemplate(t *testing.T) {
	ceiling, rpm, tpm := teams.Micros(5), int64(6), int64(7)
	window, err := teams.ParseWindow("1mo")
	if err != nil {
		t.Fatal(err)
	}
	store := newMemory()
	policy, err := teams.NewPolicy(teams.Config{
		Now: func() time.Time { return time.Date(2028, 2, 29, 12, 0, 0, 0, time.UTC) },
		AutoRegister: &teams.AutoRegister{Template: teams.Template{
			OrganizationID: "acme", Models: []string{"m"}, AllowedRoutes: []string{"openai_routes"},
			MaxBudget: &ceiling, BudgetWindow: window, Limits: teams.Limits{RPM: &rpm, TPM: &tpm},
		}},
	}, store, store)
	if err != nil {
		t.Fatal(err)
	}
	m, err := policy.Place(t.Context(), own("new"), chat("m"))
	want := &teams.Team{
		ID: "new", OrganizationID: "acme", Models: []string{"m"}, AllowedRoutes: []string{"openai_routes"},
		Budget: teams.Budget{Max: &ceiling, Window: window, ResetAt: time.Date(2028, 3, 1, 0, 0, 0, 0, time.UTC)},
		Limits: teams.Limits{RPM: &rpm, TPM: &tpm},
	}
	if err != nil || !reflect.DeepEqual(m.Team, want) || m.OrganizationID != "acme" {
		t.Errorf("got %+v, %v\nwant %+v", m.Team, err, want)
	}
}

// Of many first requests of one team, one writes and spends the issuer's rate; another team has to wait for
// the next minute, and another issuer has a rate of its own.
func TestTeamRegisteredOnce(t *testing.T) {
	now := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	store := newMemory()
	store.reads, store.allRead = 32, make(chan struct{})
	store.hold = func(context.Context, *teams.Team) { <-store.allRead } // nobody is late: all have found no team
	policy, err := teams.NewPolicy(teams.Config{
		Now: func() time.Time { return now }, AutoRegister: &teams.AutoRegister{MaxPerMinute: 1},
	}, store, store)
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for range 32 {
		group.Go(func() {
			if m, err := policy.Place(t.Context(), own("new"), chat("x")); err != nil || m.TeamID != "new" {
				t.Errorf("%+v, %v", m, err)
			}
		})
	}
	group.Wait()
	if store.asked != 1 {
		t.Errorf("the team was written %d times", store.asked)
	}
	other := own("other-new")
	other.Issuer = "https://b.example"
	for _, c := range []struct {
		id   *teams.Identity
		want error
	}{{own("second"), teams.ErrLimited}, {own("new"), nil}, {own("a"), nil}, {other, nil}} {
		if _, err := policy.Place(t.Context(), c.id, chat("x")); !errors.Is(err, c.want) {
			t.Errorf("team %s: %v, want %v", c.id.TeamID, err, c.want)
		}
	}
	now = now.Add(time.Minute)
	if _, err := policy.Place(t.Context(), own("second"), chat("x")); err != nil {
		t.Errorf("a minute later: %v", err)
	}
}

// A caller who waits for another team to be written waits no longer than its own request.
func TestTeamRegistrationWaits(t *testing.T) {
	store := newMemory()
	writing, written := make(chan struct{}), make(chan struct{})
	store.hold = func(context.Context, *teams.Team) { close(writing); <-written }
	policy, err := teams.NewPolicy(teams.Config{AutoRegister: &teams.AutoRegister{}}, store, store)
	if err != nil {
		t.Fatal(err)
	}
	first := make(chan error)
	go func() {
		_, err := policy.Place(t.Context(), own("new"), chat("x"))
		first <- err
	}()
	<-writing
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := policy.Place(ctx, own("second"), chat("x")); !errors.Is(err, context.Canceled) {
		t.Errorf("the one who waits: %v", err)
	}
	close(written)
	if err := <-first; err != nil {
		t.Errorf("the one who writes: %v", err)
	}
}

// A dry run writes nothing, says what it would write, and reads it back; it decides as the store would.
func TestDryRunOfTeams(t *testing.T) {
	store := newMemory()
	store.aliases["twice"] = teams.ErrAmbiguous
	down := errors.New("the store is down")
	store.aliases["down"] = down
	dry := teams.DryRun(store)
	record := &trace.Record{Steps: []trace.Step{}}
	ctx := trace.With(t.Context(), record)
	for range 2 {
		team, err := dry.RegisterTeam(ctx, &teams.Team{ID: "new"}, 1)
		if err != nil || team.ID != "new" {
			t.Errorf("%+v, %v", team, err)
		}
	}
	if len(record.Steps) != 1 {
		t.Errorf("steps: %+v, want one", record.Steps)
	}
	if team, err := dry.Team(ctx, "new"); err != nil || team.ID != "new" {
		t.Errorf("not read back: %+v, %v", team, err)
	}
	if team, err := dry.RegisterTeam(ctx, &teams.Team{ID: "blocked"}, 1); err != nil || !team.Blocked {
		t.Errorf("a team that is there: %+v, %v", team, err)
	}
	for id, want := range map[teams.TeamID]error{"twice": teams.ErrNotFound, "down": down} {
		if _, err := dry.RegisterTeam(ctx, &teams.Team{ID: id}, 1); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", id, err, want)
		}
	}
	if _, err := store.Team(ctx, "new"); !errors.Is(err, teams.ErrNotFound) || store.asked != 0 {
		t.Errorf("the dry run wrote: %v, %d", err, store.asked)
	}
}
