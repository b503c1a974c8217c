package authz

import (
	"encoding/json"
	"errors"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/genproto/googleapis/rpc/code"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"

	"github.com/extauthz/extauthz/pkg/teams"
)

// HeaderNames are the lower-case names of the headers that an ALLOW gives the upstream.
type HeaderNames struct {
	KeyID, KeyAlias, TeamID, UserID, UserEmail, OrganizationID, Source, DecisionID string
}

// ResponseConfig says how answers look.
type ResponseConfig struct {
	Headers HeaderNames
	// KeepCredential leaves the credential headers in the upstream request; by default they are removed.
	KeepCredential bool
	// KeyHeader and KeyPrefix say how the upstream gets a virtual key's text, in a decision that has one. In any
	// other the header is removed: the upstream would take a client's own copy for the key. "" means that it gets none.
	KeyHeader, KeyPrefix string
	// OutageAsError answers an outage with CheckResponse.error_response (Envoy 1.37 and later), so that
	// Envoy's failure mode applies. By default an outage is a denial, which fails closed.
	OutageAsError bool
	// RetryAfter is what a client is told of an outage, in whole seconds.
	RetryAfter int
}

// reasonHeader tells a client why it was denied.
const reasonHeader = "x-extauthz-reason"

// failedOpenHeader is set by Envoy when it let a request pass because we did not answer. A client's
// own copy must not reach an upstream that reads it.
const failedOpenHeader = "x-envoy-auth-failure-mode-allowed"

// responder builds every CheckResponse. Envoy takes an empty one for an ALLOW, so none is made
// anywhere else.
type responder struct {
	config     ResponseConfig
	managed    map[string]bool // every name that is set or removed on an ALLOW
	credential []string
}

func newResponder(config ResponseConfig, credentialHeaders []string) responder {
	n := config.Headers
	managed := map[string]bool{failedOpenHeader: true}
	for _, name := range []string{n.KeyID, n.KeyAlias, n.TeamID, n.UserID, n.UserEmail, n.OrganizationID, n.Source, n.DecisionID} {
		managed[name] = true
	}
	if config.KeyHeader != "" {
		managed[config.KeyHeader] = true
	}
	return responder{config: config, managed: managed, credential: credentialHeaders}
}

// answer builds the answer to a decision, and denies if an ALLOW cannot be expressed safely.
func (r *responder) answer(d *Decision) *authv3.CheckResponse {
	if d.Allowed() {
		if out, ok := r.allow(d); ok {
			return out
		}
		d.Err = errUnsafeHeader
		d.Source, d.Outcome = "", outcomeOf(d.Err)
	}
	return r.deny(d)
}

func (r *responder) allow(d *Decision) (*authv3.CheckResponse, bool) {
	values := r.identity(d)
	ok := &authv3.OkHttpResponse{HeadersToRemove: r.removed(values, d.Request.headers)}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if !safeValue(values[name]) {
			return nil, false
		}
		ok.Headers = append(ok.Headers, overwrite(name, values[name]))
	}
	return &authv3.CheckResponse{
		Status:          &rpcstatus.Status{Code: int32(code.Code_OK)},
		HttpResponse:    &authv3.CheckResponse_OkResponse{OkResponse: ok},
		DynamicMetadata: metadata(d),
	}, true
}

// identity returns the headers of an ALLOW by name. A request to a public route has no identity,
// whoever sent it.
func (r *responder) identity(d *Decision) map[string]string {
	n := r.config.Headers
	values := map[string]string{n.DecisionID: d.ID}
	if d.Source == SourcePublic {
		return values
	}
	set := func(name, value string) {
		if value != "" {
			values[name] = value
		}
	}
	if d.Key != nil {
		set(n.KeyID, string(d.Key.ID))
		set(n.KeyAlias, d.Key.Alias)
	}
	set(n.TeamID, string(d.Member.TeamID))
	set(n.UserID, string(d.Member.UserID))
	if !d.Identity.EmailUnverified {
		set(n.UserEmail, d.Identity.Email)
	}
	set(n.OrganizationID, string(d.Member.OrganizationID))
	set(n.Source, string(d.Source))
	if d.Secret != "" {
		set(r.config.KeyHeader, r.config.KeyPrefix+string(d.Secret))
	}
	return values
}

// removed names every header that must not reach the upstream. WSGI and CGI upstreams read "-" and "_"
// alike: the underscore twin of every managed name goes, and every other spelling that the client really
// sent.
func (r *responder) removed(set map[string]string, sent headers) []string {
	removed := make(map[string]bool)
	for name := range r.managed {
		removed[name], removed[strings.ReplaceAll(name, "-", "_")] = true, true
	}
	for name := range sent {
		if r.managed[strings.ReplaceAll(name, "_", "-")] && strings.Contains(name, "_") {
			removed[name] = true
		}
	}
	if !r.config.KeepCredential {
		for _, name := range r.credential {
			removed[name] = true
		}
	}
	for name := range set { // Envoy removes after it sets
		delete(removed, name)
	}
	return slices.Sorted(maps.Keys(removed))
}

// safeValue reports whether a value can be a header without changing meaning on the way. Text that is
// not UTF-8 would also fail to marshal, and a failed answer is left to Envoy's failure mode.
func safeValue(value string) bool {
	return utf8.ValidString(value) && printable(value) && strings.TrimSpace(value) == value
}

// overwrite replaces every copy of a header. Envoy versions disagree on which of the two fields they
// read; together they mean the same to all.
func overwrite(name, value string) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{
		Header:       &corev3.HeaderValue{Key: name, Value: value},
		Append:       noAppend(),
		AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	}
}

func (r *responder) deny(d *Decision) *authv3.CheckResponse {
	o := d.Outcome
	headers := []*corev3.HeaderValueOption{
		overwrite("content-type", "application/json"),
		overwrite(reasonHeader, string(o.Reason)),
	}
	if o.Status == 401 {
		headers = append(headers, overwrite("www-authenticate", challenge(o)))
	}
	if wait := r.retryAfter(d); wait > 0 {
		headers = append(headers, overwrite("retry-after", strconv.FormatInt(wait, 10)))
	}
	denied := &authv3.DeniedHttpResponse{
		Status: &typev3.HttpStatus{Code: typev3.StatusCode(o.Status)}, Headers: headers, Body: body(d),
	}
	out := &authv3.CheckResponse{
		Status:          &rpcstatus.Status{Code: int32(grpcCode(o.Status)), Message: string(o.Reason)},
		HttpResponse:    &authv3.CheckResponse_DeniedResponse{DeniedResponse: denied},
		DynamicMetadata: metadata(d),
	}
	if r.config.OutageAsError && o.outage() {
		out.HttpResponse = &authv3.CheckResponse_ErrorResponse{ErrorResponse: denied}
	}
	return out
}

// retryAfter is how many seconds a client should wait: after an outage the configured time, with a spent
// budget until its reset, if there is one.
func (r *responder) retryAfter(d *Decision) int64 {
	if d.Outcome.Status == 503 {
		return int64(r.config.RetryAfter)
	}
	var budget *BudgetError
	if !errors.As(d.Err, &budget) || budget.ResetAt.IsZero() {
		return 0
	}
	return max(1, int64(math.Ceil(time.Until(budget.ResetAt).Seconds())))
}

// challenge is the WWW-Authenticate value of RFC 6750 section 3: no error code for a request that
// carried no credential.
func challenge(o Outcome) string {
	if o.Reason == "token_missing" {
		return "Bearer"
	}
	return `Bearer error="invalid_token", error_description="` + o.Message + `"`
}

func grpcCode(status int32) code.Code {
	switch status {
	case 400:
		return code.Code_INVALID_ARGUMENT
	case 401:
		return code.Code_UNAUTHENTICATED
	case 429:
		return code.Code_RESOURCE_EXHAUSTED
	case 500:
		return code.Code_INTERNAL
	case 503:
		return code.Code_UNAVAILABLE
	}
	return code.Code_PERMISSION_DENIED
}

// body is the OpenAI error form, which the SDKs of LLM clients parse.
func body(d *Decision) string {
	type detail struct {
		Message    string  `json:"message"`
		Type       string  `json:"type"`
		Param      *string `json:"param"`
		Code       Reason  `json:"code"`
		DecisionID string  `json:"decision_id"`
	}
	text, err := json.Marshal(struct {
		Error detail `json:"error"`
	}{detail{Message: d.Outcome.Message, Type: d.Outcome.Type, Code: d.Outcome.Reason, DecisionID: d.ID}})
	if err != nil {
		return "{}" // plain strings always marshal
	}
	return string(text)
}

func limitsOf(d *Decision) (key, team teams.Limits) {
	if d.Key != nil {
		key = d.Key.Limits
	}
	if d.Member.Team != nil {
		team = d.Member.Team.Limits
	}
	return key, team
}
