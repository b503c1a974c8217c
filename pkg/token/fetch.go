package token

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
)

// maxDocumentBytes bounds a key set or discovery document; real ones have a few kilobytes.
const maxDocumentBytes = 1 << 20

// fetcher fetches one issuer's keys.
type fetcher struct {
	config     Issuer
	algorithms allowedAlgorithms
	// local goes to hosts that are this machine by name, named to others that the operator names, and guarded
	// to those that only the issuer's discovery document names.
	local, named, guarded *http.Client
}

func newFetcher(config Issuer) (*fetcher, error) {
	roots, err := config.roots()
	if err != nil {
		return nil, err
	}
	return &fetcher{
		config:     config,
		algorithms: allowed(config.Algorithms),
		local:      newClient(roots, netip.Addr.IsLoopback),
		named:      newClient(roots, canBeIssuer),
		guarded:    newClient(roots, canBeFound),
	}, nil
}

// newClient returns a client that goes exactly where it is told: no redirects, which would let the answer
// choose the host, and no proxy from the environment. Connections are not kept: a fetch is rare.
func newClient(roots *x509.CertPool, allowed func(netip.Addr) bool) *http.Client {
	dialer := &net.Dialer{Timeout: fetchTimeout, Control: dialOnly(allowed)}
	return &http.Client{
		Timeout:       fetchTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext:            dialer.DialContext,
			TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    fetchTimeout,
			MaxResponseHeaderBytes: 64 << 10,
			DisableKeepAlives:      true,
		},
	}
}

// dialOnly refuses connections to addresses that are not allowed. They are the resolved ones, so that a DNS
// name cannot hide them.
func dialOnly(allowed func(netip.Addr) bool) func(network, address string, c syscall.RawConn) error {
	return func(_, address string, _ syscall.RawConn) error {
		target, err := netip.ParseAddrPort(address)
		if err != nil {
			return errors.New("not an IP address")
		}
		if !allowed(target.Addr()) {
			return errors.New("keys are not fetched from such an address")
		}
		return nil
	}
}

// canBeIssuer leaves out what is nobody's address, and the link, where cloud metadata services are. A host that
// the operator names may be this machine.
func canBeIssuer(ip netip.Addr) bool {
	return !ip.IsUnspecified() && !ip.IsLinkLocalUnicast() && !ip.IsMulticast()
}

// canBeFound leaves out this machine too.
func canBeFound(ip netip.Addr) bool { return canBeIssuer(ip) && !ip.IsLoopback() }

// fetch gets the issuer's keys, by discovery first if the operator gave no JWKS URL.
func (f *fetcher) fetch(ctx context.Context) (*keySet, error) {
	where, client, err := f.source(ctx)
	if err != nil {
		return nil, err
	}
	text, err := get(ctx, client, where)
	if err != nil {
		return nil, fmt.Errorf("key set: %w", err)
	}
	return parseKeySet(text, f.algorithms)
}

// source says where the keys are, and what to get them with.
func (f *fetcher) source(ctx context.Context) (string, *http.Client, error) {
	if f.config.JWKSURL == "" {
		where, client, err := f.discover(ctx)
		if err != nil {
			err = fmt.Errorf("discovery: %w", err)
		}
		return where, client, err
	}
	target, err := safeURL(f.config.JWKSURL)
	if err != nil {
		return "", nil, fmt.Errorf("jwks_url: %w", err)
	}
	return f.config.JWKSURL, f.clientFor(target), nil
}

// discover reads jwks_uri from the issuer's metadata, which must be the issuer's own (OpenID Connect
// Discovery 1.0 section 4.3; RFC 8414 section 3.3).
func (f *fetcher) discover(ctx context.Context) (string, *http.Client, error) {
	issuer, err := safeURL(string(f.config.URL))
	if err != nil {
		return "", nil, err
	}
	text, err := get(ctx, f.clientFor(issuer), f.config.discoveryURL())
	if err != nil {
		return "", nil, err
	}
	metadata, err := decodeObject(text)
	if err != nil {
		return "", nil, err
	}
	if metadata["issuer"] != string(f.config.URL) {
		return "", nil, errors.New("issuer is not the configured one")
	}
	where, ok := metadata["jwks_uri"].(string)
	if !ok {
		return "", nil, errors.New("jwks_uri is missing or not a string")
	}
	client, err := f.clientForFound(where, issuer)
	return where, client, err
}

// clientFor says how to get a URL that the operator names.
func (f *fetcher) clientFor(target *url.URL) *http.Client {
	if isLoopback(target.Hostname()) {
		return f.local
	}
	return f.named
}

// clientForFound says how to get what a discovery document names: as the operator's own URL if it is on the
// issuer's host, else guarded, so that an issuer cannot send us to our own loopback (SSRF).
func (f *fetcher) clientForFound(where string, issuer *url.URL) (*http.Client, error) {
	target, err := safeURL(where)
	switch {
	case err != nil:
		return nil, fmt.Errorf("jwks_uri: %w", err)
	case isLoopback(issuer.Hostname()), target.Host == issuer.Host:
		return f.clientFor(target), nil
	case isLoopback(target.Hostname()):
		return nil, errors.New("jwks_uri: on loopback, where the issuer is not")
	}
	return f.guarded, nil
}

// get returns the body of a 200 answer of bounded size. It is not unpacked: the transport does so only if nobody
// says what coding is wanted.
func get(ctx context.Context, client *http.Client, where string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, where, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/json")
	request.Header.Set("Accept-Encoding", "identity")
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %d", where, response.StatusCode)
	}
	if coding := response.Header.Get("Content-Encoding"); coding != "" && coding != "identity" {
		return nil, fmt.Errorf("%s answered with content coding %s, not identity", where, quoted(coding))
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, maxDocumentBytes+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxDocumentBytes {
		return nil, fmt.Errorf("%s answered more than %d bytes", where, maxDocumentBytes)
	}
	return text, nil
}
