package mapping

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/time/rate"

	"github.com/extauthz/extauthz/pkg/keys"
	"github.com/extauthz/extauthz/pkg/teams"
	"github.com/extauthz/extauthz/pkg/token"
)

// NoMatch is what happens to a caller without a mapping. Any other value than the three denies.
type NoMatch string

// The no-match policies.
const (
	Reject       NoMatch = "reject"
	AutoRegister NoMatch = "auto_register"
	Fallback     NoMatch = "fallback_team_mapping"
)

// Source says where a caller's rights come from.
type Source string

// The sources that a Resolver returns.
const (
	SourceMapping      Source = "mapping"       // a mapping that was there
	SourceAutoRegister Source = "auto_register" // a mapping that this request registered or rebound
	SourceFallback     Source = "fallback"      // no mapping; the caller's team
	SourceTeam         Source = "team"          // the issuer's callers are not mapped at all
)

// The reasons why a caller gets no key. Errors that [Resolver.Resolve] returns wrap one of them,
// [ErrConflict], [ErrLimited] or [teams.ErrTeamNotMember], or are the store's own error: then
// nothing was decided.
var (
	ErrClaimMissing  = errors.New("the mapped claim is missing or unusable")
	ErrNoMapping     = errors.New("no mapping")
	ErrDisabled      = errors.New("mapping disabled")
	ErrStoreRequired = errors.New("registration needs a store")
)

// Rule maps the callers of one issuer.
type Rule struct {
	Claim   token.Path
	NoMatch NoMatch
}

// Template is what an auto-registered key gets beside its caller's team, user and organization.
type Template struct {
	Models        []string
	AllowedRoutes []string
	MaxBudget     *teams.Micros
	Limits        teams.Limits
	// Lifetime is how long the key works; 0 means for ever.
	Lifetime time.Duration
}

// Config configures a [Resolver].
type Config struct {
	// Rules are by issuer. The callers of an issuer without a rule are not mapped.
	Rules map[token.IssuerURL]Rule
	// Template shapes auto-registered keys.
	Template Template
	// MaxKeysPerTeam bounds the auto-registered keys of a team; 0 means no bound.
	MaxKeysPerTeam int
	// RegistrationsPerMinute bounds each issuer's registrations and rebinds in this process; 0 means no
	// bound.
	RegistrationsPerMinute int
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Resolver finds the virtual key of a caller. It is safe for concurrent use.
type Resolver struct {
	config   Config
	store    *Cached
	limiters map[token.IssuerURL]*rate.Limiter
}

// NewResolver returns a resolver over a store. A nil store is a definitive "there are no mappings".
func NewResolver(config Config, store *Cached) *Resolver {
	if config.Now == nil {
		config.Now = time.Now
	}
	r := &Resolver{config: config, store: store, limiters: make(map[token.IssuerURL]*rate.Limiter)}
	for issuer := range config.Rules {
		limit := rate.Inf
		if config.RegistrationsPerMinute > 0 {
			limit = rate.Limit(float64(config.RegistrationsPerMinute) / time.Minute.Seconds())
		}
		r.limiters[issuer] = rate.NewLimiter(limit, max(1, config.RegistrationsPerMinute))
	}
	return r
}

// Result is what a caller gets. Key is nil where the caller passes as its team. It is not yet
// checked: it may be blocked, expired or over budget.
type Result struct {
	Source Source
	Key    *keys.Key
}

// Resolve returns the key of the caller, whom steps 1 to 6 of the decision have admitted: claims
// are verified, id is what they say and member what the policy resolved. Only member shapes a
// registration.
func (r *Resolver) Resolve(ctx context.Context, claims token.Claims, id teams.Identity, member teams.Membership) (Result, error) {
	rule, mapped := r.config.Rules[claims.Issuer]
	if !mapped {
		return Result{Source: SourceTeam}, nil
	}
	value, usable := claims.Text(rule.Claim)
	if !usable {
		return rule.claimMissing()
	}
	subject := Subject{Issuer: claims.Issuer, Claim: rule.Claim.String(), Value: value}
	found, cached, err := r.lookup(ctx, subject, rule.NoMatch)
	switch {
	case err == nil:
		return r.use(ctx, subject, found, cached, caller{id, member}, rule)
	case !errors.Is(err, teams.ErrNotFound):
		return Result{}, err
	}
	return r.noMatch(ctx, subject, member, rule)
}

func (r Rule) claimMissing() (Result, error) {
	if r.NoMatch == Fallback {
		return Result{Source: SourceFallback}, nil
	}
	return Result{}, fmt.Errorf("%w: %s", ErrClaimMissing, r.Claim)
}

// lookup asks the cache, then the store. An absence that is about to become a registration is
// read anew: a mapping may have been made since, for this issuer or for all.
func (r *Resolver) lookup(ctx context.Context, subject Subject, policy NoMatch) (m *Mapping, cached bool, err error) {
	if r.store == nil {
		return nil, false, teams.ErrNotFound
	}
	m, cached, err = r.store.mapping(ctx, subject)
	if !cached || policy != AutoRegister || !errors.Is(err, teams.ErrNotFound) {
		return m, cached, err
	}
	if r.limiters[subject.Issuer].TokensAt(r.config.Now()) < 1 {
		return nil, true, errRate // it could not register: the store need not be asked
	}
	r.store.forget(subject)
	return r.store.mapping(ctx, subject)
}

func (r *Resolver) noMatch(ctx context.Context, subject Subject, member teams.Membership, rule Rule) (Result, error) {
	switch rule.NoMatch {
	case Fallback:
		return Result{Source: SourceFallback}, nil
	case AutoRegister:
		return r.register(ctx, subject, member)
	default:
		return Result{}, ErrNoMapping
	}
}

func (r *Resolver) register(ctx context.Context, subject Subject, member teams.Membership) (Result, error) {
	if r.store == nil {
		return Result{}, ErrStoreRequired
	}
	var m *Mapping
	err := r.limited(subject.Issuer, func() (err error) {
		m, err = r.store.Register(ctx, subject, r.newKey(member), r.config.MaxKeysPerTeam)
		return err
	})
	if err != nil {
		return Result{}, err
	}
	return r.key(ctx, m, SourceAutoRegister)
}

// newKey makes the row of a new key. Its text is dropped here: nobody presents an auto-registered key.
func (r *Resolver) newKey(member teams.Membership) *keys.Key {
	id := keys.Generate().ID()
	t := r.config.Template
	key := &keys.Key{
		ID: id, Alias: "auto-" + string(id[:12]),
		TeamID: member.TeamID, UserID: member.UserID, OrganizationID: member.OrganizationID,
		Models: t.Models, AllowedRoutes: t.AllowedRoutes, Limits: t.Limits,
		Budget: teams.Budget{Max: t.MaxBudget}, AutoRegistered: true,
	}
	if t.Lifetime > 0 {
		key.ExpiresAt = r.config.Now().Add(t.Lifetime)
	}
	return key
}

// caller is whom a mapping is used for.
type caller struct {
	id     teams.Identity
	member teams.Membership
}

func (r *Resolver) use(ctx context.Context, subject Subject, m *Mapping, cached bool, c caller, rule Rule) (Result, error) {
	result, err := r.key(ctx, m, SourceMapping)
	if err == nil && cached && m.AutoRegistered && result.Key.Blocked {
		// Another replica may have bound the caller to a new key since this mapping was cached.
		r.store.forget(subject)
		if m, _, err = r.store.mapping(ctx, subject); err != nil {
			return Result{}, err
		}
		result, err = r.key(ctx, m, SourceMapping)
	}
	if err != nil || !r.moved(m, result.Key, c) {
		return result, err
	}
	if rule.NoMatch != AutoRegister {
		return Result{}, fmt.Errorf("%w: the caller has left the team that it was registered with", teams.ErrTeamNotMember)
	}
	return r.rebind(ctx, subject, m, c)
}

func (r *Resolver) rebind(ctx context.Context, subject Subject, m *Mapping, c caller) (Result, error) {
	var rebound *Mapping
	err := r.limited(subject.Issuer, func() (err error) {
		rebound, err = r.store.Rebind(ctx, subject, m.KeyID, r.newKey(c.member), r.config.MaxKeysPerTeam)
		return err
	})
	if errors.Is(err, ErrConflict) {
		rebound, err = r.store.Mapping(ctx, subject) // another replica was first: take its row, once
	}
	if err != nil {
		return Result{}, err
	}
	result, err := r.key(ctx, rebound, SourceAutoRegister)
	if err == nil && r.moved(rebound, result.Key, c) {
		return Result{}, ErrConflict
	}
	return result, err
}

// errRate is an ErrLimited by the issuer's rate.
var errRate = fmt.Errorf("%w: the issuer's registrations per minute", ErrLimited)

// limited calls write within the issuer's rate. A write that fails spends nothing of it: one caller who
// cannot register must not keep the others from it.
func (r *Resolver) limited(issuer token.IssuerURL, write func() error) error {
	now := r.config.Now()
	place := r.limiters[issuer].ReserveN(now, 1)
	if place.DelayFrom(now) > 0 {
		place.CancelAt(now)
		return errRate
	}
	err := write()
	if err != nil {
		place.CancelAt(now)
	}
	return err
}

// moved reports whether a registered caller now belongs elsewhere: its token no longer lists the team it
// was registered with. Which of its teams it selects does not matter. What an operator mapped stays
// as it is, and a key that may not be used, or is spent, is not replaced: it denies.
func (r *Resolver) moved(m *Mapping, key *keys.Key, c caller) bool {
	if !m.AutoRegistered || !key.AutoRegistered || key.Blocked || key.Expired(r.config.Now()) || key.Budget.Exceeded() {
		return false
	}
	if key.TeamID == c.member.TeamID {
		return key.OrganizationID != c.member.OrganizationID
	}
	return !c.id.Lists(key.TeamID)
}

// key loads the key that a mapping names. A disabled mapping denies, whatever the no-match policy:
// it is not the absence of one. So does a mapping whose key is gone.
func (r *Resolver) key(ctx context.Context, m *Mapping, source Source) (Result, error) {
	if !m.Active {
		return Result{}, ErrDisabled
	}
	key, err := r.store.Key(ctx, m.KeyID)
	if errors.Is(err, teams.ErrNotFound) {
		return Result{}, fmt.Errorf("%w: its key does not exist", ErrDisabled)
	}
	if err != nil {
		return Result{}, err
	}
	return Result{Source: source, Key: key}, nil
}
