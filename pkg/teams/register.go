package teams

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/extauthz/extauthz/internal/limit"
	"github.com/extauthz/extauthz/internal/trace"
	"github.com/extauthz/extauthz/pkg/token"
)

// AutoRegister makes the team that a token names as the caller's own, where no row has it. The token
// gives the id and nothing else. A team of a list, and one that only the client asks for, is never made.
type AutoRegister struct {
	Template Template
	// MaxTeams is how many teams the store may have for another one to be made; 0 means no bound.
	MaxTeams int
	// MaxPerMinute bounds the teams that the tokens of each issuer make, in this process; 0 means no bound.
	MaxPerMinute int
}

// Template is what a new team starts with. The zero value restricts nothing.
type Template struct {
	OrganizationID OrganizationID
	Models         []string
	AllowedRoutes  []string
	MaxBudget      *Micros
	// BudgetWindow is how often the team's spend starts again at zero; the zero Window is never.
	BudgetWindow Window
	Limits       Limits
}

func (t Template) team(id TeamID, now time.Time) *Team {
	return &Team{
		ID: id, OrganizationID: t.OrganizationID, Models: t.Models, AllowedRoutes: t.AllowedRoutes, Limits: t.Limits,
		Budget: Budget{Max: t.MaxBudget, Window: t.BudgetWindow, ResetAt: t.BudgetWindow.End(now)},
	}
}

// Registrar writes teams. It is safe for concurrent use.
type Registrar interface {
	// RegisterTeam writes a team, unless there is one with its id, and returns the row that the store then
	// has: the new one, or that of another writer, unchanged. A new team has no alias and no spend, and is not
	// blocked, whatever the argument says.
	// ErrNotFound if some team has the id as its alias: that names this team or none, and becomes no id.
	// ErrLimited if there are maxTeams teams already; 0 means no bound. ErrConflict if the row that was in
	// the way is gone again.
	RegisterTeam(ctx context.Context, team *Team, maxTeams int) (*Team, error)
}

// errTeamRate is an ErrLimited by the issuer's rate.
var errTeamRate = fmt.Errorf("%w: the teams that the issuer's tokens make per minute", ErrLimited)

// registration makes teams, one at a time: of many first requests of a team, one writes and spends the
// issuer's rate, and the others find what it wrote.
type registration struct {
	AutoRegister
	directory Directory
	registrar Registrar
	rate      *limit.PerMinute[token.IssuerURL]
	turn      chan struct{}
}

func newRegistration(config Config, directory Directory, registrar Registrar) *registration {
	if config.AutoRegister == nil || directory == nil || registrar == nil {
		return nil
	}
	return &registration{
		AutoRegister: *config.AutoRegister, directory: directory, registrar: registrar,
		rate: limit.New[token.IssuerURL](config.AutoRegister.MaxPerMinute, errTeamRate, config.Now),
		turn: make(chan struct{}, 1),
	}
}

// register returns the row that the store has of a team once it was written.
func (g *registration) register(ctx context.Context, issuer token.IssuerURL, team *Team) (*Team, error) {
	select {
	case g.turn <- struct{}{}:
		defer func() { <-g.turn }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	stored, err := g.directory.Team(ctx, team.ID)
	if !errors.Is(err, ErrNotFound) {
		return stored, err
	}
	err = g.rate.Do(issuer, func() error {
		var err error
		stored, err = g.registrar.RegisterTeam(ctx, team, g.MaxTeams)
		return err
	})
	if errors.Is(err, ErrNotFound) {
		return nil, fmt.Errorf("%w: its name is the alias of a team", ErrTeamUnknown)
	}
	return stored, err
}

// ownTeam is the team that the token names as the caller's own: the one that is stored or, where none is and
// the configuration says so, one that is yet to be made.
func (p *Policy) ownTeam(ctx context.Context, why string, id TeamID, r Request) (chosenTeam, error) {
	team, err := p.usable(ctx, why, id, r)
	if p.registration == nil || !errors.Is(err, ErrTeamUnknown) || errors.Is(err, ErrAmbiguous) {
		return team, err
	}
	trace.From(ctx).Add("team", "%q is to be made from the template", string(id))
	team, err = p.usableRow(p.registration.Template.team(id, p.config.Now()), r)
	team.absent = true
	return team, err
}

// registerTeam makes the team of a caller whom the policy permits with it, and decides again: the row that is
// stored may be that of another writer.
func (p *Policy) registerTeam(ctx context.Context, id *Identity, team *Team, r Request) (Membership, error) {
	stored, err := p.registration.register(ctx, id.Issuer, team)
	if err != nil {
		return Membership{}, err
	}
	chosen, err := p.usableRow(stored, r)
	if err != nil {
		return Membership{}, err
	}
	return p.placeIn(ctx, id, chosen, r)
}
