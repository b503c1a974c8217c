package main

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/proto"

	"github.com/extauthz/extauthz/internal/config"
	"github.com/extauthz/extauthz/internal/extauthztest/issuertest"
	"github.com/extauthz/extauthz/internal/extauthztest/issuertest/localissuer"
	"github.com/extauthz/extauthz/internal/resource"
	"github.com/extauthz/extauthz/internal/telemetry"
	"github.com/extauthz/extauthz/pkg/mapping"
	"github.com/extauthz/extauthz/pkg/teams"
)

const hotConfig = `
store: {url: "sqlite:${DB}"}
server: {check_timeout: 10s}
log: {allow_sample_rate: 0}
cache: {ttl: 1h}
issuers:
- issuer: ${ISSUER}
  audiences: [llm-gateway]
  claims: {user_id: sub, email: email, team_ids: groups, roles: realm_access.roles, scopes: scope}
policy:
  email_domains: [corp.example.com]
  admin: {scope: extauthz_admin}
  roles:
  - {role: auditor, routes: [info_routes]}
  - {role: embedder, routes: [/v1/embeddings], models: ["text-embedding-*"]}
  - {role: llm_user, routes: [openai_routes], models: ["gpt-4o*", "o3*"]}
  - {role: operator, routes: [management_routes]}
  scopes: [{scope: "llm:chat", routes: [/v1/chat/completions]}]
  teams: {selector_header: x-team-id}
mapping: {claim: sub, no_match: reject, cache_ttl: 1h}
`

const hotTeam = `
organizations: [{id: acme, max_budget: 100000}]
teams: [{id: research, organization_id: acme, models: ["gpt-4o*"], allowed_routes: [openai_routes], max_budget: 5000, rpm_limit: 60000}]
`

// hotResources are the rows of so many clients, each with a key of its own.
func hotResources(clients int) []byte {
	var keys, mappings strings.Builder
	for n := range clients {
		fmt.Fprintf(&keys, "- {alias: key-%d, secret: sk-0123456789abcdef%08d, team_id: research, models: [\"gpt-4o*\"], max_budget: 50, rpm_limit: 600}\n", n, n)
		fmt.Fprintf(&mappings, "- {claim: sub, value: client-%d, key: key-%d}\n", n, n)
	}
	return []byte(hotTeam + "keys:\n" + keys.String() + "mappings:\n" + mappings.String())
}

// hotServer is the server of hotConfig over a SQLite file, with every cache filled, and a check of one of its clients.
func hotServer(tb testing.TB, clients int) func(client int) []byte {
	tb.Helper()
	issuer := issuertest.New(tb, localissuer.Audience("llm-gateway"), localissuer.Algorithms("RS256"))
	db := filepath.Join(tb.TempDir(), "store.db")
	c, err := config.Parse("hot.yaml", []byte(hotConfig), func(name string) (string, bool) {
		value, ok := map[string]string{"DB": db, "ISSUER": issuer.URL()}[name]
		return value, ok
	})
	must(tb, err)
	metrics := telemetry.NewMetrics("")
	rows, err := openRows(tb.Context(), c, metrics, slog.New(slog.DiscardHandler), func(s telemetry.Store) (mapping.Store, teams.Store) { return s, s })
	must(tb, err)
	tb.Cleanup(rows.close)
	set, _, err := resource.Parse("hot", hotResources(clients))
	must(tb, err)
	must(tb, rows.store.Apply(tb.Context(), set))
	rows.changes.Watching(time.Now())
	rows.changes.Confirmed(time.Now().Add(time.Hour)) // nobody watches
	callers, err := newCallers(c.GetCache())
	must(tb, err)
	tb.Cleanup(callers.Close)
	active := &configuration{
		logger: slog.New(slog.DiscardHandler), logLevel: &slog.LevelVar{}, metrics: metrics, parts: parts{rows: rows, callers: callers},
	}
	must(tb, active.enforce(c))
	requests := make([][]byte, clients)
	check := func(client int) []byte { return active.server.CheckBytes(tb.Context(), requests[client]) }
	for n := range clients {
		requests[n], err = proto.Marshal(hotRequest(issuer.Mint(map[string]any{
			"sub": fmt.Sprint("client-", n), "email": "alice@corp.example.com", "groups": []string{"research"}, "scope": "openid llm:chat",
			"realm_access": map[string]any{"roles": []string{"offline_access", "llm_user"}},
		})))
		must(tb, err)
		var out authv3.CheckResponse
		must(tb, proto.Unmarshal(check(n), &out))
		if out.GetStatus().GetCode() != 0 || len(out.GetOkResponse().GetHeaders()) != 8 {
			tb.Fatal(&out)
		}
	}
	return check
}

// allocationBudget is how many objects a warm, allowed check may put on the heap, metrics included and gRPC's own work not.
// Time is not stable where tests run; this is.
const allocationBudget = 16

func TestAllocations(t *testing.T) {
	check := hotServer(t, 1)
	if n := testing.AllocsPerRun(2000, func() { check(0) }); n > allocationBudget {
		t.Errorf("%.1f allocations a check, more than %d", n, allocationBudget)
	} else {
		t.Logf("%.1f allocations a check", n)
	}
}

// BenchmarkCheck is of one client, whose rows are in the CPU's caches, and of so many that theirs are not.
func BenchmarkCheck(b *testing.B) {
	for _, clients := range []int{1, 2000} {
		b.Run(fmt.Sprint("clients=", clients), func(b *testing.B) {
			check := hotServer(b, clients)
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				check(n * 7919 % clients)
			}
		})
	}
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
func hotRequest(token string) *authv3.CheckRequest {
	body := `{"model":"gpt-4o-mini","stream":true,"messages":[{"role":"user","content":"What is the weather like? What is the weather like? What is the weather like? What is the weather like? "}]}`
	h := &authv3.AttributeContext_HttpRequest{
		Method: "POST", Path: "/v1/chat/completions", Host: "llm.example.com", Scheme: "https", Protocol: "HTTP/2",
		Size: int64(len(body)), RawBody: []byte(body), HeaderMap: &corev3.HeaderMap{},
	}
	for _, pair := range [][2]string{
		{":authority", "llm.example.com"}, {":path", "/v1/chat/completions"}, {":method", "POST"}, {":scheme", "https"},
		{"accept", "application/json"}, {"accept-encoding", "gzip, deflate, br"}, {"accept-language", "en"}, {"authorization", "Bearer " + token},
		{"content-type", "application/json"}, {"content-length", "400"}, {"user-agent", "OpenAI/Python 1.99.0"},
		{"x-stainless-lang", "python"}, {"x-stainless-os", "Linux"}, {"x-stainless-arch", "x64"}, {"x-stainless-runtime", "CPython"},
		{"x-stainless-retry-count", "0"}, {"x-forwarded-proto", "https"}, {"x-forwarded-for", "192.0.2.7"},
		{"x-request-id", "5a6d6f0e-5c0b-4b3e-9a3a-0d8f8c1c2b3a"}, {"x-envoy-auth-partial-body", "false"}, {"traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
		{"cookie", "session=0123456789abcdef"},
	} {
		h.HeaderMap.Headers = append(h.HeaderMap.Headers, &corev3.HeaderValue{Key: pair[0], RawValue: []byte(pair[1])})
	}
	return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{Http: h}}}
}
