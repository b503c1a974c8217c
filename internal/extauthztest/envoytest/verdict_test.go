package envoytest_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"github.com/extauthz/extauthz/internal/extauthztest/envoytest"
)

func TestDenialArrivesWhole(t *testing.T) {
	const body = `{"error":{"message":"no token","type":"authentication_error","param":null,"code":"token_missing","decision_id":"d-1"}}`
	s := startStack(t, deny(typev3.StatusCode_Unauthorized, body, map[string]string{
		"www-authenticate": `Bearer realm="extauthz"`, "x-extauthz-reason": "token_missing", "content-type": "application/json",
	}), nil)
	got := s.get(t)
	if got.Status != 401 || got.Body != body {
		t.Errorf("status %d, body %s", got.Status, got.Body)
	}
	wantValues(t, got.Header["Www-Authenticate"], `Bearer realm="extauthz"`)
	wantValues(t, got.Header["X-Extauthz-Reason"], "token_missing")
	wantValues(t, got.Header["Content-Type"], "application/json")
	if len(s.upstream.Requests()) != 0 {
		t.Error("a denied request reached the upstream")
	}
}

func TestAccessLogHasTheDecisionAndNoSecret(t *testing.T) {
	s := startStack(t, deny(typev3.StatusCode_Unauthorized, "", nil), nil)
	envoytest.SendRaw(t, s.envoy.URL, "GET /v1/models?key=query-secret HTTP/1.1", "Host: api", "Connection: close",
		"authorization: Bearer header-secret", "", "")
	eventually(t, "an access log line", func() bool { return strings.HasSuffix(s.envoy.AccessLog(), "\n") })
	var line map[string]any
	if err := json.Unmarshal([]byte(s.envoy.AccessLog()), &line); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"decision": "deny", "reason": "token_missing", "decision_id": "d-1", "team": nil,
		"status": 401.0, "method": "GET", "path": "/v1/models", "authority": "api",
	}
	for name, value := range want {
		if line[name] != value {
			t.Errorf("%s is %v, want %v", name, line[name], value)
		}
	}
	if strings.Contains(s.envoy.AccessLog(), "secret") {
		t.Errorf("a credential is in the access log: %s", s.envoy.AccessLog())
	}
}

func TestNoAuthorizerIs503AndComesBack(t *testing.T) {
	s := startStack(t, allow(nil), nil)
	if got := s.get(t); got.Status != 200 {
		t.Fatalf("status %d, want 200", got.Status)
	}
	s.authz.server.Stop()
	if got := s.get(t); got.Status != 503 {
		t.Errorf("status %d without an authorizer, want 503", got.Status)
	}
	if n := s.envoy.Stats(t, "http.ingress.ext_authz.extauthz.error"); n != 1 {
		t.Errorf("counter error is %d, want 1", n)
	}
	startAuthorizer(t, s.authz.Address, allow(nil))
	eventually(t, "200 from the authorizer that came back", func() bool { return s.get(t).Status == 200 })
	if n := len(s.upstream.Requests()); n < 2 {
		t.Errorf("%d requests at the upstream, want the two allowed ones", n)
	}
}

// Envoy may start first: it serves 503 until the authorizer is there.
func TestEnvoyStartsWithoutAuthorizer(t *testing.T) {
	s := startStack(t, allow(nil), nil)
	s.authz.server.Stop()
	e := envoytest.Start(t, envoytest.Options{Authz: s.authz.Address, Upstream: s.upstream.Address})
	s.envoy = e
	if got := s.get(t); got.Status != 503 {
		t.Errorf("status %d, want 503", got.Status)
	}
}

func TestSlowAuthorizerIs503AfterOneSecond(t *testing.T) {
	s := startStack(t, allow(nil), nil)
	s.authz.mu.Lock() // Check waits for it
	start := time.Now()
	got := s.get(t)
	waited := time.Since(start)
	s.authz.mu.Unlock()
	if got.Status != 503 {
		t.Errorf("status %d, want 503", got.Status)
	}
	if waited < 900*time.Millisecond || waited > 5*time.Second {
		t.Errorf("answered after %s, want the filter's timeout of 1s", waited)
	}
}

// What failure_mode_allow: true would do, so that nobody has to find out in production.
func TestFailOpenIsVisibleToTheUpstream(t *testing.T) {
	s := startStack(t, allow(nil), func(tree map[string]any) {
		filter := envoytest.ExtAuthz(tree)
		filter["failure_mode_allow"], filter["failure_mode_allow_header_add"] = true, true
	})
	s.authz.server.Stop()
	if got := s.get(t, "x-extauthz-team-id: spoofed"); got.Status != 200 {
		t.Errorf("status %d, want 200", got.Status)
	}
	wantHeader(t, s.arrived(t), "x-envoy-auth-failure-mode-allowed", "true")
	wantHeader(t, s.arrived(t), "x-extauthz-team-id")
}
