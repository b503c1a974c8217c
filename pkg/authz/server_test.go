package authz

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/proto"

	"github.com/extauthz/extauthz/pkg/keys"
	"github.com/extauthz/extauthz/pkg/mapping"
	"github.com/extauthz/extauthz/pkg/teams"
	"github.com/extauthz/extauthz/pkg/token"
)

// verifierFunc is a Verifier whose tokens are whatever the test says.
type verifierFunc func(ctx context.Context, bearer string) (token.Claims, error)

func (f verifierFunc) Verify(ctx context.Context, bearer string) (token.Claims, error) {
	return f(ctx, bearer)
}

func alice(context.Context, string) (token.Claims, error) {
	return token.Claims{Issuer: "https://idp", Values: map[string]any{"sub": "alice", "email": "alice@corp.example.com"}}, nil
}

func testNames() HeaderNames {
	return HeaderNames{
		KeyID: "x-extauthz-key-id", KeyAlias: "x-extauthz-key-alias", TeamID: "x-extauthz-team-id", UserID: "x-extauthz-user-id",
		UserEmail: "x-extauthz-user-email", OrganizationID: "x-extauthz-org-id", Source: "x-extauthz-source", DecisionID: "x-extauthz-decision-id",
	}
}

func testServer(t *testing.T, verify verifierFunc, policy teams.Config, change ...func(*Profile)) *Server {
	t.Helper()
	compiled, err := teams.NewPolicy(policy, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	sub, _ := token.ParsePath("sub")
	email, _ := token.ParsePath("email")
	p := Profile{
		Authorizer: &Authorizer{
			Verifier: verify, Policy: compiled, Now: time.Now, CredentialHeaders: []string{"authorization"}, VirtualKeys: true,
			Claims:   map[token.IssuerURL]teams.ClaimPaths{"https://idp": {UserID: sub, Email: email}},
			Resolver: mapping.NewResolver(mapping.Config{}, nil),
		},
		Response: ResponseConfig{Headers: testNames(), RetryAfter: 2},
	}
	for _, f := range change {
		f(&p)
	}
	s, err := NewServer(Config{
		Profiles: map[string]Profile{"": p},
		Timeout:  time.Minute, Observe: func(context.Context, *Decision, time.Duration) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func check(t *testing.T, s *Server, ctx context.Context, pairs ...string) *authv3.CheckResponse {
	t.Helper()
	out, err := s.Check(ctx, in(func(h *authv3.AttributeContext_HttpRequest) {
		h.HeaderMap = rawHeaders(append(pairs, partialBodyHeader, "false")...)
	}))
	if err != nil {
		t.Fatalf("Check returned an error, which leaves the request to Envoy's failure mode: %v", err)
	}
	if _, err := proto.Marshal(out); err != nil {
		t.Fatalf("the answer cannot be sent: %v", err)
	}
	return out
}

// expectDenied requires a denial that Envoy cannot take for anything else.
func expectDenied(t *testing.T, out *authv3.CheckResponse, status int32, reason string) {
	t.Helper()
	denied := out.GetDeniedResponse()
	if out.GetStatus().GetCode() == 0 || out.GetOkResponse() != nil || int32(denied.GetStatus().GetCode()) != status {
		t.Fatalf("not a denial with %d: %v", status, out)
	}
	var body struct {
		Error struct{ Code, Message, Type string }
	}
	if err := json.Unmarshal([]byte(denied.GetBody()), &body); err != nil || body.Error.Code != reason || body.Error.Message == "" {
		t.Fatalf("body %s (%v), want code %s", denied.GetBody(), err, reason)
	}
}

func header(out *authv3.CheckResponse, name string) string {
	for _, h := range append(out.GetOkResponse().GetHeaders(), out.GetDeniedResponse().GetHeaders()...) {
		if h.GetHeader().GetKey() == name {
			return h.GetHeader().GetValue()
		}
	}
	return ""
}

func TestAllow(t *testing.T) {
	s := testServer(t, alice, teams.Config{})
	out := check(t, s, t.Context(), "authorization", "Bearer x", "x_extauthz-team_id", "spoofed", "X-Extauthz-Key-Id", "spoofed")
	ok := out.GetOkResponse()
	if out.GetStatus().GetCode() != 0 || ok == nil {
		t.Fatalf("not allowed: %v", out)
	}
	if header(out, "x-extauthz-user-id") != "alice" || header(out, "x-extauthz-user-email") != "alice@corp.example.com" || header(out, "x-extauthz-source") != "team" {
		t.Errorf("headers: %v", ok.GetHeaders())
	}
	for _, h := range ok.GetHeaders() {
		if h.GetAppend().GetValue() || h.GetAppend() == nil || h.GetAppendAction().String() != "OVERWRITE_IF_EXISTS_OR_ADD" {
			t.Errorf("%s does not overwrite", h.GetHeader().GetKey())
		}
		if slices.Contains(ok.GetHeadersToRemove(), h.GetHeader().GetKey()) {
			t.Errorf("%s is set and removed: Envoy removes last", h.GetHeader().GetKey())
		}
	}
	for _, name := range []string{
		"authorization", "x-extauthz-key-id", "x_extauthz_key_id", "x-extauthz-team-id", "x_extauthz_team_id", "x_extauthz-team_id",
		"x-extauthz-org-id", "x-extauthz-key-alias", "x_extauthz_user_id", "x-envoy-auth-failure-mode-allowed",
	} {
		if !slices.Contains(ok.GetHeadersToRemove(), name) {
			t.Errorf("%s is not removed", name)
		}
	}
	if slices.Contains(ok.GetHeadersToRemove(), "") {
		t.Error("a header without a name is removed")
	}
	metadata := out.GetDynamicMetadata().AsMap()
	if metadata["decision"] != "allow" || metadata["user"] != "alice" || metadata["decision_id"] != header(out, "x-extauthz-decision-id") {
		t.Errorf("metadata: %v", metadata)
	}
}

func TestKeepCredential(t *testing.T) {
	s := testServer(t, alice, teams.Config{}, func(c *Profile) { c.Response.KeepCredential = true })
	out := check(t, s, t.Context(), "authorization", "Bearer x")
	if slices.Contains(out.GetOkResponse().GetHeadersToRemove(), "authorization") {
		t.Error("the credential is removed")
	}
}

// A client's copy of the header for the key would be the key to the upstream.
func TestKeyHeaderIsRemovedWithoutAKey(t *testing.T) {
	withKey := func(c *Profile) { c.Response.KeyHeader = "x-upstream-key" }
	public := teams.Config{PublicRoutes: []string{"POST /v1/chat/completions"}}
	for name, credential := range map[string][]string{"no credential": nil, "a token": {"authorization", "Bearer x"}} {
		out := check(t, testServer(t, alice, public, withKey), t.Context(), append(credential, "x-upstream-key", "own")...)
		for _, spelling := range []string{"x-upstream-key", "x_upstream_key"} {
			if !slices.Contains(out.GetOkResponse().GetHeadersToRemove(), spelling) {
				t.Errorf("%s: %s is not removed", name, spelling)
			}
		}
	}
	out := check(t, testServer(t, alice, public), t.Context(), "x-upstream-key", "own")
	if slices.Contains(out.GetOkResponse().GetHeadersToRemove(), "x-upstream-key") {
		t.Error("without a key for the upstream the header is not ours")
	}
	for _, name := range []string{"authorization", "x-upstream-key"} {
		r := newResponder(ResponseConfig{Headers: testNames(), KeyHeader: name, KeyPrefix: "Bearer "}, []string{"authorization"})
		out := responseOf(r.answer(&Decision{Source: SourceVirtualKey, Secret: "sk-1"}))
		if header(out, name) != "Bearer sk-1" || slices.Contains(out.GetOkResponse().GetHeadersToRemove(), name) {
			t.Errorf("%s does not arrive: %v", name, out)
		}
	}
}

func TestPublicRouteHasNoIdentity(t *testing.T) {
	public := teams.Config{PublicRoutes: []string{"POST /v1/chat/completions"}}
	s := testServer(t, alice, public)
	for _, pairs := range [][]string{nil, {"authorization", "Bearer x"}} {
		out := check(t, s, t.Context(), pairs...)
		if out.GetOkResponse() == nil || header(out, "x-extauthz-user-id") != "" || header(out, "x-extauthz-source") != "" {
			t.Errorf("with %v: %v", pairs, out)
		}
	}
	bad := testServer(t, func(context.Context, string) (token.Claims, error) { return token.Claims{}, token.ErrInvalid }, public)
	expectDenied(t, check(t, bad, t.Context(), "authorization", "Bearer x"), 401, "token_invalid")
	expectDenied(t, check(t, bad, t.Context(), "authorization", "Basic x"), 401, "token_malformed")
}

func TestEveryFailureDeniesInBand(t *testing.T) {
	failing := func(err error) verifierFunc {
		return func(context.Context, string) (token.Claims, error) { return token.Claims{}, err }
	}
	for name, c := range map[string]struct {
		verify verifierFunc
		status int32
		reason string
	}{
		"a panic":                   {func(context.Context, string) (token.Claims, error) { panic("secret text") }, 503, "internal_error"},
		"a nil map":                 {func(context.Context, string) (token.Claims, error) { return token.Claims{}, nil }, 401, "issuer_unknown"},
		"an unknown error":          {failing(errors.New("driver text")), 503, "store_unavailable"},
		"a bare not found":          {failing(teams.ErrNotFound), 503, "store_unavailable"},
		"an EOF":                    {failing(io.EOF), 503, "store_unavailable"},
		"an issuer that is down":    {failing(token.ErrIssuerUnavailable), 503, "issuer_unavailable"},
		"a deadline of a component": {failing(context.DeadlineExceeded), 503, "store_unavailable"},
	} {
		t.Run(name, func(t *testing.T) {
			out := check(t, testServer(t, c.verify, teams.Config{}), t.Context(), "authorization", "Bearer x")
			expectDenied(t, out, c.status, c.reason)
			if strings.Contains(out.String(), "secret text") || strings.Contains(out.String(), "driver text") {
				t.Errorf("internal text reaches the client: %v", out)
			}
			if c.status == 503 && header(out, "retry-after") != "2" {
				t.Error("no retry-after")
			}
		})
	}
}

// A decision that completes after its deadline, or for a caller that is gone, is not an ALLOW.
func TestLateDecisionIsAnOutage(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := testServer(t, func(ctx context.Context, bearer string) (token.Claims, error) {
		cancel()
		return alice(ctx, bearer)
	}, teams.Config{})
	expectDenied(t, check(t, s, ctx, "authorization", "Bearer x"), 503, "deadline_exceeded")
	ctx, cancel = context.WithCancel(t.Context())
	s = testServer(t, func(context.Context, string) (token.Claims, error) {
		cancel()
		return token.Claims{}, token.ErrIssuerUnavailable
	}, teams.Config{})
	expectDenied(t, check(t, s, ctx, "authorization", "Bearer x"), 503, "issuer_unavailable") // an outage says whose
}

func TestDeadlineIsShorterThanEnvoys(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	s := testServer(t, func(ctx context.Context, _ string) (token.Claims, error) {
		<-ctx.Done()
		return token.Claims{}, token.ErrInvalid
	}, teams.Config{})
	expectDenied(t, check(t, s, ctx, "authorization", "Bearer x"), 503, "deadline_exceeded")
	if ctx.Err() != nil {
		t.Error("answered after Envoy's deadline")
	}
}

func TestOutageAsError(t *testing.T) {
	s := testServer(t, func(context.Context, string) (token.Claims, error) { return token.Claims{}, token.ErrIssuerUnavailable },
		teams.Config{}, func(c *Profile) { c.Response.OutageAsError = true })
	out := check(t, s, t.Context(), "authorization", "Bearer x")
	if out.GetStatus().GetCode() == 0 || out.GetErrorResponse().GetStatus().GetCode() != 503 {
		t.Fatalf("not an error response: %v", out)
	}
	expectDenied(t, check(t, s, t.Context()), 401, "token_missing") // no outage
}

func TestUnsafeHeaderValueIsNotSent(t *testing.T) {
	s := testServer(t, alice, teams.Config{})
	d := &Decision{ID: "id", Source: mapping.SourceMapping, Key: &keys.Key{Alias: "a\r\nx-evil: 1"}}
	expectDenied(t, responseOf(s.rules.Load().profiles[""].response.answer(d)), 503, "internal_error")
	d = &Decision{ID: "id", Source: mapping.SourceMapping, Key: &keys.Key{Alias: "\xff"}}
	expectDenied(t, responseOf(s.rules.Load().profiles[""].response.answer(d)), 503, "internal_error")
}

func TestZeroDecisionDenies(t *testing.T) {
	s := testServer(t, alice, teams.Config{})
	d := &Decision{}
	d.Outcome = outcomeOf(errInternal)
	expectDenied(t, responseOf(s.rules.Load().profiles[""].response.answer(d)), 503, "internal_error")
	if (&Decision{}).Allowed() || (&Decision{Source: "team", Err: io.EOF}).Allowed() {
		t.Error("a decision without a source, or with an error, is an ALLOW")
	}
}

func TestLimitsInMetadata(t *testing.T) {
	five, zero := int64(5), int64(0)
	d := &Decision{ID: "id", Source: mapping.SourceMapping, Key: &keys.Key{ID: "k", Limits: teams.Limits{RPM: &five}},
		Member: teams.Membership{TeamID: "t", Team: &teams.Team{ID: "t", Limits: teams.Limits{TPM: &zero}}}}
	r := newResponder(ResponseConfig{Headers: testNames()}, nil)
	m := responseOf(r.answer(d)).GetDynamicMetadata().AsMap()
	limit := func(n float64) map[string]any { return map[string]any{"requests_per_unit": n, "unit": "MINUTE"} }
	for name, want := range map[string]map[string]any{"key_rpm_limit": limit(5), "team_tpm_limit": limit(0), "key_tpm_limit": nil, "team_rpm_limit": nil} {
		got, present := m[name].(map[string]any)
		if present != (want != nil) || present && (got["unit"] != want["unit"] || got["requests_per_unit"] != want["requests_per_unit"]) {
			t.Errorf("%s: %v, want %v", name, m[name], want)
		}
	}
}

func TestOutcomesAreComplete(t *testing.T) {
	seen := make(map[Reason]bool)
	for _, o := range Outcomes() {
		if o.Reason == "" || o.Message == "" || o.Type == "" || o.Status < 400 || seen[o.Reason] {
			t.Errorf("outcome %+v", o)
		}
		seen[o.Reason] = true
	}
}

// A message that cannot be read is denied: an error of the call would be left to Envoy's failure mode.
func TestUnreadableMessageIsDenied(t *testing.T) {
	s := testServer(t, alice, teams.Config{PublicRoutes: []string{"/*"}}, func(p *Profile) { p.Shadow = true })
	for name, in := range map[string][]byte{"no message": {0xff, 0xff}, "bad UTF-8": {10, 8, 34, 6, 18, 4, 34, 2, 0xff, 0xff}} {
		var out authv3.CheckResponse
		if err := proto.Unmarshal(s.CheckBytes(t.Context(), in), &out); err != nil {
			t.Fatal(err)
		}
		t.Run(name, func(t *testing.T) { expectDenied(t, &out, 400, "request_malformed") })
	}
}

// The first reason in the list whose cause an error wraps is the error's, also if the error is a cause itself.
func TestOutcomeOf(t *testing.T) {
	first := func(err error) Outcome {
		for _, o := range outcomes {
			if o.cause != nil && errors.Is(err, o.cause) {
				return o
			}
		}
		return outcomes[len(outcomes)-1]
	}
	for _, one := range outcomes {
		for _, err := range []error{one.cause, fmt.Errorf("x: %w", one.cause), fmt.Errorf("%w: %w", errInternal, one.cause), errors.New("unknown")} {
			if err == nil {
				continue
			}
			if got, want := outcomeOf(err), first(err); got != want {
				t.Errorf("%v: %s, want %s", err, got.Reason, want.Reason)
			}
		}
	}
	if got := outcomeOf(fmt.Errorf("x: %w", &teams.RuleError{Message: "Ask for access."})); got.Reason != "rule_failed" || got.Message != "Ask for access." {
		t.Errorf("a rule with a message: %+v", got)
	}
}
