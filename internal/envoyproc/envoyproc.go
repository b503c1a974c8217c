// Package envoyproc runs a real Envoy as a child process, for the demo and the integration tests.
//
// It takes a complete Envoy configuration (the ones in deploy/envoy), replaces the addresses written there by free ones, and
// waits until Envoy answers. It decides nothing about requests. It trusts its caller with the binary and the configuration,
// and leaves the upstream and the authorization service to the caller.
package envoyproc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// Config says which Envoy runs with which configuration. YAML, Binary, Authz and Upstream are required.
type Config struct {
	// Binary is the Envoy executable; FindBinary knows where the Makefile puts it.
	Binary string
	// YAML is the configuration, with the addresses that render.go lists.
	YAML []byte
	// Authz is where the authorization service listens: host:port, or unix:///path.
	Authz string
	// Upstream is host:port of the API behind Envoy.
	Upstream string
	// Listen is host:port for clients; empty means a free port on loopback.
	Listen string
	// Edit changes the configuration tree after the addresses are in place. Nil means no change.
	Edit func(tree map[string]any)
	// Stdout receives the access log, Stderr Envoy's own log. Nil means discarded.
	Stdout, Stderr io.Writer
	// StartTimeout bounds the wait for readiness; zero means 20 seconds.
	StartTimeout time.Duration
}

const (
	defaultStartTimeout = 20 * time.Second
	// Envoy exits on SIGTERM within a tenth of a second. What is still there after this is killed.
	stopTimeout = 3 * time.Second
	pollEvery   = 10 * time.Millisecond
)

// Process is a running Envoy. Its methods may be called from several goroutines.
type Process struct {
	// URL is where clients connect, AdminURL Envoy's admin interface; neither ends in a slash.
	URL, AdminURL string

	cancel context.CancelFunc
	done   chan struct{} // closed when the process has ended and been waited for
	dir    string        // holds the rendered configuration and the admin address
	tail   tailWriter    // the end of Envoy's log, for the error when it does not start
}

// Start runs Envoy and returns when it accepts requests. The process ends with ctx, at Stop, or with the calling process,
// whichever comes first; the caller should call Stop in any case, which also removes the temporary files.
func Start(ctx context.Context, cfg Config) (*Process, error) {
	rendered, err := render(cfg)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "envoy-")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	p := &Process{cancel: cancel, done: make(chan struct{}), dir: dir}
	if err := p.launch(ctx, cfg, rendered); err != nil {
		cancel()
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if err := p.awaitReady(ctx, cfg.StartTimeout); err != nil {
		p.Stop()
		return nil, err
	}
	return p, nil
}

// Stop ends Envoy, waits for that, and removes its temporary files. Further calls do nothing.
func (p *Process) Stop() {
	p.cancel()
	<-p.done
	_ = os.RemoveAll(p.dir) // a file left in the temporary directory is no reason to fail
}

// Done is closed when the process has ended, for whatever reason.
func (p *Process) Done() <-chan struct{} { return p.done }

func (p *Process) adminFile() string { return filepath.Join(p.dir, "admin-address") }

// launch writes the configuration and starts the process, without waiting for it to be ready.
func (p *Process) launch(ctx context.Context, cfg Config, rendered []byte) error {
	configFile := filepath.Join(p.dir, "envoy.yaml")
	if err := os.WriteFile(configFile, rendered, 0o600); err != nil {
		return err
	}
	started := make(chan error, 1)
	go p.run(p.command(ctx, cfg, configFile), started)
	return <-started
}

func (p *Process) command(ctx context.Context, cfg Config, configFile string) *exec.Cmd {
	// Hot restart would claim a machine-wide name: a second Envoy could not start.
	//nolint:gosec // running the caller's Envoy is what this package is for
	cmd := exec.CommandContext(ctx, cfg.Binary, "-c", configFile, "--disable-hot-restart", "--concurrency", "1",
		"--log-level", "warning", "--admin-address-path", p.adminFile(),
		"--file-flush-interval-msec", "20") // the access log; the default is 10 seconds
	cmd.Stdout = cfg.Stdout
	cmd.Stderr = &p.tail
	if cfg.Stderr != nil {
		cmd.Stderr = io.MultiWriter(&p.tail, cfg.Stderr)
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopTimeout
	cmd.SysProcAttr = endWithParent()
	return cmd
}

// run owns the process from start to end. The kernel ties the parent-death signal to the thread that started the child, so
// this goroutine keeps its thread until the child is gone; without that, Go may end the thread and with it a healthy Envoy.
func (p *Process) run(cmd *exec.Cmd, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(p.done)
	if err := cmd.Start(); err != nil {
		started <- fmt.Errorf("start envoy: %w", err)
		return
	}
	started <- nil
	_ = cmd.Wait() // how it ended matters only before it was ready, and then the log says it
}
