package transport_test

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/extauthz/extauthz/internal/transport"
)

const patience = 10 * time.Second

func listen(t *testing.T, address, mode string, connections int) net.Listener {
	t.Helper()
	l, err := transport.Listen(address, mode, connections)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func TestSocketMode(t *testing.T) {
	for _, mode := range []string{"0600", "0660", "0666", "0000"} {
		path := filepath.Join(t.TempDir(), "s")
		listen(t, "unix://"+path, mode, 1)
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm().String(); got != fs.FileMode(must(t, mode)).String() {
			t.Errorf("mode %s became %s", mode, got)
		}
	}
	if _, err := transport.Listen("unix://"+filepath.Join(t.TempDir(), "s"), "rw", 1); err == nil {
		t.Error("a mode that is none was taken")
	}
}

func must(t *testing.T, octal string) fs.FileMode {
	t.Helper()
	var mode fs.FileMode
	for _, digit := range octal {
		mode = mode<<3 | fs.FileMode(digit-'0')
	}
	return mode
}

func TestStaleSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	left, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	left.(*net.UnixListener).SetUnlinkOnClose(false) // as when the process is killed
	if _, err := transport.Listen("unix://"+path, "0600", 1); err == nil || !strings.Contains(err.Error(), "another process listens there") {
		t.Errorf("took over a socket in use: %v", err)
	}
	if err := left.Close(); err != nil {
		t.Fatal(err)
	}
	l := listen(t, "unix://"+path, "0600", 1)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is left behind: %v", err)
	}
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := transport.Listen("unix://"+path, "0600", 1); err == nil || !strings.Contains(err.Error(), "is no socket") {
		t.Errorf("took the place of a file: %v", err)
	}
}

// Of the connections beyond the bound, none is accepted until another closes.
func TestMaxConnections(t *testing.T) {
	const bound = 3
	l := listen(t, "127.0.0.1:0", "", bound)
	accepted := make(chan net.Conn)
	go func() {
		defer close(accepted)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	for range bound + 2 {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
	}
	var open []net.Conn
	for range bound {
		open = append(open, <-accepted)
	}
	select {
	case <-accepted:
		t.Fatal("one more was accepted than the bound")
	case <-time.After(100 * time.Millisecond):
	}
	for _, c := range open[:2] {
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		select {
		case <-accepted:
		case <-time.After(patience):
			t.Fatal("none was accepted after one had closed")
		}
	}
}

func TestExposed(t *testing.T) {
	for address, want := range map[string]bool{"127.0.0.1:0": false, "[::1]:0": false, "localhost:0": false, "0.0.0.0:0": true, ":0": true} {
		if got := transport.Exposed(listen(t, address, "", 1).Addr()); got != want {
			t.Errorf("%s: %v", address, got)
		}
	}
	socket := listen(t, "unix://"+filepath.Join(t.TempDir(), "s"), "0666", 1)
	if transport.Exposed(socket.Addr()) {
		t.Error("a socket is reachable from other machines")
	}
}
