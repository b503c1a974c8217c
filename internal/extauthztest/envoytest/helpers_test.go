package envoytest_test

import (
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"

	"github.com/extauthz/extauthz/internal/echo"
	"github.com/extauthz/extauthz/internal/extauthztest/envoytest"
)

// stack is Envoy between an authorizer and an upstream.
type stack struct {
	envoy    *envoytest.Envoy
	authz    *authorizer
	upstream *echo.Server
}

func startStack(t *testing.T, answer *authv3.CheckResponse, edit func(map[string]any), options ...grpc.ServerOption) stack {
	t.Helper()
	s := stack{authz: startAuthorizer(t, "127.0.0.1:0", answer, options...), upstream: envoytest.NewUpstream(t)}
	s.envoy = envoytest.Start(t, envoytest.Options{Authz: s.authz.Address, Upstream: s.upstream.Address, Edit: edit})
	return s
}

// get sends GET /v1/models over HTTP/1.1 with these header lines.
func (s stack) get(t *testing.T, headerLines ...string) envoytest.Response {
	t.Helper()
	lines := append([]string{"GET /v1/models HTTP/1.1", "Host: api", "Connection: close"}, headerLines...)
	return envoytest.SendRaw(t, s.envoy.URL, append(lines, "", "")...)
}

// arrived returns the headers of the last request that reached the upstream.
func (s stack) arrived(t *testing.T) map[string][]string {
	t.Helper()
	seen := s.upstream.Requests()
	if len(seen) == 0 {
		t.Fatal("nothing reached the upstream")
	}
	return seen[len(seen)-1].Headers
}

func wantHeader(t *testing.T, got map[string][]string, name string, want ...string) {
	t.Helper()
	if !reflect.DeepEqual(got[name], want) {
		t.Errorf("upstream got %s: %q, want %q", name, got[name], want)
	}
}

func wantValues(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// identityName reports whether an upstream might read name as an identity header of extauthz or Envoy.
func identityName(name string) bool {
	name = strings.ReplaceAll(strings.ToLower(name), "_", "-")
	return strings.HasPrefix(name, "x-extauthz-") || name == "x-envoy-auth-failure-mode-allowed"
}

func assertNoIdentity(t *testing.T, arrived map[string][]string) {
	t.Helper()
	for name, values := range arrived {
		if identityName(name) {
			t.Errorf("the upstream got the client's %s: %q", name, values)
		}
	}
}

// http2Client speaks cleartext HTTP/2 with prior knowledge, which Envoy's listener detects.
func http2Client(t *testing.T) *http.Client {
	t.Helper()
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 20 * time.Second}
}

// eventually polls until condition holds and fails the test if it does not within ten seconds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	deadline := time.After(10 * time.Second)
	for !condition() {
		select {
		case <-poll.C:
		case <-deadline:
			t.Fatalf("not within ten seconds: %s", what)
		}
	}
}
