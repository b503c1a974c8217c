package envoytest_test

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/extauthz/extauthz/internal/config"
	"github.com/extauthz/extauthz/internal/extauthztest/envoytest"
)

// What is over max_requests costs nobody a wait. It has no answer, though: where failure_mode_allow is true, it passes
// unchecked.
func TestChecksOverTheCircuitBreaker(t *testing.T) {
	for open, status := range map[bool]int{false: 503, true: 200} {
		t.Run(fmt.Sprint("failure_mode_allow ", open), func(t *testing.T) {
			s := startStack(t, allow(nil), func(tree map[string]any) {
				filter := envoytest.ExtAuthz(tree)
				filter["failure_mode_allow"] = open
				filter["grpc_service"].(map[string]any)["timeout"] = "30s"
				thresholds := envoytest.Cluster(tree, "extauthz")["circuit_breakers"].(map[string]any)["thresholds"].([]any)
				thresholds[0].(map[string]any)["max_requests"] = 1
			})
			s.authz.mu.Lock() // Check waits for it
			held := make(chan int)
			go func() { held <- s.get(t).Status }()
			eventually(t, "the first check is under way", func() bool { return s.envoy.Stats(t, "cluster.extauthz.upstream_rq_active") == 1 })
			began := time.Now()
			if got := s.get(t); got.Status != status || time.Since(began) > 5*time.Second {
				t.Errorf("status %d after %s, want %d at once", got.Status, time.Since(began), status)
			}
			s.authz.mu.Unlock()
			if first := <-held; first != 200 {
				t.Errorf("status %d of the first", first)
			}
			if n := s.envoy.Stats(t, "cluster.extauthz.upstream_rq_active_overflow"); n != 1 {
				t.Errorf("upstream_rq_active_overflow is %d, want 1", n)
			}
		})
	}
}

// A server's bound on the calls of one connection bounds nothing: Envoy opens another one. Before it has heard of the
// bound it goes by its own, so that has to be no larger: what a server refuses is a 503, or an ALLOW in a filter that fails open.
func TestEnvoyOpensAnotherConnection(t *testing.T) {
	s := startStack(t, allow(nil), func(tree map[string]any) {
		cluster := envoytest.Cluster(tree, "extauthz")
		options := cluster["typed_extension_protocol_options"].(map[string]any)["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"]
		http2 := options.(map[string]any)["explicit_http_config"].(map[string]any)["http2_protocol_options"].(map[string]any)
		if shipped, ours := http2["max_concurrent_streams"], config.Defaults().GetServer().GetMaxConcurrentStreams(); shipped != int(ours) {
			t.Errorf("Envoy's max_concurrent_streams is %v, and server.max_concurrent_streams %d", shipped, ours)
		}
		http2["max_concurrent_streams"] = 1
		envoytest.ExtAuthz(tree)["grpc_service"].(map[string]any)["timeout"] = "30s"
	}, grpc.MaxConcurrentStreams(1))
	s.authz.mu.Lock() // Check waits for it
	done := make(chan int, 3)
	for range cap(done) {
		go func() { done <- s.get(t).Status }()
	}
	eventually(t, "three checks are under way", func() bool { return s.envoy.Stats(t, "cluster.extauthz.upstream_rq_active") == 3 })
	s.authz.mu.Unlock()
	for range cap(done) {
		if status := <-done; status != 200 {
			t.Errorf("status %d", status)
		}
	}
}
