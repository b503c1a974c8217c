// Package envoytest gives a test a real Envoy, running the configuration that ships, and an upstream that tells what reached
// it. A missing part fails the test: through Envoy is how the product is used, so there is no test without it.
package envoytest

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/extauthz/extauthz/internal/echo"
	"github.com/extauthz/extauthz/internal/envoyproc"
)

// The configurations that ship, for Options.ConfigFile.
const (
	TCP       = "deploy/envoy/envoy.yaml"
	Sidecar   = "deploy/envoy/envoy-sidecar.yaml"
	RateLimit = "deploy/envoy/envoy-ratelimit.yaml"
)

// Options says what one Envoy connects. Authz and Upstream are required.
type Options struct {
	// ConfigFile is relative to the module's root; empty means TCP.
	ConfigFile string
	// Authz is where the authorization service listens: host:port with TCP, unix:///path or host:port with Sidecar (Envoy
	// resolves TCP's cluster by name, which a socket path is not).
	Authz string
	// Upstream is host:port.
	Upstream string
	// Edit changes the configuration tree before Envoy reads it; ExtAuthz and HCM find the parts most often changed.
	Edit func(tree map[string]any)
}

// Envoy is a running Envoy that ends with its test. Its methods may be called from several goroutines.
type Envoy struct {
	// URL is where clients connect, AdminURL the admin interface; neither ends in a slash.
	URL, AdminURL string

	process   *envoyproc.Process
	log       *logBuffer
	accessLog *logBuffer
}

// Start runs Envoy until the end of the test and fails the test if it does not come up.
func Start(t testing.TB, opts Options) *Envoy {
	t.Helper()
	root := ModuleRoot(t)
	if opts.ConfigFile == "" {
		opts.ConfigFile = TCP
	}
	config, err := os.ReadFile(filepath.Join(root, opts.ConfigFile))
	if err != nil {
		t.Fatal(err)
	}
	binary, err := envoyproc.FindBinary(root)
	if err != nil {
		t.Fatal(err)
	}
	e := &Envoy{log: new(logBuffer), accessLog: new(logBuffer)}
	t.Cleanup(func() { e.reportOnFailure(t) })
	// Not t.Context(): it ends before the cleanups do, and a test's own cleanups may still need Envoy.
	e.process, err = envoyproc.Start(context.Background(), envoyproc.Config{
		Binary: binary, YAML: config, Authz: opts.Authz, Upstream: opts.Upstream, Edit: opts.Edit,
		Stdout: e.accessLog, Stderr: e.log,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.process.Stop)
	e.URL, e.AdminURL = e.process.URL, e.process.AdminURL
	return e
}

// Stop ends Envoy before the test does.
func (e *Envoy) Stop() { e.process.Stop() }

// Stats returns the counter or gauge with this exact name, and 0 if Envoy has none.
func (e *Envoy) Stats(t testing.TB, name string) int64 {
	t.Helper()
	stats, err := e.process.Stats(t.Context(), "^"+regexp.QuoteMeta(name)+"$")
	if err != nil {
		t.Fatal(err)
	}
	return stats[name]
}

// Certificates returns Envoy's list of the certificates that it has, in JSON.
func (e *Envoy) Certificates(t testing.TB) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, e.AdminURL+"/certs", nil)
	if err != nil {
		t.Fatal(err)
	}
	return Do(t, request).Body
}

// AccessLog returns what Envoy has written to its access log: JSON objects, one a line. A line appears some 20 ms after its
// request has ended.
func (e *Envoy) AccessLog() string { return e.accessLog.String() }

// Log returns Envoy's own log at level warning.
func (e *Envoy) Log() string { return e.log.String() }

func (e *Envoy) reportOnFailure(t testing.TB) {
	if t.Failed() {
		t.Logf("envoy log:\n%s\nenvoy access log:\n%s", e.log, e.accessLog)
	}
}

// NewUpstream starts an echo upstream that ends with the test.
func NewUpstream(t testing.TB) *echo.Server {
	t.Helper()
	s, err := echo.Start(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// ModuleRoot is the nearest directory above the test's that holds a go.mod.
func ModuleRoot(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatal("no go.mod above the test's directory")
		}
		dir = parent
	}
}

// logBuffer collects a process's output while tests read it.
type logBuffer struct {
	mu  sync.Mutex
	buf strings.Builder
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
