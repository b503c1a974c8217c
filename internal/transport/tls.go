package transport

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync/atomic"
	"time"
)

// Files say what the TLS of a listener is made of.
type Files struct {
	// Cert is a PEM file with the listener's certificate and its intermediates, Key one with the private key. Both are required.
	Cert, Key string
	// ClientCA is a PEM file of the CAs that a client's certificate must chain to. Empty asks for no certificate.
	ClientCA string
	// AllowedClients are SPIFFE ids and DNS names, of which a client's certificate must have one. Empty takes every certificate
	// of ClientCA.
	AllowedClients []string
}

// FileError says which file cannot be used. It repeats nothing that is in it.
type FileError struct {
	Key  string // in the configuration: cert_file, key_file or client_ca_file
	Path string
	Err  error
}

// Error returns KEY: PATH: what is wrong.
func (e *FileError) Error() string { return fmt.Sprintf("%s: %s: %v", e.Key, e.Path, e.Err) }

// Unwrap returns what is wrong.
func (e *FileError) Unwrap() error { return e.Err }

// TLS is the TLS of one listener, made from files that may change. Reload is for one goroutine at a time; the other
// methods are safe for concurrent use.
type TLS struct {
	files   Files
	read    contents // what current was made from
	current atomic.Pointer[tls.Config]
}

// contents are the files' contents. ClientCA is empty without one.
type contents struct{ cert, key, clientCA string }

// LoadTLS reads the files. The error is a *[FileError].
func LoadTLS(files Files) (*TLS, error) {
	t := &TLS{files: files}
	if _, err := t.Reload(); err != nil {
		return nil, err
	}
	return t, nil
}

// Reload reads the files again, and reports whether new connections now use another content. After an error, a
// *[FileError], they use what they used before.
func (t *TLS) Reload() (bool, error) {
	read, err := t.files.contents()
	if err != nil || read == t.read {
		return false, err
	}
	config, err := t.files.parse(read)
	if err != nil {
		return false, err
	}
	t.current.Store(config)
	t.read = read
	return true, nil
}

// ServerConfig returns the configuration for a server, which adds the application protocols that it speaks. Each connection
// gets what the files held when it began.
func (t *TLS) ServerConfig() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return t.current.Load(), nil },
	}
}

// Expires is when the listener's certificate does.
func (t *TLS) Expires() time.Time { return t.current.Load().Certificates[0].Leaf.NotAfter }

// ChecksClients reports whether a client must have a certificate.
func (t *TLS) ChecksClients() bool { return t.files.ClientCA != "" }

func (f Files) contents() (c contents, err error) {
	for _, file := range []struct {
		key, path string
		content   *string
	}{{"cert_file", f.Cert, &c.cert}, {"key_file", f.Key, &c.key}, {"client_ca_file", f.ClientCA, &c.clientCA}} {
		if file.path == "" {
			continue
		}
		data, err := os.ReadFile(file.path)
		if err != nil {
			if failed := (*fs.PathError)(nil); errors.As(err, &failed) {
				err = failed.Err // the path is told already
			}
			return contents{}, &FileError{file.key, file.path, fmt.Errorf("the file cannot be read: %w", err)}
		}
		*file.content = string(data)
	}
	return c, nil
}

func (f Files) parse(c contents) (*tls.Config, error) {
	chain, err := certificatesIn(c.cert)
	if err == nil {
		err = usable(chain[0], time.Now())
	}
	if err != nil {
		return nil, &FileError{"cert_file", f.Cert, err}
	}
	pair, err := tls.X509KeyPair([]byte(c.cert), []byte(c.key))
	if err != nil {
		return nil, &FileError{"key_file", f.Key, err}
	}
	config := &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{pair},
		// A resumed session would carry a client past what the files say now.
		SessionTicketsDisabled: true,
	}
	if f.ClientCA == "" {
		return config, nil
	}
	authorities, err := certificatesIn(c.clientCA)
	if err != nil {
		return nil, &FileError{"client_ca_file", f.ClientCA, err}
	}
	config.ClientAuth = tls.RequireAndVerifyClientCert
	config.ClientCAs = x509.NewCertPool()
	for _, authority := range authorities {
		config.ClientCAs.AddCert(authority)
	}
	config.VerifyConnection = newClients(f.AllowedClients).verify
	return config, nil
}

// certificatesIn returns the certificates of a PEM text, of which there is at least one.
func certificatesIn(text string) ([]*x509.Certificate, error) {
	var list []*x509.Certificate
	for block, rest := pem.Decode([]byte(text)); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, errors.New("the file holds a certificate that cannot be parsed")
		}
		list = append(list, certificate)
	}
	if len(list) == 0 {
		return nil, errors.New("the file holds no PEM certificate")
	}
	return list, nil
}

// usable reports why no client would take the certificate, as far as that is known here.
func usable(c *x509.Certificate, now time.Time) error {
	switch {
	case now.After(c.NotAfter):
		return fmt.Errorf("the certificate expired at %s", c.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(c.NotBefore):
		return fmt.Errorf("the certificate is not valid before %s", c.NotBefore.UTC().Format(time.RFC3339))
	case len(c.ExtKeyUsage) > 0 && !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageServerAuth) && !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny):
		return errors.New("the certificate is not for servers")
	}
	return nil
}
