// Package pgtest runs a real PostgreSQL for tests: on loopback, on a free port, in a folder of its
// own, without fsync.
//
// A server belongs to one test and ends with it; should the test process be killed, the kernel
// ends the server (on Linux). A machine without PostgreSQL fails the test: nothing is skipped.
// The package is for tests only and trusts its caller.
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// patience bounds each step of starting and stopping a server.
const patience = 30 * time.Second

// Server is a PostgreSQL server. Its methods may be called from one goroutine at a time, but for
// NewDatabase, which is safe for concurrent use.
type Server struct {
	bin       string
	folder    string
	port      int
	owner     *syscall.Credential
	settings  []string
	process   *process // nil when stopped
	databases atomic.Int64
}

// Durable is the setting of a server that loses no commit when its processes are killed. Without it, some tenths of a
// second may be lost.
const Durable = "synchronous_commit=on"

// Start makes and starts a server and ends it with the test. It takes about a second: share one
// server among the subtests of a test, and give each its own database. Settings (NAME=VALUE) add to its own.
func Start(t testing.TB, settings ...string) *Server {
	t.Helper()
	s := &Server{settings: settings}
	if err := s.prepare(); err != nil {
		_ = os.RemoveAll(s.folder)
		t.Fatalf("pgtest: %v", err)
	}
	t.Cleanup(func() {
		if err := errors.Join(s.process.end(), os.RemoveAll(s.folder)); err != nil {
			t.Errorf("pgtest: %v", err)
		}
	})
	if err := s.findPort(); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	return s
}

// findPort starts the server on a port that was free a moment ago, and on another one if somebody was
// faster.
func (s *Server) findPort() (err error) {
	for range 3 {
		if s.port, err = freePort(); err != nil {
			return err
		}
		if err = s.launch(); err == nil {
			return nil
		}
	}
	return err
}

// Start starts a stopped server on its old port, and returns when it accepts connections.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	if err := s.launch(); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
}

func (s *Server) launch() error {
	args := []string{
		"-D", s.data(), "-p", strconv.Itoa(s.port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=",
		"-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off", "-c", "max_connections=200",
	}
	for _, setting := range s.settings {
		args = append(args, "-c", setting) // the last one counts
	}
	process, err := start(s.command("postgres", args...))
	if err != nil {
		return fmt.Errorf("start postgres: %w", err)
	}
	s.process = process
	return nil
}

// Stop ends the server at once, with every connection (SQLSTATE 57P01), and returns when its port is
// closed. A stopped server stays so.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	if err := s.process.end(); err != nil {
		t.Errorf("pgtest: stop postgres: %v", err)
	}
	s.process = nil
}

// Restart stops and starts the server.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.Stop(t)
	s.Start(t)
}

// NewDatabase creates an empty database, drops it after the test and returns its URL.
func (s *Server) NewDatabase(t testing.TB) (url string) {
	t.Helper()
	return s.create(t, "template1")
}

// Template is a database to copy.
type Template struct {
	server *Server
	name   string
}

// NewTemplate creates a database and lets migrate prepare it. migrate must close what it opens.
func (s *Server) NewTemplate(t testing.TB, migrate func(url string) error) *Template {
	t.Helper()
	url := s.NewDatabase(t)
	if err := migrate(url); err != nil {
		t.Fatalf("pgtest: prepare the template: %v", err)
	}
	config, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	return &Template{server: s, name: config.Database}
}

// NewDatabase creates a copy of the template, drops it after the test and returns its URL.
func (m *Template) NewDatabase(t testing.TB) (url string) {
	t.Helper()
	return m.server.create(t, m.name)
}

func (s *Server) create(t testing.TB, template string) (url string) {
	t.Helper()
	name := fmt.Sprintf("test_%d", s.databases.Add(1))
	if err := s.exec("CREATE DATABASE " + name + " TEMPLATE " + template); err != nil {
		t.Fatalf("pgtest: create a database: %v", err)
	}
	// A test may leave the server stopped; the folder goes away in any case.
	t.Cleanup(func() { _ = s.exec("DROP DATABASE " + name + " WITH (FORCE)") })
	return s.url(name)
}

func (s *Server) exec(statement string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.url("postgres"))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, statement)
	return err
}

// url holds a password, which the server does not ask for, so that tests see where it turns up.
func (s *Server) url(database string) string {
	return fmt.Sprintf("postgres://postgres:hunter2@127.0.0.1:%d/%s?sslmode=disable", s.port, database)
}

func (s *Server) data() string { return filepath.Join(s.folder, "data") }

// prepare finds the programs and a user to run them as, makes a folder and in it the cluster.
func (s *Server) prepare() (err error) {
	if s.bin, err = find(); err != nil {
		return err
	}
	if s.owner, err = owner(); err != nil {
		return err
	}
	if s.folder, err = os.MkdirTemp("", "pg"); err != nil {
		return err
	}
	if s.owner != nil {
		if err := os.Chown(s.folder, int(s.owner.Uid), int(s.owner.Gid)); err != nil {
			return err
		}
	}
	out, err := s.command("initdb", "-D", s.data(), "-U", "postgres", "-A", "trust",
		"--no-sync", "--no-locale", "-E", "UTF8").CombinedOutput()
	if err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	return nil
}

func (s *Server) command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, program), args...)
	cmd.Dir = s.folder
	cmd.Env = []string{"PATH=" + s.bin, "LC_ALL=C", "TZ=UTC"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.owner}
	dieWithParent(cmd.SysProcAttr)
	return cmd
}

var errMissing = errors.New("there is no PostgreSQL here (initdb and postgres): install the apt package postgresql")

// find returns the folder of initdb and postgres: Debian keeps them off the PATH.
func find() (string, error) {
	folders := filepath.SplitList(os.Getenv("PATH"))
	debian, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil {
		return "", err
	}
	for _, folder := range append(folders, debian...) {
		if executable(folder, "initdb") && executable(folder, "postgres") {
			return resolve(folder)
		}
	}
	return "", errMissing
}

// resolve follows a link to initdb: postgres looks for its own files beside the real program.
func resolve(folder string) (string, error) {
	program, err := filepath.EvalSymlinks(filepath.Join(folder, "initdb"))
	if err != nil {
		return "", err
	}
	if dir := filepath.Dir(program); executable(dir, "postgres") {
		return dir, nil
	}
	return folder, nil
}

func executable(folder, program string) bool {
	info, err := os.Stat(filepath.Join(folder, program))
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

func freePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		return 0, err
	}
	if err := listener.Close(); err != nil {
		return 0, err
	}
	return strconv.Atoi(port)
}
