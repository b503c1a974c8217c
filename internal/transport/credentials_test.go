package transport_test

import (
	"bytes"
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/extauthz/extauthz/internal/transport"
)

// What keeps a client out is logged; a look whether the port is open is not.
func TestFailedHandshakesAreLogged(t *testing.T) {
	s := newSite(t)
	for begin, want := range map[string]string{"": "", "GET / HTTP/1.1\r\n\r\n": "TLS handshake failed"} {
		var log bytes.Buffer
		creds := transport.Credentials(s.load(t).ServerConfig(), slog.New(slog.NewTextHandler(&log, nil))).Clone()
		server, client := net.Pipe()
		go func() {
			_, _ = client.Write([]byte(begin))
			_ = client.Close()
		}()
		if _, _, err := creds.ServerHandshake(server); err == nil {
			t.Fatalf("%q is a handshake", begin)
		}
		if got := log.String(); (got != "") != (want != "") || !strings.Contains(got, want) {
			t.Errorf("%q: logged %q", begin, got)
		}
	}
}
