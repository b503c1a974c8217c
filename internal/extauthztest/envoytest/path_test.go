package envoytest_test

import (
	"testing"

	"github.com/extauthz/extauthz/internal/extauthztest/envoytest"
)

// What the shipped configuration does with a request target: the path that both the authorizer and the upstream get, or the
// status of a refusal without a check. extauthz has its own rule for what is left; `;`, %25 and %zz arrive there.
var targets = []struct {
	target  string
	status  int
	arrives string
}{
	{"/v1/models", 200, "/v1/models"},
	{"/a//b", 200, "/a/b"},
	{"//a/b", 200, "/a/b"},
	{"/a/./b", 200, "/a/b"},
	{"/a/../b", 200, "/b"},
	{"/../b", 200, "/b"},
	{"/a/%2e%2e/b", 200, "/b"},
	{"/a/.%2E/b", 200, "/b"},
	{`/a\b`, 200, "/a/b"},
	{`/a\..\b`, 200, "/b"},
	{"/%61bc", 200, "/abc"},
	{"/a?x=//%2F/../y", 200, "/a?x=//%2F/../y"},
	{"http://api/x//y", 200, "/x/y"},
	{"/a;x=1/b", 200, "/a;x=1/b"},
	{"/a%23b", 200, "/a%23b"},
	{"/a%252Fb", 200, "/a%252Fb"},
	{"/a%252e%252e/b", 200, "/a%252e%252e/b"},
	{"/a%2Fb", 400, ""},
	{"/a%2fb", 400, ""},
	{"/a%5Cb", 400, ""},
	{"/a%00b", 400, ""},
	{"/a#b", 400, ""},
	{"/a?x=1#b", 400, ""},
	{"*", 400, ""},
	{"a", 400, ""},
	{"/\xc3\xa9", 400, ""},
	{"/a b", 400, ""},
}

func TestPathsAreOneForAuthorizerAndUpstream(t *testing.T) {
	s := startStack(t, allow(nil), nil)
	for _, c := range targets {
		t.Run(c.target, func(t *testing.T) {
			checks, passed := len(s.authz.requests()), len(s.upstream.Requests())
			got := envoytest.SendRaw(t, s.envoy.URL, "GET "+c.target+" HTTP/1.1", "Host: api", "Connection: close", "", "")
			if got.Status != c.status {
				t.Fatalf("status %d, want %d", got.Status, c.status)
			}
			if c.status != 200 {
				if len(s.authz.requests()) != checks || len(s.upstream.Requests()) != passed {
					t.Error("a refused request went on")
				}
				return
			}
			if path := s.authz.requests()[checks].GetPath(); path != c.arrives {
				t.Errorf("the authorizer got %q, want %q", path, c.arrives)
			}
			if target := s.upstream.Requests()[passed].Target; target != c.arrives {
				t.Errorf("the upstream got %q, want %q", target, c.arrives)
			}
		})
	}
}

func TestRequestsWithoutAPathAreRefusedUnchecked(t *testing.T) {
	s := startStack(t, allow(nil), nil)
	for _, line := range []string{"OPTIONS * HTTP/1.1", "CONNECT api:443 HTTP/1.1"} {
		if got := envoytest.SendRaw(t, s.envoy.URL, line, "Host: api", "Connection: close", "", ""); got.Status != 404 {
			t.Errorf("%s: status %d, want 404", line, got.Status)
		}
	}
	if len(s.authz.requests())+len(s.upstream.Requests()) != 0 {
		t.Error("a refused request went on")
	}
}
