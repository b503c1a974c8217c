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
	// named goes to the hosts that the operator names, guarded to those that the issuer's discovery
	// document names.
	named, guarded *http.Client
}

func newFetcher(config Issuer) (*fetcher, error) {
	roots, err := config.roots()
	if err != nil {
		return nil, err
	}
	return &fetcher{
		config:     config,
		algorithms: allowed(config.Algorithms),
		named:      newClient(roots, nil),
		guarded:    newClient(roots, refuseLocal),
	}, nil
}

// newClient returns a client that goes exactly where it is told: no redirects, which would let the answer
// choose the host, and no proxy from the environment. Connections are not kept: a fetch is rare.
func newClient(roots *x509.CertPool, control func(network, address string, c syscall.RawConn) error) *http.Client {
	dialer := &net.Dialer{Timeout: fetchTimeout, Control: control}
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

// refuseLocal refuses connections to this host and its link, where cloud metadata services are. The
// address is the resolved one, so a DNS name cannot hide it.
func refuseLocal(_, address string, _ syscall.RawConn) error {
	target, err := netip.ParseAddrPort(address)
	if err != nil {
		return errors.New("not an IP address")
	}
	ip := target.Addr().Unmap()
	if ip.IsLoopback() || ip.IsUnspecified() || ip.IsLinkLocalUnicast() || ip.IsMulticast() {
		return errors.New("the discovery document points at a local address")
	}
	return nil
}

// fetch gets the issuer's keys, by discovery first if the operator gave no JWKS URL.
func (f *fetcher) fetch(ctx context.Context) (*keySet, error) {
	where, client := f.config.JWKSURL, f.named
	if where == "" {
		var err error
		if where, client, err = f.discover(ctx); err != nil {
			return nil, fmt.Errorf("discovery: %w", err)
		}
	}
	text, err := get(ctx, client, where)
	if err != nil {
		return nil, fmt.Errorf("key set: %w", err)
	}
	return parseKeySet(text, f.algorithms)
}

// discover reads jwks_uri from the issuer's metadata, which must be the issuer's own (OpenID Connect
// Discovery 1.0 section 4.3; RFC 8414 section 3.3).
func (f *fetcher) discover(ctx context.Context) (string, *http.Client, error) {
	text, err := get(ctx, f.named, f.config.discoveryURL())
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
	client, err := f.clientFor(where)
	return where, client, err
}

// clientFor says how to get what a discovery document names: as the operator's own URL if it is on the
// issuer's host, else guarded, so that an issuer cannot send us to our own loopback (SSRF).
func (f *fetcher) clientFor(where string) (*http.Client, error) {
	target, err := safeURL(where)
	if err != nil {
		return nil, fmt.Errorf("jwks_uri: %w", err)
	}
	issuer, err := url.Parse(string(f.config.URL))
	if err != nil {
		return nil, err
	}
	switch {
	case isLoopback(issuer.Hostname()), target.Host == issuer.Host:
		return f.named, nil
	case isLoopback(target.Hostname()):
		return nil, errors.New("jwks_uri: on loopback, where the issuer is not")
	}
	return f.guarded, nil
}

// get returns the body of a 200 answer of bounded size.
func get(ctx context.Context, client *http.Client, where string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, where, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %d", where, response.StatusCode)
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
