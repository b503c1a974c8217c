package authz

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/extauthz/extauthz/pkg/keys"
	"github.com/extauthz/extauthz/pkg/mapping"
	"github.com/extauthz/extauthz/pkg/teams"
	"github.com/extauthz/extauthz/pkg/token"
)

// Sources beside those of package mapping.
const (
	SourceAdmin  mapping.Source = "admin"
	SourcePublic mapping.Source = "public"
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
	// ID ties the answer, its log line and its metadata together.
	ID string
	// Identity, Member and Key are as far as the decision got.
	Identity teams.Identity
	Member   teams.Membership
	Key      *keys.Key
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
	// CredentialHeaders are the lower-case names of the headers that may carry the token.
	CredentialHeaders []string
	// Now is the clock.
	Now func() time.Time
}

// decide runs the steps of the decision in their order; the first that fails ends it. It fills in
// the decision as it goes and sets its Source last: whatever ends it early denies.
func (a *Authorizer) decide(ctx context.Context, d *Decision) error {
	request := d.Request.Request
	claims, err := a.authenticate(ctx, d.Request)
	if a.Policy.Public(request) && (err == nil || errors.Is(err, ErrTokenMissing)) {
		d.Source = SourcePublic
		return nil
	}
	if err != nil {
		return err
	}
	if d.Identity, err = a.identify(claims); err != nil {
		return err
	}
	if err := a.Policy.Admit(d.Identity, request); err != nil {
		return err
	}
	if a.Policy.Admin(d.Identity) {
		return a.admin(ctx, d)
	}
	if d.Member, err = a.Policy.Place(ctx, d.Identity, request); err != nil {
		return err
	}
	result, err := a.Resolver.Resolve(ctx, claims, d.Identity, d.Member)
	if err != nil {
		return err
	}
	if err := a.use(ctx, result.Key, d); err != nil {
		return err
	}
	d.Source = result.Source
	return nil
}

func (a *Authorizer) authenticate(ctx context.Context, r Request) (token.Claims, error) {
	bearer, err := bearerFrom(r.headers, a.CredentialHeaders)
	if err != nil {
		return token.Claims{}, err
	}
	return a.Verifier.Verify(ctx, bearer)
}

func (a *Authorizer) identify(claims token.Claims) (teams.Identity, error) {
	paths, known := a.Claims[claims.Issuer]
	if !known {
		return teams.Identity{}, fmt.Errorf("%w: no claim paths", token.ErrIssuerUnknown)
	}
	return paths.Identify(claims), nil
}

// admin ends the decision for a proxy admin, who needs no team and no key: a mapping is never
// looked up. A user whom the operator blocked is no admin.
func (a *Authorizer) admin(ctx context.Context, d *Decision) error {
	d.Member.UserID = d.Identity.UserID
	if _, err := a.Policy.CheckUser(ctx, d.Identity.UserID); err != nil {
		return err
	}
	d.Source = SourceAdmin
	return nil
}

// use checks that the key may serve this request, and that there is money left: the key's, and that
// of every team, user and organization that stands behind the caller or the key.
func (a *Authorizer) use(ctx context.Context, key *keys.Key, d *Decision) error {
	if key == nil {
		return checkBudgets(nil, d.Member)
	}
	d.Key = key
	switch {
	case key.Blocked:
		return errKeyBlocked
	case key.Expired(a.Now()):
		return errKeyExpired
	}
	if err := a.Policy.Permit(key.AllowedRoutes, key.Models, d.Request.Request); err != nil {
		return fmt.Errorf("key: %w", err)
	}
	owner, err := a.Policy.PlaceKey(ctx, key.TeamID, key.UserID, key.OrganizationID, d.Request.Request)
	if err != nil {
		return fmt.Errorf("key: %w", err)
	}
	caller := d.Member
	if owner.TeamID == "" && owner.OrganizationID != "" && caller.TeamID != "" && caller.OrganizationID != owner.OrganizationID {
		return fmt.Errorf("key: %w: the caller's team is of another organization than the key", teams.ErrTeamNotMember)
	}
	d.Member = keyMember(caller, owner)
	return checkBudgets(key, caller, owner)
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

func checkBudgets(key *keys.Key, members ...teams.Membership) error {
	if key != nil && key.Budget.Exceeded() {
		return fmt.Errorf("%w: key", ErrBudgetExceeded)
	}
	for _, m := range members {
		switch {
		case m.User != nil && m.User.Budget.Exceeded():
			return fmt.Errorf("%w: user", ErrBudgetExceeded)
		case m.Team != nil && m.Team.Budget.Exceeded():
			return fmt.Errorf("%w: team", ErrBudgetExceeded)
		case m.Organization != nil && m.Organization.Budget.Exceeded():
			return fmt.Errorf("%w: organization", ErrBudgetExceeded)
		}
	}
	return nil
}
