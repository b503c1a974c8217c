// Package resource is the declared form of what the store holds: the file that `extauthz apply`
// reads and `extauthz export` writes.
package resource

import (
	"fmt"

	"github.com/extauthz/extauthz/pkg/keys"
	"github.com/extauthz/extauthz/pkg/mapping"
	"github.com/extauthz/extauthz/pkg/teams"
)

// Set is a whole resource file. Applying it creates or updates each resource that it names and
// leaves all others alone. What is marked to be kept is left as it is in a row that exists, and is the zero
// value (for a mapping's Active: true) in a new one; everything else becomes what the set says.
type Set struct {
	Organizations []Organization
	Teams         []Team
	Users         []User
	Keys          []Key
	Mappings      []Mapping
}

// Organization declares one organization.
type Organization struct {
	teams.Organization
	KeepSpend, KeepBlocked bool // what the file does not state
}

// Team declares one team.
type Team struct {
	teams.Team
	KeepSpend, KeepBlocked bool // as in [Organization]
	// Members are the users whom the team lists. Nil leaves those of an existing row as they are, an empty list
	// means none.
	Members []teams.UserID
}

// User declares one user.
type User struct {
	teams.User
	KeepSpend, KeepBlocked bool // as in [Organization]
}

// Key declares one virtual key by its hash. A nil Sealed leaves that of an existing row as it is.
type Key struct {
	keys.Key
	KeepSpend, KeepBlocked, KeepJWTOnly bool // as in [Organization]
	// Secret is the key's text, if the file has it, for whoever seals it. It is never stored or written.
	Secret keys.Secret
}

// Mapping declares one mapping.
type Mapping struct {
	mapping.Mapping
	KeepActive bool // as in [Organization]
	// KeyAlias names the key when KeyID is empty: a key of the same set, else one in the store.
	KeyAlias string
}

// Error says which resource of a set cannot be applied, and why. Nothing of the set was applied.
type Error struct {
	Section string // organizations, teams, users, keys or mappings
	Index   int    // from 0, in the section's order
	Field   string // the field at fault, as in the file; empty for the whole resource
	Reason  string
}

func (e *Error) Error() string {
	place := fmt.Sprintf("%s[%d]", e.Section, e.Index)
	if e.Field != "" {
		place += "." + e.Field
	}
	return place + ": " + e.Reason
}
