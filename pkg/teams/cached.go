package teams

import (
	"context"
	"time"

	"github.com/extauthz/extauthz/internal/cache"
)

// CacheOptions bound the caches of a [CachedDirectory]. All are required.
type CacheOptions struct {
	TTL                   time.Duration // of rows, and of their absence
	MaxEntries, MaxAbsent int64         // of each kind of row
	LoadTimeout           time.Duration // of one load from the directory
}

// Store is a [Directory] in which teams can be registered.
type Store interface {
	Directory
	Registrar
}

// CachedDirectory is a [Store] with a cache in front of its reads. Its own writes are seen at once. It is safe
// for concurrent use.
type CachedDirectory struct {
	registrar     Registrar
	teams         *cache.Cache[TeamID, *Team]
	organizations *cache.Cache[OrganizationID, *Organization]
	users         *cache.Cache[UserID, *User]

	teamsByAlias         *cache.Cache[string, *Team]
	organizationsByAlias *cache.Cache[string, *Organization]
	members              *cache.Cache[membership, bool]
}

// membership is the key of a cached answer about one user of one team.
type membership struct {
	team TeamID
	user UserID
}

// NewCachedDirectory returns a cached directory. Close releases the caches, not the store.
func NewCachedDirectory(d Store, o CacheOptions) (*CachedDirectory, error) {
	c := &CachedDirectory{registrar: d}
	var err error
	if c.teams, err = newCache(d.Team, o); err != nil {
		return nil, err
	}
	if c.organizations, err = newCache(d.Organization, o); err != nil {
		return nil, err
	}
	if c.users, err = newCache(d.User, o); err != nil {
		return nil, err
	}
	if c.teamsByAlias, err = newCache(d.TeamByAlias, o); err != nil {
		return nil, err
	}
	if c.organizationsByAlias, err = newCache(d.OrganizationByAlias, o); err != nil {
		return nil, err
	}
	c.members, err = newCache(func(ctx context.Context, m membership) (bool, error) {
		return d.Member(ctx, m.team, m.user)
	}, o)
	return c, err
}

func newCache[K comparable, V any](load func(context.Context, K) (V, error), o CacheOptions) (*cache.Cache[K, V], error) {
	return cache.New(cache.Options[K, V]{
		Load: load, NotFound: ErrNotFound, TTL: o.TTL, AbsentTTL: o.TTL,
		MaxEntries: o.MaxEntries, MaxAbsent: o.MaxAbsent, LoadTimeout: o.LoadTimeout,
	})
}

// Close stops the caches.
func (c *CachedDirectory) Close() {
	c.teams.Close()
	c.organizations.Close()
	c.users.Close()
	c.teamsByAlias.Close()
	c.organizationsByAlias.Close()
	c.members.Close()
}

// Team implements [Directory].
func (c *CachedDirectory) Team(ctx context.Context, id TeamID) (*Team, error) {
	team, _, err := c.teams.Get(ctx, id)
	return team, err
}

// RegisterTeam implements [Registrar].
func (c *CachedDirectory) RegisterTeam(ctx context.Context, team *Team, maxTeams int) (*Team, error) {
	defer c.teams.Invalidate(team.ID)
	return c.registrar.RegisterTeam(ctx, team, maxTeams)
}

// Organization implements [Directory].
func (c *CachedDirectory) Organization(ctx context.Context, id OrganizationID) (*Organization, error) {
	organization, _, err := c.organizations.Get(ctx, id)
	return organization, err
}

// User implements [Directory].
func (c *CachedDirectory) User(ctx context.Context, id UserID) (*User, error) {
	user, _, err := c.users.Get(ctx, id)
	return user, err
}

// TeamByAlias implements [Directory].
func (c *CachedDirectory) TeamByAlias(ctx context.Context, alias string) (*Team, error) {
	team, _, err := c.teamsByAlias.Get(ctx, alias)
	return team, err
}

// OrganizationByAlias implements [Directory].
func (c *CachedDirectory) OrganizationByAlias(ctx context.Context, alias string) (*Organization, error) {
	organization, _, err := c.organizationsByAlias.Get(ctx, alias)
	return organization, err
}

// Member implements [Directory].
func (c *CachedDirectory) Member(ctx context.Context, team TeamID, user UserID) (bool, error) {
	member, _, err := c.members.Get(ctx, membership{team, user})
	return member, err
}
