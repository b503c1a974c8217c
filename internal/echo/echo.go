// Package echo is an HTTP upstream that answers with the request it received: the demo and the integration tests read in it
// what really arrived behind Envoy. It trusts nobody, decides nothing, and must not face a network: it repeats credentials.
package echo

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Request is one request as it reached the upstream.
type Request struct {
	Method string `json:"method"`
	// Target is the request target as it was on the wire: path and query, undecoded.
	Target string `json:"target"`
	Host   string `json:"host"`
	Proto  string `json:"proto"`
	// Headers holds every value of every header but Host. Names are lower-case, since case carries no meaning in HTTP; the
	// hyphen and underscore forms of a name stay two names.
	Headers map[string][]string `json:"headers"`
	// BodyBytes is the length of the body after any transfer coding.
	BodyBytes int64 `json:"body_bytes"`
}

// Server answers HTTP/1.1 and cleartext HTTP/2 on loopback. Its methods may be called from several goroutines.
type Server struct {
	// Address is the host:port it listens on.
	Address string

	http http.Server
	mu   sync.Mutex
	seen []Request
}

// Start listens on address (for example 127.0.0.1:0) and serves until Close.
func Start(ctx context.Context, address string) (*Server, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	s := &Server{Address: listener.Addr().String()}
	s.http.Handler = s
	s.http.ReadHeaderTimeout = 10 * time.Second
	s.http.Protocols = new(http.Protocols)
	s.http.Protocols.SetHTTP1(true)
	s.http.Protocols.SetUnencryptedHTTP2(true)
	go func() {
		_ = s.http.Serve(listener) // ends with Close; clients notice anything else
	}()
	return s, nil
}

// Close stops the server and its connections.
func (s *Server) Close() error { return s.http.Close() }

// Requests returns what has arrived so far, in order of completion.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Request(nil), s.seen...)
}

// ServeHTTP reads the whole request, records it, and answers 200 with the record as JSON.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	received, err := read(r)
	if err != nil {
		http.Error(w, "unreadable body", http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	s.seen = append(s.seen, received)
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(received) // fails only if the client is gone
}

func read(r *http.Request) (Request, error) {
	n, err := io.Copy(io.Discard, r.Body)
	if err != nil {
		return Request{}, errors.Join(errors.New("echo: read body"), err)
	}
	headers := make(map[string][]string, len(r.Header))
	for name, values := range r.Header {
		headers[strings.ToLower(name)] = values
	}
	return Request{Method: r.Method, Target: r.RequestURI, Host: r.Host, Proto: r.Proto, Headers: headers, BodyBytes: n}, nil
}
