// Package localissuer is a real OIDC issuer for tests and the demo: an HTTP server on loopback with a
// discovery document and a JWKS, and a mint that signs any token, also those that no issuer should.
//
// It authenticates nobody and is not for production. It does not import package testing; tests use
// package issuertest, which does.
package localissuer

import (
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// Option changes how [Start] sets an issuer up.
type Option func(*options)

type options struct {
	address    string
	path       string
	audience   string
	algorithms []string
	now        func() time.Time
	newRSAKey  func() (*rsa.PrivateKey, error)
}

// Address is where the issuer listens, host:port. The default is a free port on 127.0.0.1.
func Address(address string) Option { return func(o *options) { o.address = address } }

// Path is appended to the issuer's URL, as in "/realms/acme". The default is "".
func Path(path string) Option { return func(o *options) { o.path = path } }

// Audience is the default aud of minted tokens. The default is "extauthz".
func Audience(audience string) Option { return func(o *options) { o.audience = audience } }

// Algorithms are those the issuer has keys for, the first being the default of Mint. The default is
// RS256, ES256 and EdDSA.
func Algorithms(names ...string) Option { return func(o *options) { o.algorithms = names } }

// Now is the clock of minted tokens. The default is [time.Now].
func Now(now func() time.Time) Option { return func(o *options) { o.now = now } }

// RSAKeys is where RSA keys come from. The default is [NewRSAKey].
func RSAKeys(newKey func() (*rsa.PrivateKey, error)) Option {
	return func(o *options) { o.newRSAKey = newKey }
}

// Issuer is a running issuer. It is safe for concurrent use.
type Issuer struct {
	options  options
	url      string
	server   *http.Server
	finished chan error

	mu          sync.Mutex
	generation  int
	signing     []key // of this generation
	published   []key
	extra       []any // further entries of the JWKS
	respond     http.HandlerFunc
	delay       time.Duration
	down        bool
	keyRequests int
	discoveries int
}

// Start generates the keys and starts the issuer. ctx bounds the start alone; the issuer runs until Close.
func Start(ctx context.Context, opts ...Option) (*Issuer, error) {
	i := &Issuer{finished: make(chan error, 1), options: options{
		address: "127.0.0.1:0", audience: "extauthz", algorithms: []string{"RS256", "ES256", "EdDSA"},
		now: time.Now, newRSAKey: NewRSAKey,
	}}
	for _, opt := range opts {
		opt(&i.options)
	}
	if err := i.Rotate(); err != nil {
		return nil, err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", i.options.address)
	if err != nil {
		return nil, fmt.Errorf("localissuer: %w", err)
	}
	i.url = "http://" + listener.Addr().String() + i.options.path
	i.server = &http.Server{Handler: i.handler(), ReadHeaderTimeout: 10 * time.Second}
	go func() { i.finished <- i.server.Serve(listener) }()
	return i, nil
}

// Close stops the issuer and returns once it no longer serves. It must be called once.
func (i *Issuer) Close() error {
	err := i.server.Close()
	if served := <-i.finished; !errors.Is(served, http.ErrServerClosed) {
		return errors.Join(err, served)
	}
	return err
}

// URL is the issuer's name, the iss of its tokens.
func (i *Issuer) URL() string { return i.url }

// JWKSURL is where the issuer's keys are.
func (i *Issuer) JWKSURL() string { return i.url + "/jwks" }

// Audience is the default aud of minted tokens.
func (i *Issuer) Audience() string { return i.options.audience }

// Rotate replaces all keys: new ones sign, and the old ones are withdrawn from the JWKS.
func (i *Issuer) Rotate() error { return i.rotate(false) }

// Overlap is Rotate, but the old keys stay in the JWKS.
func (i *Issuer) Overlap() error { return i.rotate(true) }

func (i *Issuer) rotate(keepOld bool) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	keys, err := i.generate(i.generation + 1)
	if err != nil {
		return err
	}
	i.generation++
	if !keepOld {
		i.published = nil
	}
	i.signing, i.published = keys, append(i.published, keys...)
	return nil
}

// Publish sets further entries of the JWKS, behind the issuer's own keys. Each is marshaled as it is.
func (i *Issuer) Publish(entries ...any) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.extra = entries
}
