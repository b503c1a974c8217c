package transport

import (
	"net"
	"sync/atomic"
	"time"

	"github.com/extauthz/extauthz/internal/gather"
)

// Gather has the listener's connections send together what is written within an instant (see [gather.Writer]). gRPC sends
// what is ready as soon as that is 1,000 bytes, which a single answer to a check is: each would take a system call of its own.
//
// Closing a connection lets its reader go at once; what was written before is still sent, for lastWords at the most.
func Gather(l net.Listener) net.Listener { return gathering{l} }

// lastWords is how long a closed connection tries to send.
const lastWords = time.Second

type gathering struct{ net.Listener }

func (l gathering) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &gatheringConn{Conn: conn, out: gather.New(conn)}, nil
}

type gatheringConn struct {
	net.Conn
	out    *gather.Writer
	closed atomic.Bool
}

// Write implements [net.Conn].
func (c *gatheringConn) Write(data []byte) (int, error) {
	if c.closed.Load() {
		return 0, net.ErrClosed
	}
	return c.out.Write(data)
}

// Close implements [net.Conn].
func (c *gatheringConn) Close() error {
	if c.closed.Swap(true) {
		return net.ErrClosed
	}
	_ = c.SetWriteDeadline(time.Now().Add(lastWords)) // an error of these is that the connection is closed already
	_ = c.SetReadDeadline(time.Unix(1, 0))
	go func() {
		_ = c.out.Close() // nobody waits for their errors
		_ = c.Conn.Close()
	}()
	return nil
}
