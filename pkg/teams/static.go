package teams

import (
	"context"
	"fmt"
)

// Static is a [Directory] of teams that the configuration declares, for a service without a store. It
// knows no organizations and no users: they restrict nothing.
type Static struct {
	teams   map[TeamID]*Team
	aliases map[string]*Team // nil for an alias of several teams
}

// NewStatic returns a directory of these teams.
func NewStatic(teams []*Team) (*Static, error) {
	s := &Static{teams: make(map[TeamID]*Team), aliases: make(map[string]*Team)}
	for _, team := range teams {
		if team.ID == "" || s.teams[team.ID] != nil {
			return nil, fmt.Errorf("static team %q: an id must be there, and once", team.ID)
		}
		s.teams[team.ID] = team
		if _, taken := s.aliases[team.Alias]; taken {
			s.aliases[team.Alias] = nil
		} else {
			s.aliases[team.Alias] = team
		}
	}
	return s, nil
}

// Team implements [Directory].
func (s *Static) Team(_ context.Context, id TeamID) (*Team, error) {
	if team := s.teams[id]; team != nil {
		return team, nil
	}
	return nil, ErrNotFound
}

// TeamByAlias implements [Directory].
func (s *Static) TeamByAlias(_ context.Context, alias string) (*Team, error) {
	team, taken := s.aliases[alias]
	switch {
	case alias == "" || !taken:
		return nil, ErrNotFound
	case team == nil:
		return nil, ErrAmbiguous
	}
	return team, nil
}

// Organization implements [Directory]: the organization is taken at the token's word.
func (s *Static) Organization(_ context.Context, id OrganizationID) (*Organization, error) {
	return &Organization{ID: id}, nil
}

// OrganizationByAlias implements [Directory].
func (s *Static) OrganizationByAlias(context.Context, string) (*Organization, error) {
	return nil, ErrNotFound
}

// User implements [Directory].
func (s *Static) User(context.Context, UserID) (*User, error) { return nil, ErrNotFound }

// Member implements [Directory]: nobody is listed.
func (s *Static) Member(context.Context, TeamID, UserID) (bool, error) { return false, nil }
