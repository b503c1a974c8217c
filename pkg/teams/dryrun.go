package teams

import (
	"context"
	"errors"
	"sync"

	"github.com/extauthz/extauthz/internal/trace"
)

// DryRun returns a store whose reads are another's and whose writes go nowhere: they are noted in the trace,
// and what they would have written can be read from this store alone.
func DryRun(d Directory) Store { return &dryRun{Directory: d, written: make(map[TeamID]*Team)} }

type dryRun struct {
	Directory
	mu      sync.Mutex
	written map[TeamID]*Team
}

func (d *dryRun) Team(ctx context.Context, id TeamID) (*Team, error) {
	d.mu.Lock()
	team, found := d.written[id]
	d.mu.Unlock()
	if found {
		return team, nil
	}
	return d.Directory.Team(ctx, id)
}

func (d *dryRun) TeamAlong(ctx context.Context, id TeamID) (*Team, *Organization, error) {
	team, err := d.Team(ctx, id)
	return team, nil, err
}

// RegisterTeam returns the team that is there, or else the one that it would write. It does not count teams.
func (d *dryRun) RegisterTeam(ctx context.Context, team *Team, _ int) (*Team, error) {
	found, err := d.Team(ctx, team.ID)
	if !errors.Is(err, ErrNotFound) {
		return found, err
	}
	_, err = d.TeamByAlias(ctx, string(team.ID))
	switch {
	case err == nil, errors.Is(err, ErrAmbiguous):
		return nil, ErrNotFound
	case !errors.Is(err, ErrNotFound):
		return nil, err
	}
	trace.From(ctx).Add("team", "would register team %q", string(team.ID))
	d.mu.Lock()
	defer d.mu.Unlock()
	d.written[team.ID] = team
	return team, nil
}
