package e2e

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/extauthz/extauthz/internal/echo"
	"github.com/extauthz/extauthz/internal/extauthztest/envoytest"
	"github.com/extauthz/extauthz/internal/extauthztest/issuertest"
	"github.com/extauthz/extauthz/internal/extauthztest/issuertest/localissuer"
	"github.com/extauthz/extauthz/internal/resource"
)

// patience bounds each wait for a process.
const patience = 30 * time.Second

var binary string // built once for all tests

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "extauthz-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary = filepath.Join(dir, "extauthz")
	build := exec.Command("go", slices.Concat([]string{"build", "-o", binary}, buildFlags, []string{"github.com/extauthz/extauthz/cmd/extauthz"})...)
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the binary: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// site is one installation: a store, an issuer, an upstream, and servers with an Envoy in front of each.
type site struct {
	t        *testing.T
	store    database
	issuer   *issuertest.Issuer
	upstream *echo.Server
	config   string
	servers  []*server
	// wrapper is the program that starts the binary, with its arguments, if there is one.
	wrapper []string
	// quiet keeps what the servers log of decisions out of memory.
	quiet bool
}

// plan says what a site is made of.
type plan struct {
	// config is appended to the common part of the configuration.
	config string
	// resources is applied to the store before the servers start.
	resources string
	// servers is how many there are; 0 means 1, -1 none.
	servers int
	// issuers are trusted instead of the site's own.
	issuers string
	// upstream is host:port of another upstream than the site's own, which tells what reached it.
	upstream string
	// envoyFile is the shipped Envoy configuration; empty means the usual one. envoy changes it.
	envoyFile string
	envoy     func(tree map[string]any)
	// server is more keys of the section of that name; telemetry is likewise.
	server, telemetry string
	// socket puts the server on a Unix socket, behind the shipped sidecar configuration.
	socket bool
	// unmigrated leaves the database as it is.
	unmigrated bool
	// drainDelay is the servers' drain_delay; empty means 0s.
	drainDelay string
	// notReady does not wait for the servers to be ready.
	notReady bool
	// noEnvoy starts no Envoy: requests go to the servers themselves.
	noEnvoy bool
	// checkTimeout and storeTimeout are the servers' own; empty means 5s and 2s.
	checkTimeout, storeTimeout string
	// wrapper is the site's.
	wrapper []string
}

// claims is where the tests' tokens carry the identity.
const claims = `
  claims: {user_id: sub, email: email, team_id: team, team_ids: groups, org_id: org, roles: realm_access.roles, scopes: scope}
`

func newSite(t *testing.T, store database, p plan) *site {
	t.Helper()
	s := &site{
		t: t, store: store, upstream: envoytest.NewUpstream(t), wrapper: p.wrapper,
		issuer: issuertest.New(t, localissuer.Audience("llm-gateway"), localissuer.Algorithms("ES256")),
	}
	s.config = filepath.Join(t.TempDir(), "extauthz.yaml")
	address := "127.0.0.1:0"
	if p.socket {
		address = "unix://" + filepath.Join(t.TempDir(), "s")
	}
	issuers := cmp.Or(p.issuers, fmt.Sprintf("- issuer: %s\n  audiences: [llm-gateway]%s", s.issuer.URL(), claims))
	text := fmt.Sprintf("server: {address: '%s', check_timeout: %s, reflection: true, drain_delay: %s%s}\ntelemetry: {address: '127.0.0.1:0'%s}\n"+
		"store: {url: '%s', timeout: %s}\nissuers:\n%s%s", address, cmp.Or(p.checkTimeout, "5s"), cmp.Or(p.drainDelay, "0s"), p.server, p.telemetry,
		store.url(), cmp.Or(p.storeTimeout, "2s"), issuers, p.config)
	if err := os.WriteFile(s.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if store.url() != "none" && !p.unmigrated {
		s.cli("migrate", "--config", s.config)
	}
	if p.resources != "" {
		s.apply(p.resources)
	}
	for range max(0, cmp.Or(p.servers, 1)) {
		s.servers = append(s.servers, s.serve(p))
	}
	return s
}

// cli runs a command of the binary, which must succeed, and returns its standard output.
func (s *site) cli(args ...string) string {
	s.t.Helper()
	line := slices.Concat(s.wrapper, []string{binary}, args)
	command := exec.CommandContext(s.t.Context(), line[0], line[1:]...)
	command.Env = environment()
	out, err := command.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			s.t.Fatalf("extauthz %s: %v\n%s", strings.Join(args, " "), err, exit.Stderr)
		}
		s.t.Fatal(err)
	}
	return string(out)
}

// environment makes the race detector end a process at its first finding, and without its usual second
// of waiting for more.
func environment() []string {
	return append(os.Environ(), "GORACE=halt_on_error=1 atexit_sleep_ms=0")
}

func (s *site) apply(resources string) {
	s.t.Helper()
	file := filepath.Join(s.t.TempDir(), "resources.yaml")
	if err := os.WriteFile(file, []byte(resources), 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.cli("apply", "-f", file, "--config", s.config)
}

// export returns what the store holds.
func (s *site) export() *resource.Set {
	s.t.Helper()
	set, _, err := resource.Parse("export", []byte(s.cli("export", "--config", s.config)))
	if err != nil {
		s.t.Fatal(err)
	}
	return set
}

// server is one process of the binary with its Envoy.
type server struct {
	t         *testing.T
	command   *exec.Cmd
	address   string
	telemetry string
	envoy     *envoytest.Envoy
	upstream  *echo.Server
	ready     chan struct{}
	ended     chan struct{}
	quiet     bool

	mu  sync.Mutex
	log strings.Builder
}

func (s *site) serve(p plan) *server {
	s.t.Helper()
	v := s.start(s.config)
	options := envoytest.Options{ConfigFile: p.envoyFile, Authz: v.address, Upstream: cmp.Or(p.upstream, s.upstream.Address), Edit: p.envoy}
	if p.socket {
		options.ConfigFile, options.Authz = envoytest.Sidecar, "unix://"+v.address
	}
	if !p.notReady {
		v.await("be ready", v.ready)
	}
	if p.noEnvoy {
		return v
	}
	v.envoy = envoytest.Start(s.t, options)
	return v
}

// start starts a process of the binary and waits until it listens.
func (s *site) start(config string) *server {
	s.t.Helper()
	v := &server{t: s.t, upstream: s.upstream, ready: make(chan struct{}), ended: make(chan struct{}), quiet: s.quiet}
	line := slices.Concat(s.wrapper, []string{binary, "serve", "--config", config})
	v.command = exec.Command(line[0], line[1:]...)
	v.command.Env = environment()
	v.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	v.command.Stderr = os.Stderr
	out, err := v.command.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := v.command.Start(); err != nil {
		s.t.Fatal(err)
	}
	started := make(chan struct{})
	go v.readLog(out, started)
	s.t.Cleanup(v.stop)
	v.await("listen", started)
	return v
}

func (v *server) await(what string, happened <-chan struct{}) {
	v.t.Helper()
	select {
	case <-happened:
	case <-v.ended:
		v.t.Fatalf("extauthz ended before it could %s:\n%s", what, v.logged())
	case <-time.After(patience):
		v.t.Fatalf("extauthz did not %s in %s:\n%s", what, patience, v.logged())
	}
}

func (v *server) readLog(out io.Reader, started chan<- struct{}) {
	defer close(v.ended)
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if v.quiet && bytes.Contains(lines.Bytes(), []byte(`"msg":"decision"`)) && !secret.Match(lines.Bytes()) {
			continue
		}
		v.mu.Lock()
		v.log.WriteString(lines.Text() + "\n")
		v.mu.Unlock()
		var line struct{ Msg, Server, Telemetry string }
		if json.Unmarshal(lines.Bytes(), &line) != nil {
			continue
		}
		switch line.Msg {
		case "listening":
			v.address, v.telemetry = line.Server, line.Telemetry
			close(started)
		case "ready":
			close(v.ready)
		}
	}
}

func (v *server) logged() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.log.String()
}

// stop ends the process as Kubernetes does and requires a clean exit.
func (v *server) stop() {
	if v.command.ProcessState != nil {
		return // a test has ended it
	}
	_ = v.command.Process.Signal(syscall.SIGTERM)
	select {
	case <-v.ended:
	case <-time.After(patience):
		_ = v.command.Process.Kill()
		<-v.ended
		v.t.Errorf("extauthz did not end on SIGTERM")
	}
	if err := v.command.Wait(); err != nil {
		v.t.Errorf("extauthz ended with %v:\n%s", err, v.logged())
	}
	v.checkLeaks()
	if v.t.Failed() {
		v.t.Logf("extauthz log:\n%s", v.logged())
	}
}

// secret is what must not be logged: a segment of a token (each starts with the base64url of {"), a key, a key's hash,
// a password.
var secret = regexp.MustCompile(`eyJ|sk-|[0-9a-f]{64}|hunter2`)

// checkLeaks requires that nothing secret was logged.
func (v *server) checkLeaks() {
	if found := secret.FindString(v.logged()); found != "" {
		v.t.Errorf("the log holds %q:\n%s", found, v.logged())
	}
}

// storeCalls returns how often the server asked the store for something.
func (v *server) storeCalls(operation string) int {
	v.t.Helper()
	request, err := http.NewRequestWithContext(v.t.Context(), http.MethodGet, "http://"+v.telemetry+"/metrics", nil)
	if err != nil {
		v.t.Fatal(err)
	}
	calls := 0
	for line := range strings.Lines(envoytest.Do(v.t, request).Body) {
		var n int
		if strings.HasPrefix(line, `extauthz_store_duration_seconds_count{operation="`+operation+`"`) {
			if _, err := fmt.Sscan(line[strings.LastIndex(line, " "):], &n); err != nil {
				v.t.Fatal(err)
			}
			calls += n
		}
	}
	return calls
}

// call is one request through Envoy.
type call struct {
	method, path, body, token string
	headers                   [][2]string
}

// answer is what became of it.
type answer struct {
	status   int
	reason   string
	header   http.Header
	body     string
	upstream echo.Request // what the upstream saw, if it was allowed
}

func (a answer) String() string { return fmt.Sprintf("%d %s %s", a.status, a.reason, a.body) }

// sees returns the one value of a header that reached the upstream, "" if there was none.
func (a answer) sees(name string) string {
	var values []string
	for header, v := range a.upstream.Headers {
		if strings.EqualFold(header, name) {
			values = append(values, v...)
		}
	}
	return strings.Join(values, " AND ")
}

const chatBody = `{"model":"gpt-4o","messages":[]}`

func (v *server) send(ctx context.Context, c call) (answer, error) {
	if c.method == "" {
		c.method = http.MethodPost
	}
	if c.path == "" {
		c.path = "/v1/chat/completions"
	}
	if c.body == "" && c.method == http.MethodPost {
		c.body = chatBody
	}
	request, err := http.NewRequestWithContext(ctx, c.method, v.envoy.URL+c.path, strings.NewReader(c.body))
	if err != nil {
		return answer{}, err
	}
	if c.token != "" {
		request.Header.Set("Authorization", "Bearer "+c.token)
	}
	for _, h := range c.headers {
		request.Header[h[0]] = append(request.Header[h[0]], h[1])
	}
	response, err := client().Do(request)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return answer{}, err
	}
	a := answer{status: response.StatusCode, reason: response.Header.Get("x-extauthz-reason"), header: response.Header, body: string(body)}
	if a.status == http.StatusOK {
		err = json.Unmarshal(body, &a.upstream)
	}
	return a, err
}

func client() *http.Client {
	return &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
}

func (v *server) do(c call) answer {
	v.t.Helper()
	a, err := v.send(v.t.Context(), c)
	if err != nil {
		v.t.Fatal(err)
	}
	return a
}

// as sends a chat request with a token of these claims.
func (s *site) as(claims map[string]any) answer {
	s.t.Helper()
	return s.servers[0].do(call{token: s.issuer.Mint(claims)})
}

// expect requires a status and, for a denial, its reason in the header and in the body.
func (s *site) expect(a answer, status int, reason string) {
	s.t.Helper()
	if a.status != status || a.reason != reason {
		s.t.Fatalf("got %s; want %d %s", a, status, reason)
	}
	if status == http.StatusOK {
		return
	}
	var body struct {
		Error struct {
			Message, Type, Code string
			DecisionID          string `json:"decision_id"`
		}
	}
	if err := json.Unmarshal([]byte(a.body), &body); err != nil || body.Error.Code != reason || body.Error.DecisionID == "" || body.Error.Message == "" {
		s.t.Fatalf("the body is not ours: %s (%v)", a.body, err)
	}
	retry := a.header.Get("retry-after")
	if status != http.StatusTooManyRequests && (status == http.StatusServiceUnavailable) != (retry != "") {
		s.t.Fatalf("status %d with retry-after %q", status, retry)
	}
	if challenge := a.header.Get("www-authenticate"); (status == http.StatusUnauthorized) != strings.HasPrefix(challenge, "Bearer") {
		s.t.Fatalf("status %d with www-authenticate %q", status, challenge)
	}
}
