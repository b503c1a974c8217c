package envoyproc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// listenerName is the listener of deploy/envoy that clients connect to.
const listenerName = "ingress"

// awaitReady polls Envoy's admin interface until it is live and its listener has a port.
func (p *Process) awaitReady(ctx context.Context, timeout time.Duration) error {
	if timeout == 0 {
		timeout = defaultStartTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	for {
		err := p.discover(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("envoy exited before it was ready: %s", p.tail.String())
		case <-ctx.Done():
			return fmt.Errorf("envoy is not ready: %w: %w: %s", context.Cause(ctx), err, p.tail.String())
		case <-poll.C:
		}
	}
}

// discover reads the addresses Envoy chose. It fails until Envoy is live.
func (p *Process) discover(ctx context.Context) error {
	admin, err := os.ReadFile(p.adminFile())
	if err != nil {
		return err
	}
	if len(admin) == 0 {
		return errors.New("admin address not written yet")
	}
	adminURL := "http://" + strings.TrimSpace(string(admin))
	if _, err := get(ctx, adminURL+"/ready"); err != nil {
		return err
	}
	address, err := listenerAddress(ctx, adminURL)
	if err != nil {
		return err
	}
	p.AdminURL, p.URL = adminURL, "http://"+address
	return nil
}

func listenerAddress(ctx context.Context, adminURL string) (string, error) {
	body, err := get(ctx, adminURL+"/listeners?format=json")
	if err != nil {
		return "", err
	}
	var listeners struct {
		Statuses []struct {
			Name    string `json:"name"`
			Address struct {
				Socket struct {
					Address string `json:"address"`
					Port    int    `json:"port_value"`
				} `json:"socket_address"`
			} `json:"local_address"`
		} `json:"listener_statuses"`
	}
	if err := json.Unmarshal(body, &listeners); err != nil {
		return "", fmt.Errorf("read envoy's listeners: %w", err)
	}
	for _, l := range listeners.Statuses {
		if l.Name == listenerName && l.Address.Socket.Port != 0 {
			return net.JoinHostPort(l.Address.Socket.Address, strconv.Itoa(l.Address.Socket.Port)), nil
		}
	}
	return "", fmt.Errorf("envoy has no listener %q with a port yet", listenerName)
}

// tailWriter keeps the last bytes written to it. The zero value is ready to use.
type tailWriter struct {
	mu  sync.Mutex
	buf []byte
}

const tailBytes = 4096

func (w *tailWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buf = append(w.buf, b...)
	if extra := len(w.buf) - tailBytes; extra > 0 {
		w.buf = append(w.buf[:0], w.buf[extra:]...)
	}
	return len(b), nil
}

func (w *tailWriter) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return string(w.buf)
}
