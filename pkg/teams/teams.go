// Package teams decides who a caller is and what the operator's policy lets that caller do.
//
// It turns verified claims into an [Identity], applies the policy (email domains, roles, scopes,
// the proxy admin), selects the caller's team and matches routes and models.
// It trusts the claims it is given (package token verified them) and the rows it is given (the
// store wrote them); it leaves the choice of a virtual key to package mapping and every HTTP
// status to package authz.
package teams

import (
	"context"
	"errors"
	"fmt"
)

// TeamID identifies a team. The zero value means "no team".
type TeamID string

// UserID identifies a user. The zero value means "no user".
type UserID string

// OrganizationID identifies an organization. The zero value means "no organization".
type OrganizationID string

// ErrNotFound says that the store holds no such row. It is the only error that means absence:
// every other error of a store means that nothing is known (an outage must never look like an
// unmapped caller).
var ErrNotFound = errors.New("not found")

// ErrAmbiguous is an [ErrNotFound] of an alias that several rows have: it names none of them.
var ErrAmbiguous = fmt.Errorf("%w: several have the alias", ErrNotFound)

// Micros is an amount of money in millionths of the operator's currency unit. Amounts are
// integers from the resource file to the database so that sums are exact.
type Micros int64

// Limits are the rate limits that Envoy enforces from our dynamic metadata, per minute.
// nil means no limit; 0 is a real limit of zero.
type Limits struct {
	RPM *int64 // requests per minute
	TPM *int64 // tokens per minute
}

// Organization is a row of the organizations table.
type Organization struct {
	ID      OrganizationID
	Alias   string
	Blocked bool
	Budget  Budget
}

// Team is a row of the teams table. Empty Models or AllowedRoutes restrict nothing.
type Team struct {
	ID             TeamID
	Alias          string
	OrganizationID OrganizationID
	Models         []string
	AllowedRoutes  []string
	Blocked        bool
	Budget         Budget
	Limits         Limits
}

// User is a row of the users table. A caller need not have one.
type User struct {
	ID      UserID
	Email   string
	Blocked bool
	Budget  Budget
}

// Directory reads teams, organizations and users. Its methods return [ErrNotFound] for a row that
// does not exist and are safe for concurrent use. Callers must not change what they are given:
// a cache may share it.
type Directory interface {
	Team(ctx context.Context, id TeamID) (*Team, error)
	Organization(ctx context.Context, id OrganizationID) (*Organization, error)
	User(ctx context.Context, id UserID) (*User, error)

	// TeamByAlias returns the one team with the alias; ErrAmbiguous if several have it.
	TeamByAlias(ctx context.Context, alias string) (*Team, error)
	// OrganizationByAlias does the same for organizations.
	OrganizationByAlias(ctx context.Context, alias string) (*Organization, error)
	// Member reports whether the team lists the user; false for a team that does not exist.
	Member(ctx context.Context, team TeamID, user UserID) (bool, error)
}
