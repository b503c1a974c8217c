package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/extauthz/extauthz/internal/extauthztest/envoytest"
)

// neighbour is a program of others that extauthz works with.
type neighbour struct {
	name string
	// ports is how many ports it listens on; command gets that many free ones.
	ports   int
	command func(ports []string) *exec.Cmd
	// ready is asked until it says yes.
	ready func(ports []string) bool
	// patience bounds the wait for it.
	patience time.Duration
}

// installed returns the path of a part below .cache that a make target installs.
func installed(t *testing.T, file, target string) string {
	t.Helper()
	path := filepath.Join(envoytest.ModuleRoot(t), ".cache", file)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: run `make %s`", err, target)
	}
	return path
}

// onPath returns the path of a program of the system.
func onPath(t *testing.T, program, target string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Fatalf("%v: run `make %s`", err, target)
	}
	return path
}

// start runs the program until the end of the test, waits until it is ready, and returns its ports. It tries
// again with others if the program ends at once: somebody else may have taken one of them meanwhile.
func (n neighbour) start(t *testing.T) []string {
	t.Helper()
	var err error
	for range 3 {
		ports := freePorts(t, n.ports)
		if err = n.run(t, ports); err == nil {
			return ports
		}
		if !errors.Is(err, errEnded) {
			break
		}
	}
	t.Fatalf("%s: %v", n.name, err)
	return nil
}

var errEnded = errors.New("it ended before it was ready")

func (n neighbour) run(t *testing.T, ports []string) error {
	t.Helper()
	log, err := os.CreateTemp(t.TempDir(), n.name)
	if err != nil {
		return err
	}
	command := n.command(ports)
	command.Stdout, command.Stderr = log, log
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	ended := make(chan struct{})
	if err := begin(command, ended); err != nil {
		return err
	}
	t.Cleanup(func() {
		end(t, n.name, command, ended)
		if t.Failed() {
			t.Logf("%s log:\n%s", n.name, tail(log))
		}
		_ = log.Close()
	})
	deadline := time.After(n.patience)
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	for !n.ready(ports) {
		select {
		case <-ended:
			return fmt.Errorf("%w:\n%s", errEnded, tail(log))
		case <-deadline:
			return fmt.Errorf("not ready in %s", n.patience)
		case <-poll.C:
		}
	}
	return nil
}

// begin starts a process and closes ended when it has been waited for. The goroutine keeps its thread: the kernel
// sends the parent-death signal when the thread that started the process ends, not the program.
func begin(command *exec.Cmd, ended chan<- struct{}) error {
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := command.Start()
		started <- err
		if err == nil {
			_ = command.Wait() // how it ended does not matter, only that it did
			close(ended)
		}
	}()
	return <-started
}

func end(t *testing.T, name string, command *exec.Cmd, ended <-chan struct{}) {
	_ = command.Process.Signal(syscall.SIGTERM) // fails only if it has ended
	select {
	case <-ended:
	case <-time.After(patience):
		_ = command.Process.Kill()
		<-ended
		t.Errorf("%s did not end on SIGTERM", name)
	}
}

// tail returns the end of a log file.
func tail(log *os.File) string {
	const most = 8 << 10
	size, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return err.Error()
	}
	text, err := io.ReadAll(io.NewSectionReader(log, max(0, size-most), most))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// freePorts returns ports of loopback that nobody listens on just now.
func freePorts(t *testing.T, count int) []string {
	t.Helper()
	var ports []string
	for range count {
		listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = listener.Close() }() // when all are found, so that they differ
		ports = append(ports, strconv.Itoa(listener.Addr().(*net.TCPAddr).Port))
	}
	return ports
}

// answersOK reports whether a page is there.
func answersOK(url string) bool {
	response, err := client().Get(url)
	if err != nil {
		return false
	}
	_ = response.Body.Close()
	return response.StatusCode == http.StatusOK
}
