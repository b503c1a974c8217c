package e2e

import (
	"context"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/extauthz/extauthz/internal/extauthztest/envoytest"
	"github.com/extauthz/extauthz/internal/extauthztest/pgtest"
)

func (v *server) dial() *grpc.ClientConn {
	v.t.Helper()
	connection, err := grpc.NewClient(v.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		v.t.Fatal(err)
	}
	v.t.Cleanup(func() { _ = connection.Close() })
	return connection
}

// get reads a page of the telemetry listener.
func (v *server) get(path string) envoytest.Response {
	v.t.Helper()
	request, err := http.NewRequestWithContext(v.t.Context(), http.MethodGet, "http://"+v.telemetry+path, nil)
	if err != nil {
		v.t.Fatal(err)
	}
	return envoytest.Do(v.t, request)
}

func TestSidecarOverUnixSocket(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(*testing.T) database) {
		s := newSite(t, open(t), plan{config: fallback, resources: teamA, socket: true})
		s.outcome(s.as(client1()), 200, "fallback")
		s.expect(s.as(with(client1(), "team", "nope")), 403, "team_unknown")
	})
}

func TestServer(t *testing.T) {
	s := newSite(t, noStore(), plan{config: fallback})
	v := s.servers[0]
	connection := v.dial()

	t.Run("health", func(t *testing.T) {
		for _, service := range []string{"", "envoy.service.auth.v3.Authorization"} {
			answer, err := healthv1.NewHealthClient(connection).Check(t.Context(), &healthv1.HealthCheckRequest{Service: service})
			if err != nil || answer.GetStatus() != healthv1.HealthCheckResponse_SERVING {
				t.Errorf("health of %q: %v, %v", service, answer, err)
			}
		}
	})
	t.Run("reflection", func(t *testing.T) {
		stream, err := reflectionv1.NewServerReflectionClient(connection).ServerReflectionInfo(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.Send(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}}); err != nil {
			t.Fatal(err)
		}
		answer, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, service := range answer.GetListServicesResponse().GetService() {
			names = append(names, service.GetName())
		}
		if !slices.Contains(names, "envoy.service.auth.v3.Authorization") {
			t.Errorf("services: %v", names)
		}
	})
	t.Run("a message that is too large", func(t *testing.T) {
		_, err := authv3.NewAuthorizationClient(connection).Check(t.Context(), &authv3.CheckRequest{
			Attributes: &authv3.AttributeContext{ContextExtensions: map[string]string{"x": strings.Repeat("x", 5<<20)}},
		})
		if status.Code(err) != codes.ResourceExhausted {
			t.Errorf("got %v", err)
		}
	})
	t.Run("an empty request", func(t *testing.T) {
		answer, err := authv3.NewAuthorizationClient(connection).Check(t.Context(), &authv3.CheckRequest{})
		if err != nil || answer.GetDeniedResponse().GetStatus().GetCode() != 400 {
			t.Errorf("got %v, %v", answer, err)
		}
	})
	t.Run("telemetry", func(t *testing.T) {
		s := *s
		s.t = t
		s.outcome(s.as(client1()), 200, "fallback")
		metrics := v.get("/metrics").Body
		for _, want := range []string{
			`extauthz_decisions_total{decision="allow",reason="",source="fallback"} 1`,
			`extauthz_decisions_total{decision="deny",reason="request_malformed",source=""} 1`,
			"extauthz_decision_duration_seconds_bucket", "extauthz_build_info{version=", "go_goroutines",
		} {
			if !strings.Contains(metrics, want) {
				t.Errorf("no %s in the metrics", want)
			}
		}
		for _, path := range []string{"/livez", "/readyz"} {
			if page := v.get(path); page.Status != 200 {
				t.Errorf("%s: %d %s", path, page.Status, page.Body)
			}
		}
		if page := v.get("/debug/pprof/"); page.Status != 404 {
			t.Errorf("pprof is served: %d", page.Status)
		}
	})
	t.Run("drain", func(t *testing.T) {
		if err := v.command.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		<-v.ended // the test's own deadline bounds it
		if log := v.logged(); !strings.Contains(log, `"msg":"draining"`) || !strings.Contains(log, `"msg":"drained"`) {
			t.Errorf("log: %s", log)
		}
	})
}

// A server whose database is down, or was never migrated, starts, says why it is not ready, denies, and
// recovers by itself.
func TestStartsWithoutItsDatabase(t *testing.T) {
	postgresServer := pgtest.Start(t)
	database := postgres(t, postgresServer)
	postgresServer.Stop(t)
	s := newSite(t, database, plan{config: reject, unmigrated: true, notReady: true})
	v := s.servers[0]
	s.notReady(v, "not ready: ")
	s.expect(s.as(client1()), 503, "store_unavailable")
	answer, err := healthv1.NewHealthClient(v.dial()).Check(t.Context(), &healthv1.HealthCheckRequest{})
	if err != nil || answer.GetStatus() != healthv1.HealthCheckResponse_NOT_SERVING {
		t.Errorf("health: %v, %v", answer, err)
	}
	postgresServer.Start(t)
	s.notReady(v, "extauthz migrate")
	s.expect(s.as(client1()), 503, "store_unavailable")
	s.cli("migrate", "--config", s.config)
	s.apply(teamA)
	v.await("be ready", v.ready)
	s.expect(s.recovered(client1()), 403, "no_mapping")
}

// TestRollingRestart: of two replicas behind one Envoy, one is told to go. Envoy's health checks see it, and
// no request fails.
func TestRollingRestart(t *testing.T) {
	s := newSite(t, noStore(), plan{config: fallback, servers: 2, drainDelay: "5s"})
	leaving, staying := s.servers[0], s.servers[1]
	both := envoytest.Start(t, envoytest.Options{
		Authz: leaving.address, Upstream: s.upstream.Address,
		Edit: func(tree map[string]any) { addEndpoint(t, envoytest.Cluster(tree, "extauthz"), staying.address) },
	})
	v := &server{t: t, envoy: both, upstream: s.upstream}
	token := s.issuer.Mint(client1())
	if err := leaving.command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	sent := 0
	for alive := true; alive; sent++ {
		select {
		case <-leaving.ended:
			alive = false
		default:
		}
		a, err := v.send(t.Context(), call{token: token})
		if err != nil || a.status != http.StatusOK {
			t.Fatalf("request %d: %v %v", sent, a, err)
		}
	}
	if sent < 100 {
		t.Errorf("only %d requests were sent while the replica left", sent)
	}
}

// addEndpoint adds a second address to a cluster's one endpoint.
func addEndpoint(t *testing.T, cluster map[string]any, address string) {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	locality := cluster["load_assignment"].(map[string]any)["endpoints"].([]any)[0].(map[string]any)
	locality["lb_endpoints"] = append(locality["lb_endpoints"].([]any), map[string]any{"endpoint": map[string]any{
		"address": map[string]any{"socket_address": map[string]any{"address": host, "port_value": number}},
	}})
}

// notReady waits until the readiness page says why.
func (s *site) notReady(v *server, why string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	for ctx.Err() == nil {
		page := v.get("/readyz")
		if page.Status != http.StatusServiceUnavailable {
			s.t.Fatalf("/readyz: %d %s", page.Status, page.Body)
		}
		if strings.Contains(page.Body, why) {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
	s.t.Fatalf("/readyz never said %q", why)
}
