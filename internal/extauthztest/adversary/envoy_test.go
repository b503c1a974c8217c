package adversary

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/extauthz/extauthz/internal/echo"
	"github.com/extauthz/extauthz/internal/extauthztest/envoytest"
	"github.com/extauthz/extauthz/internal/extauthztest/pgtest"
)

// TestEnvoy sends every case that HTTP can carry through a real Envoy: with the shipped configuration, and with one that
// repairs no path, lets every header through and fails open. A request that the case denies never gets a 200 and never
// reaches the upstream, and what a client says of itself never does.
func TestEnvoy(t *testing.T) {
	w := newWorld(t)
	pg := pgtest.Start(t)
	t.Run("shipped", func(t *testing.T) { throughEnvoy(t, w, newPostgres(t, pg), func(map[string]any) {}) })
	t.Run("careless", func(t *testing.T) { throughEnvoy(t, w, newSQLite(t), careless) })
}

// careless undoes what the shipped configuration does beside asking us.
func careless(tree map[string]any) {
	hcm := envoytest.HCM(tree)
	hcm["normalize_path"], hcm["merge_slashes"] = false, false
	hcm["path_with_escaped_slashes_action"] = "KEEP_UNCHANGED"
	delete(hcm, "early_header_mutation_extensions")
	hcm["common_http_protocol_options"].(map[string]any)["headers_with_underscores_action"] = "ALLOW"
	filter := envoytest.ExtAuthz(tree)
	delete(filter, "encode_raw_headers")
	filter["failure_mode_allow"] = true
}

// profiled adds a route for each profile, which the test's own header selects.
func profiled(tree map[string]any) {
	patient(tree)
	var routes []any
	for _, profile := range []string{"register", "fallback", "alias", "rules"} {
		routes = append(routes, map[string]any{
			"match": map[string]any{"prefix": "/", "headers": []any{map[string]any{"name": "x-test-profile", "string_match": map[string]any{"exact": profile}}}},
			"route": map[string]any{"cluster": "upstream"},
			"typed_per_filter_config": map[string]any{"envoy.filters.http.ext_authz": map[string]any{
				"@type":          "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute",
				"check_settings": map[string]any{"context_extensions": map[string]any{"profile": profile}},
			}},
		})
	}
	host := envoytest.HCM(tree)["route_config"].(map[string]any)["virtual_hosts"].([]any)[0].(map[string]any)
	host["routes"] = append(routes, host["routes"].([]any)...)
}

// patient lets Envoy wait longer for us than a loaded machine takes.
func patient(tree map[string]any) {
	envoytest.ExtAuthz(tree)["grpc_service"].(map[string]any)["timeout"] = "20s"
}

func throughEnvoy(t *testing.T, w *world, store database, edit func(map[string]any)) {
	s := serve(t, w, store)
	upstream := envoytest.NewUpstream(t)
	envoy := envoytest.Start(t, envoytest.Options{Authz: s.address, Upstream: upstream.Address, Edit: func(tree map[string]any) {
		edit(tree)
		profiled(tree)
	}})
	carried, passed := 0, 0
	for _, c := range inOrder(t, w) {
		a, err := newAttempt(w, c.Case)
		if err != nil {
			t.Fatal(err)
		}
		lines, ok := a.lines()
		if !ok {
			continue
		}
		carried++
		t.Run(c.group+"/"+c.Name, func(t *testing.T) {
			if got := dispatch(t, envoy, a.method, lines); c.expectHTTP(t, a, got) {
				passed++
			}
		})
	}
	for name, lines := range hostileBytes() {
		t.Run(name, func(t *testing.T) {
			if got := dispatch(t, envoy, http.MethodGet, lines); got.Status == http.StatusOK {
				t.Errorf("passed: %s", got.Body)
			}
		})
	}
	if carried < 400 {
		t.Errorf("only %d cases are carried by HTTP", carried)
	}
	if reached := len(upstream.Requests()); reached != passed {
		t.Errorf("%d requests reached the upstream, and %d answers came back from it", reached, passed)
	}
}

// expectHTTP holds an answer against the case, and reports whether it is the upstream's.
func (c *checked) expectHTTP(t *testing.T, a *attempt, got envoytest.Response) (passed bool) {
	t.Helper()
	reason := got.Header.Get("x-extauthz-reason")
	switch {
	case got.Status == http.StatusOK && c.Want.allowed():
		c.expectUpstream(t, a, got, a.path)
	case got.Status == http.StatusOK && a.repairs != "":
		c.expectUpstream(t, a, got, a.repairs)
	case got.Status == http.StatusOK:
		t.Errorf("passed; want %v (%s)\n%s", c.Want, c.Basis, got.Body)
	case a.method == http.MethodHead: // its answer has no body to look at
	case reason == "": // Envoy's own refusal, before it asked
		if got.Status < 400 || got.Status >= 500 {
			t.Errorf("status %d without a reason of ours", got.Status)
		}
	case c.Want.what == "path_ambiguous" && got.Status != http.StatusServiceUnavailable: // what a repaired path is denied for
		expectWords(t, deny(got.Status, reason), got.Body, got.Header.Get)
	case c.Want.allowed() || got.Status != c.Want.status || reason != c.Want.what:
		t.Errorf("got %d %s; want %v", got.Status, reason, c.Want)
	default:
		expectWords(t, c.Want, got.Body, got.Header.Get)
	}
	return got.Status == http.StatusOK
}

// expectUpstream looks at what reached the upstream: the target that was decided, and no word of the client's of itself.
func (c *checked) expectUpstream(t *testing.T, a *attempt, got envoytest.Response, target string) {
	t.Helper()
	var seen echo.Request
	if err := json.Unmarshal([]byte(got.Body), &seen); err != nil {
		t.Fatalf("not the upstream's answer: %s: %v", got.Body, err)
	}
	if seen.Target != target {
		t.Errorf("the upstream got %q, want %q", seen.Target, target)
	}
	for name, values := range seen.Headers {
		if strings.EqualFold(name, "upgrade") {
			t.Errorf("the upstream is asked for an upgrade: %q", values)
		}
		all := strings.Join(values, ",")
		if strings.Contains(all, spoofed) || strings.EqualFold(name, "authorization") && !strings.Contains(all, a.world.secrets["direct"]) {
			t.Errorf("the upstream got the client's %s: %q", name, values)
		}
	}
	if source := strings.Join(seen.Headers["x-extauthz-source"], ","); c.Want.allowed() && source != c.Want.what {
		t.Errorf("source %q, want %q", source, c.Want.what)
	}
	if c.Want.key != "" && c.Want.key != "-" && len(seen.Headers["x-extauthz-key-id"]) != 1 {
		t.Errorf("key %q", seen.Headers["x-extauthz-key-id"])
	}
}

// hostileBytes are requests that no protobuf text can describe: what Envoy makes of them must not become a failed check
// that fails open (CVE-2023-27488, CVE-2024-23324).
func hostileBytes() map[string][]string {
	request := func(line string, headers ...string) []string {
		return append(append([]string{line, "connection: close"}, headers...), "", "")
	}
	return map[string][]string{
		"invalid UTF-8 in the path":          request("GET /v1/files/\xff HTTP/1.1", "host: api"),
		"invalid UTF-8 in the query":         request("GET /v1/files/x?\xff HTTP/1.1", "host: api"),
		"invalid UTF-8 in the host":          request("GET /v1/files/x HTTP/1.1", "host: \xff"),
		"invalid UTF-8 in the method":        request("G\xffT /v1/files/x HTTP/1.1", "host: api"),
		"invalid UTF-8 in a header":          request("GET /v1/files/x HTTP/1.1", "host: api", "x-a: \xff\xfe"),
		"invalid UTF-8 in the credential":    request("GET /v1/files/x HTTP/1.1", "host: api", "authorization: Bearer \xff"),
		"invalid UTF-8 in a header's name":   request("GET /v1/files/x HTTP/1.1", "host: api", "x-\xff: a"),
		"no host":                            request("GET /v1/files/x HTTP/1.1"),
		"two hosts":                          request("GET /v1/files/x HTTP/1.1", "host: a", "host: b"),
		"HTTP/1.0":                           request("GET /v1/files/x HTTP/1.0"),
		"HTTP/0.9":                           {"GET /v1/files/x", "", ""},
		"two lengths":                        request("POST /v1/chat/completions HTTP/1.1", "host: api", "content-length: 0", "content-length: 1"),
		"a length and a chunked body":        request("POST /v1/chat/completions HTTP/1.1", "host: api", "content-length: 5", "transfer-encoding: chunked"),
		"a chunked body in another spelling": request("POST /v1/chat/completions HTTP/1.1", "host: api", "transfer-encoding: xchunked"),
		"a folded header":                    request("GET /v1/files/x HTTP/1.1", "host: api", "x-a: b", " authorization: Bearer x"),
		"a space before the colon":           request("GET /v1/files/x HTTP/1.1", "host: api", "authorization : Bearer x"),
	}
}

// dispatch sends lines over a connection of their own.
func dispatch(t *testing.T, envoy *envoytest.Envoy, method string, lines []string) envoytest.Response {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	connection, err := new(net.Dialer).DialContext(ctx, "tcp", strings.TrimPrefix(envoy.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = connection.Close() }()
	_ = connection.SetDeadline(time.Now().Add(patience)) // fails only on a closed connection, which the write reports
	if _, err := io.WriteString(connection, strings.Join(lines, "\r\n")); err != nil {
		return refusedByEnvoy()
	}
	response, err := http.ReadResponse(bufio.NewReader(connection), &http.Request{Method: method})
	if err != nil {
		return refusedByEnvoy()
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(fmt.Errorf("the answer's body: %w", err))
	}
	return envoytest.Response{Status: response.StatusCode, Header: response.Header, Body: string(body)}
}

// refusedByEnvoy stands for a connection that Envoy ended: as good as a refusal.
func refusedByEnvoy() envoytest.Response {
	return envoytest.Response{Status: http.StatusBadRequest, Header: http.Header{}}
}
