package envoytest_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/extauthz/extauthz/internal/extauthztest/envoytest"
)

// maxBody is max_request_bytes of the shipped configuration.
const maxBody = 1 << 20

var bodyCases = []struct {
	name    string
	path    string
	bytes   int
	http2   bool
	chunked bool
	status  int
	checked int    // bytes of the body in the check
	partial string // x-envoy-auth-partial-body in the check
}{
	{name: "none", path: "/v1/chat/completions", status: 200, partial: ""},
	{name: "full", path: "/v1/chat/completions", bytes: maxBody, status: 200, checked: maxBody, partial: "false"},
	{name: "full, chunked", path: "/v1/chat/completions", bytes: maxBody, chunked: true, status: 200, checked: maxBody, partial: "false"},
	{name: "full, HTTP/2", path: "/v1/chat/completions", bytes: maxBody, http2: true, status: 200, checked: maxBody, partial: "false"},
	{name: "one over", path: "/v1/chat/completions", bytes: maxBody + 1, status: 413},
	{name: "one over, chunked", path: "/v1/chat/completions", bytes: maxBody + 1, chunked: true, status: 413},
	{name: "far over, HTTP/2", path: "/v1/chat/completions", bytes: 2 * maxBody, http2: true, status: 413},
	// Envoy 1.40.0: if the frame that ends an HTTP/2 body is the one that crosses the limit, the check is made all the same,
	// with the body cut and marked. allow_partial_message: false does not free extauthz from looking at the mark.
	{name: "one over, HTTP/2", path: "/v1/chat/completions", bytes: maxBody + 1, http2: true, status: 200, checked: maxBody, partial: "true"},
	{name: "upload", path: "/v1/files", bytes: 2 * maxBody, status: 200, partial: ""},
	{name: "below the upload", path: "/v1/files/f-1/parts", bytes: 2 * maxBody, http2: true, status: 200, partial: ""},
	{name: "beside the upload", path: "/v1/filesystem", bytes: 2 * maxBody, status: 413},
}

func TestBodies(t *testing.T) {
	s := startStack(t, allow(nil), nil)
	for _, c := range bodyCases {
		t.Run(c.name, func(t *testing.T) {
			checks := len(s.authz.requests())
			client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
			if c.http2 {
				client = http2Client(t)
			}
			if status := post(t, client, s.envoy.URL+c.path, c.bytes, c.chunked); status != c.status {
				t.Fatalf("status %d, want %d", status, c.status)
			}
			if c.status != 200 {
				if len(s.authz.requests()) != checks {
					t.Error("a refused request was checked")
				}
				return
			}
			in := s.authz.requests()[checks]
			if len(in.GetRawBody()) != c.checked || in.GetBody() != "" {
				t.Errorf("raw_body has %d bytes and body %d, want %d and 0", len(in.GetRawBody()), len(in.GetBody()), c.checked)
			}
			if got := strings.Join(headers(in, "x-envoy-auth-partial-body"), ","); got != c.partial {
				t.Errorf("x-envoy-auth-partial-body %q, want %q", got, c.partial)
			}
			seen := s.upstream.Requests()
			if got := seen[len(seen)-1].BodyBytes; got != int64(c.bytes) {
				t.Errorf("the upstream got %d bytes, want %d", got, c.bytes)
			}
		})
	}
}

func post(t *testing.T, client *http.Client, url string, bytes int, chunked bool) int {
	t.Helper()
	var body io.Reader = strings.NewReader(strings.Repeat("x", bytes))
	if chunked {
		body = io.MultiReader(body) // hides the length
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode
}

// The mark is Envoy's own: a client can neither forge nor hide it.
func TestPartialBodyMarkIsEnvoys(t *testing.T) {
	s := startStack(t, allow(nil), nil)
	got := envoytest.SendRaw(t, s.envoy.URL, "POST /v1/chat/completions HTTP/1.1", "Host: api", "Connection: close",
		"x-envoy-auth-partial-body: true", "Content-Length: 2", "", "{}")
	if got.Status != 200 {
		t.Fatalf("status %d, want 200", got.Status)
	}
	in := s.authz.only(t)
	wantValues(t, headers(in, "x-envoy-auth-partial-body"), "false")
	if string(in.GetRawBody()) != "{}" {
		t.Errorf("raw_body %q, want {}", in.GetRawBody())
	}
}
