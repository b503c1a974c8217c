// Package mapping decides which virtual key a verified caller gets.
//
// A mapping ties one claim value of one issuer (or of any issuer) to a key. Callers without a
// mapping meet the no-match policy: they are rejected, registered, or pass as their team.
// The package trusts the identity it is given (packages token and teams established it) and
// leaves the use of the key it finds (blocked, expired, over budget) to the caller.
package mapping

import (
	"context"
	"time"

	"github.com/extauthz/extauthz/pkg/keys"
	"github.com/extauthz/extauthz/pkg/teams"
	"github.com/extauthz/extauthz/pkg/token"
)

// Subject is what a mapping is looked up by: the exact bytes of one claim of one issuer.
type Subject struct {
	Issuer token.IssuerURL
	Claim  string // the configured claim path, as text
	Value  string
}

// Mapping is a row of the jwt_key_mappings table.
type Mapping struct {
	// Issuer is the issuer the mapping is for; empty means any issuer.
	Issuer token.IssuerURL
	Claim  string
	Value  string
	KeyID  keys.ID
	// Active is false for a mapping that was switched off: it denies, it is not absent.
	Active bool
	// AutoRegistered marks a mapping that Register made; an operator's own is never rebound.
	AutoRegistered bool
}

// ErrConflict says that a concurrent writer's mapping was in the way and is gone again, or that the
// mapping to rebind no longer names the expected key: nothing was written.
var ErrConflict = teams.ErrConflict

// ErrLimited says that the team already has as many auto-registered keys as it may have, or that the
// issuer's rate is spent.
var ErrLimited = teams.ErrLimited

// Store reads and writes mappings and keys. Absence is [teams.ErrNotFound]; any other error
// means that nothing is known. Implementations are safe for concurrent use.
type Store interface {
	// Lookup returns the mapping for the subject: the issuer's own row if there is one, active or
	// not, else the row for any issuer. The key that it names may come along, read no earlier than the call; nil
	// means that it is to be asked for.
	Lookup(ctx context.Context, subject Subject) (*Mapping, *keys.Key, error)

	// Key returns a virtual key.
	Key(ctx context.Context, id keys.ID) (*keys.Key, error)

	// Register writes a new key and a mapping of the subject to it in one transaction and returns the
	// mapping. If the subject already has a mapping of its own issuer, nothing is written and
	// that mapping is returned; if that mapping vanished meanwhile, ErrConflict.
	// maxTeamKeys bounds the auto-registered keys of the key's team that are not blocked
	// (ErrLimited); 0 means no bound.
	// The key that the mapping names may come along, as it is stored; nil means that it is to be asked for.
	Register(ctx context.Context, subject Subject, key *keys.Key, maxTeamKeys int) (*Mapping, *keys.Key, error)

	// Rebind replaces the auto-registered key that the subject's own mapping names by a new one, in one
	// transaction: the new key is written, the mapping points to it, the old key is blocked.
	// The new key takes over the old one's spend: moving must not renew a budget. ErrConflict if the
	// mapping is no longer an active, auto-registered one of old, or if old is blocked, expired or not
	// auto-registered; ErrLimited as in Register.
	Rebind(ctx context.Context, subject Subject, old keys.ID, key *keys.Key, maxTeamKeys int) (*Mapping, error)

	// Touch moves a key's IdleExpiresAt to the given instant, never to an earlier one, unless the key
	// is blocked or has expired meanwhile. A key that does not exist is no error.
	Touch(ctx context.Context, id keys.ID, idleExpiresAt time.Time) error
}
