package envoytest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/extauthz/extauthz/internal/extauthztest/catest"
)

// MTLS is the configuration with mutual TLS, for Options.ConfigFile. It needs the files of [Secrets].
const MTLS = "deploy/envoy/envoy-mtls.yaml"

// Secrets are the files of an Envoy that runs MTLS.
type Secrets struct {
	// Certificates holds Envoy's certificate and the CA of extauthz's.
	Certificates *catest.Volume

	dir string
}

// NewSecrets returns the shipped secret files with this certificate and this CA.
func NewSecrets(t testing.TB, client catest.Pair, ca []byte) *Secrets {
	t.Helper()
	s := &Secrets{Certificates: catest.NewVolume(t, client.Files(ca)), dir: t.TempDir()}
	for _, name := range []string{"secret-client.yaml", "secret-ca.yaml"} {
		text, err := os.ReadFile(filepath.Join(ModuleRoot(t), "deploy/envoy", name))
		if err != nil {
			t.Fatal(err)
		}
		catest.WriteFile(t, s.dir, name, []byte(s.moved(string(text))))
	}
	return s
}

// Edit points a configuration to the files. It is an Options.Edit.
func (s *Secrets) Edit(tree map[string]any) { s.move(tree) }

func (s *Secrets) moved(text string) string {
	return strings.NewReplacer("/etc/envoy/tls", s.Certificates.Dir, "/etc/envoy", s.dir).Replace(text)
}

func (s *Secrets) move(node any) any {
	switch node := node.(type) {
	case string:
		return s.moved(node)
	case map[string]any:
		for key, value := range node {
			node[key] = s.move(value)
		}
	case []any:
		for i, value := range node {
			node[i] = s.move(value)
		}
	}
	return node
}

// UpstreamTLS returns the TLS settings of a cluster.
func UpstreamTLS(cluster map[string]any) map[string]any {
	return child(child(cluster, "transport_socket"), "typed_config")
}
