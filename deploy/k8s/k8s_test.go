// Package k8s_test checks what a schema of Kubernetes cannot: that the configuration files in the ConfigMaps are ones that
// extauthz starts with.
package k8s_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/extauthz/extauthz/internal/config"
)

// secretInFile is where the Secret is mounted in the pod.
const secretInFile = "/var/run/secrets/extauthz/database-url"

func TestConfigurationsLoad(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "database-url")
	if err := os.WriteFile(secret, []byte("postgres://extauthz:password@postgres:5432/extauthz\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	addresses := map[string]string{
		"base/extauthz.yaml":             "0.0.0.0:9001",
		"overlays/sidecar/extauthz.yaml": "unix:///run/extauthz/extauthz.sock",
	}
	for file, address := range addresses {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), secretInFile) {
			t.Errorf("%s does not read %s", file, secretInFile)
		}
		c, err := config.Parse(file, []byte(strings.ReplaceAll(string(text), secretInFile, secret)), os.LookupEnv)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.GetServer().GetAddress(); got != address {
			t.Errorf("%s: server.address %q, want %q", file, got, address)
		}
		if got := c.GetTelemetry().GetAddress(); got != "0.0.0.0:9003" {
			t.Errorf("%s: telemetry.address %q, want the port of the probes", file, got)
		}
	}
}
