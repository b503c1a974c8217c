package authz

import (
	"errors"
	"fmt"
	"time"

	"github.com/extauthz/extauthz/internal/admission"
	"github.com/extauthz/extauthz/pkg/mapping"
	"github.com/extauthz/extauthz/pkg/teams"
	"github.com/extauthz/extauthz/pkg/token"
)

// Reason is why a request was denied: a fixed word that clients, logs and metrics share. The zero
// value is no reason and denies like [ReasonInternal].
type Reason string

// ReasonInternal is the reason of any failure that has no other: the decision could not be made.
const ReasonInternal Reason = "internal_error"

// ReasonOverloaded is the reason of a check that was turned away because more came than could be decided.
const ReasonOverloaded Reason = "overloaded"

// The failures that this package itself finds.
var (
	ErrPathAmbiguous        = errors.New("the path is not canonical")
	ErrRequestMalformed     = errors.New("the request is malformed")
	ErrModelAmbiguous       = errors.New("the request names more than one model")
	ErrTokenMissing         = errors.New("no bearer token")
	ErrCredentialsAmbiguous = errors.New("more than one credential")
	ErrBudgetExceeded       = errors.New("budget exceeded")
	errKeyBlocked           = errors.New("key blocked")
	errKeyExpired           = errors.New("key expired")
	errKeySecret            = errors.New("the key's text cannot be given to the upstream")
	errProfile              = errors.New("the route's profile is not configured")
	errNotBearer            = fmt.Errorf("%w: not a bearer token", token.ErrMalformed)
	errUnsafeHeader         = fmt.Errorf("%w: a header value of the answer holds a control character", errInternal)
	errDeadline             = errors.New("the decision took too long")
	errInternal             = errors.New("internal error")
)

// Outcome is what a client is told for a reason. Its texts are fixed: no claim, key, URL or driver
// text ever reaches a client.
type Outcome struct {
	Reason  Reason
	Status  int32  // HTTP
	Type    string // of the OpenAI error form
	Message string
	cause   error
}

// The error types of the OpenAI error form that SDKs tell apart.
const (
	typeRequest    = "invalid_request_error"
	typeAuth       = "authentication_error"
	typePermission = "permission_error"
	typeQuota      = "insufficient_quota"
	typeServer     = "api_error"
)

// outcomes lists every reason. The first entry whose cause an error wraps is the error's outcome.
var outcomes = []Outcome{
	{"path_ambiguous", 400, typeRequest, "The request path is not in canonical form.", ErrPathAmbiguous},
	{"request_malformed", 400, typeRequest, "The request is malformed.", ErrRequestMalformed},
	{"model_ambiguous", 400, typeRequest, "The request names more than one model.", ErrModelAmbiguous},

	{"token_missing", 401, typeAuth, "A bearer token is required.", ErrTokenMissing},
	{"credentials_ambiguous", 401, typeAuth, "Exactly one credential must be sent.", ErrCredentialsAmbiguous},
	{"token_malformed", 401, typeAuth, "The credential is not a well-formed token.", token.ErrMalformed},
	{"token_invalid", 401, typeAuth, "The token is not valid.", token.ErrInvalid},
	{"token_expired", 401, typeAuth, "The token has expired.", token.ErrExpired},
	{"token_not_yet_valid", 401, typeAuth, "The token is not valid yet.", token.ErrNotYetValid},
	{"issuer_unknown", 401, typeAuth, "The token's issuer is not accepted.", token.ErrIssuerUnknown},
	{"audience_mismatch", 401, typeAuth, "The token is for another audience.", token.ErrAudienceMismatch},
	{"key_unknown", 401, typeAuth, "The virtual key is not known.", mapping.ErrKeyUnknown},

	{"rule_failed", 403, typePermission, "A policy rule does not permit this request.", teams.ErrRuleFailed},
	{"email_domain", 403, typePermission, "The caller's email domain is not allowed.", teams.ErrEmailDomain},
	{"role_missing", 403, typePermission, "The caller holds no role that is allowed here.", teams.ErrRoleMissing},
	{"scope_missing", 403, typePermission, "The token holds no scope that is allowed here.", teams.ErrScopeMissing},
	{"route_forbidden", 403, typePermission, "This route is not permitted.", teams.ErrRouteForbidden},
	{"model_forbidden", 403, typePermission, "This model is not permitted.", teams.ErrModelForbidden},
	{"model_required", 403, typePermission, "Models are restricted and the request's model could not be read.", teams.ErrModelRequired},
	{"team_missing", 403, typePermission, "The token names no team.", teams.ErrTeamMissing},
	{"team_unknown", 403, typePermission, "The team is not known.", teams.ErrTeamUnknown},
	{"team_not_member", 403, typePermission, "The caller is not a member of the team.", teams.ErrTeamNotMember},
	{"team_blocked", 403, typePermission, "The team is blocked.", teams.ErrTeamBlocked},
	{"org_unknown", 403, typePermission, "The organization is not known.", teams.ErrOrganizationUnknown},
	{"org_blocked", 403, typePermission, "The organization is blocked.", teams.ErrOrganizationBlocked},
	{"user_blocked", 403, typePermission, "The user is blocked.", teams.ErrUserBlocked},

	{"identity_unusable", 403, typePermission, "A claim of the token that identifies the caller cannot be used.", teams.ErrIdentityUnusable},

	{"claim_missing", 403, typePermission, "The token lacks the claim that identifies the client.", mapping.ErrClaimMissing},
	{"no_mapping", 403, typePermission, "No virtual key is mapped to this client.", mapping.ErrNoMapping},
	{"mapping_disabled", 403, typePermission, "The client's virtual key mapping is disabled.", mapping.ErrDisabled},
	{"registration_limited", 403, typePermission, "No more clients may register now.", mapping.ErrLimited},
	{"key_blocked", 403, typePermission, "The virtual key is blocked.", errKeyBlocked},
	{"key_expired", 403, typePermission, "The virtual key has expired.", errKeyExpired},
	{"budget_exceeded", 429, typeQuota, "The budget is spent.", ErrBudgetExceeded},

	{"store_required", 500, typeServer, "The service is not configured to register clients.", mapping.ErrStoreRequired},
	{"key_secret_unavailable", 500, typeServer, "The virtual key cannot be given to the upstream.", errKeySecret},
	{"profile_unknown", 500, typeServer, "The route names a profile that is not configured.", errProfile},
	{ReasonInternal, 503, typeServer, "The request could not be decided.", errInternal},
	{"registration_conflict", 503, typeServer, "The client's registration changed meanwhile. Try again.", mapping.ErrConflict},
	{"issuer_unavailable", 503, typeServer, "The token's issuer cannot be reached. Try again.", token.ErrIssuerUnavailable},
	{"deadline_exceeded", 503, typeServer, "The request could not be decided in time. Try again.", errDeadline},
	{ReasonOverloaded, 503, typeServer, "The service is overloaded. Try again.", admission.ErrOverloaded},
	{"store_unavailable", 503, typeServer, "The store cannot be reached. Try again.", nil},
}

// outage reports whether the outcome is a dependency's fault. A bug, or two requests of one client at
// once, must not hand the request to Envoy's failure mode.
func (o Outcome) outage() bool {
	return o.Status == 503 && o.Reason != ReasonInternal && o.Reason != "registration_conflict"
}

// Outcomes returns every outcome, in the order of the decision's steps.
func Outcomes() []Outcome { return append([]Outcome(nil), outcomes...) }

// outcomeOf returns what a client is told of an error. An error that nothing here knows came out of
// the store: then nothing is known, and that is no denial but an outage.
func outcomeOf(err error) Outcome {
	known := outcomes[:len(outcomes)-1]
	for n := range known {
		if err == known[n].cause { //nolint:errorlint // what wraps it is looked for below
			return known[n]
		}
	}
	for n := range known {
		if errors.Is(err, known[n].cause) {
			return known[n].spokenBy(err)
		}
	}
	return outcomes[len(outcomes)-1]
}

// spokenBy takes the message that the operator wrote for a rule.
func (o Outcome) spokenBy(err error) Outcome {
	var rule *teams.RuleError
	if o.Status == 403 && errors.As(err, &rule) && rule.Message != "" {
		o.Message = rule.Message
	}
	return o
}

// BudgetError is an [ErrBudgetExceeded] that says whose budget it was.
type BudgetError struct {
	Of      string    // key, user, team or organization
	ResetAt time.Time // when the spend starts again at zero; the zero time is never
}

func (e *BudgetError) Error() string { return ErrBudgetExceeded.Error() + ": " + e.Of }

func (e *BudgetError) Unwrap() error { return ErrBudgetExceeded }
