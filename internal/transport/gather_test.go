package transport_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/extauthz/extauthz/internal/transport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// given is a listener that has one connection.
type given struct {
	net.Listener
	conn net.Conn
}

func (g given) Accept() (net.Conn, error) { return g.conn, nil }

// gather returns a gathering connection over the given one, and ends it with the test.
func gather(t *testing.T, conn net.Conn) net.Conn {
	t.Helper()
	c, err := transport.Gather(given{conn: conn}).Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// taken is a connection that notes each write, and takes it when it is told to.
type taken struct {
	net.Conn
	take chan error

	mu     sync.Mutex
	writes []string
	closed bool
}

func (c *taken) Write(data []byte) (int, error) {
	c.mu.Lock()
	c.writes = append(c.writes, string(data))
	c.mu.Unlock()
	if err := <-c.take; err != nil {
		return 0, err
	}
	return len(data), nil
}

func (c *taken) SetReadDeadline(time.Time) error  { return nil }
func (c *taken) SetWriteDeadline(time.Time) error { return nil }

func (c *taken) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	return nil
}

func (c *taken) expect(t *testing.T, closed bool, writes ...string) {
	t.Helper()
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	if got := bytes.Join(raw(c.writes), []byte("|")); string(got) != string(bytes.Join(raw(writes), []byte("|"))) || c.closed != closed {
		t.Fatalf("%d writes (%.60q), closed %t; want %d and %t", len(c.writes), got, c.closed, len(writes), closed)
	}
}

func raw(texts []string) (list [][]byte) {
	for _, text := range texts {
		list = append(list, []byte(text))
	}
	return list
}

func write(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if n, err := c.Write([]byte(text)); n != len(text) || err != nil {
		t.Fatal(n, err)
	}
}

// What is written while a write is under way goes with the next one, and what is there at the end is sent before the
// connection is closed.
func TestGather(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := &taken{take: make(chan error)}
		c := gather(t, inner)
		write(t, c, "a")
		inner.expect(t, false, "a")
		write(t, c, "b")
		write(t, c, "c")
		inner.expect(t, false, "a")
		inner.take <- nil
		inner.expect(t, false, "a", "bc")
		write(t, c, "d")
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte("e")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a write after the end: %v", err)
		}
		if err := c.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a second end: %v", err)
		}
		inner.take <- nil
		inner.expect(t, false, "a", "bc", "d")
		inner.take <- nil
		inner.expect(t, true, "a", "bc", "d")
	})
}

// After a failed write nothing more is sent, and the connection is closed when its owner closes it.
func TestGatherAfterAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner, failure := &taken{take: make(chan error)}, errors.New("broken pipe")
		c := gather(t, inner)
		write(t, c, "a")
		inner.expect(t, false, "a")
		write(t, c, "b")
		inner.take <- failure
		inner.expect(t, false, "a")
		if _, err := c.Write([]byte("c")); !errors.Is(err, failure) {
			t.Errorf("%v, want %v", err, failure)
		}
		inner.expect(t, false, "a")
		_ = c.Close()
		inner.expect(t, true, "a")
	})
}

// A peer that takes nothing is not written to without end: a write waits, until there is room, a failure or the end.
func TestGatherWaitsForRoom(t *testing.T) {
	full := string(make([]byte, 32<<10))
	for name, end := range map[string]func(*taken, net.Conn){
		"room":      func(inner *taken, _ net.Conn) { inner.take <- nil },
		"a failure": func(inner *taken, _ net.Conn) { inner.take <- io.ErrClosedPipe },
		"the end":   func(_ *taken, c net.Conn) { _ = c.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				inner := &taken{take: make(chan error)}
				c := gather(t, inner)
				write(t, c, "a")
				inner.expect(t, false, "a")
				write(t, c, full)
				written := make(chan error, 1)
				go func() {
					_, err := c.Write([]byte("b"))
					written <- err
				}()
				synctest.Wait()
				select {
				case err := <-written:
					t.Fatal("written beside all that waits:", err)
				default:
				}
				end(inner, c)
				if err := <-written; (err == nil) != (name == "room") {
					t.Errorf("%s: %v", name, err)
				}
				close(inner.take)
			})
		})
	}
}

// All that is written arrives, in its order, through a real socket and in pieces of any size.
func TestGatherLosesNothing(t *testing.T) {
	l := listen(t, "127.0.0.1:0", "", 1)
	random := rand.New(rand.NewPCG(1, 2))
	sent := make([]byte, 4<<20)
	for n := range sent {
		sent[n] = byte(random.Uint32())
	}
	go func() {
		c, err := transport.Gather(l).Accept()
		if err != nil {
			return
		}
		for rest := sent; len(rest) > 0; {
			n := min(len(rest), random.IntN(40<<10))
			if _, err := c.Write(rest[:n]); err != nil {
				break
			}
			rest = rest[n:]
		}
		_ = c.Close()
	}()
	peer, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = peer.Close() }()
	_ = peer.SetDeadline(time.Now().Add(patience))
	if got, err := io.ReadAll(peer); err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d of %d bytes arrived, or others: %v", len(got), len(sent), err)
	}
}

// The end lets the reader go at once, and a peer that takes nothing keeps the connection for a second.
func TestGatherEnds(t *testing.T) {
	l := listen(t, "127.0.0.1:0", "", 1)
	peer, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = peer.Close() }()
	c, err := transport.Gather(l).Accept()
	if err != nil {
		t.Fatal(err)
	}
	var written atomic.Int64
	go func() {
		for {
			if _, err := c.Write(make([]byte, 32<<10)); err != nil {
				return
			}
			written.Add(1)
		}
	}()
	read := make(chan error)
	go func() {
		_, err := c.Read(make([]byte, 1))
		read <- err
	}()
	for before := int64(-1); before != written.Load(); time.Sleep(50 * time.Millisecond) {
		before = written.Load() // until the kernel's buffers are full
	}
	began := time.Now()
	_ = c.Close()
	if err := <-read; err == nil || time.Since(began) > 500*time.Millisecond {
		t.Errorf("the reader: %v, after %s", err, time.Since(began))
	}
	second, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = second.Close() }()
	if next, err := l.Accept(); err != nil || time.Since(began) > 5*time.Second { // of the one that there may be
		t.Errorf("the next connection: %v, after %s", err, time.Since(began))
	} else {
		_ = next.Close()
	}
}
