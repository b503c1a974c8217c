package transport_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/extauthz/extauthz/internal/extauthztest/catest"
	"github.com/extauthz/extauthz/internal/transport"
)

const envoy = "spiffe://example.org/ns/gateways/sa/envoy"

// site is a listener's TLS in files, and its authority.
type site struct {
	ca    *catest.CA
	dir   string
	files transport.Files
}

func newSite(t *testing.T, allowed ...string) *site {
	t.Helper()
	s := &site{ca: catest.New(t), dir: t.TempDir()}
	s.files.Cert, s.files.Key = s.ca.Server(t).Write(t, s.dir)
	s.files.ClientCA = catest.WriteFile(t, s.dir, "ca.crt", s.ca.PEM)
	s.files.AllowedClients = allowed
	return s
}

func (s *site) load(t *testing.T) *transport.TLS {
	t.Helper()
	loaded, err := transport.LoadTLS(s.files)
	if err != nil {
		t.Fatal(err)
	}
	return loaded
}

// client returns the configuration of a client that trusts the site; without a certificate if it is the zero one.
func (s *site) client(t *testing.T, p catest.Pair) *tls.Config {
	t.Helper()
	c := &tls.Config{RootCAs: s.ca.Pool(), ServerName: "localhost"}
	if p.Cert != nil {
		pair, err := tls.X509KeyPair(p.Cert, p.Key)
		if err != nil {
			t.Fatal(err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c
}

// link is an established connection.
type link struct{ server, client *tls.Conn }

// connect makes a connection, and returns what the server says if it does not come about.
func connect(t *testing.T, server *tls.Config, client *tls.Config) (link, error) {
	t.Helper()
	a, b := net.Pipe()
	l := link{tls.Server(a, server), tls.Client(b, client)}
	t.Cleanup(func() { _, _ = a.Close(), b.Close() })
	go func() {
		_ = l.client.Handshake()
		_, _ = l.client.Read(make([]byte, 1)) // an alert, or the byte of says
	}()
	return l, l.server.Handshake()
}

func TestClients(t *testing.T) {
	s := newSite(t, envoy, "envoy.gateways.svc")
	other := catest.New(t)
	past := time.Now().Add(-time.Minute)
	uri := func(names ...string) catest.Pair { return s.ca.Issue(t, catest.Certificate{URIs: names}) }
	dns := func(names ...string) catest.Pair { return s.ca.Issue(t, catest.Certificate{DNS: names}) }
	const none = "none of the allowed names"
	for name, c := range map[string]struct {
		certificate catest.Pair
		refused     string // "" if it is let in
	}{
		"SPIFFE id":                     {uri(envoy), ""},
		"SPIFFE id among DNS names":     {s.ca.Issue(t, catest.Certificate{URIs: []string{envoy}, DNS: []string{"x"}}), ""},
		"DNS name":                      {dns("envoy.gateways.svc"), ""},
		"DNS name among others":         {dns("x", "envoy.gateways.svc"), ""},
		"no certificate":                {catest.Pair{}, "didn't provide a certificate"},
		"another authority":             {other.Issue(t, catest.Certificate{URIs: []string{envoy}}), "unknown authority"},
		"expired":                       {s.ca.Issue(t, catest.Certificate{URIs: []string{envoy}, NotAfter: past}), "expired"},
		"not yet valid":                 {s.ca.Issue(t, catest.Certificate{URIs: []string{envoy}, NotBefore: time.Now().Add(time.Minute)}), "not yet valid"},
		"a server's":                    {s.ca.Issue(t, catest.Certificate{URIs: []string{envoy}, Usage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}), "key usage"},
		"a CA's":                        {s.ca.Issue(t, catest.Certificate{URIs: []string{envoy}, IsCA: true}), "that of a CA"},
		"no name":                       {s.ca.Issue(t, catest.Certificate{}), none},
		"common name only":              {s.ca.Issue(t, catest.Certificate{CommonName: "envoy.gateways.svc"}), none},
		"another SPIFFE id":             {uri("spiffe://example.org/ns/gateways/sa/other"), none},
		"another trust domain":          {uri("spiffe://example.com/ns/gateways/sa/envoy"), none},
		"longer SPIFFE id":              {uri(envoy + "/x"), none},
		"shorter SPIFFE id":             {uri("spiffe://example.org/ns/gateways/sa"), none},
		"upper case in a SPIFFE id":     {uri("spiffe://Example.org/ns/gateways/sa/envoy"), none},
		"empty fragment":                {uri(envoy + "#"), none},
		"empty query":                   {uri(envoy + "?"), none},
		"trailing slash":                {uri(envoy + "/"), none},
		"percent sign":                  {uri("spiffe://example.org/ns/gateways/sa/%65nvoy"), none},
		"two SPIFFE ids":                {uri(envoy, "spiffe://example.org/ns/gateways/sa/other"), none},
		"the same SPIFFE id twice":      {uri(envoy, envoy), none},
		"SPIFFE id as a DNS name":       {dns(envoy), none},
		"DNS name as a URI":             {uri("envoy.gateways.svc"), none},
		"NUL after a DNS name":          {dns("envoy.gateways.svc\x00.evil.example"), none},
		"NUL after a trailing label":    {dns("envoy.gateways.svc\x00"), none},
		"wildcard":                      {dns("*.gateways.svc"), none},
		"upper case in a DNS name":      {dns("Envoy.gateways.svc"), none},
		"dot after a DNS name":          {dns("envoy.gateways.svc."), none},
		"DNS name below one":            {dns("x.envoy.gateways.svc"), none},
		"space before a DNS name":       {dns(" envoy.gateways.svc"), none},
		"several names in one DNS name": {dns("envoy.gateways.svc,x"), none},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := connect(t, s.load(t).ServerConfig(), s.client(t, c.certificate))
			switch {
			case c.refused == "" && err != nil:
				t.Errorf("refused: %v", err)
			case c.refused != "" && (err == nil || !strings.Contains(err.Error(), c.refused)):
				t.Errorf("got %v, want %q", err, c.refused)
			}
		})
	}
}

func TestClientsWithoutAList(t *testing.T) {
	s := newSite(t)
	if _, err := connect(t, s.load(t).ServerConfig(), s.client(t, s.ca.Issue(t, catest.Certificate{CommonName: "anyone"}))); err != nil {
		t.Errorf("a client of the CA was refused: %v", err)
	}
	if _, err := connect(t, s.load(t).ServerConfig(), s.client(t, catest.Pair{})); err == nil {
		t.Error("a client without a certificate was let in")
	}
	s.files.ClientCA = ""
	if _, err := connect(t, s.load(t).ServerConfig(), s.client(t, catest.Pair{})); err != nil {
		t.Errorf("without a client CA, a client was refused: %v", err)
	}
}

func TestOldVersionsAreRefused(t *testing.T) {
	s := newSite(t)
	client := s.client(t, s.ca.Issue(t, catest.Certificate{}))
	client.MaxVersion = tls.VersionTLS12
	if _, err := connect(t, s.load(t).ServerConfig(), client); err == nil || !strings.Contains(err.Error(), "version") {
		t.Errorf("TLS 1.2: %v", err)
	}
}

// says lets the server say something, and returns whether it arrives.
func (l link) says(t *testing.T) bool {
	t.Helper()
	arrived := make(chan error, 1)
	go func() { _, err := l.server.Write([]byte{1}); arrived <- err }()
	return <-arrived == nil
}

// A changed file counts for new connections; those that are there go on.
func TestReload(t *testing.T) {
	s := newSite(t)
	mine := s.ca.Issue(t, catest.Certificate{})
	loaded := s.load(t)
	config := loaded.ServerConfig()
	serial := func() string {
		l, err := connect(t, config, s.client(t, mine))
		if err != nil {
			t.Fatal(err)
		}
		if !l.says(t) {
			t.Fatal("the connection is dead")
		}
		return l.client.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	reload := func(want bool) {
		t.Helper()
		if changed, err := loaded.Reload(); err != nil || changed != want {
			t.Fatalf("changed: %v, %v", changed, err)
		}
	}
	first := serial()
	old, err := connect(t, config, s.client(t, mine))
	if err != nil {
		t.Fatal(err)
	}
	reload(false)

	later := time.Now().Add(2 * time.Hour).Truncate(time.Second)
	s.ca.Issue(t, catest.Certificate{DNS: []string{"localhost"}, NotAfter: later}).Write(t, s.dir)
	reload(true)
	second := serial()
	if second == first {
		t.Error("the new certificate is not shown")
	}
	if !loaded.Expires().Equal(later) {
		t.Errorf("expires at %s, want %s", loaded.Expires(), later)
	}
	if !old.says(t) {
		t.Error("the old connection ended")
	}

	catest.WriteFile(t, s.dir, "tls.key", s.ca.Server(t).Key)
	if _, err := loaded.Reload(); err == nil || !strings.Contains(err.Error(), "key_file: ") {
		t.Errorf("a key that does not fit: %v", err)
	}
	if serial() != second {
		t.Error("a bad pair took the place of a good one")
	}

	s.ca.Server(t).Write(t, s.dir)
	catest.WriteFile(t, s.dir, "ca.crt", catest.New(t).PEM)
	reload(true)
	if _, err := connect(t, config, s.client(t, mine)); err == nil {
		t.Error("a client of the old CA was let in")
	}
}

func TestReloadOfAKubernetesVolume(t *testing.T) {
	s := newSite(t)
	volume := catest.NewVolume(t, s.ca.Server(t).Files(s.ca.PEM))
	s.files = transport.Files{Cert: volume.Path("tls.crt"), Key: volume.Path("tls.key"), ClientCA: volume.Path("ca.crt")}
	loaded := s.load(t)
	volume.Replace(s.ca.Server(t).Files(s.ca.PEM))
	if changed, err := loaded.Reload(); err != nil || !changed {
		t.Errorf("changed: %v, %v", changed, err)
	}
}

func TestLoadRefuses(t *testing.T) {
	past, future := time.Now().Add(-time.Minute), time.Now().Add(time.Minute)
	for name, c := range map[string]struct {
		change    func(*testing.T, *site)
		key, text string
	}{
		"no certificate file":            {func(_ *testing.T, s *site) { s.files.Cert = "/nowhere/tls.crt" }, "cert_file", "the file cannot be read: no such file"},
		"no key file":                    {func(_ *testing.T, s *site) { s.files.Key = "/nowhere/tls.key" }, "key_file", "the file cannot be read: no such file"},
		"no CA file":                     {func(_ *testing.T, s *site) { s.files.ClientCA = "/nowhere/ca.crt" }, "client_ca_file", "the file cannot be read: no such file"},
		"a folder":                       {func(_ *testing.T, s *site) { s.files.Cert = s.dir }, "cert_file", "the file cannot be read: is a directory"},
		"the key twice":                  {func(_ *testing.T, s *site) { s.files.Cert = s.files.Key }, "cert_file", "no PEM certificate"},
		"the certificate twice":          {func(_ *testing.T, s *site) { s.files.Key = s.files.Cert }, "key_file", "a certificate rather than a key"},
		"a CA file without certificates": {func(_ *testing.T, s *site) { s.files.ClientCA = s.files.Key }, "client_ca_file", "no PEM certificate"},
		"a key that does not fit":        {func(t *testing.T, s *site) { catest.WriteFile(t, s.dir, "tls.key", s.ca.Server(t).Key) }, "key_file", "does not match"},
		"garbage in PEM": {func(t *testing.T, s *site) {
			catest.WriteFile(t, s.dir, "tls.crt", []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
		}, "cert_file", "cannot be parsed"},
		"expired": {func(t *testing.T, s *site) {
			s.ca.Issue(t, catest.Certificate{DNS: []string{"localhost"}, NotAfter: past}).Write(t, s.dir)
		}, "cert_file", "the certificate expired at " + past.UTC().Format(time.RFC3339)},
		"not yet valid": {func(t *testing.T, s *site) {
			s.ca.Issue(t, catest.Certificate{DNS: []string{"localhost"}, NotBefore: future}).Write(t, s.dir)
		}, "cert_file", "not valid before " + future.UTC().Format(time.RFC3339)},
		"a client's": {func(t *testing.T, s *site) {
			s.ca.Issue(t, catest.Certificate{Usage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}).Write(t, s.dir)
		}, "cert_file", "not for servers"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			c.change(t, s)
			_, err := transport.LoadTLS(s.files)
			var fault *transport.FileError
			if !errors.As(err, &fault) || fault.Key != c.key || !strings.Contains(fault.Err.Error(), c.text) {
				t.Errorf("got %v, want %s: … %s", err, c.key, c.text)
			}
		})
	}
}
