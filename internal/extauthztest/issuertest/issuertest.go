// Package issuertest starts a real OIDC issuer on loopback for a test: package localissuer, with failures
// reported to the test and RSA keys reused within the process.
package issuertest

import (
	"crypto/rsa"
	"sync"
	"testing"

	"github.com/extauthz/extauthz/internal/extauthztest/issuertest/localissuer"
)

// Issuer is a running issuer that ends with its test.
type Issuer struct {
	*localissuer.Issuer
	t testing.TB
}

// New starts an issuer and closes it when the test ends. It fails the test if it cannot.
func New(t testing.TB, opts ...localissuer.Option) *Issuer {
	t.Helper()
	lease := &lease{pool: sharedRSAKeys()}
	t.Cleanup(lease.end)
	opts = append([]localissuer.Option{localissuer.RSAKeys(lease.next)}, opts...)
	running, err := localissuer.Start(t.Context(), opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := running.Close(); err != nil {
			t.Error(err)
		}
	})
	return &Issuer{Issuer: running, t: t}
}

// Mint is [localissuer.Issuer.Mint], failing the test on an error. It must be called from the test's goroutine.
func (i *Issuer) Mint(claims map[string]any, opts ...localissuer.MintOption) string {
	i.t.Helper()
	token, err := i.Issuer.Mint(claims, opts...)
	if err != nil {
		i.t.Fatal(err)
	}
	return token
}

// Rotate is [localissuer.Issuer.Rotate], failing the test on an error.
func (i *Issuer) Rotate() {
	i.t.Helper()
	if err := i.Issuer.Rotate(); err != nil {
		i.t.Fatal(err)
	}
}

// Overlap is [localissuer.Issuer.Overlap], failing the test on an error.
func (i *Issuer) Overlap() {
	i.t.Helper()
	if err := i.Issuer.Overlap(); err != nil {
		i.t.Fatal(err)
	}
}

// pool keeps RSA keys that no living issuer uses: making one takes 0.1 s, and two living issuers must not
// share one, or a test of key confusion would prove nothing.
type pool struct {
	mu   sync.Mutex
	free []*rsa.PrivateKey
}

// sharedRSAKeys is the process's one pool, global because it has to outlive the tests that fill it.
var sharedRSAKeys = sync.OnceValue(func() *pool { return &pool{} })

func (p *pool) take() (*rsa.PrivateKey, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.free); n > 0 {
		key := p.free[n-1]
		p.free = p.free[:n-1]
		return key, nil
	}
	return localissuer.NewRSAKey()
}

func (p *pool) put(keys []*rsa.PrivateKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free = append(p.free, keys...)
}

// lease is what one issuer took from the pool.
type lease struct {
	pool *pool
	mu   sync.Mutex
	keys []*rsa.PrivateKey
}

func (l *lease) next() (*rsa.PrivateKey, error) {
	key, err := l.pool.take()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keys = append(l.keys, key)
	return key, nil
}

func (l *lease) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pool.put(l.keys)
	l.keys = nil
}
