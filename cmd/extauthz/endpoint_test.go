package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/extauthz/extauthz/internal/extauthztest/catest"
	configv1 "github.com/extauthz/extauthz/proto/extauthz/config/v1"
)

// Whoever opens the port to other machines without knowing its clients is told so.
func TestOpenPortsAreWarnedOf(t *testing.T) {
	ca := catest.New(t)
	dir := t.TempDir()
	cert, key := ca.Server(t).Write(t, dir)
	authority := catest.WriteFile(t, dir, "ca.crt", ca.PEM)
	server := &configv1.TLS{CertFile: &cert, KeyFile: &key}
	mutual := &configv1.TLS{CertFile: &cert, KeyFile: &key, ClientCaFile: &authority}
	for _, c := range []struct {
		address string
		tls     *configv1.TLS
		want    string
	}{
		{"127.0.0.1:0", nil, ""},
		{"127.0.0.1:0", server, ""},
		{"0.0.0.0:0", nil, "without TLS"},
		{"0.0.0.0:0", server, "without client certificates"},
		{"0.0.0.0:0", mutual, ""},
	} {
		connections := uint32(1)
		e, err := openServerEndpoint(&configv1.Server{Address: &c.address, MaxConnections: &connections, Tls: c.tls})
		if err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		e.warnIfOpen(slog.New(slog.NewTextHandler(&log, nil)))
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		if got := log.String(); (got != "") != (c.want != "") || !strings.Contains(got, c.want) {
			t.Errorf("%s, %v: %q, want %q", c.address, c.tls, got, c.want)
		}
	}
}
