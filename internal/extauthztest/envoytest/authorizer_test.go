package envoytest_test

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/types/known/structpb"
)

// authorizer is the smallest authorization service: it gives one answer and remembers what it was asked. It stands in for
// extauthz so that these tests are about Envoy and its configuration alone.
type authorizer struct {
	authv3.UnimplementedAuthorizationServer
	Address string // as in Options.Authz
	answer  *authv3.CheckResponse
	server  *grpc.Server

	mu   sync.Mutex
	seen []*authv3.AttributeContext_HttpRequest
}

// startAuthorizer listens on address, which is 127.0.0.1:0 or unix:///path.
func startAuthorizer(t *testing.T, address string, answer *authv3.CheckResponse, options ...grpc.ServerOption) *authorizer {
	t.Helper()
	network, path := "tcp", address
	if socket, ok := strings.CutPrefix(address, "unix://"); ok {
		network, path = "unix", socket
	}
	listener, err := new(net.ListenConfig).Listen(t.Context(), network, path)
	if err != nil {
		t.Fatal(err)
	}
	a := &authorizer{Address: address, answer: answer, server: grpc.NewServer(options...)}
	if network == "tcp" {
		a.Address = listener.Addr().String()
	}
	authv3.RegisterAuthorizationServer(a.server, a)
	healthpb.RegisterHealthServer(a.server, health.NewServer())
	go func() { _ = a.server.Serve(listener) }() // ends with Stop
	t.Cleanup(a.server.Stop)
	return a
}

func (a *authorizer) Check(_ context.Context, in *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.seen = append(a.seen, in.GetAttributes().GetRequest().GetHttp())
	return a.answer, nil
}

func (a *authorizer) requests() []*authv3.AttributeContext_HttpRequest {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]*authv3.AttributeContext_HttpRequest(nil), a.seen...)
}

// only returns the single check that was made.
func (a *authorizer) only(t *testing.T) *authv3.AttributeContext_HttpRequest {
	t.Helper()
	seen := a.requests()
	if len(seen) != 1 {
		t.Fatalf("%d checks, want 1", len(seen))
	}
	return seen[0]
}

// headers returns the check's values of a header, in order. With encode_raw_headers they are in header_map.
func headers(in *authv3.AttributeContext_HttpRequest, name string) []string {
	var values []string
	for _, h := range in.GetHeaderMap().GetHeaders() {
		if h.GetKey() == name {
			values = append(values, string(h.GetRawValue()))
		}
	}
	return values
}

// allow is an ALLOW in the form that extauthz uses: set by overwriting, remove the rest.
func allow(set map[string]string, remove ...string) *authv3.CheckResponse {
	ok := &authv3.OkHttpResponse{HeadersToRemove: remove}
	for name, value := range set {
		ok.Headers = append(ok.Headers, header(name, value))
	}
	return &authv3.CheckResponse{
		Status:          &status.Status{Code: int32(codes.OK)},
		HttpResponse:    &authv3.CheckResponse_OkResponse{OkResponse: ok},
		DynamicMetadata: metadata(map[string]any{"decision": "allow", "team": "team-a"}),
	}
}

func deny(code typev3.StatusCode, body string, set map[string]string) *authv3.CheckResponse {
	denied := &authv3.DeniedHttpResponse{Status: &typev3.HttpStatus{Code: code}, Body: body}
	for name, value := range set {
		denied.Headers = append(denied.Headers, header(name, value))
	}
	return &authv3.CheckResponse{
		Status:          &status.Status{Code: int32(codes.Unauthenticated)},
		HttpResponse:    &authv3.CheckResponse_DeniedResponse{DeniedResponse: denied},
		DynamicMetadata: metadata(map[string]any{"decision": "deny", "reason": "token_missing", "decision_id": "d-1"}),
	}
}

func header(name, value string) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{
		Header:       &corev3.HeaderValue{Key: name, Value: value},
		AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	}
}

func metadata(fields map[string]any) *structpb.Struct {
	s, err := structpb.NewStruct(fields)
	if err != nil {
		panic(err) // a literal in this file that is no JSON value
	}
	return s
}
