package adversary

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/extauthz/extauthz/internal/extauthztest/envoytest"
)

// patience bounds each wait for a process or an answer.
const patience = 30 * time.Second

// server is a running process of the binary, with its store.
type server struct {
	t       *testing.T
	store   database
	command *exec.Cmd
	checks  authv3.AuthorizationClient
	asked   atomic.Int64  // checks
	ended   chan struct{} // after it, the log is complete

	environment        []string
	config             string // its file
	address, telemetry string

	mu  sync.Mutex
	log strings.Builder
}

// serve runs the binary with the suite's configuration over a store with the suite's rows, until the test ends.
func serve(t *testing.T, w *world, store database) *server {
	t.Helper()
	s := prepare(t, w, store, w.config(t))
	store.dangle(t, w.hash("dangling"))
	s.start()
	return s
}

// prepare migrates and fills the store for a server that is to run with this configuration.
func prepare(t *testing.T, w *world, store database, config string) *server {
	t.Helper()
	s := &server{t: t, store: store, environment: w.environment(store), ended: make(chan struct{})}
	s.config = s.write("extauthz.yaml", config)
	s.cli("migrate", "--config", s.config)
	s.cli("apply", "--config", s.config, "-f", s.write("resources.yaml", w.resources(t)))
	return s
}

func (w *world) environment(store database) []string {
	return append(os.Environ(), "STORE_URL="+store.url, "HOME_ISSUER="+w.home.URL(), "OTHER_ISSUER="+w.other.URL(),
		// The race detector ends a process at its first finding, and without its usual second of waiting for more.
		"GORACE=halt_on_error=1 atexit_sleep_ms=0")
}

// cli runs a command of the binary, which must succeed.
func (s *server) cli(args ...string) {
	s.t.Helper()
	command := exec.CommandContext(s.t.Context(), binary, args...)
	command.Env = s.environment
	if out, err := command.CombinedOutput(); err != nil {
		s.t.Fatalf("extauthz %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func (s *server) write(name, text string) string {
	s.t.Helper()
	file := filepath.Join(s.t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return file
}

func (s *server) start() {
	s.t.Helper()
	s.command = exec.Command(binary, "serve", "--config", s.config)
	s.command.Env = s.environment
	s.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	s.command.Stderr = os.Stderr
	out, err := s.command.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.command.Start(); err != nil {
		s.t.Fatal(err)
	}
	listening := make(chan struct{})
	go s.readLog(out, listening)
	s.t.Cleanup(s.stop)
	select {
	case <-listening:
	case <-s.ended:
		s.t.Fatalf("extauthz ended before it listened:\n%s", s.logged())
	case <-time.After(patience):
		s.t.Fatalf("extauthz did not listen within %s:\n%s", patience, s.logged())
	}
	connection, err := grpc.NewClient(s.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = connection.Close() })
	s.checks = authv3.NewAuthorizationClient(connection)
}

func (s *server) readLog(out io.Reader, listening chan<- struct{}) {
	defer close(s.ended)
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		s.mu.Lock()
		s.log.WriteString(lines.Text() + "\n")
		s.mu.Unlock()
		var line struct{ Msg, Server, Telemetry string }
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "listening" {
			s.address, s.telemetry = line.Server, line.Telemetry
			close(listening)
		}
	}
}

func (s *server) logged() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

// kill ends the process at once, as the kernel does when memory runs out.
func (s *server) kill() {
	_ = s.command.Process.Kill()
	<-s.ended
	_ = s.command.Wait()
}

// stop ends the process and requires a clean end, so that a crash or a data race of any case is seen.
func (s *server) stop() {
	if s.command.ProcessState != nil {
		return // it has ended
	}
	_ = s.command.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.ended:
	case <-time.After(patience):
		_ = s.command.Process.Kill()
		<-s.ended
		s.t.Errorf("extauthz did not end on SIGTERM")
	}
	if err := s.command.Wait(); err != nil {
		s.t.Errorf("extauthz ended with %v:\n%s", err, s.logged())
	}
}

// page reads a page of the telemetry listener.
func (s *server) page(path string) string {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, "http://"+s.telemetry+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return envoytest.Do(s.t, request).Body
}
