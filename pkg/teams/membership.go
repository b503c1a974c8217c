package teams

import (
	"context"
	"errors"
	"fmt"

	"github.com/extauthz/extauthz/internal/trace"
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
// token's; the token's own team; the first of its teams that permits the request; the default. Where
// [AutoRegister] is configured, the token's own team is made if there is none, once nothing else is refused.
func (p *Policy) Place(ctx context.Context, id *Identity, r Request) (Membership, error) {
	team, err := p.selectTeam(ctx, id, r)
	if err != nil {
		return Membership{}, err
	}
	m, err := p.placeIn(ctx, id, team, r)
	if err == nil && team.absent {
		return p.registerTeam(ctx, id, team.row, r)
	}
	return m, err
}

func (p *Policy) placeIn(ctx context.Context, id *Identity, team chosenTeam, r Request) (Membership, error) {
	m, err := p.complete(ctx, team, id.UserID, id.OrganizationID)
	if err != nil {
		return Membership{}, err
	}
	if err := p.requireMember(ctx, m); err != nil {
		return Membership{}, err
	}
	return m, p.checkTeamRules(ctx, id, m, r)
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

// PlaceDirect is PlaceKey for a key that is itself the credential: the team rules apply too, which for
// a mapped caller Place has checked.
func (p *Policy) PlaceDirect(ctx context.Context, team TeamID, user UserID, org OrganizationID, r Request) (Membership, error) {
	m, err := p.PlaceKey(ctx, team, user, org, r)
	if err != nil {
		return Membership{}, err
	}
	id := &Identity{UserID: m.UserID, TeamID: m.TeamID, OrganizationID: m.OrganizationID}
	return m, p.checkTeamRules(ctx, id, m, r)
}

func (p *Policy) checkTeamRules(ctx context.Context, id *Identity, m Membership, r Request) error {
	if len(p.teamRules) == 0 {
		return nil
	}
	variables := ruleVariables(id, r, p.config.Now())
	variables["team"] = teamVariables(m.Team)
	return checkAll(ctx, p.teamRules, variables)
}

// requireMember denies a user whom the team does not list, where the operator asks for that. A caller
// without a user or without a team cannot be listed.
func (p *Policy) requireMember(ctx context.Context, m Membership) error {
	if !p.config.RequireMember || p.directory == nil {
		return nil
	}
	if m.UserID == "" || m.TeamID == "" {
		return fmt.Errorf("%w: no user or no team", ErrTeamNotMember)
	}
	member, err := p.directory.Member(ctx, m.TeamID, m.UserID)
	if err != nil {
		return err
	}
	if !member {
		return fmt.Errorf("%w: the team does not list the user", ErrTeamNotMember)
	}
	return nil
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

// complete adds the organization and the user. A team of one organization in a token of another is
// refused: it would let one tenant spend for the other.
func (p *Policy) complete(ctx context.Context, team chosenTeam, user UserID, org OrganizationID) (Membership, error) {
	organization, err := p.organization(ctx, org)
	if err != nil {
		return Membership{}, err
	}
	if team.row != nil && team.row.OrganizationID != "" && (org == "" || organization.ID != team.row.OrganizationID) {
		if org != "" {
			return Membership{}, fmt.Errorf("%w: the team is of another organization", ErrTeamNotMember)
		}
		org = team.row.OrganizationID
		if organization, err = p.organization(ctx, org); err != nil {
			return Membership{}, err
		}
	}
	m := Membership{TeamID: team.id, Team: team.row, UserID: user, OrganizationID: org, Organization: organization}
	if organization != nil {
		m.OrganizationID = organization.ID // the token may have named its alias
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
	if p.config.ByAlias && errors.Is(err, ErrNotFound) {
		org, err = p.directory.OrganizationByAlias(ctx, string(id))
	}
	switch {
	case errors.Is(err, ErrAmbiguous):
		return nil, fmt.Errorf("%w: %w", ErrOrganizationUnknown, err)
	case errors.Is(err, ErrNotFound):
		return nil, ErrOrganizationUnknown
	case err != nil:
		return nil, err
	case org.Blocked:
		return nil, ErrOrganizationBlocked
	}
	trace.From(ctx).Add("team", "organization %q is not blocked", string(org.ID))
	return org, nil
}
