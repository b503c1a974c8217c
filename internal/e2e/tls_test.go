package e2e

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/extauthz/extauthz/internal/extauthztest/catest"
	"github.com/extauthz/extauthz/internal/extauthztest/envoytest"
)

// The names in deploy/envoy/envoy-mtls.yaml.
const (
	envoyID    = "spiffe://example.org/ns/gateways/sa/envoy"
	extauthzID = "spiffe://example.org/ns/extauthz/sa/extauthz"
)

// mutual is a site with TLS on both listeners.
type mutual struct {
	*site
	ca    *catest.CA
	files *catest.Volume // of the server
}

func newMutual(t *testing.T, envoy *envoytest.Secrets, ca *catest.CA) *mutual {
	t.Helper()
	m := &mutual{ca: ca, files: catest.NewVolume(t, ca.Server(t, extauthzID).Files(ca.PEM))}
	files := fmt.Sprintf("cert_file: %s, key_file: %s, client_ca_file: %s", m.files.Path("tls.crt"), m.files.Path("tls.key"), m.files.Path("ca.crt"))
	m.site = newSite(t, noStore(), plan{
		config: fallback + "log: {allow_sample_rate: 0}\n", envoyFile: envoytest.MTLS, envoy: envoy.Edit,
		server:    fmt.Sprintf(", tls: {%s, allowed_clients: ['%s', probe.example]}, max_connection_age: 1s", files, envoyID),
		telemetry: fmt.Sprintf(", tls: {%s}", files),
	})
	return m
}

// client returns a client certificate in files.
func (m *mutual) client(c catest.Certificate) (certFile, keyFile string) {
	m.t.Helper()
	return m.ca.Issue(m.t, c).Write(m.t, m.t.TempDir())
}

func TestMutualTLS(t *testing.T) {
	ca, stranger := catest.New(t), catest.New(t)
	mine := ca.Issue(t, catest.Certificate{URIs: []string{envoyID}})
	m := newMutual(t, envoytest.NewSecrets(t, mine, ca.PEM), ca)
	m.outcome(m.as(client1()), 200, "fallback")

	for name, c := range map[string]struct {
		client catest.Pair
		ca     []byte
		edit   func(cluster, tls map[string]any)
		logged string // by extauthz; "" if Envoy is the one who refuses
	}{
		"Envoy's certificate is of another CA": {client: stranger.Issue(t, catest.Certificate{URIs: []string{envoyID}}), logged: "unknown authority"},
		"Envoy has another SPIFFE id":          {client: ca.Issue(t, catest.Certificate{URIs: []string{envoyID + "2"}}), logged: "none of the allowed names"},
		"Envoy has no certificate": {logged: "didn't provide a certificate", edit: func(_, tls map[string]any) {
			delete(tls["common_tls_context"].(map[string]any), "tls_certificate_sds_secret_configs")
		}},
		"Envoy speaks plain text": {logged: "first record does not look like a TLS handshake", edit: func(cluster, _ map[string]any) {
			delete(cluster, "transport_socket")
		}},
		"extauthz's certificate is of another CA": {ca: stranger.PEM, logged: "tls: unknown certificate authority"},
		"extauthz has another SPIFFE id": {logged: `tls: unknown certificate"`, edit: func(_, tls map[string]any) {
			validation := tls["common_tls_context"].(map[string]any)["combined_validation_context"].(map[string]any)
			names := validation["default_validation_context"].(map[string]any)["match_typed_subject_alt_names"].([]any)
			names[0].(map[string]any)["matcher"] = map[string]any{"exact": extauthzID + "2"}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			if c.client.Cert == nil {
				c.client = mine
			}
			if c.ca == nil {
				c.ca = ca.PEM
			}
			secrets := envoytest.NewSecrets(t, c.client, c.ca)
			wrong := envoytest.Start(t, envoytest.Options{
				ConfigFile: envoytest.MTLS, Authz: m.servers[0].address, Upstream: m.upstream.Address,
				Edit: func(tree map[string]any) {
					secrets.Edit(tree)
					if cluster := envoytest.Cluster(tree, "extauthz"); c.edit != nil {
						c.edit(cluster, envoytest.UpstreamTLS(cluster))
					}
				},
			})
			before := len(m.upstream.Requests())
			v := &server{t: t, envoy: wrong, upstream: m.upstream}
			if a := v.do(call{token: m.issuer.Mint(client1())}); a.status != http.StatusServiceUnavailable || a.reason != "" {
				t.Errorf("got %s, want Envoy's own 503", a)
			}
			if len(m.upstream.Requests()) != before {
				t.Error("the request reached the upstream")
			}
			m.servers[0].awaitLog(c.logged)
		})
	}
	m.outcome(m.as(client1()), 200, "fallback")
}

// Both ends renew their certificates, and then the CA, while requests pass.
func TestCertificatesAreRenewedUnderLoad(t *testing.T) {
	old, next := catest.New(t), catest.New(t)
	envoyOf := func(ca *catest.CA) catest.Pair { return ca.Issue(t, catest.Certificate{URIs: []string{envoyID}}) }
	secrets := envoytest.NewSecrets(t, envoyOf(old), old.PEM)
	m := newMutual(t, secrets, old)
	v := m.servers[0]

	stop, failed := make(chan struct{}), make(chan string, 1)
	go func() {
		token := m.issuer.Mint(client1())
		for {
			select {
			case <-stop:
				close(failed)
				return
			default:
			}
			if a, err := v.send(t.Context(), call{token: token}); err != nil || a.status != http.StatusOK {
				failed <- fmt.Sprintf("%v %v", a, err)
				<-stop
				return
			}
		}
	}()
	both := append(append([]byte(nil), old.PEM...), next.PEM...)
	renew := func(ca *catest.CA, trusted []byte) {
		t.Helper()
		ours, theirs := ca.Server(t, extauthzID), envoyOf(ca)
		m.files.Replace(ours.Files(trusted))
		m.eventually("show the new certificate", func() bool { return m.shows(ours, theirs) })
		secrets.Certificates.Replace(theirs.Files(trusted))
		m.eventually("give Envoy the new certificate", func() bool { return strings.Contains(v.envoy.Certificates(t), theirs.Serial(t)) })
		connections := v.envoy.Stats(t, "cluster.extauthz.upstream_cx_total")
		m.eventually("connect anew", func() bool { return v.envoy.Stats(t, "cluster.extauthz.upstream_cx_total") >= connections+2 })
	}
	renew(old, old.PEM) // the certificates
	renew(old, both)    // the new CA is trusted
	renew(next, both)   // it signs
	renew(next, next.PEM)
	close(stop)
	if what, some := <-failed; some {
		t.Errorf("a request failed: %s", what)
	}

	bad := catest.Pair{Cert: next.Server(t).Cert, Key: next.Server(t).Key}
	m.files.Replace(bad.Files(next.PEM))
	v.awaitLog(`"server.tls not reloaded","error":"key_file: `)
	m.outcome(m.as(client1()), 200, "fallback")
	page := m.telemetryPage(next.Issue(t, catest.Certificate{}), "/metrics")
	for _, want := range []string{
		`extauthz_file_reloads_total{files="server.tls",result="error"} `, `extauthz_file_reloads_total{files="server.tls",result="ok"} `,
		`extauthz_certificate_expiration_timestamp_seconds{listener="server"} `, `extauthz_certificate_expiration_timestamp_seconds{listener="telemetry"} `,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("no %s in the metrics", want)
		}
	}
}

// eventually waits for a condition.
func (m *mutual) eventually(what string, condition func() bool) {
	m.t.Helper()
	deadline, tick := time.After(patience), time.NewTicker(50*time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-deadline:
			m.t.Fatalf("it did not %s in %s", what, patience)
		case <-tick.C:
		}
	}
}

// clientConfig is that of a client with this certificate that takes any server.
func (m *mutual) clientConfig(p catest.Pair) *tls.Config {
	m.t.Helper()
	pair, err := tls.X509KeyPair(p.Cert, p.Key)
	if err != nil {
		m.t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, InsecureSkipVerify: true}
}

// shows reports whether a new connection to the server is shown the certificate.
func (m *mutual) shows(want, client catest.Pair) bool {
	m.t.Helper()
	connection, err := tls.Dial("tcp", m.servers[0].address, m.clientConfig(client))
	if err != nil {
		m.t.Fatal(err)
	}
	defer func() { _ = connection.Close() }()
	return connection.ConnectionState().PeerCertificates[0].SerialNumber.Text(16) == want.Serial(m.t)
}

// telemetryPage reads a page of the telemetry listener.
func (m *mutual) telemetryPage(client catest.Pair, path string) string {
	m.t.Helper()
	c := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: m.clientConfig(client)}}
	answer, err := c.Get("https://" + m.servers[0].telemetry + path)
	if err != nil {
		m.t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		m.t.Fatal(err)
	}
	return string(body)
}

func TestCheckOverTLS(t *testing.T) {
	ca := catest.New(t)
	m := newMutual(t, envoytest.NewSecrets(t, ca.Issue(t, catest.Certificate{URIs: []string{envoyID}}), ca.PEM), ca)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(m.issuer.Mint(client1())), 0o600); err != nil {
		t.Fatal(err)
	}
	cert, key := m.client(catest.Certificate{DNS: []string{"probe.example"}})
	otherCert, otherKey := m.client(catest.Certificate{DNS: []string{"other.example"}})
	authority := m.files.Path("ca.crt")
	for name, c := range map[string]struct {
		flags []string
		code  int
		says  string
	}{
		"allowed":             {[]string{"--ca-file", authority, "--cert-file", cert, "--key-file", key}, 0, "decision"},
		"by name":             {[]string{"--ca-file", authority, "--cert-file", cert, "--key-file", key, "--server-name", "localhost"}, 0, "decision"},
		"another name":        {[]string{"--ca-file", authority, "--cert-file", cert, "--key-file", key, "--server-name", "other"}, 1, "not other"},
		"the system's CAs":    {[]string{"--cert-file", cert, "--key-file", key}, 1, "unknown authority"},
		"no certificate":      {[]string{"--ca-file", authority}, 1, "no answer from"},
		"another certificate": {[]string{"--ca-file", authority, "--cert-file", otherCert, "--key-file", otherKey}, 1, "no answer from"},
		"plain text":          {nil, 1, "no answer from"},
		"certificate only":    {[]string{"--ca-file", authority, "--cert-file", cert}, 2, "--cert-file and --key-file: each needs the other"},
		"wrong key":           {[]string{"--ca-file", authority, "--cert-file", cert, "--key-file", otherKey}, 2, "does not match"},
		"no CA in the file":   {[]string{"--ca-file", key}, 2, "holds no PEM certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			args := append([]string{"check", "--address", m.servers[0].address, "--token-file", token, "--body", chatBody, "--timeout", "10s"}, c.flags...)
			command := exec.CommandContext(t.Context(), binary, args...)
			command.Env = environment()
			out, _ := command.CombinedOutput() // the exit code is looked at
			if code := command.ProcessState.ExitCode(); code != c.code || !strings.Contains(string(out), c.says) {
				t.Errorf("exit code %d: %s", code, out)
			}
		})
	}
}
