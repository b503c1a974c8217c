package authz

import (
	"errors"
	"fmt"
	"io"
	"strings"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/extauthz/extauthz/pkg/teams"
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

func (rr *requestReader) read(in *authv3.CheckRequest) (Request, error) {
	http := in.GetAttributes().GetRequest().GetHttp()
	if http == nil {
		return Request{}, fmt.Errorf("%w: no HTTP attributes", ErrRequestMalformed)
	}
	if err := checkMethodAndHost(http.GetMethod(), http.GetHost()); err != nil {
		return Request{}, err
	}
	path, query, err := canonicalTarget(http.GetPath())
	if err != nil {
		return Request{}, err
	}
	r := Request{Request: teams.Request{Method: http.GetMethod(), Path: path}}
	if r.headers, err = headersFrom(http); err != nil {
		return Request{}, err
	}
	if err := rr.readSelector(&r); err != nil {
		return Request{}, err
	}
	if len(http.GetRawBody()) > 0 && http.GetBody() != "" {
		return Request{}, fmt.Errorf("%w: both forms of the body", ErrRequestMalformed)
	}
	body, complete := bodyFrom(http, &r)
	r.Model, err = rr.models.read(&r, query, body, complete)
	return r, err
}

func (rr *requestReader) readSelector(r *Request) error {
	if rr.selector == "" {
		return nil
	}
	team, err := r.headers.one(rr.selector)
	r.Team = teams.TeamID(team)
	return err
}

// checkMethodAndHost refuses CONNECT, whose tunnel nobody could check, and an authority that two
// readers might split in two ways.
func checkMethodAndHost(method, host string) error {
	if method == "" || method == "CONNECT" || strings.ContainsFunc(method, notToken) {
		return fmt.Errorf("%w: method", ErrRequestMalformed)
	}
	if !printable(host) || strings.ContainsAny(host, `@,/\?# `) {
		return fmt.Errorf("%w: host", ErrRequestMalformed)
	}
	return nil
}

// notToken reports whether a character cannot be in a token (RFC 9110 section 5.6.2).
func notToken(r rune) bool {
	return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
}

// bodyFrom returns the body and whether it is known to be whole.
func bodyFrom(http *authv3.AttributeContext_HttpRequest, r *Request) ([]byte, bool) {
	body := http.GetRawBody()
	if len(body) == 0 {
		body = []byte(http.GetBody())
	}
	partial, sent := r.headers.first(partialBodyHeader)
	switch {
	case sent > 1, sent == 1 && partial != "false":
		return body, false
	case http.GetSize() > int64(len(body)):
		return body, false
	case len(body) == 0 && sent == 0:
		return nil, bodyless(r)
	}
	return body, true
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
