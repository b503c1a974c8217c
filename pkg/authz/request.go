package authz

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/extauthz/extauthz/pkg/authz/wire"
	"github.com/extauthz/extauthz/pkg/teams"
	"github.com/extauthz/extauthz/pkg/token"
)

// partialBodyHeader is written by Envoy, which drops a client's copy: "true" if the body was cut,
// "false" if it is whole, absent if Envoy does not send bodies at all.
const partialBodyHeader = "x-envoy-auth-partial-body"

// Request is what the decision sees of an HTTP request: canonical, or there is none.
type Request struct {
	teams.Request
	headers headers
}

// requestReader turns Envoy's input into a Request. It is the last to see that input.
type requestReader struct {
	selector string // header; empty: clients cannot select a team
	models   *modelReader
}

// read returns the request. It takes over the list of headers, and returns it with an error as well: in shadow mode the
// request goes on.
func (rr *requestReader) read(in *wire.Request) (r Request, err error) {
	if !in.HTTP {
		return r, fmt.Errorf("%w: no HTTP attributes", ErrRequestMalformed)
	}
	if r.headers, err = headersFrom(in); err != nil {
		return r, err
	}
	if err := checkMethodAndHost(in.Method, in.Host); err != nil {
		return r, err
	}
	path, query, err := canonicalTarget(in.Path)
	if err != nil {
		return r, err
	}
	r.Method, r.Path = in.Method, path
	if err := rr.readSelector(&r); err != nil {
		return r, err
	}
	body := in.RawBody
	if in.Body != "" {
		if len(body) > 0 {
			return r, fmt.Errorf("%w: both forms of the body", ErrRequestMalformed)
		}
		body = []byte(in.Body)
	}
	sent := r.headers.ofBody()
	r.Model, err = rr.models.read(&r, query, body, &sent, complete(in.Size, body, &r, sent.partial))
	return r, err
}

// readSelector reads the team that the client asks for. It may become the key of a cached row, so it must not hold on to
// the memory of the whole message.
func (rr *requestReader) readSelector(r *Request) error {
	if rr.selector == "" {
		return nil
	}
	team, err := r.headers.one(rr.selector)
	if len(team) > token.MaxValueBytes {
		return fmt.Errorf("%w: header %s is too long", ErrRequestMalformed, rr.selector)
	}
	r.Team = teams.TeamID(strings.Clone(team))
	return err
}

// checkMethodAndHost refuses CONNECT, whose tunnel nobody could check, and an authority that two
// readers might split in two ways.
func checkMethodAndHost(method, host string) error {
	if method == "" || method == "CONNECT" || strings.ContainsFunc(method, notToken) {
		return fmt.Errorf("%w: method", ErrRequestMalformed)
	}
	for n := range len(host) {
		if forbiddenInHost(host[n]) {
			return fmt.Errorf("%w: host", ErrRequestMalformed)
		}
	}
	return nil
}

func forbiddenInHost(c byte) bool {
	switch c {
	case '@', ',', '/', '\\', '?', '#':
		return true
	}
	return c <= ' ' || c == 0x7f
}

// notToken reports whether a character cannot be in a token (RFC 9110 section 5.6.2).
func notToken(r rune) bool {
	return r <= ' ' || r >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, byte(r)) >= 0
}

// complete reports whether a body is known to be whole. size is what Envoy says of its length.
func complete(size int64, body []byte, r *Request, partial field) bool {
	switch {
	case partial.count > 1, partial.count == 1 && partial.value != "false":
		return false
	case size > int64(len(body)):
		return false
	case len(body) == 0 && partial.count == 0:
		return bodyless(r)
	}
	return true
}

// bodyless reports whether a request of which Envoy sent no body surely has none.
func bodyless(r *Request) bool {
	switch r.Method {
	case "GET", "HEAD", "DELETE", "OPTIONS":
	default:
		return false
	}
	length, sent := r.headers.first("content-length")
	return sent <= 1 && (length == "" || length == "0") && !r.headers.has("transfer-encoding")
}

func isEOF(err error) bool { return errors.Is(err, io.EOF) }
