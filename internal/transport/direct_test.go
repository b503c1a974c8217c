package transport_test

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/nettest"
)

// pair returns the two ends of a connection to a listener: the listener's, and the peer's.
func pair(t *testing.T, network string) (own, peer net.Conn) {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = "unix://" + filepath.Join(t.TempDir(), "s")
	}
	l := listen(t, address, "0600", 1)
	peer, err := net.Dial(l.Addr().Network(), l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = peer.Close() })
	if own, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = own.Close() })
	return own, peer
}

var networks = []string{"tcp", "unix"}

// A connection does all that package net's tests ask of one.
func TestConnection(t *testing.T) {
	for _, network := range networks {
		t.Run(network, func(t *testing.T) {
			nettest.TestConn(t, func() (own, peer net.Conn, stop func(), err error) {
				own, peer = pair(t, network)
				return own, peer, func() { _ = errors.Join(own.Close(), peer.Close()) }, nil
			})
		})
	}
}

// Its errors are those that a connection of package net has.
func TestConnectionErrors(t *testing.T) {
	for _, network := range networks {
		check := func(name, op string, err, want error) {
			t.Helper()
			var failed *net.OpError
			if !errors.Is(err, want) || !errors.As(err, &failed) || failed.Op != op || failed.Net != network || strings.Contains(err.Error(), "raw") {
				t.Errorf("%s, %s: %v, want %v of a %s", network, name, err, want, op)
			}
		}
		own, peer := pair(t, network)
		if n, err := own.Read(nil); n != 0 || err != nil {
			t.Errorf("%s: reading nothing: %d, %v", network, n, err)
		}
		_ = own.SetReadDeadline(time.Unix(1, 0))
		_, err := own.Read(make([]byte, 1))
		check("late", "read", err, os.ErrDeadlineExceeded)
		_ = own.SetReadDeadline(time.Time{})

		much := make([]byte, 64<<20) // more than the kernel's buffers hold
		_ = own.SetWriteDeadline(time.Now().Add(time.Second / 2))
		n, err := own.Write(much)
		check("nobody reads", "write", err, os.ErrDeadlineExceeded)
		if n == 0 || n == len(much) {
			t.Errorf("%s: nobody reads: %d bytes are sent", network, n)
		}
		got, err := io.Copy(io.Discard, io.LimitReader(peer, int64(n)))
		if got != int64(n) || err != nil {
			t.Errorf("%s: %d bytes arrived of %d that were sent: %v", network, got, n, err)
		}
		_ = own.SetWriteDeadline(time.Time{})
		var arrival sync.WaitGroup
		arrival.Go(func() { _, _ = io.CopyN(io.Discard, peer, int64(len(much))) })
		if n, err := own.Write(much); n != len(much) || err != nil {
			t.Errorf("%s: %d bytes are sent of %d: %v", network, n, len(much), err)
		}
		arrival.Wait()

		_ = peer.Close()
		if n, err := own.Read(make([]byte, 1)); n != 0 || err != io.EOF { //nolint:errorlint // io.EOF must be returned as it is
			t.Errorf("%s: the peer has left: %d, %v", network, n, err)
		}
		for err = nil; err == nil; { // TCP learns of it by the answer to the first
			_, err = own.Write([]byte("x"))
		}
		check("the peer has left", "write", err, syscall.EPIPE)
		_ = own.Close()
		_, err = own.Read(make([]byte, 1))
		check("closed", "read", err, net.ErrClosed)
		_, err = own.Write([]byte("x"))
		check("closed", "write", err, net.ErrClosed)
	}
}
