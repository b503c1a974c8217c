package teams

import (
	"context"
	"errors"
	"fmt"

	"github.com/extauthz/extauthz/internal/trace"
)

// chosenTeam is a selected team. The zero value means that the caller has none; row is nil where
// there is no directory.
type chosenTeam struct {
	id  TeamID
	row *Team
	// absent says that the row is not stored: it is what a registration would write.
	absent bool
}

func (p *Policy) selectTeam(ctx context.Context, id *Identity, r Request) (chosenTeam, error) {
	switch {
	case r.Team != "":
		return p.askedTeam(ctx, id, r)
	case id.TeamID != "":
		return p.ownTeam(ctx, "the token's team", id.TeamID, r)
	case len(id.TeamIDs) > 0:
		return p.firstUsableTeam(ctx, id, r)
	case id.TeamsUnusable:
		return chosenTeam{}, ErrTeamUnknown
	case p.config.DefaultTeam != "":
		return p.usable(ctx, "the default team", p.config.DefaultTeam, r)
	case id.TeamExpected:
		return chosenTeam{}, ErrTeamMissing
	}
	trace.From(ctx).Add("team", "none: neither a team claim nor a default is configured")
	return chosenTeam{}, nil
}

// askedTeam is the team that the client asked for. The token must list it, by the same name or, where
// aliases count, by the other one.
func (p *Policy) askedTeam(ctx context.Context, id *Identity, r Request) (chosenTeam, error) {
	if r.Team == id.TeamID {
		return p.ownTeam(ctx, "the team the client asked for", r.Team, r)
	}
	if id.Lists(r.Team) {
		return p.usable(ctx, "the team the client asked for", r.Team, r)
	}
	if !p.config.ByAlias || p.directory == nil {
		return chosenTeam{}, ErrTeamNotMember
	}
	team, err := p.team(ctx, r.Team)
	switch {
	case errors.Is(err, ErrNotFound):
		return chosenTeam{}, ErrTeamNotMember // as for a team that exists: the answer must not tell
	case err != nil:
		return chosenTeam{}, err
	}
	listed, err := p.listed(ctx, id, team)
	switch {
	case err != nil:
		return chosenTeam{}, err
	case !listed:
		return chosenTeam{}, ErrTeamNotMember
	}
	return p.usable(ctx, "the team the client asked for", team.ID, r)
}

// listed reports whether the token names the team by its id, or by an alias that means this very team:
// it could mean another one by id, or several.
func (p *Policy) listed(ctx context.Context, id *Identity, team *Team) (bool, error) {
	if id.Lists(team.ID) {
		return true, nil
	}
	alias := TeamID(team.Alias)
	if !id.Lists(alias) {
		return false, nil
	}
	named, err := p.team(ctx, alias)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil && named.ID == team.ID, err
}

// firstUsableTeam passes over the teams that cannot be used, in token order. Groups that are no
// team of ours are common in tokens, so if none is known the default team applies; but once one is
// known and refused, the default would be a way around that refusal.
func (p *Policy) firstUsableTeam(ctx context.Context, caller *Identity, r Request) (chosenTeam, error) {
	var refused error
	for _, id := range caller.TeamIDs {
		team, err := p.usable(ctx, "the first of the token's teams that permits it", id, r)
		switch {
		case err == nil:
			return team, nil
		case errors.Is(err, ErrTeamUnknown):
		case !isTeamRefusal(err):
			return chosenTeam{}, err
		case refused == nil:
			refused = err
		}
	}
	switch {
	case refused != nil:
		return chosenTeam{}, refused
	case p.config.DefaultTeam != "" && !caller.TeamsUnusable:
		return p.usable(ctx, "the default team", p.config.DefaultTeam, r)
	}
	return chosenTeam{}, ErrTeamUnknown
}

func isTeamRefusal(err error) bool {
	return errors.Is(err, ErrTeamBlocked) || errors.Is(err, ErrRouteForbidden) || isModelError(err)
}

// usable is usableTeam with a note of why this team was looked at.
func (p *Policy) usable(ctx context.Context, why string, id TeamID, r Request) (chosenTeam, error) {
	team, err := p.usableTeam(ctx, id, r)
	if err != nil {
		trace.From(ctx).Add("team", "%q, %s: %s", string(id), why, err.Error())
		return chosenTeam{}, err
	}
	trace.From(ctx).Add("team", "%q, %s", string(team.id), why)
	return team, nil
}

func (p *Policy) usableTeam(ctx context.Context, id TeamID, r Request) (chosenTeam, error) {
	if id == "" || p.directory == nil {
		return chosenTeam{id: id}, nil
	}
	team, err := p.team(ctx, id)
	switch {
	case errors.Is(err, ErrAmbiguous):
		return chosenTeam{}, fmt.Errorf("%w: %w", ErrTeamUnknown, err)
	case errors.Is(err, ErrNotFound):
		return chosenTeam{}, ErrTeamUnknown
	case err != nil:
		return chosenTeam{}, err
	}
	return p.usableRow(team, r)
}

func (p *Policy) usableRow(team *Team, r Request) (chosenTeam, error) {
	if team.Blocked {
		return chosenTeam{}, ErrTeamBlocked
	}
	if err := p.Permit(team.AllowedRoutes, team.Models, r); err != nil {
		return chosenTeam{}, fmt.Errorf("team: %w", err)
	}
	return chosenTeam{id: team.ID, row: team}, nil
}

// team loads a team by its id or, where aliases count and no team has the id, by its alias.
func (p *Policy) team(ctx context.Context, id TeamID) (*Team, error) {
	team, err := p.directory.Team(ctx, id)
	if p.config.ByAlias && errors.Is(err, ErrNotFound) {
		return p.directory.TeamByAlias(ctx, string(id))
	}
	return team, err
}
