package faultproxy_test

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/extauthz/extauthz/internal/extauthztest/faultproxy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo answers with what it gets.
func echo(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(conn, conn); _ = conn.Close() }()
		}
	}()
	return listener.Addr().String()
}

func dial(t *testing.T, p *faultproxy.Proxy) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", p.Address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// say sends a text and returns what comes back: the text, or why it does not.
func say(t *testing.T, conn net.Conn, text string, patience time.Duration) (string, error) {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		return "", err
	}
	return hear(conn, len(text), patience)
}

func hear(conn net.Conn, length int, patience time.Duration) (string, error) {
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	answer := make([]byte, length)
	_, err := io.ReadFull(conn, answer)
	return string(answer), err
}

func TestFaults(t *testing.T) {
	p := faultproxy.Start(t, echo(t))
	a, b := dial(t, p), dial(t, p)
	works := func(conn net.Conn, text string) {
		t.Helper()
		if got, err := say(t, conn, text, 10*time.Second); got != text || err != nil {
			t.Fatalf("%q came back as %q, %v", text, got, err)
		}
	}
	works(a, "alpha")
	works(b, "beta")

	p.Hang(faultproxy.Containing("alpha"))
	works(b, "b2")
	if _, err := say(t, a, "a2", 50*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("a hung connection: %v", err)
	}
	p.Heal()
	if got, err := hear(a, 2, 10*time.Second); got != "a2" || err != nil {
		t.Fatalf("after Heal: %q, %v", got, err)
	}

	p.Refuse(faultproxy.Containing("alpha"))
	works(b, "b3")
	if _, err := say(t, a, "a3", 10*time.Second); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("a refused connection: %v", err)
	}
	if _, err := say(t, dial(t, p), "alpha", 10*time.Second); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("a new refused connection: %v", err)
	}
	p.Heal()
	works(dial(t, p), "alpha")
	c := dial(t, p)
	works(c, "gamma")
	p.Abandon()
	if _, err := say(t, c, "c2", 50*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("an abandoned connection: %v", err)
	}
	works(dial(t, p), "delta")
	p.Heal()
	if _, err := hear(c, 1, 10*time.Second); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("an abandoned connection after Heal: %v", err)
	}

	p.Close()
	if conn, err := net.Dial("tcp", p.Address()); err == nil {
		_ = conn.Close()
		t.Fatal("a closed proxy accepts")
	}
	p.Heal()
	works(dial(t, p), "epsilon")

	const delay = 50 * time.Millisecond
	p.Slow(delay, faultproxy.All)
	began := time.Now()
	works(dial(t, p), "zeta")
	if took := time.Since(began); took < 2*delay {
		t.Fatalf("a slow connection answers after %s", took)
	}
	p.Heal()
	b = dial(t, p)
	works(b, "eta")
	p.Refuse(faultproxy.All)
	if _, err := say(t, b, "b4", 10*time.Second); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("all refused: %v", err)
	}
}
