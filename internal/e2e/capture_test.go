package e2e

import (
	"context"
	"encoding/json"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/extauthz/extauthz/internal/extauthztest/envoytest"
)

// capture stands between an Envoy and a server and keeps what the one last asked and the other answered.
type capture struct {
	authv3.UnimplementedAuthorizationServer
	server authv3.AuthorizationClient

	mu     sync.Mutex
	asked  *authv3.CheckRequest
	answer *authv3.CheckResponse
}

func (c *capture) Check(ctx context.Context, in *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	out, err := c.server.Check(ctx, in)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked, c.answer = in, out
	return out, err
}

// behind starts an Envoy that asks the server through the capture.
func (c *capture) behind(t *testing.T, v *server, edit func(map[string]any)) *server {
	t.Helper()
	c.server = authv3.NewAuthorizationClient(v.dial())
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer()
	authv3.RegisterAuthorizationServer(g, c)
	healthv1.RegisterHealthServer(g, health.NewServer())
	go func() { _ = g.Serve(listener) }() // ends with Stop
	t.Cleanup(g.Stop)
	envoy := envoytest.Start(t, envoytest.Options{Authz: listener.Addr().String(), Upstream: v.upstream.Address, Edit: edit})
	return &server{t: t, envoy: envoy, upstream: v.upstream}
}

// explain of what an Envoy really asked answers what the server answered, in each form in which Envoy sends
// headers and bodies, and shows neither the token nor the key.
func TestExplainCapturedRequest(t *testing.T) {
	config := reject + `policy: {rules: [{name: chat, expression: "request.model == 'gpt-4o'"}]}
profiles: [{name: strict, policy: {rules: [{name: never, expression: "false"}]}}]
`
	resources := teamA + `
keys: [{alias: k, secret: sk-captured-0123456789, team_id: a, models: [gpt-4o], rpm_limit: 5}]
mappings: [{claim: client_id, value: client-1, key: k}]
`
	forms := map[string]bool{"headers and body as bytes": true, "headers and body as text": false}
	eachStore(t, func(t *testing.T, open func(*testing.T) database) {
		s := newSite(t, open(t), plan{config: config, resources: resources})
		for form, raw := range forms {
			for _, profile := range []string{"", "strict"} {
				t.Run(strings.TrimSpace(form+" "+profile), func(t *testing.T) {
					var c capture
					v := c.behind(t, s.servers[0], func(tree map[string]any) {
						filter := envoytest.ExtAuthz(tree)
						filter["encode_raw_headers"], filter["with_request_body"].(map[string]any)["pack_as_bytes"] = raw, raw
						setProfile(tree, profile)
					})
					for _, credential := range []string{s.issuer.Mint(client1()), s.issuer.Mint(with(client1(), "client_id", "nobody")), "sk-captured-0123456789", "sk-unknown"} {
						for _, body := range []string{chatBody, `{"model":"o1"}`} {
							v.do(call{token: credential, body: body})
							c.explains(t, s, raw)
						}
					}
				})
			}
		}
	})
}

// explains compares what `explain --request` says of the captured request with the captured answer.
func (c *capture) explains(t *testing.T, s *site, raw bool) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	http := c.asked.GetAttributes().GetRequest().GetHttp()
	if raw != (len(http.GetHeaderMap().GetHeaders()) > 0 && len(http.GetRawBody()) > 0) || raw == (len(http.GetHeaders()) > 0 && http.GetBody() != "") {
		t.Fatalf("not the form that was asked for: %v", http)
	}
	text, err := protojson.Marshal(c.asked)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "request.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), binary, "explain", "--config", s.config, "--request", file, "-o", "json")
	command.Env = environment()
	out, _ := command.CombinedOutput() // the exit code is looked at
	for _, secret := range []string{"eyJ", "sk-captured", "sk-unknown"} {
		if strings.Contains(string(out), secret) {
			t.Errorf("it shows %s…: %s", secret, out)
		}
	}
	var said struct {
		Status        int
		Headers       map[string]string
		RemoveHeaders []string `json:"remove_headers"`
		Metadata      map[string]any
	}
	if err := json.Unmarshal(out, &said); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	status, code := 200, 0
	if denied := c.answer.GetDeniedResponse(); denied != nil {
		status, code = int(denied.GetStatus().GetCode()), 3
	}
	metadata, headers := c.answer.GetDynamicMetadata().AsMap(), make(map[string]string)
	for _, h := range append(c.answer.GetOkResponse().GetHeaders(), c.answer.GetDeniedResponse().GetHeaders()...) {
		headers[h.GetHeader().GetKey()] = h.GetHeader().GetValue()
	}
	for _, id := range []string{"decision_id", "x-extauthz-decision-id"} { // each decision has its own
		maps.DeleteFunc(metadata, func(name string, _ any) bool { return name == id })
		maps.DeleteFunc(said.Metadata, func(name string, _ any) bool { return name == id })
		maps.DeleteFunc(headers, func(name, _ string) bool { return name == id })
		maps.DeleteFunc(said.Headers, func(name, _ string) bool { return name == id })
	}
	if said.Status != status || command.ProcessState.ExitCode() != code || !reflect.DeepEqual(said.Metadata, metadata) ||
		!maps.Equal(said.Headers, headers) || !slices.Equal(said.RemoveHeaders, slices.Sorted(slices.Values(c.answer.GetOkResponse().GetHeadersToRemove()))) {
		t.Errorf("explain says\n%s\nthe server said\n%v", out, c.answer)
	}
}
