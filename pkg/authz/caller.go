package authz

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"
	"unsafe"

	"github.com/extauthz/extauthz/internal/cache"
	"github.com/extauthz/extauthz/internal/trace"
	"github.com/extauthz/extauthz/pkg/mapping"
	"github.com/extauthz/extauthz/pkg/teams"
	"github.com/extauthz/extauthz/pkg/token"
)

// Callers remembers verified tokens, because to verify a signature costs more than all the rest of a
// decision. A token is known by the SHA-256 of its whole text: its text stays out of memory, and no part of
// it can stand for another token (CVE-2026-35030). It is safe for concurrent use.
type Callers struct {
	memo *cache.Memo[[sha256.Size]byte, *caller]
}

// NewCallers returns an empty memory of at most maxBytes. Close releases it.
func NewCallers(maxBytes int64) (*Callers, error) {
	memo, err := cache.NewMemo[[sha256.Size]byte, *caller](maxBytes)
	if err != nil {
		return nil, err
	}
	return &Callers{memo}, nil
}

// Close stops the memory's goroutines; of a nil Callers it does nothing.
func (c *Callers) Close() {
	if c != nil {
		c.memo.Close()
	}
}

// caller is a verified token and who it says the caller is.
type caller struct {
	verifier Verifier // that verified it; another one, of another configuration, might not
	resolver *mapping.Resolver
	claimant mapping.Claimant // by the resolver
	identity teams.Identity   // with the token's claims
	rows     cache.Near
}

// claimant is what the authorizer's resolver makes of the caller. Authorizers that share their memory may differ in it.
func (a *Authorizer) claimant(c *caller) mapping.Claimant {
	if c.resolver == a.Resolver {
		return c.claimant
	}
	return a.Resolver.Claimant(c.identity.Claims)
}

// callerBytes estimates what a token's claims take in memory, measured, some three times the token's text, and the rows
// that are kept with them.
func callerBytes(bearer string) int64 { return int64(2048 + 3*len(bearer)) }

// authenticate verifies the token, or finds that it was verified and that this still holds.
func (a *Authorizer) authenticate(ctx context.Context, bearer string) (*caller, error) {
	if a.Callers == nil {
		return a.verify(ctx, bearer)
	}
	digest := sha256.Sum256(unsafe.Slice(unsafe.StringData(bearer), len(bearer))) //nolint:gosec // only read, and not copied: a token is long
	if c, known := a.Callers.memo.Get(digest); known && c.verifier == a.Verifier && c.identity.Claims.Current() {
		return c, nil
	}
	c, err := a.verify(ctx, bearer)
	if err != nil {
		return nil, err
	}
	a.Callers.memo.Set(digest, c, callerBytes(bearer))
	return c, nil
}

func (a *Authorizer) verify(ctx context.Context, bearer string) (*caller, error) {
	claims, err := a.Verifier.Verify(ctx, bearer)
	if err != nil {
		return nil, err
	}
	trace.From(ctx).Add("token", "verified, of issuer %s, expires %s", string(claims.Issuer), claims.Expiry.UTC().Format(time.RFC3339))
	paths, known := a.Claims[claims.Issuer]
	if !known {
		return nil, fmt.Errorf("%w: no claim paths", token.ErrIssuerUnknown)
	}
	return &caller{verifier: a.Verifier, resolver: a.Resolver, claimant: a.Resolver.Claimant(claims), identity: paths.Identify(claims)}, nil
}

func explainIdentity(ctx context.Context, id *teams.Identity) {
	if record := trace.From(ctx); record.Explaining() {
		record.Add("identity", "%s", fmt.Sprintf("user %q, email %q, team %q, teams %q, organization %q, roles %q, scopes %q",
			id.UserID, id.Email, id.TeamID, id.TeamIDs, id.OrganizationID, id.Roles, id.Scopes))
	}
}
