package rows

import (
	"fmt"

	"github.com/extauthz/extauthz/internal/resource"
	"github.com/extauthz/extauthz/pkg/teams"
)

// CheckTeam returns an [*Invalid] for a team that breaks a rule of the schema.
func CheckTeam(t *teams.Team) error { return checkTeam(&resource.Team{Team: *t}) }

// Census is what a registration of a team has to know of the stored ones.
type Census struct {
	Exists  bool // one has the id
	Aliased bool // one has the id as its alias
	Count   int  // of all, no further than the bound
}

// Admit returns why a team that does not exist may not be written.
func (c Census) Admit(maxTeams int) error {
	switch {
	case c.Aliased:
		return fmt.Errorf("the id is an alias: %w", teams.ErrNotFound)
	case maxTeams > 0 && c.Count >= maxTeams:
		return fmt.Errorf("the store has %d teams: %w", maxTeams, teams.ErrLimited)
	}
	return nil
}
