package authz

import (
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"google.golang.org/genproto/googleapis/rpc/code"

	"github.com/extauthz/extauthz/internal/ascii"
	"github.com/extauthz/extauthz/pkg/authz/wire"
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
	config  ResponseConfig
	managed []managedHeader // the order is that of values
	always  wire.Removal    // the managed names' spellings with "_", and the credential
}

// managedHeader is a header that is set or removed on every ALLOW.
type managedHeader struct {
	name    string
	removed wire.Removal
}

func newResponder(config ResponseConfig, credentialHeaders []string) responder {
	n := config.Headers
	names := []string{n.DecisionID, n.KeyID, n.KeyAlias, n.TeamID, n.UserID, n.UserEmail, n.OrganizationID, n.Source, failedOpenHeader}
	if config.KeyHeader != "" {
		names = append(names, config.KeyHeader)
	}
	r := responder{config: config}
	var always []string
	for _, name := range names {
		r.managed = append(r.managed, managedHeader{name, wire.NewRemoval(name)})
		if twin := strings.ReplaceAll(name, "-", "_"); twin != name {
			always = append(always, twin)
		}
	}
	for _, name := range credentialHeaders {
		if !config.KeepCredential && !slices.Contains(names, name) && !slices.Contains(always, name) {
			always = append(always, name)
		}
	}
	r.always = wire.NewRemoval(always...)
	return r
}

// values returns the values of the managed headers on an ALLOW, in their order; "" is not set. A request to a public
// route has no identity, whoever sent it. Envoy alone sets the header of one that it let pass.
func (r *responder) values(d *Decision) (v [10]string) {
	v[0] = d.ID
	if d.Source == SourcePublic {
		return v
	}
	if d.Key != nil {
		v[1], v[2] = string(d.Key.ID), d.Key.Alias
	}
	v[3], v[4] = string(d.Member.TeamID), string(d.Member.UserID)
	if id := d.Identity; id != nil && !id.EmailUnverified {
		v[5] = id.Email
	}
	v[6], v[7] = string(d.Member.OrganizationID), string(d.Source)
	if d.Secret != "" {
		v[9] = r.config.KeyPrefix + string(d.Secret)
	}
	return v
}

// answerBytes is more than most answers take.
const answerBytes = 1280

// answer builds the answer to a decision, and denies if an ALLOW cannot be expressed safely.
func (r *responder) answer(d *Decision) []byte {
	if d.Allowed() {
		if out, ok := r.allow(d); ok {
			return out
		}
		d.Err = errUnsafeHeader
		d.Source, d.Outcome = "", outcomeOf(d.Err)
	}
	return r.deny(d)
}

func (r *responder) allow(d *Decision) ([]byte, bool) {
	out, values := wire.NewResponse(make([]byte, 0, answerBytes)), r.values(d)
	out.Allow()
	for n := range r.managed {
		switch value := values[n]; {
		case value == "":
		case !safeValue(value):
			return nil, false
		default:
			out.Header(r.managed[n].name, value)
		}
	}
	r.remove(out, values, d.Request.headers)
	addMetadata(out, d)
	return out.Bytes(), true
}

// remove names every header that must not reach the upstream. Envoy removes after it sets, so a
// name that is set must not be here. WSGI and CGI upstreams read "-" and "_" alike: the underscore
// twin of every managed name goes, and every other spelling that the client really sent.
func (r *responder) remove(out *wire.Response, values [10]string, sent headers) {
	for n := range r.managed {
		if values[n] == "" {
			out.Remove(r.managed[n].removed)
		}
	}
	out.Remove(r.always)
	for _, name := range sent.odd {
		if strings.Contains(name, "-") && r.manages(strings.ReplaceAll(name, "_", "-")) {
			out.Remove(wire.NewRemoval(name))
		}
	}
}

func (r *responder) manages(name string) bool {
	return slices.ContainsFunc(r.managed, func(h managedHeader) bool { return h.name == name })
}

// safeValue reports whether a value can be a header without changing meaning on the way. Text that is
// not UTF-8 would also fail to marshal, and a failed answer is left to Envoy's failure mode.
func safeValue(value string) bool {
	return (ascii.Printable(value) || utf8.ValidString(value) && printable(value)) && strings.TrimSpace(value) == value
}

func (r *responder) deny(d *Decision) []byte {
	o, kind := d.Outcome, wire.Denied
	if r.config.OutageAsError && o.outage() {
		kind = wire.Error
	}
	out := wire.NewResponse(make([]byte, 0, answerBytes))
	out.Deny(kind, int32(grpcCode(o.Status)), string(o.Reason), o.Status)
	out.Header("content-type", "application/json")
	out.Header(reasonHeader, string(o.Reason))
	if o.Status == 401 {
		out.Header("www-authenticate", challenge(o))
	}
	if wait := r.retryAfter(d); wait > 0 {
		out.Header("retry-after", strconv.FormatInt(wait, 10))
	}
	out.Body(body(d))
	addMetadata(out, d)
	return out.Bytes()
}

// retryAfter is how many seconds a client should wait: after an outage the configured time, with a spent
// budget until its reset, if there is one.
func (r *responder) retryAfter(d *Decision) int64 {
	if d.Outcome.Status == 503 {
		return int64(r.config.RetryAfter)
	}
	var budget *BudgetError
	if d.Outcome.Status != 429 || !errors.As(d.Err, &budget) || budget.ResetAt.IsZero() {
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
	b := make([]byte, 0, 256)
	for _, part := range [...]struct{ before, text string }{
		{`{"error":{"message":`, d.Outcome.Message},
		{`,"type":`, d.Outcome.Type},
		{`,"param":null,"code":`, string(d.Outcome.Reason)},
		{`,"decision_id":`, d.ID},
	} {
		b, _ = jsontext.AppendQuote(append(b, part.before...), part.text) // what is not UTF-8 is replaced
	}
	return string(append(b, "}}"...))
}
