package mapping

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/extauthz/extauthz/internal/cache"
	"github.com/extauthz/extauthz/internal/limit"
	"github.com/extauthz/extauthz/internal/trace"
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
	// ErrKeyUnknown says that a direct virtual key does not exist, or works only for mapped callers.
	ErrKeyUnknown = errors.New("virtual key unknown")
)

// Rule maps the callers of one issuer.
type Rule struct {
	Claim   token.Path
	NoMatch NoMatch
	// Shadow lets a caller whom the no-match policy would deny pass as its team, and records the denial.
	Shadow bool
}

// Template is what an auto-registered key gets beside its caller's team, user and organization.
type Template struct {
	Models        []string
	AllowedRoutes []string
	MaxBudget     *teams.Micros
	Limits        teams.Limits
	// BudgetWindow is how often the key's spend starts again at zero; the zero Window is never.
	BudgetWindow teams.Window
	// Lifetime is how long the key works; 0 means for ever.
	Lifetime time.Duration
	// IdleTimeout is how long it works without being used; 0 means for ever.
	IdleTimeout time.Duration
}

// Scope is whom a template is for. An empty field is anybody.
type Scope struct {
	Issuer token.IssuerURL
	Team   teams.TeamID
}

// Config configures a [Resolver].
type Config struct {
	// Rules are by issuer. The callers of an issuer without a rule are not mapped.
	Rules map[token.IssuerURL]Rule
	// Templates shape auto-registered keys: the one for the caller's issuer and team, else for the team,
	// else for the issuer, else the one of the zero Scope.
	Templates map[Scope]Template
	// Seal encrypts the text of a new key, so that the upstream can be given it; nil means that the text
	// is dropped.
	Seal func(keys.Secret) ([]byte, error)
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
	config  Config
	rules   map[token.IssuerURL]*Rule
	store   *Cached
	rate    *limit.PerMinute[token.IssuerURL]
	touches touches
}

// NewResolver returns a resolver over a store. A nil store is a definitive "there are no mappings".
func NewResolver(config Config, store *Cached) *Resolver {
	if config.Now == nil {
		config.Now = time.Now
	}
	rules := make(map[token.IssuerURL]*Rule)
	for issuer, rule := range config.Rules {
		rules[issuer] = &rule
	}
	return &Resolver{config: config, rules: rules, store: store, rate: limit.New[token.IssuerURL](config.RegistrationsPerMinute, errRate, config.Now)}
}

// Result is what a caller gets. Key is nil where the caller passes as its team. It is not yet
// checked: it may be blocked, expired or over budget.
type Result struct {
	Source Source
	Key    *keys.Key
	// Registered says that no operator chose the key: it serves a caller only while the caller could choose the
	// key's team.
	Registered bool
}

// Claimant is what a Resolver's rules make of a token's claims. It is the same for each request with the token. The zero
// value is a caller who is not mapped at all.
type Claimant struct {
	rule    *Rule // nil: the issuer's callers are not mapped
	subject Subject
	usable  bool // the mapped claim
}

// Claimant reads the mapped claim. The claims must be verified.
func (r *Resolver) Claimant(claims token.Claims) Claimant {
	rule, mapped := r.rules[claims.Issuer]
	if !mapped {
		return Claimant{}
	}
	value, usable := claims.Text(rule.Claim)
	return Claimant{rule, Subject{Issuer: claims.Issuer, Claim: rule.Claim.String(), Value: value}, usable}
}

// Resolve returns the key of the caller, whom steps 1 to 6 of the decision have admitted: who is what this Resolver made of
// its claims, id is what they say and member what the policy resolved. Only member shapes a registration.
func (r *Resolver) Resolve(ctx context.Context, who Claimant, id *teams.Identity, member teams.Membership) (Result, error) {
	rule := who.rule
	if rule == nil {
		return Result{Source: SourceTeam}, nil
	}
	if !who.usable {
		return rule.claimMissing(ctx)
	}
	m, err := r.lookup(ctx, who.subject, rule.NoMatch)
	switch {
	case err == nil:
		return r.use(ctx, who.subject, m, caller{id, member}, rule)
	case errors.Is(err, teams.ErrNotFound):
		found, err := r.noMatch(ctx, who.subject, member, rule)
		return rule.shadowed(ctx, found, err)
	}
	return rule.shadowed(ctx, Result{}, err)
}

// shadowed lets a caller whom the no-match policy denies pass as its team, in shadow mode.
func (r *Rule) shadowed(ctx context.Context, found Result, err error) (Result, error) {
	if r.Shadow && isPolicy(err) {
		trace.From(ctx).Shadow(err)
		return Result{Source: SourceFallback}, nil
	}
	return found, err
}

// isPolicy tells a denial by the no-match policy from one that is not its own to forgive.
func isPolicy(err error) bool {
	return errors.Is(err, ErrNoMapping) || errors.Is(err, ErrClaimMissing) || errors.Is(err, ErrLimited) || errors.Is(err, ErrStoreRequired)
}

func (r *Rule) claimMissing(ctx context.Context) (Result, error) {
	if r.NoMatch == Fallback {
		trace.From(ctx).Add("mapping", "claim %s is missing or unusable: the caller passes as its team", r.Claim.String())
		return Result{Source: SourceFallback}, nil
	}
	return r.shadowed(ctx, Result{}, fmt.Errorf("%w: %s", ErrClaimMissing, r.Claim))
}

// lookup asks the cache, then the store. An absence that is about to become a registration is
// read anew: a mapping may have been made since, for this issuer or for all. While the store fails there is
// none: the absence is forgotten first, and cannot be served stale.
func (r *Resolver) lookup(ctx context.Context, subject Subject, policy NoMatch) (m found, err error) {
	if r.store == nil {
		return found{}, teams.ErrNotFound
	}
	m, err = r.store.mapping(ctx, subject)
	if m.origin != cache.Loaded && policy == AutoRegister && errors.Is(err, teams.ErrNotFound) {
		if m.origin == cache.Cached && !r.rate.Left(subject.Issuer) {
			return found{}, errRate // it could not register: the store need not be asked
		}
		r.store.forget(subject)
		m, err = r.store.mapping(ctx, subject)
	}
	if record := trace.From(ctx); record.Explaining() {
		record.Add("mapping", "look-up of %s=%q: %s (%s)", subject.Claim, subject.Value, outcomeOf(m, err), from(m.origin))
	}
	return m, err
}

func outcomeOf(m found, err error) string {
	switch {
	case err != nil:
		return err.Error()
	case m.Issuer == "":
		return "the mapping for any issuer"
	}
	return "the issuer's own mapping"
}

func from(origin cache.Origin) string {
	switch origin {
	case cache.Cached:
		return "cache"
	case cache.Stale:
		return "cache, since the store fails"
	}
	return "store"
}

func (r *Resolver) noMatch(ctx context.Context, subject Subject, member teams.Membership, rule *Rule) (Result, error) {
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
	key, err := r.newKey(subject.Issuer, member)
	if err != nil {
		return Result{}, err
	}
	var m *Mapping
	err = r.rate.Do(subject.Issuer, func() error {
		var err error
		m, key, err = r.store.Register(ctx, subject, key, r.config.MaxKeysPerTeam)
		return err
	})
	if err != nil {
		return Result{}, err
	}
	trace.From(ctx).Add("mapping", "registered a new key, or found that of a concurrent registration")
	if key != nil && m.Active {
		return result(*m, key, SourceAutoRegister), nil
	}
	return r.key(ctx, found{Mapping: *m}, SourceAutoRegister)
}

// newKey makes the row of a new key. Its text is sealed or dropped here: nobody presents an
// auto-registered key.
func (r *Resolver) newKey(issuer token.IssuerURL, member teams.Membership) (*keys.Key, error) {
	secret, now := keys.Generate(), r.config.Now()
	id, t := secret.ID(), r.template(issuer, member.TeamID)
	key := &keys.Key{
		ID: id, Alias: "auto-" + string(id[:12]),
		TeamID: member.TeamID, UserID: member.UserID, OrganizationID: member.OrganizationID,
		Models: t.Models, AllowedRoutes: t.AllowedRoutes, Limits: t.Limits, IdleTimeout: t.IdleTimeout,
		Budget:         teams.Budget{Max: t.MaxBudget, Window: t.BudgetWindow, ResetAt: t.BudgetWindow.End(now)},
		AutoRegistered: true, JWTOnly: true,
	}
	if t.Lifetime > 0 {
		key.ExpiresAt = now.Add(t.Lifetime)
	}
	if t.IdleTimeout > 0 {
		key.IdleExpiresAt = now.Add(t.IdleTimeout)
	}
	if r.config.Seal == nil {
		return key, nil
	}
	var err error
	key.Sealed, err = r.config.Seal(secret)
	return key, err
}

func (r *Resolver) template(issuer token.IssuerURL, team teams.TeamID) Template {
	for _, scope := range []Scope{{issuer, team}, {"", team}, {issuer, ""}} {
		if t, ok := r.config.Templates[scope]; ok {
			return t
		}
	}
	return r.config.Templates[Scope{}]
}

// caller is whom a mapping is used for.
type caller struct {
	id     *teams.Identity
	member teams.Membership
}

func (r *Resolver) use(ctx context.Context, subject Subject, m found, c caller, rule *Rule) (Result, error) {
	result, err := r.key(ctx, m, SourceMapping)
	if err == nil && m.origin == cache.Cached && m.own == nil && m.AutoRegistered && result.Key.Blocked {
		// The key is newer than the mapping: another replica may have bound the caller to another one in between.
		r.store.forget(subject)
		if m, err = r.store.mapping(ctx, subject); err != nil {
			return Result{}, err
		}
		result, err = r.key(ctx, m, SourceMapping)
	}
	if err != nil || !r.moved(result, c) {
		return result, err
	}
	if rule.NoMatch != AutoRegister {
		return Result{}, fmt.Errorf("%w: the caller has left the team that it was registered with", teams.ErrTeamNotMember)
	}
	return r.rebind(ctx, subject, m.KeyID, c)
}

func (r *Resolver) rebind(ctx context.Context, subject Subject, old keys.ID, c caller) (Result, error) {
	key, err := r.newKey(subject.Issuer, c.member)
	if err != nil {
		return Result{}, err
	}
	var rebound found
	err = r.rate.Do(subject.Issuer, func() error {
		written, err := r.store.Rebind(ctx, subject, old, key, r.config.MaxKeysPerTeam)
		if err == nil {
			rebound.Mapping = *written
		}
		return err
	})
	if errors.Is(err, ErrConflict) {
		rebound, err = r.store.mapping(ctx, subject) // another replica was first: take its row, once
	}
	if err != nil {
		return Result{}, err
	}
	result, err := r.key(ctx, rebound, SourceAutoRegister)
	if err == nil && r.moved(result, c) {
		return Result{}, ErrConflict
	}
	return result, err
}

// errRate is an ErrLimited by the issuer's rate.
var errRate = fmt.Errorf("%w: the issuer's registrations per minute", ErrLimited)

// moved reports whether a registered caller now belongs elsewhere: its token no longer lists the team it
// was registered with. Which of its teams it selects does not matter. What an operator mapped stays
// as it is, and a key that may not be used, or is spent, is not replaced: it denies.
func (r *Resolver) moved(found Result, c caller) bool {
	if !found.Registered {
		return false
	}
	key, now := found.Key, r.config.Now()
	if key.Blocked || key.Expired(now) || key.Budget.Exceeded(now) {
		return false
	}
	if key.TeamID == c.member.TeamID {
		return key.OrganizationID != c.member.OrganizationID
	}
	return !c.id.Lists(key.TeamID)
}

// key loads the key that a mapping names. A disabled mapping denies, whatever the no-match policy:
// it is not the absence of one. So does a mapping whose key is gone.
func (r *Resolver) key(ctx context.Context, m found, source Source) (Result, error) {
	if !m.Active {
		return Result{}, ErrDisabled
	}
	key, origin, err := r.store.keyOf(ctx, m)
	if errors.Is(err, teams.ErrNotFound) {
		return Result{}, fmt.Errorf("%w: its key does not exist", ErrDisabled)
	}
	if err != nil {
		return Result{}, err
	}
	trace.From(ctx).Add("mapping", "virtual key %q (%s)", key.Alias, from(origin))
	return result(m.Mapping, key, source), nil
}

func result(m Mapping, key *keys.Key, source Source) Result {
	return Result{Source: source, Key: key, Registered: m.AutoRegistered && key.AutoRegistered}
}

// Direct returns the key that a caller presents as its credential. A key that works only for mapped
// callers is as unknown as one that does not exist.
func (r *Resolver) Direct(ctx context.Context, id keys.ID) (*keys.Key, error) {
	if r.store == nil {
		return nil, ErrKeyUnknown
	}
	key, origin, err := r.store.key(ctx, id)
	switch {
	case errors.Is(err, teams.ErrNotFound):
		return nil, ErrKeyUnknown
	case err != nil:
		return nil, err
	case key.JWTOnly:
		return nil, fmt.Errorf("%w: it is for mapped callers only", ErrKeyUnknown)
	}
	trace.From(ctx).Add("credential", "virtual key %q (%s)", key.Alias, from(origin))
	return key, nil
}
