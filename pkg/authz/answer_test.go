package authz

import (
	"context"
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/extauthz/extauthz/internal/trace"
	"github.com/extauthz/extauthz/pkg/keys"
	"github.com/extauthz/extauthz/pkg/mapping"
	"github.com/extauthz/extauthz/pkg/teams"
	"github.com/extauthz/extauthz/pkg/token"
)

// fullDecision has a value in every field that an ALLOW tells of.
func fullDecision() *Decision {
	five := func() *int64 { n := int64(5); return &n }
	limits := teams.Limits{RPM: five(), TPM: five()}
	return &Decision{
		ID: "id", Source: mapping.SourceMapping, Stale: true, Shadowed: "rule_failed", Secret: "sk-1",
		Identity: &teams.Identity{UserID: "the token's", Email: "alice@corp.example"},
		Member:   teams.Membership{TeamID: "a", UserID: "alice", OrganizationID: "acme", Team: &teams.Team{Limits: limits}},
		Key:      &keys.Key{ID: "k", Alias: "alias", Limits: limits},
		Request:  Request{Request: teams.Request{Model: teams.Model{State: teams.ModelKnown, Name: "gpt-4o"}}},
	}
}

// TestHeadersOfAnAllow: each managed header, with what the upstream reads in it; a header without a value is not set.
func TestHeadersOfAnAllow(t *testing.T) {
	r := newResponder(ResponseConfig{Headers: testNames(), KeyHeader: "x-key", KeyPrefix: "Key "}, []string{"authorization"})
	sent := func(d *Decision) map[string]string {
		headers := make(map[string]string)
		for _, h := range responseOf(r.answer(d)).GetOkResponse().GetHeaders() {
			headers[h.GetHeader().GetKey()] = h.GetHeader().GetValue()
		}
		return headers
	}
	full := map[string]string{
		"x-extauthz-key-id": "k", "x-extauthz-key-alias": "alias", "x-extauthz-team-id": "a", "x-extauthz-user-id": "alice",
		"x-extauthz-user-email": "alice@corp.example", "x-extauthz-org-id": "acme", "x-extauthz-source": "mapping",
		"x-extauthz-decision-id": "id", "x-key": "Key sk-1",
	}
	d := fullDecision()
	if got := sent(d); !maps.Equal(got, full) {
		t.Errorf("headers %v, want %v", got, full)
	}
	d.Identity.EmailUnverified, d.Secret = true, ""
	delete(full, "x-extauthz-user-email")
	delete(full, "x-key")
	if got := sent(d); !maps.Equal(got, full) {
		t.Errorf("email not verified, no text of the key: headers %v, want %v", got, full)
	}
	public := map[string]string{"x-extauthz-decision-id": "id"}
	d = fullDecision()
	d.Source = SourcePublic
	if got := sent(d); !maps.Equal(got, public) {
		t.Errorf("a public route: headers %v, want %v", got, public)
	}
}

// A value that would change its meaning as a header is not sent: the answer denies, and so do its metadata and log.
func TestUnsafeHeaderDenies(t *testing.T) {
	r := newResponder(ResponseConfig{Headers: testNames()}, nil)
	for _, value := range []string{" a", "a ", "a\x00", "a\x7f", "a\nb", "\xff"} {
		d := &Decision{ID: "id", Source: mapping.SourceMapping, Key: &keys.Key{Alias: value}}
		out := responseOf(r.answer(d))
		expectDenied(t, out, 503, "internal_error")
		if d.Allowed() || d.Err == nil || d.Outcome.Reason != ReasonInternal || out.GetDynamicMetadata().AsMap()["decision"] != "deny" {
			t.Errorf("%q: %+v, %v", value, d, out.GetDynamicMetadata())
		}
	}
}

func TestMetadata(t *testing.T) {
	r := newResponder(ResponseConfig{Headers: testNames()}, nil)
	of := func(d *Decision) map[string]any { return responseOf(r.answer(d)).GetDynamicMetadata().AsMap() }
	got := of(fullDecision())
	for name, want := range map[string]any{
		"decision": "allow", "decision_id": "id", "shadow_reason": "rule_failed", "source": "mapping", "model": "gpt-4o",
		"key": "k", "team": "a", "user": "alice", "org": "acme", "stale": true,
	} {
		if got[name] != want {
			t.Errorf("%s: %v, want %v", name, got[name], want)
		}
		delete(got, name)
	}
	for _, name := range []string{"key_rpm_limit", "key_tpm_limit", "team_rpm_limit", "team_tpm_limit"} {
		if limit, _ := got[name].(map[string]any); limit["requests_per_unit"] != 5.0 {
			t.Errorf("%s: %v", name, got[name])
		}
		delete(got, name)
	}
	if len(got) > 0 {
		t.Errorf("fields that nobody knows: %v", got)
	}
	denied := of(&Decision{Outcome: outcomeOf(errKeyBlocked), Key: &keys.Key{}, Member: teams.Membership{UserID: "\xff"}})
	if want := map[string]any{"decision": "deny", "reason": "key_blocked"}; !maps.Equal(denied, want) {
		t.Errorf("a denial: %v, want %v", denied, want)
	}
}

func TestHeadersOfADenial(t *testing.T) {
	r := newResponder(ResponseConfig{RetryAfter: 7}, nil)
	for name, c := range map[string]struct {
		err           error
		code          codes.Code
		challenge     string
		retry, retry2 string // either: a second may pass
	}{
		"no credential":        {ErrTokenMissing, codes.Unauthenticated, "Bearer", "", ""},
		"a bad one":            {token.ErrExpired, codes.Unauthenticated, `Bearer error="invalid_token", error_description="The token has expired."`, "", ""},
		"malformed":            {ErrRequestMalformed, codes.InvalidArgument, "", "", ""},
		"forbidden":            {teams.ErrRouteForbidden, codes.PermissionDenied, "", "", ""},
		"an outage":            {errors.New("down"), codes.Unavailable, "", "7", "7"},
		"a bug":                {errInternal, codes.Unavailable, "", "7", "7"},
		"misconfigured":        {errKeySecret, codes.Internal, "", "", ""},
		"a budget":             {&BudgetError{"key", time.Now().Add(time.Minute)}, codes.ResourceExhausted, "", "60", "59"},
		"a budget, at its end": {&BudgetError{"key", time.Now().Add(-time.Minute)}, codes.ResourceExhausted, "", "1", "1"},
		"a budget for ever":    {&BudgetError{Of: "key"}, codes.ResourceExhausted, "", "", ""},
	} {
		out := responseOf(r.answer(&Decision{ID: "id", Err: c.err, Outcome: outcomeOf(c.err)}))
		if got := codes.Code(out.GetStatus().GetCode()); got != c.code || out.GetOkResponse() != nil {
			t.Errorf("%s: code %v, want %v", name, got, c.code)
		}
		if header(out, "content-type") != "application/json" || header(out, reasonHeader) != string(outcomeOf(c.err).Reason) {
			t.Errorf("%s: %v", name, out)
		}
		if got := header(out, "www-authenticate"); got != c.challenge {
			t.Errorf("%s: challenge %q, want %q", name, got, c.challenge)
		}
		if got := header(out, "retry-after"); got != c.retry && got != c.retry2 {
			t.Errorf("%s: retry after %q, want %q", name, got, c.retry)
		}
		if m := out.GetDynamicMetadata().AsMap(); m["decision"] != "deny" || m["decision_id"] != "id" {
			t.Errorf("%s: metadata %v", name, m)
		}
	}
}

// A failure that is no outage is never left to Envoy's failure mode, even where outages are.
func TestOutages(t *testing.T) {
	for _, o := range Outcomes() {
		want := slices.Contains([]Reason{"issuer_unavailable", "deadline_exceeded", "overloaded", "store_unavailable"}, o.Reason)
		if o.outage() != want {
			t.Errorf("%s: an outage %v", o.Reason, o.outage())
		}
	}
	if o := outcomeOf(&teams.RuleError{Rule: "x", Message: "own text"}); o.Message != "own text" {
		t.Errorf("a rule's message: %q", o.Message)
	}
	if o := outcomeOf(&teams.RuleError{Rule: "x"}); o.Message == "" {
		t.Error("a rule without a message says nothing")
	}
}

// TestKeyForTheUpstream: where the upstream gets a key's text, an ALLOW without one is not given.
func TestKeyForTheUpstream(t *testing.T) {
	opened := func([]byte, keys.ID) (keys.Secret, error) { return "sk-opened", nil }
	for name, c := range map[string]struct {
		client  string
		bearer  string
		noMatch mapping.NoMatch
		key     string // that the upstream gets
	}{
		"a mapped caller":           {"mapped", "", mapping.Reject, "Bearer sk-opened"},
		"a direct key":              {"", string(directSecret), mapping.Reject, "Bearer " + string(directSecret)},
		"a caller without a key":    {"nobody", "", mapping.Fallback, ""},
		"a key that was not sealed": {"new", "", mapping.AutoRegister, ""},
	} {
		s := scenario{claims: map[string]any{"sub": "alice", "team": "a", "client_id": c.client}, noMatch: c.noMatch, bearer: c.bearer}
		r := newFaultRig(t, s, nil, func(p *Profile, config *Config) {
			p.Authorizer.OpenKey, config.Timeout = opened, time.Minute
			p.Response.KeyHeader, p.Response.KeyPrefix = "authorization", "Bearer "
		})
		out := r.check(t, t.Context())
		if c.key == "" {
			t.Run(name, func(t *testing.T) { expectDenied(t, out, 500, "key_secret_unavailable") })
		} else if got := header(out, "authorization"); got != c.key || out.GetOkResponse() == nil {
			t.Errorf("%s: the upstream gets %q, want %q: %v", name, got, c.key, out)
		}
	}
}

// A decision that is denied, or allowed by shadow mode alone, hands out no key, however far it had got.
func TestNoKeyWithoutItsDecision(t *testing.T) {
	for shadow, source := range map[bool]mapping.Source{true: SourceShadow, false: ""} {
		ctx, cancel := context.WithCancel(t.Context())
		var d *Decision
		r := newFaultRig(t, mapped(), nil, func(p *Profile, config *Config) {
			p.Shadow, config.Timeout = shadow, time.Minute
			p.Authorizer.OpenKey = func([]byte, keys.ID) (keys.Secret, error) { cancel(); return "sk-opened", nil }
			p.Response.KeyHeader = "authorization"
			config.Observe = func(_ context.Context, observed *Decision, _ time.Duration) { d = observed }
		})
		out := r.check(t, ctx)
		if d.Source != source || d.Secret != "" || header(out, "authorization") != "" || (out.GetOkResponse() != nil) != shadow {
			t.Errorf("shadow %v: source %q, secret %v, %v", shadow, d.Source, d.Secret != "", out)
		}
	}
}

// The use of a key is noted, so that it does not expire as idle.
func TestUseIsNoted(t *testing.T) {
	for name, s := range map[string]scenario{"mapped": mapped(), "direct": {bearer: string(directSecret)}} {
		r := newFaultRig(t, s, nil, func(_ *Profile, config *Config) { config.Timeout = time.Minute })
		for _, key := range r.rows.keys {
			key.IdleTimeout = time.Hour
		}
		if out := r.check(t, t.Context()); out.GetOkResponse() == nil {
			t.Fatalf("%s: %v", name, out)
		}
		select {
		case <-r.rows.touched:
		case <-time.After(10 * time.Second):
			t.Errorf("%s: the key's use is not noted", name)
		}
	}
}

// observedServer is a server whose decisions are kept.
func observedServer(t *testing.T, verify verifierFunc, change ...func(*Config)) (*Server, func() *Decision) {
	t.Helper()
	var last *Decision
	config := testServer(t, verify, teams.Config{}).rules.Load().config
	config.Observe = func(_ context.Context, d *Decision, _ time.Duration) { last = d }
	for _, f := range change {
		f(&config)
	}
	s, err := NewServer(config)
	if err != nil {
		t.Fatal(err)
	}
	return s, func() *Decision { d := last; last = nil; return d }
}

// What was recorded on the way is told: that a row was stale, and the first denial that shadow mode held back.
func TestWhatWasRecordedIsTold(t *testing.T) {
	for name, c := range map[string]struct {
		record func(*trace.Record)
		err    error
		stale  bool
		shadow Reason
	}{
		"nothing":                  {func(*trace.Record) {}, nil, false, ""},
		"stale":                    {func(r *trace.Record) { r.MarkStale() }, nil, true, ""},
		"stale, and then denied":   {func(r *trace.Record) { r.MarkStale() }, token.ErrExpired, true, ""},
		"stale, and then an error": {func(r *trace.Record) { r.MarkStale() }, errors.New("down"), false, ""},
		"two denials held back":    {func(r *trace.Record) { r.Shadow(mapping.ErrNoMapping); r.Shadow(errKeyBlocked) }, nil, false, "no_mapping"},
	} {
		s, observed := observedServer(t, func(ctx context.Context, bearer string) (token.Claims, error) {
			c.record(trace.From(ctx))
			if c.err != nil {
				return token.Claims{}, c.err
			}
			return alice(ctx, bearer)
		})
		check(t, s, t.Context(), "authorization", "Bearer x")
		if d := observed(); d == nil || d.Stale != c.stale || d.Shadowed != c.shadow || d.Allowed() != (c.err == nil) {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

// A profile in shadow mode allows what it would deny, and says what that was.
func TestShadowProfile(t *testing.T) {
	s, observed := observedServer(t, alice, func(c *Config) {
		p := c.Profiles[""]
		p.Shadow = true
		c.Profiles[""] = p
	})
	out := check(t, s, t.Context())
	if d := observed(); out.GetOkResponse() == nil || d.Source != SourceShadow || d.Shadowed != "token_missing" || header(out, "x-extauthz-source") != "shadow" {
		t.Errorf("%+v, %v", d, out)
	}
	if out = check(t, s, t.Context(), "authorization", "Bearer x"); observed().Source != mapping.SourceTeam {
		t.Errorf("a caller who is not denied: %v", out)
	}
}

// Which headers choose the team and name the model is the profile's.
func TestProfileReadsItsHeaders(t *testing.T) {
	for _, trusted := range []bool{true, false} {
		s, observed := observedServer(t, alice, func(c *Config) {
			p := c.Profiles[""]
			p.Selector = "x-team"
			if trusted {
				p.ModelHeaders = []string{"x-model"}
			}
			c.Profiles[""] = p
		})
		check(t, s, t.Context(), "authorization", "Bearer x", "x-team", "a", "x-model", "o1", "content-type", "application/json")
		d := observed()
		if d.Request.Team != "a" && !trusted || trusted != (d.Outcome.Reason == "model_ambiguous") { // the body names another
			t.Errorf("trusted %v: team %q, model %v, %v", trusted, d.Request.Team, d.Request.Model, d.Err)
		}
	}
}

// Explain decides as Check does, says by what steps, and is observed by nobody.
func TestExplain(t *testing.T) {
	s, observed := observedServer(t, alice)
	request := in(func(h *authv3.AttributeContext_HttpRequest) {
		h.HeaderMap = rawHeaders("authorization", "Bearer x", partialBodyHeader, "false")
	})
	d, out, steps := s.Explain(t.Context(), request)
	if !d.Allowed() || out.GetOkResponse() == nil || observed() != nil {
		t.Errorf("%+v, %v", d, out)
	}
	for _, step := range []string{"request", "token", "identity", "team"} {
		if !slices.ContainsFunc(steps, func(s trace.Step) bool { return s.Name == step }) {
			t.Errorf("step %s is not explained: %v", step, steps)
		}
	}
}

// The decision has until its own timeout, and ends before Envoy's if that is earlier.
func TestDeadline(t *testing.T) {
	var until time.Time
	s, _ := observedServer(t, func(ctx context.Context, bearer string) (token.Claims, error) {
		until, _ = ctx.Deadline()
		return alice(ctx, bearer)
	})
	start := time.Now()
	for left, want := range map[time.Duration]func(time.Time) bool{
		time.Hour: func(until time.Time) bool {
			return !until.Before(start.Add(time.Minute)) && !until.After(time.Now().Add(time.Minute))
		},
		30 * time.Second: func(until time.Time) bool { return until.Equal(start.Add(30*time.Second - deadlineMargin)) },
	} {
		ctx, cancel := context.WithDeadline(t.Context(), start.Add(left))
		check(t, s, ctx, "authorization", "Bearer x")
		cancel()
		if !want(until) {
			t.Errorf("%v before Envoy's deadline the decision has %v", left, until.Sub(start))
		}
	}
}

// A server decides by its new configuration as a whole; an unknown profile is denied in every one.
func TestReplace(t *testing.T) {
	s, _ := observedServer(t, alice)
	expectDenied(t, check(t, s, t.Context()), 401, "token_missing")
	config := s.rules.Load().config
	p := config.Profiles[""]
	p.Shadow = true
	config.Profiles = map[string]Profile{"": p}
	if err := s.Replace(config); err != nil {
		t.Fatal(err)
	}
	if out := check(t, s, t.Context()); out.GetOkResponse() == nil {
		t.Errorf("it decides by the old one: %v", out)
	}
	unknown := in(func(*authv3.AttributeContext_HttpRequest) {})
	unknown.Attributes.ContextExtensions = map[string]string{profileExtension: "nope"}
	out, err := s.Check(t.Context(), unknown)
	if err != nil {
		t.Fatal(err)
	}
	expectDenied(t, out, 500, "profile_unknown")
}

// A panic denies its own request, and whoever watches the decisions is told.
func TestPanicIsObserved(t *testing.T) {
	s, observed := observedServer(t, func(context.Context, string) (token.Claims, error) { panic(faultText) })
	expectDenied(t, check(t, s, t.Context(), "authorization", "Bearer x"), 503, "internal_error")
	if d := observed(); d == nil || d.Outcome.Reason != ReasonInternal || !errors.Is(d.Err, errInternal) {
		t.Errorf("observed: %+v", d)
	}
}

// An observer's panic is answered as the default profile answers.
func TestPanicOfTheObserver(t *testing.T) {
	s, _ := observedServer(t, alice, func(c *Config) {
		c.Observe = func(context.Context, *Decision, time.Duration) { panic(faultText) }
	})
	out := check(t, s, t.Context(), "authorization", "Bearer x")
	expectDenied(t, out, 503, "internal_error")
	if header(out, "retry-after") != "2" {
		t.Errorf("%v", out)
	}
	_, err := recoverUnary(t.Context(), nil, nil, func(context.Context, any) (any, error) { panic(faultText) })
	if status.Code(err) != codes.Internal {
		t.Errorf("a panic of another service: %v", err)
	}
}
