package docstest

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/extauthz/extauthz/internal/envoyproc"
	"github.com/extauthz/extauthz/internal/extauthztest/envoytest"
	"github.com/extauthz/extauthz/internal/extauthztest/pgtest"
)

// patience bounds a whole console session.
const patience = 3 * time.Minute

// command is one command of a console block and what it must print.
type command struct {
	block  block
	text   string
	prints string
}

// TestConsole runs every command of the quickstart and of the operations page, in order, in one shell and one folder, and compares
// what they print. The ports of the pages are replaced by free ones, and nothing else.
func TestConsole(t *testing.T) {
	for _, tool := range []string{"bash", "curl", "openssl", "python3"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("the quickstart needs %s: %v", tool, err)
		}
	}
	s := newSession(t)
	var commands []command
	for _, page := range []string{quickstart, operations} {
		for _, b := range blocks(t, page) {
			switch _, file, isFile := strings.Cut(b.info, "="); {
			case isFile:
				s.write(file, b.text)
			case b.info == "console":
				commands = append(commands, commandsOf(t, b)...)
			case b.info == "sql":
				s.sql(b.text)
			}
		}
	}
	s.run(commands)
}

// commandsOf takes a console block apart: a command stands after "$ ", and what it prints in the lines below.
func commandsOf(t *testing.T, b block) []command {
	t.Helper()
	var list []command
	for line := range strings.Lines(b.text) {
		text, isCommand := strings.CutPrefix(line, "$ ")
		switch {
		case isCommand:
			list = append(list, command{block: b, text: strings.TrimSuffix(text, "\n")})
		case len(list) == 0:
			t.Fatalf("%s:%d: the block does not begin with a command", b.page, b.line)
		default:
			list[len(list)-1].prints += line
		}
	}
	return list
}

// session is the folder in which a reader of the quickstart works.
type session struct {
	t     *testing.T
	dir   string
	ports map[string]string
	admin string // URL of the PostgreSQL server's administrator
}

func newSession(t *testing.T) *session {
	t.Helper()
	s := &session{t: t, dir: t.TempDir(), ports: make(map[string]string), admin: pgtest.Start(t).NewDatabase(t)}
	for _, port := range []string{"9001", "9003", "8080", "8081", "9901", "10000"} {
		s.ports[port] = freePort(t)
	}
	at, err := url.Parse(s.admin)
	if err != nil {
		t.Fatal(err)
	}
	s.ports["5432"] = at.Port()
	envoy, err := envoyproc.FindBinary(envoytest.ModuleRoot(t))
	if err != nil {
		t.Fatal(err)
	}
	if envoy, err = filepath.Abs(envoy); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(s.dir, "bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, program := range map[string]string{"extauthz": binary, "envoy": envoy} {
		if err := os.Symlink(program, filepath.Join(s.dir, "bin", name)); err != nil {
			t.Fatal(err)
		}
	}
	s.write("envoy.yaml", read(t, envoytest.TCP))
	return s
}

func freePort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// moved returns a text with the ports of this session.
func (s *session) moved(text string) string {
	return regexp.MustCompile(`\b[0-9]{4,5}\b`).ReplaceAllStringFunc(text, func(port string) string {
		if moved, ok := s.ports[port]; ok {
			return moved
		}
		return port
	})
}

func (s *session) write(file, text string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, file), []byte(s.moved(text)), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// sql runs statements as the administrator, each outside of a transaction.
func (s *session) sql(text string) {
	s.t.Helper()
	connection, err := pgx.Connect(s.t.Context(), s.admin)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = connection.Close(context.Background()) }()
	for line := range strings.Lines(text) {
		if _, err := connection.Exec(s.t.Context(), line); err != nil {
			s.t.Fatalf("%s: %v", line, err)
		}
	}
}

// mark parts the output of one command from that of the next.
const mark = "=== end of command "

// preamble ends what the commands leave in the background: with the shell, and with the test process if that is killed.
const preamble = `trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT
(while kill -0 $PPID; do sleep 1; done; kill -KILL -- -$$) >/dev/null 2>&1 &
`

// script runs the commands as if they were typed: $? is the last command's.
func (s *session) script(commands []command) string {
	var script strings.Builder
	script.WriteString(preamble)
	for n, c := range commands {
		fmt.Fprintf(&script, "%s\nlast=$?; echo '%s%d'; (exit $last)\n", s.moved(c.text), mark, n)
	}
	return script.String()
}

func (s *session) run(commands []command) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	shell := exec.CommandContext(ctx, "bash", "-c", s.script(commands))
	shell.Dir = s.dir
	shell.Env = append(os.Environ(), "PATH="+filepath.Join(s.dir, "bin")+":"+os.Getenv("PATH"))
	// A group of its own, so that what a command left in the background ends with it.
	shell.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	shell.Cancel = func() error { return syscall.Kill(-shell.Process.Pid, syscall.SIGKILL) }
	out, err := shell.CombinedOutput()
	if err != nil && ctx.Err() != nil {
		s.t.Errorf("the session did not end in %s", patience)
	}
	rest := string(out)
	for n, c := range commands {
		printed, after, ended := strings.Cut(rest, fmt.Sprintf("%s%d\n", mark, n))
		if !ended || !s.matches(c.prints, printed) {
			s.t.Errorf("%s, block at line %d:\n$ %s\n%s\nwant\n%s", c.block.page, c.block.line, c.text, printed, s.moved(c.prints))
		}
		if !ended {
			break
		}
		rest = after
	}
	if s.t.Failed() {
		s.showLogs()
	}
}

// matches compares what a command printed with the page; … there stands for any text within a line. A last line may lack its end.
func (s *session) matches(want, got string) bool {
	pattern := strings.ReplaceAll(regexp.QuoteMeta(s.moved(strings.TrimSuffix(want, "\n"))), "…", ".*")
	return regexp.MustCompile("^" + pattern + "$").MatchString(strings.TrimSuffix(got, "\n"))
}

func (s *session) showLogs() {
	logs, _ := filepath.Glob(filepath.Join(s.dir, "*.log"))
	for _, file := range logs {
		if text, err := os.ReadFile(file); err == nil {
			s.t.Logf("%s:\n%s", filepath.Base(file), text)
		}
	}
}
