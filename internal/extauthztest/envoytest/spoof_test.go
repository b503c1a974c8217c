package envoytest_test

import (
	"net/http"
	"testing"

	"github.com/extauthz/extauthz/internal/extauthztest/envoytest"
)

// spoofed are the ways to send an identity header that an upstream might believe.
var spoofed = []struct {
	name   string
	header []string
	status int // with underscores refused, as shipped
}{
	{"hyphens", []string{"x-extauthz-team-id: spoofed"}, 200},
	{"mixed case", []string{"X-ExtAuthz-Team-ID: spoofed"}, 200},
	{"twice", []string{"x-extauthz-team-id: spoofed", "X-EXTAUTHZ-TEAM-ID: other"}, 200},
	{"empty", []string{"x-extauthz-team-id:"}, 200},
	{"a name of a later version", []string{"x-extauthz-later: spoofed"}, 200},
	{"named by connection", []string{"Connection: x-extauthz-team-id", "x-extauthz-team-id: spoofed"}, 200},
	{"underscores", []string{"x_extauthz_team_id: spoofed"}, 400},
	{"one underscore", []string{"x-extauthz-team_id: spoofed"}, 400},
}

func TestSpoofedIdentityReachesNeitherAuthorizerNorUpstream(t *testing.T) {
	s := startStack(t, allow(nil), nil)
	for _, c := range spoofed {
		t.Run(c.name, func(t *testing.T) {
			before := len(s.authz.requests())
			if got := s.get(t, c.header...); got.Status != c.status {
				t.Fatalf("status %d, want %d", got.Status, c.status)
			}
			if c.status != 200 {
				if len(s.authz.requests()) != before {
					t.Error("a refused request was checked")
				}
				return
			}
			assertNoIdentity(t, s.arrived(t))
			for _, h := range s.authz.requests()[before].GetHeaderMap().GetHeaders() {
				if identityName(h.GetKey()) {
					t.Errorf("the authorizer saw the client's %s", h.GetKey())
				}
			}
		})
	}
}

// The early mutation is the second line behind underscores being refused, and the only one where the check is disabled.
func TestSpoofedIdentityIsStrippedWithUnderscoresAllowedAndTheFilterDisabled(t *testing.T) {
	s := startStack(t, allow(nil), func(tree map[string]any) {
		options := envoytest.HCM(tree)["common_http_protocol_options"].(map[string]any)
		options["headers_with_underscores_action"] = "ALLOW"
		routes := envoytest.Routes(tree)
		routes[len(routes)-1].(map[string]any)["typed_per_filter_config"] = map[string]any{
			"envoy.filters.http.ext_authz": map[string]any{
				"@type":    "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute",
				"disabled": true,
			},
		}
	})
	for _, c := range spoofed {
		t.Run(c.name, func(t *testing.T) {
			if got := s.get(t, append(c.header, "x_envoy_auth_failure_mode_allowed: true")...); got.Status != 200 {
				t.Fatalf("status %d, want 200", got.Status)
			}
			assertNoIdentity(t, s.arrived(t))
		})
	}
	if n := len(s.authz.requests()); n != 0 {
		t.Errorf("%d checks on a route with the filter disabled", n)
	}
}

func TestUnderscoreHeaderOverHTTP2IsRefused(t *testing.T) {
	s := startStack(t, allow(nil), nil)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.envoy.URL+"/v1/models", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header["x_extauthz_team_id"] = []string{"spoofed"}
	client := http2Client(t)
	if resp, err := client.Do(req); err == nil {
		_ = resp.Body.Close()
		t.Errorf("status %d, want the stream to be reset", resp.StatusCode)
	}
	if len(s.authz.requests())+len(s.upstream.Requests()) != 0 {
		t.Error("a refused request went on")
	}
}
