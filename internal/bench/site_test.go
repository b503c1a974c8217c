package bench

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/proto"

	"github.com/extauthz/extauthz/internal/extauthztest/issuertest"
	"github.com/extauthz/extauthz/internal/extauthztest/issuertest/localissuer"
)

var binary, noopBinary string // built once for all tests

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "extauthz-bench-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary, noopBinary = filepath.Join(dir, "extauthz"), filepath.Join(dir, "noop")
	for file, source := range map[string]string{binary: "cmd/extauthz", noopBinary: "internal/bench/noop"} {
		build := exec.Command("go", "build", "-trimpath", "-o", file, "github.com/extauthz/extauthz/"+source)
		build.Env = append(os.Environ(), "CGO_ENABLED=0") // as it is shipped
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build %s: %v\n%s", source, err, out)
			return 1
		}
	}
	return m.Run()
}

// variant is a server under measurement and what it is asked.
type variant struct {
	name string
	// store is the URL of its store; empty is a SQLite file of its own.
	store string
	// config is appended to the common part.
	config string
	// algorithm signs the tokens of clients who come more than once; empty is RS256.
	algorithm string
	// policy is its policy section; empty is fullPolicy.
	policy string
	// usualTimeouts are the defaults; otherwise a busy machine has more time.
	usualTimeouts bool
	// clients is how many there are; mapped whether they have a key.
	clients int
	mapped  bool
	// once asks each client one time only.
	once bool
	// denied is the verdict, if it is not an allow.
	denied bool
	// socket has the server listen on a Unix socket.
	socket bool
	// answer is a file with what a no-op server answers; empty is its own.
	answer string
	// environment is added to the process's.
	environment []string

	process *process
	issuer  *issuertest.Issuer
	load    *load
	token   string // of one client
}

// fullPolicy has a check of every kind on the path of each request.
const fullPolicy = `
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
`

const resources = `
organizations: [{id: acme, max_budget: 100000}]
teams: [{id: research, organization_id: acme, models: ["gpt-4o*"], allowed_routes: [openai_routes], max_budget: 5000, rpm_limit: 60000}]
`

// serve declares the variant's rows, starts its server and makes its requests.
func (v *variant) serve(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	algorithm := cmp.Or(v.algorithm, "RS256")
	if v.once {
		algorithm = "ES256" // signing must not take longer than what is measured
	}
	issuer := issuertest.New(t, localissuer.Audience("llm-gateway"), localissuer.Algorithms(algorithm))
	address := "127.0.0.1:0"
	if v.socket {
		address = "unix://" + filepath.Join(dir, "s")
	}
	check, call := "5s", "2s"
	if v.usualTimeouts {
		check, call = "400ms", "300ms"
	}
	config := filepath.Join(dir, "extauthz.yaml")
	text := fmt.Sprintf("server: {address: '%s', check_timeout: %s, drain_delay: 0s}\ntelemetry: {address: '127.0.0.1:0'}\n"+
		"store: {url: '%s', timeout: %s}\nlog: {allow_sample_rate: 0.01}\nissuers:\n- issuer: %s\n  algorithms: [%s]\n  audiences: [llm-gateway]\n"+
		"  claims: {user_id: sub, email: email, team_ids: groups, roles: realm_access.roles, scopes: scope}\n%s%s",
		address, check, cmp.Or(v.store, "sqlite:"+filepath.Join(dir, "store.db")), call, issuer.URL(), algorithm, cmp.Or(v.policy, fullPolicy), v.config)
	declared := filepath.Join(dir, "resources.yaml")
	for file, content := range map[string]string{config: text, declared: resources + v.rows()} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{{"migrate", "--config", config}, {"apply", "-f", declared, "--config", config}} {
		if out, err := exec.CommandContext(t.Context(), binary, args...).CombinedOutput(); err != nil {
			t.Fatalf("extauthz %s: %v\n%s", args[0], err, out)
		}
	}
	p, err := start(t.Context(), v.name, v.environment, binary, "serve", "--config", config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.stop)
	v.process, v.issuer = p, issuer
	v.token = mint(issuer, 0)
	v.connect(t, requests(t, issuer, v.clients))
}

func (v *variant) connect(t *testing.T, requests [][]byte) {
	t.Helper()
	conns, err := dial(v.process.address)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range conns {
		t.Cleanup(func() { _ = c.Close() })
	}
	v.load = &load{conns: conns, requests: requests, once: v.once, allowed: !v.denied}
}

// rows maps each client to a key of its own.
func (v *variant) rows() string {
	if !v.mapped {
		return ""
	}
	var keys, mappings strings.Builder
	for n := range v.clients {
		fmt.Fprintf(&keys, "- {alias: key-%d, hash: %064x, team_id: research, models: [\"gpt-4o*\"], max_budget: 50, rpm_limit: 600}\n", n, n+1)
		fmt.Fprintf(&mappings, "- {claim: sub, value: client-%d, key: key-%d}\n", n, n)
	}
	return "keys:\n" + keys.String() + "mappings:\n" + mappings.String()
}

// requests are those of the clients as Envoy sends them with the shipped configuration: raw headers, a body, a token of 1 KB.
func requests(t *testing.T, issuer *issuertest.Issuer, clients int) [][]byte {
	t.Helper()
	list := make([][]byte, clients)
	for n := range list {
		in, err := proto.Marshal(request(mint(issuer, n)))
		if err != nil {
			t.Fatal(err)
		}
		list[n] = in
	}
	return list
}

// mint returns the token of a client, some 1 KB long.
func mint(issuer *issuertest.Issuer, client int) string {
	return issuer.Mint(map[string]any{
		"sub": fmt.Sprintf("client-%d", client), "email": fmt.Sprintf("client-%d@corp.example.com", client), "email_verified": true,
		"groups": []string{"research"}, "scope": "openid email llm:chat", "realm_access": map[string]any{"roles": []string{"offline_access", "llm_user"}},
		"exp": time.Now().Add(12 * time.Hour).Unix(), "sid": strings.Repeat("s", 100), "jti": fmt.Sprintf("%032x", client),
	})
}

func request(token string) *authv3.CheckRequest {
	body := `{"model":"gpt-4o-mini","stream":true,"messages":[{"role":"user","content":"` + strings.Repeat("What is the weather like? ", 12) + `"}]}`
	headers := [][2]string{
		{":authority", "llm.example.com"}, {":path", "/v1/chat/completions"}, {":method", "POST"}, {":scheme", "https"},
		{"accept", "application/json"}, {"accept-encoding", "gzip, deflate, br"}, {"accept-language", "en"}, {"authorization", "Bearer " + token},
		{"content-type", "application/json"}, {"content-length", fmt.Sprint(len(body))}, {"user-agent", "OpenAI/Python 1.99.0"},
		{"x-stainless-lang", "python"}, {"x-stainless-os", "Linux"}, {"x-stainless-arch", "x64"}, {"x-stainless-runtime", "CPython"},
		{"x-stainless-retry-count", "0"}, {"x-forwarded-proto", "https"}, {"x-forwarded-for", "192.0.2.7"},
		{"x-request-id", "5a6d6f0e-5c0b-4b3e-9a3a-0d8f8c1c2b3a"}, {"x-envoy-auth-partial-body", "false"}, {"traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
		{"cookie", "session=0123456789abcdef"},
	}
	h := &authv3.AttributeContext_HttpRequest{
		Method: "POST", Path: "/v1/chat/completions", Host: "llm.example.com", Scheme: "https", Protocol: "HTTP/2",
		Id: "1234567890", Size: int64(len(body)), RawBody: []byte(body), HeaderMap: &corev3.HeaderMap{},
	}
	for _, pair := range headers {
		h.HeaderMap.Headers = append(h.HeaderMap.Headers, &corev3.HeaderValue{Key: pair[0], RawValue: []byte(pair[1])})
	}
	peer := func(ip string, port uint32) *authv3.AttributeContext_Peer {
		return &authv3.AttributeContext_Peer{Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
			Address: ip, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port},
		}}}}
	}
	return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Source: peer("192.0.2.7", 50000), Destination: peer("192.0.2.1", 443),
		Request: &authv3.AttributeContext_Request{Http: h},
	}}
}
