package teams

import "errors"

// The reasons why policy denies. Errors that the policy returns wrap exactly one of them, or are a
// [Directory]'s own error: then nothing was decided.
var (
	// ErrRuleFailed says that a rule yielded false, or nothing: an evaluation that fails denies.
	ErrRuleFailed          = errors.New("rule failed")
	ErrIdentityUnusable    = errors.New("a claim of the identity is unusable")
	ErrEmailDomain         = errors.New("email domain not allowed")
	ErrRoleMissing         = errors.New("no configured role held")
	ErrScopeMissing        = errors.New("no configured scope held")
	ErrRouteForbidden      = errors.New("route not permitted")
	ErrModelForbidden      = errors.New("model not permitted")
	ErrModelRequired       = errors.New("model is restricted and could not be read")
	ErrTeamMissing         = errors.New("no team in the token and no default")
	ErrTeamUnknown         = errors.New("team unknown")
	ErrTeamNotMember       = errors.New("not a member of the team")
	ErrTeamBlocked         = errors.New("team blocked")
	ErrOrganizationUnknown = errors.New("organization unknown")
	ErrOrganizationBlocked = errors.New("organization blocked")
	ErrUserBlocked         = errors.New("user blocked")
)

// Errors of a registration, of a team here and of a key in package mapping.
var (
	// ErrConflict says that a concurrent writer's row was in the way and is gone again: nothing was written.
	ErrConflict = errors.New("registration conflict")
	// ErrLimited says that a bound on registrations is reached.
	ErrLimited = errors.New("registration limited")
)
