package authz

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/proto"

	"github.com/extauthz/extauthz/pkg/teams"
	"github.com/extauthz/extauthz/pkg/token"
)

// TestCheckThatWaitedIsShed: what has waited too long is denied in band, unread. Time is synctest's.
func TestCheckThatWaitedIsShed(t *testing.T) {
	const most = 100 * time.Millisecond
	shadow := func(p *Profile) { p.Shadow = true }
	for name, c := range map[string]struct {
		waited, timeout time.Duration // the timeout is Envoy's
		change          func(*Profile)
		observe         func()
		reason          string // "": it is allowed
		read            bool
	}{
		"not at all":                   {timeout: time.Second, read: true},
		"as long as it may":            {waited: most, timeout: time.Second, read: true},
		"longer":                       {waited: most + 1, timeout: time.Second, reason: "overloaded"},
		"longer than what is left":     {waited: 31 * time.Millisecond, timeout: 60 * time.Millisecond, reason: "overloaded"},
		"shorter than what is left":    {waited: 19 * time.Millisecond, timeout: 60 * time.Millisecond, read: true},
		"no time was given":            {timeout: deadlineMargin, reason: "deadline_exceeded", read: true},
		"longer, but only watched":     {waited: most + 1, timeout: time.Second, change: shadow, read: true},
		"longer, observed with a bug":  {waited: most + 1, timeout: time.Second, observe: func() { panic("a bug") }, reason: "overloaded"},
		"not at all, as the bug knows": {timeout: time.Second, observe: func() { panic("a bug") }, reason: "internal_error", read: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var verified, read bool
				var seen *Decision
				s := testServer(t, func(ctx context.Context, bearer string) (token.Claims, error) {
					verified = true
					return alice(ctx, bearer)
				}, teams.Config{}, func(p *Profile) {
					if c.change != nil {
						c.change(p)
					}
				})
				config := s.rules.Load().config
				config.MaxWait = most
				config.Waited = func(waited time.Duration) {
					if waited != c.waited {
						t.Errorf("waited %s, want %s", waited, c.waited)
					}
				}
				config.Observe = func(_ context.Context, d *Decision, _ time.Duration) {
					seen = d
					if c.observe != nil {
						c.observe()
					}
				}
				if err := s.Replace(config); err != nil {
					t.Fatal(err)
				}
				out := late(t, s, c.waited, c.timeout, &read)
				if c.reason == "" && out.GetOkResponse() == nil {
					t.Fatalf("not allowed: %v", out)
				}
				if c.reason != "" {
					expectDenied(t, out, 503, c.reason)
				}
				if (header(out, "retry-after") == "2") != (c.reason != "") {
					t.Errorf("retry-after %q", header(out, "retry-after"))
				}
				if shed := c.waited > most || c.reason == "overloaded"; read != c.read || verified == (shed || c.reason == "deadline_exceeded") {
					t.Errorf("read %t, verified %t", read, verified)
				}
				if seen == nil || c.observe == nil && seen.Outcome.Reason != Reason(c.reason) || (seen.Shadowed == "overloaded") != (c.change != nil) {
					t.Errorf("observed: %+v", seen)
				}
			})
		})
	}
}

// late makes a check as gRPC does, waited after it came.
func late(t *testing.T, s *Server, waited, timeout time.Duration, read *bool) *authv3.CheckResponse {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	ctx, err := stamp(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(waited)
	request, err := proto.Marshal(in(func(h *authv3.AttributeContext_HttpRequest) {
		h.HeaderMap = rawHeaders("authorization", "Bearer x", partialBodyHeader, "false")
	}))
	if err != nil {
		t.Fatal(err)
	}
	answer, err := handleCheck(s, ctx, func(into any) error {
		*read = true
		into.(*message).bytes = request
		return nil
	}, recoverUnary)
	if err != nil {
		t.Fatalf("an error, which leaves the request to Envoy's failure mode: %v", err)
	}
	out := new(authv3.CheckResponse)
	if err := proto.Unmarshal(answer.(*message).bytes, out); err != nil {
		t.Fatal(err)
	}
	return out
}
