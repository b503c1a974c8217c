package transport

import (
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"syscall"

	"google.golang.org/grpc/credentials"
)

// Credentials returns a TLS configuration for a gRPC server. What keeps a client out is logged: the client itself may
// be told no more than an alert, and gRPC says nothing.
func Credentials(c *tls.Config, logger *slog.Logger) credentials.TransportCredentials {
	return &loggedCredentials{credentials.NewTLS(c), logger}
}

type loggedCredentials struct {
	credentials.TransportCredentials
	logger *slog.Logger
}

func (c *loggedCredentials) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	connection, info, err := c.TransportCredentials.ServerHandshake(raw)
	// A peer that only looks whether the port is open hangs up, with or without a word.
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		c.logger.Warn("TLS handshake failed", "client", raw.RemoteAddr().String(), "error", err.Error())
	}
	return connection, info, err
}

func (c *loggedCredentials) Clone() credentials.TransportCredentials {
	return &loggedCredentials{c.TransportCredentials.Clone(), c.logger}
}
