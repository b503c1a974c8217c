package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"

	"google.golang.org/grpc/credentials"

	"github.com/extauthz/extauthz/internal/config"
	"github.com/extauthz/extauthz/internal/telemetry"
	"github.com/extauthz/extauthz/internal/transport"
	configv1 "github.com/extauthz/extauthz/proto/extauthz/config/v1"
)

// endpoint is where one of the servers listens.
type endpoint struct {
	net.Listener
	name string         // of the configuration's section
	tls  *transport.TLS // nil: plain text
}

func openServerEndpoint(s *configv1.Server) (*endpoint, error) {
	e := &endpoint{name: "server"}
	return e, e.open(s.GetAddress(), s.GetSocketMode(), int(s.GetMaxConnections()), s.GetTls())
}

func openTelemetryEndpoint(t *configv1.Telemetry) (*endpoint, error) {
	e := &endpoint{name: "telemetry"}
	return e, e.open(t.GetAddress(), "", telemetry.MaxConnections, t.GetTls())
}

func (e *endpoint) open(address, mode string, connections int, t *configv1.TLS) (err error) {
	if t != nil {
		if e.tls, err = transport.LoadTLS(config.FilesOf(t)); err != nil {
			return usageError{fmt.Errorf("%s.tls.%w", e.name, err)}
		}
	}
	e.Listener, err = transport.Listen(address, mode, connections)
	return err
}

// credentials are the endpoint's TLS for a gRPC server; nil without.
func (e *endpoint) credentials(logger *slog.Logger) credentials.TransportCredentials {
	if e.tls == nil {
		return nil
	}
	return transport.Credentials(e.tls.ServerConfig(), logger)
}

// tlsConfig is the endpoint's TLS for another server; nil without.
func (e *endpoint) tlsConfig() *tls.Config {
	if e.tls == nil {
		return nil
	}
	return e.tls.ServerConfig()
}

// watched are the files behind the endpoint's TLS, if it has one. Its metric is set from now on.
func (e *endpoint) watched(metrics *telemetry.Metrics) []watched {
	if e.tls == nil {
		return nil
	}
	metrics.Expires(e.name, e.tls.Expires())
	return []watched{{name: e.name + ".tls", load: func(context.Context) (bool, error) {
		changed, err := e.tls.Reload()
		metrics.Expires(e.name, e.tls.Expires())
		return changed, err
	}}}
}

// warnIfOpen says so when anybody in the network can ask for decisions: an answer names keys and teams, and the question
// holds a token.
func (e *endpoint) warnIfOpen(logger *slog.Logger) {
	switch {
	case !transport.Exposed(e.Addr()):
	case e.tls == nil:
		logger.Warn("server.address is reachable from other machines without TLS: anyone there can read tokens and ask for decisions, unless a mesh or a network policy prevents it")
	case !e.tls.ChecksClients():
		logger.Warn("server.address is reachable from other machines without client certificates: anyone there can ask for decisions, unless a mesh or a network policy prevents it")
	}
}
