package token

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// idp is an HTTPS server with a discovery document that a test can change, at https://example.com too.
type idp struct {
	*httptest.Server
	metadata map[string]any
}

func newIDP(t *testing.T) *idp {
	t.Helper()
	i := &idp{metadata: map[string]any{}}
	keys := setText(t, jwk(ed25519.PublicKey(strings.Repeat("k", 32)), nil))
	mux := http.NewServeMux()
	mux.HandleFunc("GET /realm/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(i.metadata)
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(keys) })
	mux.HandleFunc("GET /redirect/.well-known/openid-configuration", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/realm/.well-known/openid-configuration", http.StatusFound)
	})
	i.Server = httptest.NewUnstartedServer(mux)
	i.Config.ErrorLog = log.New(io.Discard, "", 0) // clients that refuse the certificate are the point
	i.StartTLS()
	t.Cleanup(i.Close)
	return i
}

// fetcherFor returns a fetcher whose client for named hosts finds example.com at the server.
func (i *idp) fetcherFor(t *testing.T, config Issuer) *fetcher {
	t.Helper()
	config = config.withDefaults()
	if err := errorsOf(config); err != nil {
		t.Fatal(err)
	}
	f, err := newFetcher(config)
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasPrefix(string(config.URL), "https://example.com") {
		client := i.Client()
		client.CheckRedirect = f.named.CheckRedirect
		f.named = client
	}
	return f
}

func errorsOf(config Issuer) error {
	config.Audiences = []string{"x"}
	return config.validate()
}

func TestDiscovery(t *testing.T) {
	i := newIDP(t)
	port := i.URL[strings.LastIndex(i.URL, ":"):]
	cases := []struct {
		name     string
		issuer   string
		metadata map[string]any
		want     string // part of the error; "" for keys
	}{
		{"same host", "https://example.com/realm", changes{"jwks_uri": "https://example.com/keys"}, ""},
		{"issuer with a slash", "https://example.com/realm/", changes{"jwks_uri": "https://example.com/keys"}, ""},
		{"issuer of another name", "https://example.com/realm",
			changes{"issuer": "https://example.com/realm/", "jwks_uri": "https://example.com/keys"}, "issuer is not"},
		{"issuer missing", "https://example.com/realm",
			changes{"issuer": nil, "jwks_uri": "https://example.com/keys"}, "issuer is not"},
		{"jwks_uri missing", "https://example.com/realm", nil, "jwks_uri is missing"},
		{"jwks_uri a list", "https://example.com/realm", changes{"jwks_uri": []string{"https://example.com/keys"}}, "jwks_uri is missing"},
		{"jwks_uri of http", "https://example.com/realm", changes{"jwks_uri": "http://example.com/keys"}, "https"},
		{"jwks_uri of a file", "https://example.com/realm", changes{"jwks_uri": "file:///etc/keys"}, "not an absolute URL"},
		{"jwks_uri relative", "https://example.com/realm", changes{"jwks_uri": "/keys"}, "not an absolute URL"},
		{"jwks_uri with a password", "https://example.com/realm", changes{"jwks_uri": "https://a:b@example.com/keys"}, "password"},
		{"jwks_uri on our loopback", "https://example.com/realm", changes{"jwks_uri": "http://127.0.0.1" + port + "/keys"}, "on loopback"},
		{"jwks_uri on our loopback by https", "https://example.com/realm", changes{"jwks_uri": i.URL + "/keys"}, "on loopback"},
		{"jwks_uri on our loopback, mapped", "https://example.com/realm",
			changes{"jwks_uri": "https://[::ffff:127.0.0.1]" + port + "/keys"}, "on loopback"},
		{"jwks_uri on the unspecified address", "https://example.com/realm",
			changes{"jwks_uri": "https://0.0.0.0" + port + "/keys"}, "link-local"},
		{"jwks_uri of a name that is this machine", "https://example.com/realm",
			changes{"jwks_uri": "https://LOCALHOST" + port + "/keys"}, "not fetched from such an address"},
		{"jwks_uri at a metadata service", "https://example.com/realm",
			changes{"jwks_uri": "https://169.254.169.254/latest"}, "link-local"},
		{"discovery redirects", "https://example.com/redirect", changes{"jwks_uri": "https://example.com/keys"}, "answered 302"},
		{"discovery is missing", "https://example.com/nothing", nil, "answered 404"},
		{"loopback issuer and keys", i.URL + "/realm", changes{"jwks_uri": i.URL + "/keys"}, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			i.metadata = changes{"issuer": c.issuer}
			maps.Copy(i.metadata, c.metadata)
			pool := x509.NewCertPool()
			pool.AddCert(i.Certificate())
			f := i.fetcherFor(t, Issuer{URL: IssuerURL(c.issuer), RootCAs: pool})
			set, err := f.fetch(t.Context())
			if c.want == "" && (err != nil || len(set.keys) != 1) || !strings.Contains(fmt.Sprint(err), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// TestDiscoveryDocumentIsStrict sends documents that readers would understand differently.
func TestDiscoveryDocumentIsStrict(t *testing.T) {
	var text string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, text) }))
	defer server.Close()
	f, err := newFetcher(Issuer{URL: IssuerURL(server.URL)})
	if err != nil {
		t.Fatal(err)
	}
	for _, document := range []string{
		``, `null`, `[]`, `{`, `{"issuer":"x","issuer":"` + server.URL + `","jwks_uri":"` + server.URL + `"}`,
		`{"issuer":"` + server.URL + `","jwks_uri":"` + server.URL + `"} x`,
	} {
		text = document
		if _, _, err := f.discover(t.Context()); err == nil {
			t.Errorf("%s: accepted", document)
		}
	}
}

// TestRoots checks each way to name the certificates, and that the system's do not include the test's.
func TestRoots(t *testing.T) {
	i := newIDP(t)
	file := filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.Certificate().Raw})
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	config := Issuer{URL: "anything", JWKSURL: i.URL + "/keys"}
	if _, err := i.fetcherFor(t, config).fetch(t.Context()); err == nil {
		t.Error("a certificate of unknown origin was accepted")
	}
	config.CAFile = file
	if _, err := i.fetcherFor(t, config).fetch(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestClientIgnoresTheEnvironment sets proxies that would be used by the default transport.
func TestClientIgnoresTheEnvironment(t *testing.T) {
	client := newClient(nil, canBeIssuer)
	transport, ok := client.Transport.(*http.Transport)
	if !ok || transport.Proxy != nil {
		t.Error("the client has a proxy")
	}
	if client.Timeout != fetchTimeout || client.Jar != nil {
		t.Errorf("timeout %v, jar %v", client.Timeout, client.Jar)
	}
}

// TestGetEndsWithItsContext hangs the server, before its answer and in the middle of it, and ends the context.
func TestGetEndsWithItsContext(t *testing.T) {
	for _, begun := range []string{"", `{"keys":[`} {
		ctx, cancel := context.WithCancel(t.Context())
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if begun != "" {
				_, _ = w.Write([]byte(begun))
				_ = http.NewResponseController(w).Flush()
			}
			cancel()
			<-r.Context().Done()
		}))
		if text, err := get(ctx, newClient(nil, canBeIssuer), server.URL); err == nil {
			t.Errorf("no error, but %q", text)
		}
		server.Close()
	}
}

// TestGetIsBounded answers with the most bytes, one more, and without end.
func TestGetIsBounded(t *testing.T) {
	var size int
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for sent := 0; size < 0 || sent < size; sent++ {
			if _, err := w.Write([]byte("x")); err != nil {
				return
			}
		}
	}))
	defer server.Close()
	for _, size = range []int{maxDocumentBytes, maxDocumentBytes + 1, -1} {
		text, err := get(t.Context(), newClient(nil, canBeIssuer), server.URL)
		if size == maxDocumentBytes {
			if err != nil || len(text) != size {
				t.Errorf("%d bytes, %v", len(text), err)
			}
		} else if err == nil || !strings.Contains(err.Error(), "more than 1048576 bytes") {
			t.Errorf("size %d: %d bytes, %v", size, len(text), err)
		}
	}
}

// TestDialing is the table of addresses that a host may resolve to, by who names the host.
func TestDialing(t *testing.T) {
	const loopback, named, found = 1, 2, 4
	for address, want := range map[string]int{
		"127.0.0.1:443": loopback | named, "127.9.9.9:443": loopback | named, "[::1]:443": loopback | named,
		"[::ffff:127.0.0.1]:443": loopback | named,
		"0.0.0.0:443":            0, "[::]:443": 0, "169.254.169.254:443": 0, "[::ffff:169.254.169.254]:443": 0,
		"[fe80::1]:443": 0, "[fe80::1%eth0]:443": 0, "224.0.0.1:443": 0, "[ff02::1]:443": 0, "nonsense": 0, "": 0,
		"192.0.2.1:443": named | found, "10.0.0.1:443": named | found, "[2001:db8::1]:443": named | found,
	} {
		for bit, allowed := range map[int]func(netip.Addr) bool{
			loopback: netip.Addr.IsLoopback, named: canBeIssuer, found: canBeFound,
		} {
			if err := dialOnly(allowed)("tcp", address, nil); (err == nil) != (want&bit != 0) {
				t.Errorf("%s, client %d: %v", address, bit, err)
			}
		}
	}
}

// TestClientsDialOnlyWhereTheyMay lets each client of a fetcher try names of this machine. 0.0.0.0 would get there too.
func TestClientsDialOnlyWhereTheyMay(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	f, err := newFetcher(Issuer{})
	if err != nil {
		t.Fatal(err)
	}
	port := server.URL[strings.LastIndex(server.URL, ":"):]
	for host, want := range map[string][3]bool{
		"127.0.0.1": {true, true, false}, "localhost": {true, true, false}, "0.0.0.0": {false, false, false},
	} {
		for n, client := range []*http.Client{f.local, f.named, f.guarded} {
			if _, err := get(t.Context(), client, "http://"+host+port); (err == nil) != want[n] {
				t.Errorf("client %d, %s: %v", n, host, err)
			}
		}
	}
	// As if localhost were resolved to another machine. Nothing is sent, because the address is refused first.
	if _, err := get(t.Context(), f.local, "http://192.0.2.1"+port); err == nil || !strings.Contains(err.Error(), "not fetched from such") {
		t.Errorf("a loopback host elsewhere: %v", err)
	}
}

// TestAnswersAreNotUnpacked sends a small text that unpacks to a large one, and a good set with a coding.
func TestAnswersAreNotUnpacked(t *testing.T) {
	keys := setText(t, jwk(ed25519.PublicKey(strings.Repeat("k", 32)), nil))
	for _, c := range []struct {
		coding string
		text   []byte
		good   bool
	}{
		{"", keys, true}, {"identity", keys, true}, {"gzip", zipped(t, keys), false},
		{"gzip", zipped(t, make([]byte, 64<<20)), false}, {"", zipped(t, keys), false}, {"br", keys, false},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if got := r.Header.Get("Accept-Encoding"); got != "identity" {
				t.Errorf("asked for %q", got)
			}
			if c.coding != "" {
				w.Header().Set("Content-Encoding", c.coding)
			}
			_, _ = w.Write(c.text)
		}))
		f, err := newFetcher(Issuer{JWKSURL: server.URL}.withDefaults())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.fetch(t.Context()); (err == nil) != c.good {
			t.Errorf("%q, %d bytes: %v", c.coding, len(c.text), err)
		}
		server.Close()
	}
}

func zipped(t *testing.T, text []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
