package authz

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/extauthz/extauthz/internal/trace"
	"github.com/extauthz/extauthz/pkg/keys"
	"github.com/extauthz/extauthz/pkg/mapping"
	"github.com/extauthz/extauthz/pkg/teams"
	"github.com/extauthz/extauthz/pkg/token"
)

// Sources beside those of package mapping.
const (
	SourceAdmin      mapping.Source = "admin"
	SourcePublic     mapping.Source = "public"
	SourceVirtualKey mapping.Source = "virtual_key"
	// SourceShadow is a request that only shadow mode allowed.
	SourceShadow mapping.Source = "shadow"
)

// Verifier verifies a bearer token. See [token.Verifier].
type Verifier interface {
	Verify(ctx context.Context, bearer string) (token.Claims, error)
}

// Decision is the answer to one request. The zero value denies.
type Decision struct {
	// Source is where an allowed caller's rights come from; it is set on an ALLOW and only there.
	Source mapping.Source
	// Outcome says why the request was denied; the zero value on an ALLOW.
	Outcome Outcome
	// Shadowed is the reason of the first denial that shadow mode held back; empty if there was none.
	Shadowed Reason
	// Stale says that a row was used that the store could not give anew: what it says may be out of date.
	Stale bool
	// ID ties the answer, its log line and its metadata together.
	ID string
	// Identity (nil: unknown), Member and Key are as far as the decision got.
	Identity *teams.Identity
	Member   teams.Membership
	Key      *keys.Key
	// Secret is the text of the key, for the upstream; empty unless the upstream is to get one.
	Secret keys.Secret
	// Request is the zero value if the request could not be read.
	Request Request
	// Err is the failure, for the log only.
	Err error
}

// Allowed reports whether the request is allowed.
func (d *Decision) Allowed() bool { return d.Source != "" && d.Err == nil }

// Authorizer makes decisions. It is safe for concurrent use.
type Authorizer struct {
	Verifier Verifier
	Policy   *teams.Policy
	Claims   map[token.IssuerURL]teams.ClaimPaths
	Resolver *mapping.Resolver
	// Callers, if not nil, remembers verified tokens. Authorizers may share it.
	Callers *Callers
	// CredentialHeaders are the lower-case names of the headers that may carry the credential.
	CredentialHeaders []string
	// VirtualKeys accepts a virtual key as the credential.
	VirtualKeys bool
	// OpenKey, if not nil, opens a key's sealed text for the upstream, which gets it in place of the
	// credential: an ALLOW without it is not given.
	OpenKey func(sealed []byte, id keys.ID) (keys.Secret, error)
	// Now is the clock.
	Now func() time.Time
}

// decide runs the steps of the decision in their order; the first that fails ends it. It fills in
// the decision as it goes and sets its Source last: whatever ends it early denies.
func (a *Authorizer) decide(ctx *checkContext, d *Decision) error {
	public := a.Policy.Public(d.Request.Request)
	bearer, err := bearerFrom(d.Request.headers, a.CredentialHeaders)
	switch {
	case public && errors.Is(err, ErrTokenMissing):
		trace.From(ctx).Add("policy", "a public route, and no credential")
		d.Source = SourcePublic
		return nil
	case err != nil:
		return err
	case a.VirtualKeys && isVirtualKey(bearer):
		return a.decideKey(ctx, keys.Secret(bearer), public, d)
	}
	return a.decideToken(ctx, bearer, public, d)
}

// decideToken decides for a caller with a JWT.
func (a *Authorizer) decideToken(ctx *checkContext, bearer string, public bool, d *Decision) error {
	c, err := a.authenticate(ctx, bearer)
	if err != nil {
		return err
	}
	if public {
		d.Source = SourcePublic
		return nil
	}
	ctx.near = &c.rows
	d.Identity = &c.identity
	explainIdentity(ctx, d.Identity)
	if err := a.Policy.Admit(ctx, d.Identity, d.Request.Request); err != nil {
		return err
	}
	if a.Policy.Admin(d.Identity) {
		return a.admin(ctx, d)
	}
	if d.Member, err = a.Policy.Place(ctx, d.Identity, d.Request.Request); err != nil {
		return err
	}
	result, err := a.Resolver.Resolve(ctx, a.claimant(c), d.Identity, d.Member)
	if err != nil {
		return err
	}
	if err := a.use(ctx, result, d); err != nil {
		return err
	}
	d.Source = result.Source
	return nil
}

// decideKey decides for a caller whose credential is a virtual key. It meets the checks of the key's own
// team, user and organization, and the admin routes are closed to it.
func (a *Authorizer) decideKey(ctx context.Context, secret keys.Secret, public bool, d *Decision) error {
	key, err := a.Resolver.Direct(ctx, secret.ID())
	if err != nil {
		return err
	}
	if public {
		d.Source = SourcePublic
		return nil
	}
	d.Key = key
	request := d.Request.Request
	if err := a.Policy.AdmitKey(request); err != nil {
		return err
	}
	if d.Member, err = a.Policy.PlaceDirect(ctx, key.TeamID, key.UserID, key.OrganizationID, request); err != nil {
		return err
	}
	now := a.Now()
	if err := a.checkKey(ctx, key, request, now); err != nil {
		return err
	}
	if err := checkBudgets(ctx, now, key, d.Member); err != nil {
		return err
	}
	if a.OpenKey != nil {
		d.Secret = secret
	}
	a.Resolver.Used(ctx, key)
	d.Source = SourceVirtualKey
	return nil
}

// admin ends the decision for a proxy admin, who needs no team and no key: a mapping is never
// looked up. A user whom the operator blocked is no admin.
func (a *Authorizer) admin(ctx context.Context, d *Decision) error {
	d.Member.UserID = d.Identity.UserID
	if _, err := a.Policy.CheckUser(ctx, d.Identity.UserID); err != nil {
		return err
	}
	trace.From(ctx).Add("policy", "a proxy admin on an admin route")
	d.Source = SourceAdmin
	return nil
}

// use checks that the key may serve this request, and that there is money left: the key's, and that
// of every team, user and organization that stands behind the caller or the key.
func (a *Authorizer) use(ctx context.Context, found mapping.Result, d *Decision) error {
	key, now := found.Key, a.Now()
	if key == nil {
		if a.OpenKey != nil {
			return fmt.Errorf("%w: the caller has no key", errKeySecret)
		}
		return checkBudgets(ctx, now, nil, d.Member)
	}
	d.Key = key
	if err := a.checkKey(ctx, key, d.Request.Request, now); err != nil {
		return err
	}
	owner, err := a.owner(ctx, found, d)
	if err != nil {
		return fmt.Errorf("key: %w", err)
	}
	caller := d.Member
	if owner.TeamID == "" && owner.OrganizationID != "" && caller.TeamID != "" && caller.OrganizationID != owner.OrganizationID {
		return fmt.Errorf("key: %w: the caller's team is of another organization than the key", teams.ErrTeamNotMember)
	}
	d.Member = keyMember(caller, owner)
	if err := checkBudgets(ctx, now, key, caller, owner); err != nil {
		return err
	}
	if err := a.open(d); err != nil {
		return err
	}
	a.Resolver.Used(ctx, key)
	return nil
}

// owner is the team, user and organization of a key. An operator may map a caller to a key of any team; a
// registered key serves only a caller who could choose its team, in its organization, for this request.
func (a *Authorizer) owner(ctx context.Context, found mapping.Result, d *Decision) (teams.Membership, error) {
	key, request := found.Key, d.Request.Request
	if found.Registered && key.TeamID != d.Member.TeamID {
		request.Team = key.TeamID
		m, err := a.Policy.Place(ctx, d.Identity, request)
		if err != nil {
			return teams.Membership{}, err
		}
		if m.OrganizationID != key.OrganizationID {
			return teams.Membership{}, fmt.Errorf("%w: the caller has left the organization that it was registered with", teams.ErrTeamNotMember)
		}
	}
	return a.Policy.PlaceKey(ctx, key.TeamID, key.UserID, key.OrganizationID, request)
}

func (a *Authorizer) checkKey(ctx context.Context, key *keys.Key, r teams.Request, now time.Time) error {
	switch {
	case key.Blocked:
		return errKeyBlocked
	case key.Expired(now):
		return errKeyExpired
	}
	if err := a.Policy.Permit(key.AllowedRoutes, key.Models, r); err != nil {
		return fmt.Errorf("key: %w", err)
	}
	trace.From(ctx).Add("key", "%q is neither blocked nor expired and permits the route and the model", key.Alias)
	return nil
}

// open opens the key's text where the upstream is to get it.
func (a *Authorizer) open(d *Decision) error {
	if a.OpenKey == nil {
		return nil
	}
	if d.Key.Sealed == nil {
		return fmt.Errorf("%w: it is not stored", errKeySecret)
	}
	var err error
	if d.Secret, err = a.OpenKey(d.Key.Sealed, d.Key.ID); err != nil {
		return fmt.Errorf("%w: %w", errKeySecret, err)
	}
	return nil
}

// keyMember is who a request with a key is made for: the key's team and organization where it has
// them, and the caller's own user, since a key may be shared.
func keyMember(caller, owner teams.Membership) teams.Membership {
	m := caller
	if owner.TeamID != "" {
		m.TeamID, m.Team = owner.TeamID, owner.Team
		m.OrganizationID, m.Organization = owner.OrganizationID, owner.Organization
	}
	if owner.OrganizationID != "" {
		m.OrganizationID, m.Organization = owner.OrganizationID, owner.Organization
	}
	if m.UserID == "" {
		m.UserID, m.User = owner.UserID, owner.User
	}
	return m
}

func checkBudgets(ctx context.Context, now time.Time, key *keys.Key, members ...teams.Membership) error {
	if key != nil && key.Budget.Exceeded(now) {
		return &BudgetError{"key", key.Budget.ResetAt}
	}
	for _, m := range members {
		switch {
		case m.User != nil && m.User.Budget.Exceeded(now):
			return &BudgetError{"user", m.User.Budget.ResetAt}
		case m.Team != nil && m.Team.Budget.Exceeded(now):
			return &BudgetError{"team", m.Team.Budget.ResetAt}
		case m.Organization != nil && m.Organization.Budget.Exceeded(now):
			return &BudgetError{"organization", m.Organization.Budget.ResetAt}
		}
	}
	trace.From(ctx).Add("key", "no budget is spent")
	return nil
}
