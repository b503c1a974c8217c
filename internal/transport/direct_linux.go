package transport

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"unsafe"
)

// direct has the listener's connections read and write without telling Go's scheduler of it, as it need not know: their
// sockets never block. Told, it takes the CPU away from a write that lasts longer than 20 us, which over loopback is many,
// and its monitor looks after that 20,000 times a second. The two were a twentieth of a check.
func direct(l net.Listener) net.Listener { return directListener{l} }

type directListener struct{ net.Listener }

func (l directListener) Accept() (net.Conn, error) {
	accepted, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &directConn{Conn: accepted}
	if c.socket, err = accepted.(syscall.Conn).SyscallConn(); err != nil {
		return nil, errors.Join(err, accepted.Close())
	}
	c.in.attempt, c.out.attempt = c.in.read, c.out.write
	return c, nil
}

type directConn struct {
	net.Conn
	socket  syscall.RawConn
	in, out transfer
}

// Read implements [net.Conn].
func (c *directConn) Read(into []byte) (int, error) {
	n, err := c.in.run(into, c.socket.Read)
	return n, c.explain("read", err)
}

// Write implements [net.Conn].
func (c *directConn) Write(from []byte) (int, error) {
	n, err := c.out.run(from, c.socket.Write)
	return n, c.explain("write", err)
}

// explain gives an error the form that package net's own have.
func (c *directConn) explain(op string, err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	if failed, ok := errors.AsType[*net.OpError](err); ok {
		failed.Op = op
		return failed
	}
	return &net.OpError{Op: op, Net: c.LocalAddr().Network(), Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: os.NewSyscallError(op, err)}
}

// transfer is one direction of a connection. One read or write runs at a time.
type transfer struct {
	attempt func(fd uintptr) bool // read or write: a value of its own for each call would be garbage

	mu   sync.Mutex
	rest []byte
	n    int
	err  error
}

// run has a [syscall.RawConn] attempt the transfer as often as the socket is ready, until it is done.
func (t *transfer) run(data []byte, when func(func(fd uintptr) bool) error) (int, error) {
	if len(data) == 0 {
		return 0, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rest, t.n, t.err = data, 0, nil
	err := when(t.attempt)
	t.rest = nil
	if t.err != nil {
		err = t.err
	}
	return t.n, err
}

// read takes what there is, and reports whether the read is done.
func (t *transfer) read(fd uintptr) bool {
	n, ready, err := try(syscall.SYS_READ, fd, t.rest)
	if t.n, t.err = n, err; ready && err == nil && n == 0 {
		t.err = io.EOF
	}
	return ready
}

// write sends until all is sent, and reports whether the write is done.
func (t *transfer) write(fd uintptr) bool {
	for len(t.rest) > 0 {
		n, ready, err := try(syscall.SYS_WRITE, fd, t.rest)
		if !ready {
			return false
		}
		if t.err = err; err != nil {
			return true
		}
		t.n += n
		t.rest = t.rest[n:]
	}
	return true
}

// try makes one system call. A socket that is not ready says so; it does not wait.
func try(call, fd uintptr, data []byte) (n int, ready bool, err error) {
	for {
		start := unsafe.Pointer(unsafe.SliceData(data)) //nolint:gosec // of the bytes that the call is told the number of
		n, _, failure := syscall.RawSyscall(call, fd, uintptr(start), uintptr(len(data)))
		switch failure {
		case 0:
			return int(n), true, nil
		case syscall.EAGAIN:
			return 0, false, nil
		case syscall.EINTR:
		default:
			return 0, true, failure
		}
	}
}
