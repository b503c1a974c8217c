package envoytest_test

import (
	"strings"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/extauthz/extauthz/internal/extauthztest/envoytest"
)

func TestAllowSetsOverwritesAndRemoves(t *testing.T) {
	s := startStack(t, allow(
		map[string]string{"x-extauthz-team-id": "team-a", "x-extauthz-source": "mapping"},
		"authorization", "x-extauthz-key-id", "x_extauthz_key_id", "x-extauthz-user-email", "x_extauthz_user_email",
	), func(tree map[string]any) { delete(envoytest.HCM(tree), "early_header_mutation_extensions") })
	// Without the early mutation the answer alone must do it.
	got := s.get(t, "authorization: Bearer a", "Authorization: Bearer b", "x-extauthz-team-id: spoofed",
		"X-Extauthz-Team-Id: again", "x-extauthz-key-id: spoofed", "X-EXTAUTHZ-KEY-ID: again", "x-unrelated: stays")
	if got.Status != 200 {
		t.Fatalf("status %d, want 200", got.Status)
	}
	arrived := s.arrived(t)
	wantHeader(t, arrived, "x-extauthz-team-id", "team-a")
	wantHeader(t, arrived, "x-extauthz-source", "mapping")
	wantHeader(t, arrived, "x-unrelated", "stays")
	wantHeader(t, arrived, "authorization")
	wantHeader(t, arrived, "x-extauthz-key-id")
}

// Two credentials reach extauthz as one joined value or as two values, by the name's place in Envoy's header map: it has to
// refuse both forms.
func TestRepeatedCredentials(t *testing.T) {
	s := startStack(t, allow(nil), nil)
	s.get(t, "authorization: Bearer a", "Authorization: Bearer b", "x-api-key: a", "X-Api-Key: b")
	in := s.authz.only(t)
	wantValues(t, headers(in, "authorization"), "Bearer a,Bearer b")
	wantValues(t, headers(in, "x-api-key"), "a", "b")
	if len(in.GetHeaders()) != 0 {
		t.Errorf("the headers map has %d entries, want all headers in header_map", len(in.GetHeaders()))
	}
}

// Each name that extauthz may set or remove by default, in both spellings, passes the shipped mutation rules.
func TestMutationRulesPermitWhatExtauthzTouches(t *testing.T) {
	set := make(map[string]string)
	removed := []string{"authorization", "x-envoy-auth-failure-mode-allowed", "x_envoy_auth_failure_mode_allowed"}
	for _, part := range []string{"key-id", "key-alias", "team-id", "user-id", "user-email", "org-id", "source", "decision-id"} {
		name := "x-extauthz-" + part
		set[name] = "v"
		removed = append(removed, strings.ReplaceAll(name, "-", "_"))
	}
	s := startStack(t, allow(set, removed...), nil)
	if got := s.get(t); got.Status != 200 {
		t.Fatalf("status %d, want 200", got.Status)
	}
	arrived := s.arrived(t)
	for name := range set {
		wantHeader(t, arrived, name, "v")
	}
}

func TestVirtualKeyReplacesTheCredential(t *testing.T) {
	s := startStack(t, allow(map[string]string{"authorization": "Bearer sk-key"}), nil)
	s.get(t, "authorization: Bearer the-token")
	wantHeader(t, s.arrived(t), "authorization", "Bearer sk-key")
}

func TestAnswerBeyondTheMutationRulesIs500(t *testing.T) {
	cases := map[string]*authv3.CheckResponse{
		"sets another name":           allow(map[string]string{"x-other": "v"}),
		"sets a name that ends alike": allow(map[string]string{"x-authorization": "v"}),
		"sets the client's address":   allow(map[string]string{"x-forwarded-for": "198.51.100.1"}),
		"sets the path":               allow(map[string]string{":path": "/admin"}),
		"sets a value with a newline": allow(map[string]string{"x-extauthz-key-id": "a\nb: c"}),
		"removes another name":        allow(nil, "x-other"),
		"removes host":                allow(nil, "host"),
	}
	for name, answer := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startStack(t, answer, nil)
			if got := s.get(t); got.Status != 500 {
				t.Errorf("status %d, want 500", got.Status)
			}
			if len(s.upstream.Requests()) != 0 {
				t.Error("the request reached the upstream")
			}
			if n := s.envoy.Stats(t, "http.ingress.ext_authz.extauthz.invalid"); n != 1 {
				t.Errorf("counter invalid is %d, want 1", n)
			}
		})
	}
}

// A client on a private address (here: loopback) is no more trusted than another.
func TestEnvoyHeadersOfAClientAreDropped(t *testing.T) {
	s := startStack(t, allow(nil), nil)
	s.get(t, "x-envoy-internal: true", "x-envoy-original-path: /admin", "x-envoy-upstream-rq-timeout-ms: 77",
		"x-envoy-external-address: 198.51.100.1", "x-envoy-auth-failure-mode-allowed: true", "x-forwarded-proto: https",
		"x-request-id: chosen-by-client")
	arrived := s.arrived(t)
	for _, name := range []string{"x-envoy-internal", "x-envoy-original-path", "x-envoy-upstream-rq-timeout-ms",
		"x-envoy-expected-rq-timeout-ms", "x-envoy-auth-failure-mode-allowed"} {
		wantHeader(t, arrived, name)
	}
	wantHeader(t, arrived, "x-envoy-external-address", "127.0.0.1")
	wantHeader(t, arrived, "x-forwarded-proto", "http")
	if id := arrived["x-request-id"]; len(id) != 1 || id[0] == "chosen-by-client" {
		t.Errorf("x-request-id %q, want one made by envoy", id)
	}
}
