package teams_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/extauthz/extauthz/internal/cache"
	"github.com/extauthz/extauthz/internal/cache/cachetest"
	"github.com/extauthz/extauthz/pkg/teams"
)

// everybody is a directory that has every team and user. Each answer is new, as from a database.
type everybody struct {
	teams.Store
	models int
}

func (e everybody) TeamAlong(_ context.Context, id teams.TeamID) (*teams.Team, *teams.Organization, error) {
	rpm, most := int64(60), teams.Micros(1e6)
	team := &teams.Team{ID: id, Alias: fmt.Sprint("alias of ", id), Limits: teams.Limits{RPM: &rpm}, Budget: teams.Budget{Max: &most}}
	for n := range e.models {
		team.Models = append(team.Models, fmt.Sprintf("gpt-4o-%d*", n))
	}
	return team, nil, nil
}

func (everybody) User(_ context.Context, id teams.UserID) (*teams.User, error) {
	return &teams.User{ID: id, Email: string(id) + "@corp.example.com"}, nil
}

// TestMemory compares what teams and users take that are too many for a budget with the budget.
func TestMemory(t *testing.T) {
	for name, c := range map[string]struct{ models, budget int }{"small rows": {2, 4 << 20}, "large rows": {1000, 8 << 20}} {
		t.Run(name, func(t *testing.T) {
			space, err := cache.NewSpace(int64(c.budget), 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(space.Close)
			directory := teams.NewCachedDirectory(everybody{models: c.models}, teams.CacheOptions{TTL: time.Hour, LoadTimeout: time.Minute, Space: space})
			t.Cleanup(directory.Close)
			empty := cachetest.LiveHeap()
			for n := range 4 * c.budget / (1000 + 32*c.models) {
				_, err := directory.Team(t.Context(), teams.TeamID(fmt.Sprint("team-", n)))
				if _, userErr := directory.User(t.Context(), teams.UserID(fmt.Sprint("user-", n))); err != nil || userErr != nil {
					t.Fatal(err, userErr)
				}
			}
			cachetest.CheckFull(t, cachetest.LiveHeap()-empty, int64(c.budget))
			runtime.KeepAlive(directory)
		})
	}
}
