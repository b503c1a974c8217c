package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// tlsFlags are how a client and a server with TLS know each other. None of them set is plain text.
type tlsFlags struct{ caFile, certFile, keyFile, serverName string }

func (f *tlsFlags) add(c *cobra.Command) {
	flags := c.Flags()
	flags.StringVar(&f.caFile, "ca-file", "", "PEM file of the CAs that the server's certificate must chain to; turns TLS on")
	flags.StringVar(&f.certFile, "cert-file", "", "PEM file of the client certificate, with --key-file; turns TLS on")
	flags.StringVar(&f.keyFile, "key-file", "", "PEM file of the client certificate's private key")
	flags.StringVar(&f.serverName, "server-name", "", "name that the server's certificate must have, if not the address's; turns TLS on")
}

func (f *tlsFlags) credentials() (credentials.TransportCredentials, error) {
	if *f == (tlsFlags{}) {
		return insecure.NewCredentials(), nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS13, ServerName: f.serverName}
	if f.caFile != "" {
		data, err := os.ReadFile(f.caFile)
		if err != nil {
			return nil, fmt.Errorf("--ca-file: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(data) {
			return nil, fmt.Errorf("--ca-file: %s holds no PEM certificate", f.caFile)
		}
	}
	if (f.certFile == "") != (f.keyFile == "") {
		return nil, errors.New("--cert-file and --key-file: each needs the other")
	}
	if f.certFile != "" {
		pair, err := tls.LoadX509KeyPair(f.certFile, f.keyFile)
		if err != nil {
			return nil, fmt.Errorf("--cert-file, --key-file: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return credentials.NewTLS(config), nil
}
