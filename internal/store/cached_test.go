package store_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/extauthz/extauthz/internal/cache/cachetest"
	"github.com/extauthz/extauthz/internal/resource"
	"github.com/extauthz/extauthz/internal/store"
	"github.com/extauthz/extauthz/internal/store/storetest"
	"github.com/extauthz/extauthz/pkg/keys"
	"github.com/extauthz/extauthz/pkg/mapping"
	"github.com/extauthz/extauthz/pkg/teams"
)

// TestCached runs the suite on SQLite behind the caches of a server, which keep what they read for an
// hour: a write through them must be seen at once all the same.
func TestCached(t *testing.T) {
	features := sqliteFeatures()
	features.Cached = true
	storetest.Run(t, func(t *testing.T) storetest.Instance {
		instance := openSQLite(t)
		c := &cached{Store: instance.Store, t: t}
		c.forget()
		return storetest.Instance{Store: c, Raw: instance.Raw, Forget: c.forget}
	}, features)
}

// cached is a store as a server sees it. What another process would write (Apply, a reset of budgets) is
// followed by new caches, since nothing tells the old ones.
type cached struct {
	store.Store
	t    *testing.T
	rows atomic.Pointer[caches]
}

type caches struct {
	mappings  *mapping.Cached
	directory *teams.CachedDirectory
}

func (c *cached) forget() {
	space := cachetest.Space(c.t)
	mappings := mapping.NewCached(c.Store, mapping.CacheOptions{
		MappingTTL: time.Hour, AbsentTTL: time.Hour, KeyTTL: time.Hour, Space: space, LoadTimeout: patience,
	})
	c.t.Cleanup(mappings.Close)
	directory := teams.NewCachedDirectory(c.Store, teams.CacheOptions{TTL: time.Hour, Space: space, LoadTimeout: patience})
	c.t.Cleanup(directory.Close)
	c.rows.Store(&caches{mappings, directory})
}

func (c *cached) Apply(ctx context.Context, set *resource.Set) error {
	defer c.forget()
	return c.Store.Apply(ctx, set)
}

func (c *cached) ResetBudgets(ctx context.Context, now time.Time) (int, error) {
	defer c.forget()
	return c.Store.ResetBudgets(ctx, now)
}

func (c *cached) Lookup(ctx context.Context, subject mapping.Subject) (*mapping.Mapping, *keys.Key, error) {
	return c.rows.Load().mappings.Lookup(ctx, subject)
}

func (c *cached) Key(ctx context.Context, id keys.ID) (*keys.Key, error) {
	return c.rows.Load().mappings.Key(ctx, id)
}

func (c *cached) Register(ctx context.Context, subject mapping.Subject, key *keys.Key, maxTeamKeys int) (*mapping.Mapping, *keys.Key, error) {
	return c.rows.Load().mappings.Register(ctx, subject, key, maxTeamKeys)
}

func (c *cached) Rebind(ctx context.Context, subject mapping.Subject, old keys.ID, key *keys.Key, maxTeamKeys int) (*mapping.Mapping, error) {
	return c.rows.Load().mappings.Rebind(ctx, subject, old, key, maxTeamKeys)
}

func (c *cached) Touch(ctx context.Context, id keys.ID, idleExpiresAt time.Time) error {
	return c.rows.Load().mappings.Touch(ctx, id, idleExpiresAt)
}

func (c *cached) Team(ctx context.Context, id teams.TeamID) (*teams.Team, error) {
	return c.rows.Load().directory.Team(ctx, id)
}

func (c *cached) RegisterTeam(ctx context.Context, team *teams.Team, maxTeams int) (*teams.Team, error) {
	return c.rows.Load().directory.RegisterTeam(ctx, team, maxTeams)
}

func (c *cached) Organization(ctx context.Context, id teams.OrganizationID) (*teams.Organization, error) {
	return c.rows.Load().directory.Organization(ctx, id)
}

func (c *cached) User(ctx context.Context, id teams.UserID) (*teams.User, error) {
	return c.rows.Load().directory.User(ctx, id)
}

func (c *cached) TeamByAlias(ctx context.Context, alias string) (*teams.Team, error) {
	return c.rows.Load().directory.TeamByAlias(ctx, alias)
}

func (c *cached) OrganizationByAlias(ctx context.Context, alias string) (*teams.Organization, error) {
	return c.rows.Load().directory.OrganizationByAlias(ctx, alias)
}

func (c *cached) Member(ctx context.Context, team teams.TeamID, user teams.UserID) (bool, error) {
	return c.rows.Load().directory.Member(ctx, team, user)
}
