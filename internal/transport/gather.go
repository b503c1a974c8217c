package transport

import (
	"net"
	"runtime"
	"sync"
	"time"
)

// Gather has the listener's connections send together what is written within an instant. gRPC sends what is ready as soon as
// that is 1,000 bytes, which a single answer to a check is: each would take a system call of its own, and one costs as much as
// a decision.
//
// So a write succeeds before anything is sent; that it could not be is the error of a later one. Closing a connection lets its
// reader go at once, and what was written before is still sent, for lastWords at the most.
func Gather(l net.Listener) net.Listener { return gathering{l} }

const (
	// maxPending is how much waits to be sent before a write waits for it to be less, in bytes. One more write may be beyond it.
	maxPending = 32 << 10
	// lastWords is how long a closed connection tries to send.
	lastWords = time.Second
)

type gathering struct{ net.Listener }

func (l gathering) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &gatheringConn{Conn: conn}
	c.changed.L = &c.mu
	go c.send()
	return c, nil
}

// gatheringConn is a connection whose writes are made by another goroutine, which ends with it.
type gatheringConn struct {
	net.Conn

	mu      sync.Mutex
	changed sync.Cond // any of these
	pending []byte
	closed  bool
	err     error // of a write: nothing more is sent
}

// Write implements [net.Conn]. It waits while there is much to send: a peer that reads slowly is answered slowly.
func (c *gatheringConn) Write(data []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.pending) >= maxPending && c.err == nil && !c.closed {
		c.changed.Wait()
	}
	switch {
	case c.closed:
		return 0, net.ErrClosed
	case c.err != nil:
		return 0, c.err
	}
	c.pending = append(c.pending, data...)
	c.changed.Broadcast()
	return len(data), nil
}

// Close implements [net.Conn].
func (c *gatheringConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	c.closed = true
	c.changed.Broadcast()
	_ = c.SetWriteDeadline(time.Now().Add(lastWords)) // an error of these is that the connection is closed already
	return c.SetReadDeadline(time.Unix(1, 0))
}

// send sends until the connection is closed. Before each time it lets all that can run do so: what they have to send goes along.
func (c *gatheringConn) send() {
	var batch []byte
	for c.await() {
		runtime.Gosched()
		batch = c.take(batch)
		if _, err := c.Conn.Write(batch); err != nil {
			c.fail(err)
		}
	}
	_ = c.Conn.Close() // nobody waits for its error
}

// await waits until there is something to send, and returns false when there will be nothing any more.
func (c *gatheringConn) await() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.pending) == 0 && !c.closed {
		c.changed.Wait()
	}
	return len(c.pending) > 0
}

// take returns what is pending. The memory of what was sent before is used for what comes.
func (c *gatheringConn) take(sent []byte) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	batch := c.pending
	if c.pending = sent[:0]; cap(sent) > maxPending {
		c.pending = nil
	}
	c.changed.Broadcast()
	return batch
}

func (c *gatheringConn) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err, c.pending = err, nil
	c.changed.Broadcast()
}
