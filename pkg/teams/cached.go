package teams

import (
	"context"
	"time"
	"unsafe"

	"github.com/extauthz/extauthz/internal/cache"
	"github.com/extauthz/extauthz/internal/trace"
)

// CacheOptions bound the caches of a [CachedDirectory]. All but ServeStale and Feed are required.
type CacheOptions struct {
	TTL         time.Duration // of rows, and of their absence
	Space       *cache.Space  // where the rows are kept; it outlives the caches
	LoadTimeout time.Duration // of one load from the directory
	ServeStale  time.Duration // how much longer a row is used while the directory fails
	Feed        *cache.Feed   // how far the changes of others are known
}

// Store is a [Directory] in which teams can be registered.
type Store interface {
	Directory
	Registrar

	// TeamAlong returns what Team does. The team's organization may come along, read no earlier than the call; nil means that
	// there is none or that it is to be asked for.
	TeamAlong(ctx context.Context, id TeamID) (*Team, *Organization, error)
}

// CachedDirectory is a [Directory] and a [Registrar]: a [Store] with a cache in front of its reads. Its own writes are
// seen at once. It is safe for concurrent use.
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
func NewCachedDirectory(d Store, o CacheOptions) *CachedDirectory {
	organizations := newCache(d.Organization, one[OrganizationID], sized[OrganizationID]((*Organization).size), o)
	team := func(ctx context.Context, id TeamID) (*Team, error) { return loadBoth(ctx, d, organizations, id) }
	member := func(ctx context.Context, m membership) (bool, error) { return d.Member(ctx, m.team, m.user) }
	return &CachedDirectory{
		registrar:            d,
		teams:                newCache(team, one[TeamID], sized[TeamID]((*Team).size), o),
		organizations:        organizations,
		users:                newCache(d.User, one[UserID], sized[UserID]((*User).size), o),
		teamsByAlias:         newCache(d.TeamByAlias, one[string], sized[string]((*Team).size), o),
		organizationsByAlias: newCache(d.OrganizationByAlias, one[string], sized[string]((*Organization).size), o),
		members:              newCache(member, membership.digest, membership.size, o),
	}
}

// loadBoth loads a team, and keeps its organization if that comes along: whoever asks for the one asks for the other next.
func loadBoth(ctx context.Context, d Store, organizations *cache.Cache[OrganizationID, *Organization], id TeamID) (*Team, error) {
	began := organizations.Now()
	team, organization, err := d.TeamAlong(ctx, id)
	if organization != nil {
		organizations.Add(organization.ID, organization, began)
	}
	return team, err
}

func newCache[K comparable, V any](load func(context.Context, K) (V, error), digest func(K) uint64, size func(K, V) int, o CacheOptions) *cache.Cache[K, V] {
	return cache.New(cache.Options[K, V]{
		Load: load, NotFound: ErrNotFound, Digest: digest, TTL: o.TTL, AbsentTTL: o.TTL,
		Space: o.Space, Size: size, LoadTimeout: o.LoadTimeout, ServeStale: o.ServeStale, Feed: o.Feed,
	})
}

func (m membership) digest() uint64 { return cache.Digest(string(m.team), string(m.user)) }

func (m membership) size(bool) int { return cache.TextBytes(m.team) + cache.TextBytes(m.user) }

// one is the digest of a key that is a text.
func one[K ~string](key K) uint64 { return cache.Digest(string(key)) }

// sized is the size of a row, if there is one, and of the text that it is kept for.
func sized[K ~string, V any](row func(*V) int) func(K, *V) int {
	return func(key K, v *V) int {
		if v == nil {
			return cache.TextBytes(key)
		}
		return cache.TextBytes(key) + cache.ObjectBytes(*v) + row(v)
	}
}

func (t *Team) size() int {
	return cache.TextBytes(t.ID) + cache.TextBytes(t.Alias) + cache.TextBytes(t.OrganizationID) +
		cache.ListBytes(t.Models) + cache.ListBytes(t.AllowedRoutes) + t.Limits.Size() + t.Budget.Size()
}

func (o *Organization) size() int {
	return cache.TextBytes(o.ID) + cache.TextBytes(o.Alias) + o.Budget.Size()
}

func (u *User) size() int { return cache.TextBytes(u.ID) + cache.TextBytes(u.Email) + u.Budget.Size() }

// Size is how many bytes the limits take beside themselves.
func (l Limits) Size() int { return numberBytes(l.RPM) + numberBytes(l.TPM) }

// Size is how many bytes the budget takes beside itself.
func (b Budget) Size() int { return numberBytes(b.Max) }

func numberBytes[T ~int64](number *T) int {
	if number == nil {
		return 0
	}
	return int(unsafe.Sizeof(*number))
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

// TeamsChanged forgets the teams whose ids or aliases have these digests (see [cache.Digest]); none means all teams.
// An alias is forgotten whoever has it: another team may have got it, or lost it.
func (c *CachedDirectory) TeamsChanged(digests []uint64) {
	c.teams.Changed(digests)
	c.teamsByAlias.Changed(digests)
}

// OrganizationsChanged does the same for organizations.
func (c *CachedDirectory) OrganizationsChanged(digests []uint64) {
	c.organizations.Changed(digests)
	c.organizationsByAlias.Changed(digests)
}

// UsersChanged forgets the users whose ids have these digests; none means all users.
func (c *CachedDirectory) UsersChanged(digests []uint64) { c.users.Changed(digests) }

// MembersChanged forgets whether a user is of a team where the two have one of these digests; none means all.
func (c *CachedDirectory) MembersChanged(digests []uint64) { c.members.Changed(digests) }

// Changed forgets everything.
func (c *CachedDirectory) Changed() {
	c.TeamsChanged(nil)
	c.OrganizationsChanged(nil)
	c.UsersChanged(nil)
	c.MembersChanged(nil)
}

// get notes the use of a row that is stale.
func get[K comparable, V any](ctx context.Context, c *cache.Cache[K, V], key K) (V, error) {
	value, origin, err := c.Get(ctx, key)
	if origin == cache.Stale {
		trace.From(ctx).MarkStale()
	}
	return value, err
}

// Team implements [Directory].
func (c *CachedDirectory) Team(ctx context.Context, id TeamID) (*Team, error) {
	return get(ctx, c.teams, id)
}

// RegisterTeam implements [Registrar].
func (c *CachedDirectory) RegisterTeam(ctx context.Context, team *Team, maxTeams int) (*Team, error) {
	defer c.teams.Invalidate(team.ID)
	return c.registrar.RegisterTeam(ctx, team, maxTeams)
}

// Organization implements [Directory].
func (c *CachedDirectory) Organization(ctx context.Context, id OrganizationID) (*Organization, error) {
	return get(ctx, c.organizations, id)
}

// User implements [Directory].
func (c *CachedDirectory) User(ctx context.Context, id UserID) (*User, error) {
	return get(ctx, c.users, id)
}

// TeamByAlias implements [Directory].
func (c *CachedDirectory) TeamByAlias(ctx context.Context, alias string) (*Team, error) {
	return get(ctx, c.teamsByAlias, alias)
}

// OrganizationByAlias implements [Directory].
func (c *CachedDirectory) OrganizationByAlias(ctx context.Context, alias string) (*Organization, error) {
	return get(ctx, c.organizationsByAlias, alias)
}

// Member implements [Directory].
func (c *CachedDirectory) Member(ctx context.Context, team TeamID, user UserID) (bool, error) {
	return get(ctx, c.members, membership{team, user})
}
