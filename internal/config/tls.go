package config

import (
	"errors"

	"github.com/extauthz/extauthz/internal/transport"
	configv1 "github.com/extauthz/extauthz/proto/extauthz/config/v1"
)

// listenerTLS is the TLS of one listener, nil for plain text, and where it stands in the file.
type listenerTLS struct {
	path string
	tls  *configv1.TLS
}

func listeners(c *configv1.Config) []listenerTLS {
	return []listenerTLS{{"server.tls", c.GetServer().GetTls()}, {"telemetry.tls", c.GetTelemetry().GetTls()}}
}

// FilesOf returns what the TLS of a listener is made of.
func FilesOf(t *configv1.TLS) transport.Files {
	return transport.Files{
		Cert: t.GetCertFile(), Key: t.GetKeyFile(), ClientCA: t.GetClientCaFile(), AllowedClients: t.GetAllowedClients(),
	}
}

// clients refuses a list of clients that nothing is compared with: it would look like protection.
func (c *checker) clients() {
	for _, l := range listeners(c.config) {
		if len(l.tls.GetAllowedClients()) > 0 && l.tls.GetClientCaFile() == "" {
			c.file.Report(l.path+".allowed_clients", "is set, but clients need no certificate", "only with client_ca_file")
		}
	}
}

// tlsFiles refuses files that cannot be used. Where a key is missing, that is the fault.
func (c *checker) tlsFiles() {
	allowed := map[string]string{
		"cert_file":      "a readable PEM file with a server's certificate that is valid now",
		"key_file":       "a readable PEM file with the private key of the certificate in cert_file",
		"client_ca_file": "a readable PEM file with at least one CA certificate",
	}
	for _, l := range listeners(c.config) {
		if l.tls.GetCertFile() == "" || l.tls.GetKeyFile() == "" {
			continue
		}
		_, err := transport.LoadTLS(FilesOf(l.tls))
		if fault := (*transport.FileError)(nil); errors.As(err, &fault) {
			c.file.Report(l.path+"."+fault.Key, fault.Err.Error(), allowed[fault.Key])
		}
	}
}
