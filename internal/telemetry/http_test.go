package telemetry_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/extauthz/extauthz/internal/extauthztest/catest"
	"github.com/extauthz/extauthz/internal/telemetry"
)

// served is a telemetry server in a synctest bubble.
type served struct {
	t        *testing.T
	metrics  *telemetry.Metrics
	accepted chan net.Conn
	closed   chan struct{}
	once     sync.Once
	log      bytes.Buffer
}

func serve(t *testing.T, c *tls.Config) *served {
	t.Helper()
	s := &served{t: t, metrics: telemetry.NewMetrics("test"), accepted: make(chan net.Conn), closed: make(chan struct{})}
	ready := func(context.Context) error { return nil }
	server := telemetry.NewHTTPServer(telemetry.Handler(s.metrics, ready), c, slog.New(slog.NewJSONHandler(&s.log, nil)))
	ended := make(chan struct{})
	go func() { defer close(ended); _ = telemetry.Serve(server, s) }()
	t.Cleanup(func() { _ = server.Close(); <-ended })
	return s
}

func (s *served) Accept() (net.Conn, error) {
	select {
	case c := <-s.accepted:
		return c, nil
	case <-s.closed:
		return nil, net.ErrClosed
	}
}

func (s *served) Close() error   { s.once.Do(func() { close(s.closed) }); return nil }
func (s *served) Addr() net.Addr { return &net.UnixAddr{Net: "unix"} }

func (s *served) dial() net.Conn {
	ours, theirs := net.Pipe()
	s.t.Cleanup(func() { _ = ours.Close() })
	s.accepted <- theirs
	return ours
}

// send writes a request to a new connection, and returns the status of the answer and how long until the server hung up. A
// status of 0 is no answer.
func (s *served) send(request io.Reader) (status int, open time.Duration) {
	s.t.Helper()
	start, conn := time.Now(), s.dial()
	written := make(chan struct{})
	go func() { defer close(written); _, _ = io.Copy(conn, request) }()
	lines := bufio.NewReader(conn)
	if answer, err := http.ReadResponse(lines, nil); err == nil {
		status = answer.StatusCode
		_, _ = io.Copy(io.Discard, answer.Body)
		_ = answer.Body.Close()
	}
	_, _ = io.Copy(io.Discard, lines)
	open = time.Since(start)
	_ = conn.Close()
	<-written
	return status, open
}

// endless is a text without end. read counts what was taken of it.
type endless struct {
	text string
	read int
}

func (e *endless) Read(p []byte) (int, error) {
	n := copy(p, e.text)
	e.read += n
	return n, nil
}

func TestOnlyGET(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t, nil)
		for request, want := range map[string]int{
			"GET /livez HTTP/1.1": 200, "GET /readyz HTTP/1.1": 200, "GET /metrics HTTP/1.1": 200, "HEAD /livez HTTP/1.1": 200,
			"POST /metrics HTTP/1.1": 405, "PUT /livez HTTP/1.1": 405, "DELETE /metrics HTTP/1.1": 405, "OPTIONS /livez HTTP/1.1": 405,
			"CONNECT /livez HTTP/1.1": 405, "TRACE /livez HTTP/1.1": 405, "OPTIONS * HTTP/1.1": 400,
			"GET / HTTP/1.1": 404, "GET /debug/pprof/ HTTP/1.1": 404, "GET /debug/vars HTTP/1.1": 404,
			"POST /envoy.service.auth.v3.Authorization/Check HTTP/1.1": 404,
			"PRI * HTTP/2.0": 400,
		} {
			status, _ := s.send(strings.NewReader(request + "\r\nHost: x\r\nConnection: close\r\n\r\n"))
			if status != want {
				t.Errorf("%s: %d, want %d", request, status, want)
			}
		}
	})
}

func TestSlowRequestsEnd(t *testing.T) {
	for name, c := range map[string]struct {
		request string
		status  int
		bound   time.Duration
	}{
		"nothing":         {"", 0, 5 * time.Second},
		"half a line":     {"GET /liv", 400, 5 * time.Second},
		"half a header":   {"GET /livez HTTP/1.1\r\nHost: x\r\nX: ", 0, 5 * time.Second},
		"half a body":     {"GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nx", 200, 10 * time.Second},
		"no further ones": {"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", 200, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				status, open := serve(t, nil).send(strings.NewReader(c.request))
				if status != c.status || open > c.bound+time.Second {
					t.Errorf("status %d, open for %s", status, open)
				}
			})
		})
	}
}

func TestLargeRequests(t *testing.T) {
	for name, c := range map[string]struct {
		begin   string
		endless string
		status  int
		bytes   int
	}{
		"line":            {"GET /", "x", 431, 32 << 10},
		"header":          {"GET /livez HTTP/1.1\r\nHost: x\r\nX: ", "x", 431, 32 << 10},
		"headers":         {"GET /livez HTTP/1.1\r\nHost: x\r\n", "X: y\r\n", 431, 32 << 10},
		"body":            {"GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n", strings.Repeat("x", 4096), 200, 600 << 10},
		"chunks":          {"GET /livez HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", "1000\r\n" + strings.Repeat("x", 4096) + "\r\n", 200, 600 << 10},
		"a body to a 405": {"POST /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n", strings.Repeat("x", 4096), 405, 600 << 10},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				more := &endless{text: c.endless}
				status, open := serve(t, nil).send(io.MultiReader(strings.NewReader(c.begin), more))
				if status != c.status || more.read > c.bytes || open > 11*time.Second {
					t.Errorf("status %d after %d bytes, open for %s", status, more.read, open)
				}
			})
		})
	}
}

// slow is a metric that takes until it is told.
type slow struct{ until chan struct{} }

func (s slow) Describe(out chan<- *prometheus.Desc) {
	out <- prometheus.NewDesc("slow", "Slow.", nil, nil)
}

func (s slow) Collect(chan<- prometheus.Metric) { <-s.until }

func TestScrapesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t, nil)
		until := make(chan struct{})
		s.metrics.Registry.MustRegister(slow{until})
		statuses := make(chan int)
		for range 12 {
			go func() {
				status, _ := s.send(strings.NewReader("GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
				statuses <- status
			}()
		}
		synctest.Wait()
		for range 4 {
			if status := <-statuses; status != 503 {
				t.Errorf("status %d beyond the bound, want 503", status)
			}
		}
		close(until)
		for range 8 {
			if status := <-statuses; status != 200 {
				t.Errorf("status %d, want 200", status)
			}
		}
	})
}

// An answer that nobody takes is given up.
func TestUnreadAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := serve(t, nil).dial()
		start := time.Now()
		for n := 0; ; n++ {
			_ = conn.SetWriteDeadline(time.Now().Add(time.Hour)) // a pipe has deadlines
			if _, err := fmt.Fprint(conn, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
				break
			}
			if n > 100 {
				t.Fatal("requests are read whose answers are not")
			}
		}
		if open := time.Since(start); open > 31*time.Second {
			t.Errorf("open for %s", open)
		}
	})
}

func TestSilentHandshakesEnd(t *testing.T) {
	config := serverTLS(t)
	synctest.Test(t, func(t *testing.T) {
		s := serve(t, config)
		_, open := s.send(strings.NewReader(""))
		if open > 6*time.Second {
			t.Errorf("open for %s", open)
		}
		if !strings.Contains(s.log.String(), `"level":"WARN"`) || !strings.Contains(s.log.String(), "TLS handshake error") {
			t.Errorf("log: %s", s.log.String())
		}
	})
}

func serverTLS(t *testing.T) *tls.Config {
	t.Helper()
	p := catest.New(t).Server(t)
	pair, err := tls.X509KeyPair(p.Cert, p.Key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}}
}

// A client that could speak HTTP/2, and flood its streams, gets HTTP/1.1.
func TestNoHTTP2(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	handler := telemetry.Handler(telemetry.NewMetrics("test"), func(context.Context) error { return nil })
	server := telemetry.NewHTTPServer(handler, serverTLS(t), slog.New(slog.DiscardHandler))
	go func() { _ = telemetry.Serve(server, listener) }()
	t.Cleanup(func() { _ = server.Close() })
	client := &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	answer, err := client.Get("https://" + listener.Addr().String() + "/livez")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK || answer.ProtoMajor != 1 {
		t.Errorf("%s over %s", answer.Status, answer.Proto)
	}
}
