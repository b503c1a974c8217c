package authz

import (
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/genproto/googleapis/rpc/code"

	"github.com/extauthz/extauthz/pkg/authz/wire"
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
	managed    []string          // every name that is set or removed on an ALLOW
	twins      map[string]string // each one's spelling with "_", if it differs
	credential []string
}

func newResponder(config ResponseConfig, credentialHeaders []string) responder {
	n := config.Headers
	r := responder{config: config, twins: make(map[string]string), credential: credentialHeaders, managed: []string{
		n.KeyID, n.KeyAlias, n.TeamID, n.UserID, n.UserEmail, n.OrganizationID, n.Source, n.DecisionID, failedOpenHeader,
	}}
	if config.KeyHeader != "" {
		r.managed = append(r.managed, config.KeyHeader)
	}
	for _, name := range r.managed {
		if twin := strings.ReplaceAll(name, "-", "_"); twin != name {
			r.twins[name] = twin
		}
	}
	return r
}

// answer builds the answer to a decision, and denies if an ALLOW cannot be expressed safely.
func (r *responder) answer(d *Decision) *wire.Response {
	if d.Allowed() {
		if out, ok := r.allow(d); ok {
			return out
		}
		d.Err = errUnsafeHeader
		d.Source, d.Outcome = "", outcomeOf(d.Err)
	}
	return r.deny(d)
}

func (r *responder) allow(d *Decision) (*wire.Response, bool) {
	out := &wire.Response{Kind: wire.OK, Headers: r.identity(d), Metadata: metadata(d)}
	for _, h := range out.Headers {
		if !safeValue(h.Value) {
			return nil, false
		}
	}
	out.Remove = r.removed(out.Headers, d.Request.headers)
	return out, true
}

// identity returns the headers of an ALLOW. A request to a public route has no identity, whoever
// sent it.
func (r *responder) identity(d *Decision) []wire.Header {
	n := r.config.Headers
	headers := make([]wire.Header, 0, len(r.managed))
	set := func(name, value string) {
		if value != "" {
			headers = append(headers, wire.Header{Name: name, Value: value})
		}
	}
	set(n.DecisionID, d.ID)
	if d.Source == SourcePublic {
		return headers
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
	return headers
}

// removed names every header that must not reach the upstream. Envoy removes after it sets, so a
// name that is set must not be here. WSGI and CGI upstreams read "-" and "_" alike: the underscore
// twin of every managed name goes, and every other spelling that the client really sent.
func (r *responder) removed(set []wire.Header, sent headers) []string {
	isSet := func(name string) bool {
		return slices.ContainsFunc(set, func(h wire.Header) bool { return h.Name == name })
	}
	removed := make([]string, 0, 2*len(r.managed)+len(r.credential))
	for _, name := range r.managed {
		if !isSet(name) {
			removed = append(removed, name)
		}
		if twin, differs := r.twins[name]; differs {
			removed = append(removed, twin)
		}
	}
	for _, h := range sent {
		if strings.Contains(h.Name, "_") && slices.Contains(r.managed, strings.ReplaceAll(h.Name, "_", "-")) && !slices.Contains(removed, h.Name) {
			removed = append(removed, h.Name)
		}
	}
	for _, name := range r.credential {
		if !r.config.KeepCredential && !isSet(name) && !slices.Contains(removed, name) {
			removed = append(removed, name)
		}
	}
	return removed
}

// safeValue reports whether a value can be a header without changing meaning on the way. Text that is
// not UTF-8 would also fail to marshal, and a failed answer is left to Envoy's failure mode.
func safeValue(value string) bool {
	return utf8.ValidString(value) && printable(value) && strings.TrimSpace(value) == value
}

func (r *responder) deny(d *Decision) *wire.Response {
	o := d.Outcome
	out := &wire.Response{
		Kind: wire.Denied, Code: int32(grpcCode(o.Status)), Message: string(o.Reason),
		HTTPStatus: o.Status, Body: body(d), Metadata: metadata(d),
		Headers: []wire.Header{{Name: "content-type", Value: "application/json"}, {Name: reasonHeader, Value: string(o.Reason)}},
	}
	if o.Status == 401 {
		out.Headers = append(out.Headers, wire.Header{Name: "www-authenticate", Value: challenge(o)})
	}
	if wait := r.retryAfter(d); wait > 0 {
		out.Headers = append(out.Headers, wire.Header{Name: "retry-after", Value: strconv.FormatInt(wait, 10)})
	}
	if r.config.OutageAsError && o.outage() {
		out.Kind = wire.Error
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
