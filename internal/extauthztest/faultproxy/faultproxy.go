// Package faultproxy stands between a client and a TCP server and fails on demand: it hangs, refuses or cuts the
// connections that a test chooses.
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
)

// Proxy passes connections on to a server. Its methods are safe for concurrent use.
type Proxy struct {
	target   string
	listener net.Listener
	running  sync.WaitGroup

	mu     sync.Mutex
	links  map[*link]bool
	fault  fault
	match  func(opening []byte) bool
	change chan struct{} // closed when the fault changes
	closed bool
}

type fault int

const (
	none fault = iota
	hanging
	refusing
)

// Start starts a proxy to an address on a free port of loopback, and ends it with the test.
func Start(t testing.TB, target string) *Proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("faultproxy: %v", err)
	}
	p := &Proxy{target: target, listener: listener, links: map[*link]bool{}, change: make(chan struct{})}
	p.running.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

// Address is where the proxy listens.
func (p *Proxy) Address() string { return p.listener.Addr().String() }

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

// Heal ends the fault. What was held back arrives.
func (p *Proxy) Heal() { p.set(none, nil) }

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
	p.mu.Unlock()
	_ = p.listener.Close()
	p.Heal()
	p.running.Wait()
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
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
	p.running.Go(func() { p.copy(l, client, server); l.close() })
	p.copy(l, server, client)
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
		if n > 0 && (!p.pass(l, from, buffer[:n])) {
			return
		}
		if _, failed := to.Write(buffer[:n]); failed != nil || err != nil {
			return
		}
	}
}

// pass waits while the connection hangs, and reports whether it may go on.
func (p *Proxy) pass(l *link, from io.Reader, data []byte) bool {
	for {
		p.mu.Lock()
		if l.opening == nil && from == io.Reader(l.client) {
			l.opening = bytes.Clone(data)
		}
		fault, change, closed := p.fault, p.change, p.closed
		if fault != none && !p.match(l.opening) {
			fault = none
		}
		p.mu.Unlock()
		switch {
		case closed || fault == refusing:
			return false
		case fault == none:
			return true
		}
		<-change
	}
}
