package config_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/extauthz/extauthz/internal/config"
	"github.com/extauthz/extauthz/internal/extauthztest/catest"
)

// Whoever serves is told, with its line, of every file of TLS that cannot be used. Whoever only reads the configuration does not need
// the files.
func TestFilesOfTLS(t *testing.T) {
	ca := catest.New(t)
	dir := t.TempDir()
	cert, key := ca.Server(t).Write(t, dir)
	authority := catest.WriteFile(t, dir, "ca.crt", ca.PEM)
	other := catest.WriteFile(t, dir, "other.key", ca.Server(t).Key)
	past := time.Now().Add(-time.Minute)
	expired := catest.WriteFile(t, dir, "expired.crt", ca.Issue(t, catest.Certificate{NotAfter: past}).Cert)

	const certAllowed = "; allowed: a readable PEM file with a server's certificate that is valid now"
	const keyAllowed = "; allowed: a readable PEM file with the private key of the certificate in cert_file"
	const caAllowed = "; allowed: a readable PEM file with at least one CA certificate"
	for _, c := range []struct{ cert, key, ca, want string }{
		{cert, key, authority, ""},
		{"/nowhere", key, authority, "2:14: server.tls.cert_file: the file cannot be read: no such file or directory" + certAllowed},
		{key, key, authority, "2:14: server.tls.cert_file: the file holds no PEM certificate" + certAllowed},
		{expired, key, authority, "2:14: server.tls.cert_file: the certificate expired at " + past.UTC().Format(time.RFC3339) + certAllowed},
		{cert, "/nowhere", authority, "3:13: server.tls.key_file: the file cannot be read: no such file or directory" + keyAllowed},
		{cert, other, authority, "3:13: server.tls.key_file: tls: private key does not match public key" + keyAllowed},
		{cert, key, "/nowhere", "4:19: server.tls.client_ca_file: the file cannot be read: no such file or directory" + caAllowed},
		{cert, key, key, "4:19: server.tls.client_ca_file: the file holds no PEM certificate" + caAllowed},
	} {
		for _, section := range []string{"server", "telemetry"} {
			yaml := fmt.Sprintf("%s: {tls: {\n  cert_file: %s,\n  key_file: %s,\n  client_ca_file: %s}}\n%s", section, c.cert, c.key, c.ca, minimal)
			want := c.want
			if want != "" {
				want = "f.yaml:" + strings.ReplaceAll(want, "server.tls", section+".tls")
			}
			_, err := config.ParseToServe("f.yaml", []byte(yaml), os.LookupEnv)
			if got := fmt.Sprint(err); err != nil && got != want || err == nil && want != "" {
				t.Errorf("%s: got %v, want %s", yaml, err, want)
			}
			parse(t, yaml)
		}
	}
}
