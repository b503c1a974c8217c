package teams

import (
	"context"
	"errors"
	"fmt"
)

// Membership is the team, organization and user that a request is made for. A nil field means that
// there is none, or that the directory has no row for it.
type Membership struct {
	TeamID         TeamID
	UserID         UserID
	OrganizationID OrganizationID
	Team           *Team
	User           *User
	Organization   *Organization
}

// Place selects the caller's team and checks the team, its organization and the user against the
// request. Team selection, in order: the team the client asked for, which must be one of the
// token's; the token's own team; the first of its teams that permits the request; the default.
func (p *Policy) Place(ctx context.Context, id Identity, r Request) (Membership, error) {
	team, err := p.selectTeam(ctx, id, r)
	if err != nil {
		return Membership{}, err
	}
	return p.complete(ctx, team, id.UserID, id.OrganizationID)
}

// PlaceKey does for a key's own team, user and organization what Place does for a token's. The
// caller need not be a member: the operator who mapped the caller to the key decided that.
func (p *Policy) PlaceKey(ctx context.Context, team TeamID, user UserID, org OrganizationID, r Request) (Membership, error) {
	chosen, err := p.usableTeam(ctx, team, r)
	if err != nil {
		return Membership{}, err
	}
	return p.complete(ctx, chosen, user, org)
}

// CheckUser denies a blocked user. A user without a row, or no user at all, passes.
func (p *Policy) CheckUser(ctx context.Context, id UserID) (*User, error) {
	if id == "" || p.directory == nil {
		return nil, nil
	}
	user, err := p.directory.User(ctx, id)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, err
	case user.Blocked:
		return nil, ErrUserBlocked
	}
	return user, nil
}

// chosenTeam is a selected team. The zero value means that the caller has none; row is nil where
// there is no directory.
type chosenTeam struct {
	id  TeamID
	row *Team
}

func (p *Policy) selectTeam(ctx context.Context, id Identity, r Request) (chosenTeam, error) {
	switch {
	case r.Team != "" && !id.Lists(r.Team):
		return chosenTeam{}, ErrTeamNotMember
	case r.Team != "":
		return p.usableTeam(ctx, r.Team, r)
	case id.TeamID != "":
		return p.usableTeam(ctx, id.TeamID, r)
	case len(id.TeamIDs) > 0:
		return p.firstUsableTeam(ctx, id, r)
	case id.TeamsUnusable:
		return chosenTeam{}, ErrTeamUnknown
	case p.config.DefaultTeam != "":
		return p.usableTeam(ctx, p.config.DefaultTeam, r)
	case id.TeamExpected:
		return chosenTeam{}, ErrTeamMissing
	}
	return chosenTeam{}, nil // neither a team claim nor a default is configured: no teams here
}

// firstUsableTeam passes over the teams that cannot be used, in token order. Groups that are no
// team of ours are common in tokens, so if none is known the default team applies; but once one is
// known and refused, the default would be a way around that refusal.
func (p *Policy) firstUsableTeam(ctx context.Context, caller Identity, r Request) (chosenTeam, error) {
	var refused error
	for _, id := range caller.TeamIDs {
		team, err := p.usableTeam(ctx, id, r)
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
		return p.usableTeam(ctx, p.config.DefaultTeam, r)
	}
	return chosenTeam{}, ErrTeamUnknown
}

func isTeamRefusal(err error) bool {
	return errors.Is(err, ErrTeamBlocked) || errors.Is(err, ErrRouteForbidden) || isModelError(err)
}

func (p *Policy) usableTeam(ctx context.Context, id TeamID, r Request) (chosenTeam, error) {
	if id == "" || p.directory == nil {
		return chosenTeam{id: id}, nil
	}
	team, err := p.directory.Team(ctx, id)
	switch {
	case errors.Is(err, ErrNotFound):
		return chosenTeam{}, ErrTeamUnknown
	case err != nil:
		return chosenTeam{}, err
	case team.Blocked:
		return chosenTeam{}, ErrTeamBlocked
	}
	if err := p.Permit(team.AllowedRoutes, team.Models, r); err != nil {
		return chosenTeam{}, fmt.Errorf("team: %w", err)
	}
	return chosenTeam{id: id, row: team}, nil
}

// complete adds the organization and the user. A team of one organization in a token of another is
// refused: it would let one tenant spend for the other.
func (p *Policy) complete(ctx context.Context, team chosenTeam, user UserID, org OrganizationID) (Membership, error) {
	if team.row != nil && team.row.OrganizationID != "" {
		if org != "" && org != team.row.OrganizationID {
			return Membership{}, fmt.Errorf("%w: the team is of another organization", ErrTeamNotMember)
		}
		org = team.row.OrganizationID
	}
	m := Membership{TeamID: team.id, Team: team.row, UserID: user, OrganizationID: org}
	var err error
	if m.Organization, err = p.organization(ctx, org); err != nil {
		return Membership{}, err
	}
	if m.User, err = p.CheckUser(ctx, user); err != nil {
		return Membership{}, err
	}
	return m, nil
}

func (p *Policy) organization(ctx context.Context, id OrganizationID) (*Organization, error) {
	if id == "" || p.directory == nil {
		return nil, nil
	}
	org, err := p.directory.Organization(ctx, id)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil, ErrOrganizationUnknown
	case err != nil:
		return nil, err
	case org.Blocked:
		return nil, ErrOrganizationBlocked
	}
	return org, nil
}
