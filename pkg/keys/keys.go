// Package keys holds virtual keys: how they are generated and hashed, and whether a key may be
// used now.
//
// A virtual key is a secret that an LLM proxy understands; extauthz hands out its identity
// (alias, team, user, organization, limits), never its text. The package trusts the rows it is
// given and leaves teams, organizations and users to package teams.
package keys

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"log/slog"
	"time"

	"github.com/extauthz/extauthz/pkg/teams"
)

// SecretPrefix starts every virtual key, so that it is never mistaken for a JWT or a hash.
const SecretPrefix = "sk-"

// secretBytes is the entropy of a generated key: 256 bits.
const secretBytes = 32

// Secret is the clear text of a virtual key. It formats and logs as a fixed placeholder; only an
// explicit conversion to string reveals it.
type Secret string

const redacted = "sk-[redacted]"

// String returns a placeholder.
func (Secret) String() string { return redacted }

// GoString returns a placeholder.
func (Secret) GoString() string { return redacted }

// MarshalText returns a placeholder, for JSON and every other encoding.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue returns a placeholder.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// Generate returns a new virtual key: "sk-" and 32 random bytes in unpadded base64url.
func Generate() Secret {
	b := make([]byte, secretBytes)
	rand.Read(b) // never fails: crypto/rand ends the program instead
	return Secret(SecretPrefix + base64.RawURLEncoding.EncodeToString(b))
}

// ID identifies a key: the lower-case hex SHA-256 of the whole key, prefix included. It is the
// form LiteLLM stores, so its hashes can be imported.
type ID string

// ID returns the key's identifier.
func (s Secret) ID() ID {
	sum := sha256.Sum256([]byte(s))
	return ID(hex.EncodeToString(sum[:]))
}

// Valid reports whether id has the form of a key's hash.
func (id ID) Valid() bool {
	if len(id) != 2*sha256.Size {
		return false
	}
	for i := range len(id) {
		if c := id[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// Key is a row of the virtual_keys table. Empty Models or AllowedRoutes restrict nothing; empty
// TeamID, UserID or OrganizationID mean that the key has none.
type Key struct {
	ID             ID
	Alias          string
	TeamID         teams.TeamID
	UserID         teams.UserID
	OrganizationID teams.OrganizationID
	Models         []string
	AllowedRoutes  []string
	Blocked        bool
	// AutoRegistered marks a key that the no-match policy created; only such keys are ever rebound.
	AutoRegistered bool
	// JWTOnly marks a key that works only for callers who are mapped to it, never as a credential itself.
	JWTOnly bool
	// ExpiresAt is when the key stops working; the zero time means never.
	ExpiresAt time.Time
	// IdleTimeout is how long the key works without being used; 0 means for ever. IdleExpiresAt is when it
	// stops if it is not used before; the zero time means never.
	IdleTimeout   time.Duration
	IdleExpiresAt time.Time
	// Sealed is the key's encrypted text; nil if it is not stored. Only the keyset's holder can open it.
	Sealed []byte
	Budget teams.Budget
	Limits teams.Limits
}

// Expired reports whether the key has stopped working at now. A key is expired from the very
// instant of ExpiresAt or IdleExpiresAt on.
func (k *Key) Expired(now time.Time) bool {
	return reached(k.ExpiresAt, now) || reached(k.IdleExpiresAt, now)
}

func reached(at, now time.Time) bool { return !at.IsZero() && !now.Before(at) }
