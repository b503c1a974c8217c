package authz

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/protobuf/proto"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/extauthz/extauthz/pkg/teams"
	"github.com/extauthz/extauthz/pkg/token"
)

// These tests send frames of their own making: no client library would misbehave so. Time is synctest's.

func testOptions() GRPCOptions {
	return GRPCOptions{MaxMessageBytes: 64 << 10, MaxConcurrentStreams: 4, MaxConnectionAge: 30 * time.Minute}
}

// pipes is a listener whose connections are made by dial.
type pipes struct {
	accepted chan net.Conn
	closed   chan struct{}
	once     sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.accepted:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Net: "unix"} }

// serveBounded runs a server with these options, and returns how to connect to it.
func serveBounded(t *testing.T, o GRPCOptions, verify verifierFunc) (dial func() net.Conn) {
	t.Helper()
	p := &pipes{accepted: make(chan net.Conn), closed: make(chan struct{})}
	g := NewGRPCServer(testServer(t, verify, teams.Config{}), health.NewServer(), o)
	ended := make(chan struct{})
	go func() { defer close(ended); _ = g.Serve(p) }()
	t.Cleanup(func() { g.Stop(); <-ended })
	return func() net.Conn {
		ours, theirs := net.Pipe()
		t.Cleanup(func() { _ = ours.Close() })
		p.accepted <- theirs
		return ours
	}
}

// peer is a client that sends what it is told to.
type peer struct {
	t       *testing.T
	conn    net.Conn
	framer  *http2.Framer
	writing chan struct{} // held by who writes; a mutex would stop synctest's clock

	mu     sync.Mutex
	events []string // what the server did, in order
	mute   bool     // answers no ping
}

// connect makes a connection that has said hello.
func connect(t *testing.T, conn net.Conn) *peer {
	t.Helper()
	p := &peer{t: t, conn: conn, framer: http2.NewFramer(conn, conn), writing: make(chan struct{}, 1)}
	p.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	go p.read()
	if _, err := conn.Write([]byte(http2.ClientPreface)); err != nil {
		t.Fatal(err)
	}
	p.send(func(f *http2.Framer) error { return f.WriteSettings() })
	return p
}

func (p *peer) read() {
	for {
		frame, err := p.framer.ReadFrame()
		if err != nil {
			p.saw("closed")
			return
		}
		switch f := frame.(type) {
		case *http2.PingFrame:
			if !f.IsAck() {
				p.pong(f.Data)
			}
		case *http2.GoAwayFrame:
			p.saw("GOAWAY " + f.ErrCode.String())
		case *http2.RSTStreamFrame:
			p.saw(fmt.Sprintf("RST %d %s", f.StreamID, f.ErrCode))
		case *http2.MetaHeadersFrame:
			for _, field := range f.Fields {
				if field.Name == "grpc-status" || field.Name == ":status" && field.Value != "200" {
					p.saw(fmt.Sprintf("%d %s=%s", f.StreamID, field.Name, field.Value))
				}
			}
		}
	}
}

func (p *peer) pong(data [8]byte) {
	p.mu.Lock()
	mute := p.mute
	p.mu.Unlock()
	if !mute {
		_ = p.try(func(f *http2.Framer) error { return f.WritePing(true, data) })
	}
}

func (p *peer) saw(event string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.events = append(p.events, event)
}

// try sends something; the error is that of a connection that is gone or full.
func (p *peer) try(write func(*http2.Framer) error) error {
	p.writing <- struct{}{}
	defer func() { <-p.writing }()
	return write(p.framer)
}

func (p *peer) send(write func(*http2.Framer) error) {
	p.t.Helper()
	if err := p.try(write); err != nil {
		p.t.Fatalf("%v; the server did %v", err, p.did())
	}
}

// did returns what the server has done, when it does nothing more.
func (p *peer) did() []string {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.events...)
}

// expect requires that the server did this at some time.
func (p *peer) expect(event string) {
	p.t.Helper()
	for _, done := range p.did() {
		if done == event {
			return
		}
	}
	p.t.Errorf("the server did %q, not %q", p.did(), event)
}

// headers begins a call of Check on a stream, with these further headers.
func (p *peer) headers(stream uint32, further ...string) {
	p.t.Helper()
	block := headerBlock(further...)
	p.send(func(f *http2.Framer) error {
		return f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block, EndHeaders: true})
	})
}

func headerBlock(further ...string) []byte {
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	fields := append([]string{
		":method", "POST", ":scheme", "http", ":path", "/envoy.service.auth.v3.Authorization/Check", ":authority", "x",
		"content-type", "application/grpc", "te", "trailers",
	}, further...)
	for i := 0; i < len(fields); i += 2 {
		_ = encoder.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}) // to a buffer
	}
	return block.Bytes()
}

// body ends a call with a message of this length, whatever is in it.
func (p *peer) body(stream uint32, length uint32, message []byte) {
	p.t.Helper()
	prefix := binary.BigEndian.AppendUint32([]byte{0}, length)
	p.send(func(f *http2.Framer) error { return f.WriteData(stream, true, append(prefix, message...)) })
}

// request is a check request that reaches the verifier.
func request(t *testing.T) []byte {
	t.Helper()
	message, err := proto.Marshal(in(func(h *authv3.AttributeContext_HttpRequest) {
		h.HeaderMap = rawHeaders("authorization", "Bearer x", partialBodyHeader, "false")
	}))
	if err != nil {
		t.Fatal(err)
	}
	return message
}

func TestHandshakeIsBounded(t *testing.T) {
	for name, c := range map[string]struct {
		creds credentials.TransportCredentials
		begin string
	}{
		"not a byte":         {nil, ""},
		"half a preface":     {nil, http2.ClientPreface[:10]},
		"no settings":        {nil, http2.ClientPreface},
		"TLS, not a byte":    {credentials.NewTLS(nil), ""},
		"TLS, half a record": {credentials.NewTLS(nil), "\x16\x03\x01\x40\x00\x01"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := testOptions()
				o.Credentials = c.creds
				conn := serveBounded(t, o, alice)()
				start := time.Now()
				go func() { _, _ = conn.Write([]byte(c.begin)) }()
				for {
					if _, err := conn.Read(make([]byte, 1024)); err != nil {
						break
					}
				}
				if took := time.Since(start); took > connectionTimeout {
					t.Errorf("it was let hang for %s", took)
				}
			})
		})
	}
}

func TestIdleConnectionsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := connect(t, serveBounded(t, testOptions(), alice)())
		time.Sleep(connectionIdle - time.Second)
		if did := p.did(); len(did) > 0 {
			t.Errorf("before its time: %q", did)
		}
		time.Sleep(time.Minute)
		p.expect("GOAWAY NO_ERROR")
		p.expect("closed")
	})
}

// A connection that is in use ends too, after its call has had time to.
func TestOldConnectionsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := testOptions()
		p := connect(t, serveBounded(t, o, alice)())
		p.headers(1) // a call that never sends its message
		time.Sleep(o.MaxConnectionAge * 8 / 10)
		if did := p.did(); len(did) > 0 {
			t.Errorf("before its time: %q", did)
		}
		time.Sleep(o.MaxConnectionAge*4/10 + connectionAgeGrace)
		p.expect("GOAWAY NO_ERROR")
		p.expect("closed")
	})
}

func TestPeersThatDoNotAnswerEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := connect(t, serveBounded(t, testOptions(), alice)())
		p.mu.Lock()
		p.mute = true
		p.mu.Unlock()
		time.Sleep(2 * keepaliveTime)
		p.expect("closed")
	})
}

func TestPingFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dial := serveBounded(t, testOptions(), alice)
		flood, polite := connect(t, dial()), connect(t, dial())
		ping := func(p *peer) error {
			return p.try(func(f *http2.Framer) error { return f.WritePing(false, [8]byte{}) })
		}
		for range 10 {
			_ = ping(flood) // it may be closed already
		}
		flood.expect("GOAWAY ENHANCE_YOUR_CALM")
		time.Sleep(time.Second) // in which the peer could hang up by itself
		flood.expect("closed")
		for range 20 { // Envoy's keepalive, which is slower
			time.Sleep(2 * minClientPing)
			if err := ping(polite); err != nil {
				t.Fatalf("%v: %q", err, polite.did())
			}
		}
		if did := polite.did(); len(did) > 0 {
			t.Errorf("a polite peer: %q", did)
		}
	})
}

func TestConcurrentStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := connect(t, serveBounded(t, testOptions(), alice)())
		for n := range uint32(5) {
			p.headers(2*n + 1)
		}
		p.expect("RST 9 REFUSED_STREAM")
		if did := p.did(); len(did) != 1 {
			t.Errorf("the server did %q", did)
		}
	})
}

// CVE-2023-44487: a stream that is reset makes room for the next, but what it started still runs.
func TestRapidReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var running, most atomic.Int32
		release := make(chan struct{})
		slow := func(ctx context.Context, bearer string) (token.Claims, error) {
			most.Store(max(most.Load(), running.Add(1)))
			defer running.Add(-1)
			<-release // whatever becomes of ctx
			return alice(ctx, bearer)
		}
		dial := serveBounded(t, testOptions(), slow)
		attacker, message := connect(t, dial()), request(t)
		stalled := make(chan uint32)
		go func() {
			for stream := uint32(1); ; stream += 2 {
				err := attacker.try(func(f *http2.Framer) error {
					_ = attacker.conn.SetWriteDeadline(time.Now().Add(time.Second))
					_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: headerBlock(), EndHeaders: true})
					_ = f.WriteData(stream, true, append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...))
					return f.WriteRSTStream(stream, http2.ErrCodeCancel)
				})
				if err != nil || stream > 2000 {
					stalled <- stream
					return
				}
			}
		}()
		if last := <-stalled; last > 100 {
			t.Errorf("%d streams were taken", last/2)
		}
		if most.Load() != 4 {
			t.Errorf("%d calls ran at once, want 4", most.Load())
		}
		other := connect(t, dial())
		other.headers(1)
		other.body(1, uint32(len(message)), message)
		close(release)
		other.expect("1 grpc-status=0") // nobody else is affected
	})
}

func TestLongHeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := connect(t, serveBounded(t, testOptions(), alice)())
		const fits = 16000 // into a frame
		block := headerBlock("x", strings.Repeat("x", maxHeaderListBytes))
		p.send(func(f *http2.Framer) error {
			return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block[:fits]})
		})
		for rest := block[fits:]; len(rest) > 0; rest = rest[min(fits, len(rest)):] {
			p.send(func(f *http2.Framer) error {
				return f.WriteContinuation(1, len(rest) <= fits, rest[:min(fits, len(rest))])
			})
		}
		p.expect("RST 1 FRAME_SIZE_ERROR")
	})
}

// CVE-2023-45288: headers that never end.
func TestEndlessHeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := connect(t, serveBounded(t, testOptions(), alice)())
		p.send(func(f *http2.Framer) error {
			return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: headerBlock()})
		})
		var field bytes.Buffer
		_ = hpack.NewEncoder(&field).WriteField(hpack.HeaderField{Name: "x", Value: strings.Repeat("x", 8000), Sensitive: true}) // to a buffer
		sent := 0
		for ; sent < 100*maxHeaderListBytes; sent += 8000 {
			if p.try(func(f *http2.Framer) error { return f.WriteContinuation(1, false, field.Bytes()) }) != nil {
				break
			}
		}
		p.expect("closed")
		if sent > 4*maxHeaderListBytes {
			t.Errorf("%d bytes of headers were taken", sent)
		}
	})
}

func TestMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := testOptions()
		p := connect(t, serveBounded(t, o, alice)())
		// The length alone is enough for a refusal: nothing is kept for it.
		p.headers(1)
		p.body(1, 1<<30, nil)
		p.expect("1 grpc-status=8")
		p.headers(3)
		p.body(3, uint32(o.MaxMessageBytes)+1, nil)
		p.expect("3 grpc-status=8")
		// A message that grows when it is read is not read.
		p.headers(5, "grpc-encoding", "gzip")
		p.send(func(f *http2.Framer) error { return f.WriteData(5, true, []byte{1, 0, 0, 0, 1, 0}) })
		p.expect("5 grpc-status=12")
		// What is no message is denied in band, as an error would be left to Envoy's failure mode.
		p.headers(7)
		p.body(7, 3, []byte{0xff, 0xff, 0xff})
		p.expect("7 grpc-status=0")
		p.headers(9)
		p.body(9, 0, nil)
		p.expect("9 grpc-status=0")
	})
}

// A peer that makes the server answer, and does not read the answers, is not listened to for long.
func TestUnreadAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := serveBounded(t, testOptions(), alice)()
		go func() { _, _ = conn.Read(make([]byte, 1024)) }() // the server's settings, and no more
		framer := http2.NewFramer(conn, nil)
		if _, err := conn.Write([]byte(http2.ClientPreface)); err != nil {
			t.Fatal(err)
		}
		_ = conn.SetWriteDeadline(time.Now().Add(time.Second)) // a pipe has deadlines
		sent := 0
		for sent < 100_000 && framer.WriteSettings() == nil {
			sent++
		}
		if sent > 20_000 { // grpc-go queues 10,000 answers, and some bytes more
			t.Errorf("%d frames were taken", sent)
		}
		time.Sleep(2 * keepaliveTime)
		_ = conn.SetWriteDeadline(time.Time{})
		if err := framer.WriteSettings(); err == nil {
			t.Error("the connection is still open")
		}
	})
}

// The port is for checks and health alone.
func TestServices(t *testing.T) {
	o := testOptions()
	names := func() string {
		var list []string
		for name := range NewGRPCServer(testServer(t, alice, teams.Config{}), health.NewServer(), o).GetServiceInfo() {
			list = append(list, name)
		}
		return strings.Join(list, " ")
	}
	if got := names(); strings.Count(got, " ") != 1 || !strings.Contains(got, ServiceName) || !strings.Contains(got, "grpc.health.v1.Health") {
		t.Errorf("services: %s", got)
	}
	o.Reflection = true
	if got := names(); !strings.Contains(got, "reflection") {
		t.Errorf("services: %s", got)
	}
}
