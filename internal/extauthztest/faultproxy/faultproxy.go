// Package faultproxy stands between a client and a TCP server and fails on demand: it hangs, slows, refuses or abandons
// the connections that a test chooses.
//
// A hung connection stays open and its bytes wait, as behind a network that drops packets. The package is for tests
// only and trusts its caller.
package faultproxy

import (
	"bytes"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// Proxy passes connections on to a server. Its methods are safe for concurrent use.
type Proxy struct {
	t       testing.TB
	target  string
	address string
	running sync.WaitGroup

	mu       sync.Mutex
	listener net.Listener
	links    map[*link]bool
	fault    fault
	match    func(opening []byte) bool
	delay    time.Duration
	change   chan struct{} // closed when the fault changes
	closed   bool
}

type fault int

const (
	none fault = iota
	hanging
	refusing
	slow
	absent
)

// Start starts a proxy to an address on a free port of loopback, and ends it with the test.
func Start(t testing.TB, target string) *Proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("faultproxy: %v", err)
	}
	p := &Proxy{
		t: t, target: target, address: listener.Addr().String(), listener: listener, links: map[*link]bool{}, change: make(chan struct{}),
	}
	p.running.Go(func() { p.accept(listener) })
	t.Cleanup(p.close)
	return p
}

// Address is where the proxy listens.
func (p *Proxy) Address() string { return p.address }

// Containing chooses the connections whose first bytes contain the text.
func Containing(text string) func(opening []byte) bool {
	return func(opening []byte) bool { return bytes.Contains(opening, []byte(text)) }
}

// All chooses every connection.
func All([]byte) bool { return true }

// Hang holds back what is sent on the chosen connections, new ones as well, until Heal.
func (p *Proxy) Hang(match func(opening []byte) bool) { p.set(hanging, match) }

// Refuse ends the chosen connections, new ones as well, until Heal.
func (p *Proxy) Refuse(match func(opening []byte) bool) {
	p.set(refusing, match)
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		if l.opening != nil && match(l.opening) {
			l.close()
		}
	}
}

// Slow holds back each piece that is sent on the chosen connections for the time, in both directions, until Heal.
func (p *Proxy) Slow(delay time.Duration, match func(opening []byte) bool) {
	p.mu.Lock()
	p.delay = delay
	p.mu.Unlock()
	p.set(slow, match)
}

// Abandon makes the connections of this moment half-open: either end believes in them until it closes its own, and
// nothing that is sent arrives, as behind a router that forgot them. New ones work. With Heal, both ends learn of it.
func (p *Proxy) Abandon() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.abandoned = true
	}
}

// Close ends every connection and refuses new ones as a machine without the server does, until Heal.
func (p *Proxy) Close() {
	p.set(absent, All)
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.listener.Close()
	for l := range p.links {
		l.close()
	}
}

// Heal ends the fault. What was held back arrives.
func (p *Proxy) Heal() {
	p.mu.Lock()
	if p.fault == absent && !p.closed {
		p.listen()
	}
	for l := range p.links {
		if l.abandoned {
			l.close()
		}
	}
	p.mu.Unlock()
	p.set(none, nil)
}

// listen listens again, with mu held. Another program may have used the port meanwhile, for a connection of its own.
func (p *Proxy) listen() {
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		listener, err := net.Listen("tcp", p.address)
		if err == nil {
			p.listener = listener
			p.running.Go(func() { p.accept(listener) })
			return
		}
		if time.Since(began) > patience {
			p.t.Errorf("faultproxy: listen again: %v", err)
			return
		}
	}
}

// patience bounds the wait for the port.
const patience = 10 * time.Second

func (p *Proxy) set(f fault, match func([]byte) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault, p.match = f, match
	close(p.change)
	p.change = make(chan struct{})
}

func (p *Proxy) close() {
	p.mu.Lock()
	p.closed = true
	for l := range p.links {
		l.close()
	}
	_ = p.listener.Close()
	p.mu.Unlock()
	p.Heal()
	p.running.Wait()
}

func (p *Proxy) accept(listener net.Listener) {
	for {
		client, err := listener.Accept()
		if err != nil {
			return
		}
		p.running.Go(func() { p.serve(client) })
	}
}

// link is a connection and its continuation.
type link struct {
	client, server net.Conn
	opening        []byte // what the client sent first
	abandoned      bool
}

func (l *link) close() {
	_ = l.client.Close()
	_ = l.server.Close()
}

func (p *Proxy) serve(client net.Conn) {
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		_ = client.Close()
		return
	}
	l := &link{client: client, server: server}
	defer l.close()
	if !p.add(l) {
		return
	}
	defer p.remove(l)
	p.running.Go(func() { p.copy(l, client, server); p.end(l, client) })
	p.copy(l, server, client)
	p.end(l, server)
}

// end ends a link of which one side has closed. The other side of an abandoned one is not told.
func (p *Proxy) end(l *link, side net.Conn) {
	if p.lost(l) {
		_ = side.Close()
		return
	}
	l.close()
}

func (p *Proxy) add(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.links[l] = true
	return !p.closed
}

func (p *Proxy) remove(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.links, l)
}

func (p *Proxy) copy(l *link, from io.Reader, to io.Writer) {
	buffer := make([]byte, 16<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 && !p.pass(l, from, buffer[:n]) {
			return
		}
		if p.lost(l) {
			if err != nil {
				return
			}
			continue
		}
		if _, failed := to.Write(buffer[:n]); failed != nil || err != nil {
			return
		}
	}
}

// lost reports whether what is sent on the connection goes nowhere.
func (p *Proxy) lost(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return l.abandoned
}

// pass waits while the connection hangs or is slow, and reports whether it may go on.
func (p *Proxy) pass(l *link, from io.Reader, data []byte) bool {
	for {
		p.mu.Lock()
		if l.opening == nil && from == io.Reader(l.client) {
			l.opening = bytes.Clone(data)
		}
		fault, change, delay, closed := p.fault, p.change, p.delay, p.closed
		if fault != none && !p.match(l.opening) {
			fault = none
		}
		p.mu.Unlock()
		switch {
		case closed || fault == refusing || fault == absent:
			return false
		case fault == none:
			return true
		case fault == slow:
			select {
			case <-time.After(delay):
				return true
			case <-change:
			}
			continue
		}
		<-change
	}
}
