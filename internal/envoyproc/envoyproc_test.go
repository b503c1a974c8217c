package envoyproc_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	deploy "github.com/extauthz/extauthz/deploy/envoy"
	"github.com/extauthz/extauthz/internal/envoyproc"
	"github.com/extauthz/extauthz/internal/extauthztest/envoytest"
)

// nobody is an address where nothing listens: Envoy comes up all the same, and these tests are about the process alone.
const nobody = "127.0.0.1:1"

func config(t *testing.T) envoyproc.Config {
	t.Helper()
	binary, err := envoyproc.FindBinary(envoytest.ModuleRoot(t))
	if err != nil {
		t.Fatal(err)
	}
	return envoyproc.Config{Binary: binary, YAML: deploy.TCP, Authz: nobody, Upstream: nobody}
}

func start(t *testing.T, ctx context.Context, cfg envoyproc.Config) *envoyproc.Process {
	t.Helper()
	p, err := envoyproc.Start(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	return p
}

func TestStopEndsEnvoyAndMayBeRepeated(t *testing.T) {
	p := start(t, t.Context(), config(t))
	p.Stop()
	p.Stop()
	awaitClosed(t, p.AdminURL)
}

func TestContextEndsEnvoy(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	p := start(t, ctx, config(t))
	cancel()
	select {
	case <-p.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("envoy outlived its context")
	}
}

func TestStartReportsWhatEnvoySays(t *testing.T) {
	cfg := config(t)
	cfg.Edit = func(tree map[string]any) { tree["no_such_field"] = true }
	_, err := envoyproc.Start(t.Context(), cfg)
	if err == nil || !strings.Contains(err.Error(), "no_such_field") {
		t.Errorf("error %v, want envoy's own words about no_such_field", err)
	}
}

func TestStartRefusesWhatItCannotReplace(t *testing.T) {
	cases := map[string]func(*envoyproc.Config){
		"no YAML":           func(c *envoyproc.Config) { c.YAML = []byte("{") },
		"another listener":  func(c *envoyproc.Config) { c.YAML = without(c.YAML, "10000") },
		"another authz":     func(c *envoyproc.Config) { c.YAML = without(c.YAML, "9001") },
		"no port":           func(c *envoyproc.Config) { c.Upstream = "localhost" },
		"port out of range": func(c *envoyproc.Config) { c.Upstream = "localhost:65536" },
		"no such binary":    func(c *envoyproc.Config) { c.Binary = "/nonexistent/envoy" },
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			cfg := config(t)
			change(&cfg)
			if p, err := envoyproc.Start(t.Context(), cfg); err == nil {
				p.Stop()
				t.Error("started")
			}
		})
	}
}

func without(yaml []byte, port string) []byte {
	return []byte(strings.ReplaceAll(string(yaml), "port_value: "+port, "port_value: 1"))
}

func TestFindBinaryNamesTheRemedy(t *testing.T) {
	t.Setenv(envoyproc.BinaryEnv, "")
	_, err := envoyproc.FindBinary(t.TempDir())
	if !errors.Is(err, envoyproc.ErrNoBinary) || !strings.Contains(err.Error(), "make envoy") {
		t.Errorf("error %v", err)
	}
	t.Setenv(envoyproc.BinaryEnv, "/nonexistent/envoy")
	if _, err := envoyproc.FindBinary(t.TempDir()); !errors.Is(err, envoyproc.ErrNoBinary) {
		t.Errorf("error %v for a missing %s", err, envoyproc.BinaryEnv)
	}
}

// childEnv makes this test binary start an Envoy, print its admin address and wait to be killed.
const childEnv = "ENVOYPROC_TEST_CHILD"

func TestEnvoyDiesWithItsParent(t *testing.T) {
	cfg := config(t)
	if os.Getenv(childEnv) != "" {
		fmt.Println(start(t, t.Context(), cfg).AdminURL)
		select {}
	}
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestEnvoyDiesWithItsParent$")
	// The killed child cannot remove its temporary files; this test's own directory is removed in any case.
	child.Env = append(os.Environ(), childEnv+"=1", envoyproc.BinaryEnv+"="+cfg.Binary, "TMPDIR="+t.TempDir())
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	adminURL, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // "signal: killed", as asked
	awaitClosed(t, strings.TrimSpace(adminURL))
}

func awaitClosed(t *testing.T, url string) {
	t.Helper()
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); <-poll.C {
		conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			return
		}
		_ = conn.Close()
	}
	t.Fatalf("envoy still listens at %s", url)
}
