package transport_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/extauthz/extauthz/internal/transport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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
