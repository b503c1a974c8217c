package envoytest_test

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/extauthz/extauthz/internal/extauthztest/envoytest"
)

func TestSidecarOverUnixSocket(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "authz.sock")
	authz := startAuthorizer(t, "unix://"+socket, allow(map[string]string{"x-extauthz-team-id": "team-a"}, "authorization"))
	upstream := envoytest.NewUpstream(t)
	s := stack{authz: authz, upstream: upstream, envoy: envoytest.Start(t, envoytest.Options{
		ConfigFile: envoytest.Sidecar, Authz: authz.Address, Upstream: upstream.Address,
	})}
	if got := s.get(t, "x-extauthz-team-id: spoofed", "authorization: Bearer token"); got.Status != 200 {
		t.Fatalf("status %d, want 200", got.Status)
	}
	wantHeader(t, s.arrived(t), "x-extauthz-team-id", "team-a")
	wantHeader(t, s.arrived(t), "authorization")
	authz.server.Stop()
	if got := s.get(t); got.Status != 503 {
		t.Errorf("status %d without an authorizer, want 503", got.Status)
	}
}

// One hardening in one file only would be worse than none: people read one and run the other.
func TestSidecarDiffersInTheAuthorizerOnly(t *testing.T) {
	tcp, sidecar := load(t, envoytest.TCP), load(t, envoytest.Sidecar)
	for _, tree := range []map[string]any{tcp, sidecar} {
		cluster := envoytest.Cluster(tree, "extauthz")
		for _, key := range []string{"type", "lb_policy", "load_assignment"} {
			delete(cluster, key)
		}
	}
	if !reflect.DeepEqual(tcp, sidecar) {
		t.Errorf("%s and %s differ in more than where extauthz listens", envoytest.TCP, envoytest.Sidecar)
	}
}

func TestRateLimitAddsWhatCountsOnly(t *testing.T) {
	tcp, counting := load(t, envoytest.TCP), load(t, envoytest.RateLimit)
	hcm := envoytest.HCM(counting)
	delete(hcm, "local_reply_config")
	delete(hcm["route_config"].(map[string]any)["virtual_hosts"].([]any)[0].(map[string]any), "rate_limits")
	hcm["http_filters"] = without(hcm["http_filters"], "envoy.filters.http.ratelimit")
	resources := counting["static_resources"].(map[string]any)
	resources["clusters"] = without(resources["clusters"], "ratelimit")
	if !reflect.DeepEqual(tcp, counting) {
		t.Errorf("%s and %s differ in more than the rate limits", envoytest.TCP, envoytest.RateLimit)
	}
}

// without returns a list of named things less the one with this name.
func without(list any, name string) any {
	return slices.DeleteFunc(list.([]any), func(e any) bool { return e.(map[string]any)["name"] == name })
}

func TestMTLSDiffersInTheTransportSocketOnly(t *testing.T) {
	tcp, mtls := load(t, envoytest.TCP), load(t, envoytest.MTLS)
	delete(mtls, "node") // the files of secrets need one
	delete(envoytest.Cluster(mtls, "extauthz"), "transport_socket")
	if !reflect.DeepEqual(tcp, mtls) {
		t.Errorf("%s and %s differ in more than the transport socket to extauthz", envoytest.TCP, envoytest.MTLS)
	}
}

func TestKubernetesSidecarIsTheShippedFileWithTheAddressesOfAPod(t *testing.T) {
	const copied = "deploy/k8s/overlays/sidecar/envoy.yaml"
	want := strings.NewReplacer(
		"{address: 127.0.0.1, port_value: 10000}", "{address: 0.0.0.0, port_value: 10000}",
		"{address: 127.0.0.1, port_value: 8080}", "{address: llm-proxy, port_value: 8080}",
	).Replace(string(read(t, envoytest.Sidecar)))
	if string(read(t, copied)) != want {
		t.Errorf("%s is not %s with the listener at 0.0.0.0 and the upstream at llm-proxy", copied, envoytest.Sidecar)
	}
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(envoytest.ModuleRoot(t), file))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func load(t *testing.T, file string) map[string]any {
	t.Helper()
	tree := make(map[string]any)
	if err := yaml.Unmarshal(read(t, file), &tree); err != nil {
		t.Fatal(err)
	}
	return tree
}
