package e2e

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/extauthz/extauthz/internal/extauthztest/baotest"
	"github.com/extauthz/extauthz/internal/extauthztest/pgtest"
)

// The keyset is encrypted by a key in a real KMS. A server needs the KMS when it starts and when the keyset changes, and goes on
// without it meanwhile.
func TestKeysetBehindAKMS(t *testing.T) {
	const uri = "hcvault:///transit/keys/extauthz"
	bao := baotest.Start(t)
	bao.NewKey("extauthz")
	at, err := url.Parse(bao.Address)
	if err != nil {
		t.Fatal(err)
	}
	var down atomic.Bool
	forward := httputil.NewSingleHostReverseProxy(at)
	between := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if down.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		forward.ServeHTTP(w, r)
	}))
	t.Cleanup(between.Close)

	keyset := filepath.Join(t.TempDir(), "keyset.json")
	operator := func(args ...string) string { // with a token for both, and past the fault
		t.Helper()
		command := exec.CommandContext(t.Context(), binary, append(args, "--kms-key-uri", uri)...)
		command.Env = append(environment(), "VAULT_ADDR="+bao.Address, "VAULT_TOKEN="+bao.RootToken)
		out, err := command.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	operator("keyset", "new", keyset)
	token := bao.Token(`path "transit/decrypt/extauthz" { capabilities = ["update"] }`)
	t.Setenv("VAULT_ADDR", between.URL)
	t.Setenv("VAULT_TOKEN", token)
	t.Setenv("VAULT_MAX_RETRIES", "0")

	s := newSite(t, postgres(t, pgtest.Start(t)), plan{resources: teamA, config: autoRegister +
		"upstream_credential: virtual_key\nsealing: {keyset_file: " + keyset + ", kms_key_uri: '" + uri + "'}\n"})
	v := s.servers[0]
	gets := func(client string) string {
		t.Helper()
		a := s.as(with(client1(), "client_id", client))
		if a.status != http.StatusOK || !strings.HasPrefix(a.sees("authorization"), "Bearer sk-") {
			t.Fatalf("%s: the upstream got %q", a, a.sees("authorization"))
		}
		return a.sees("authorization")
	}
	first := gets("first")
	operator("keyset", "rotate", keyset)
	v.awaitLog("keyset reloaded")

	down.Store(true)
	operator("keyset", "rotate", keyset)
	v.awaitLog(`"keyset not reloaded","error":"sealing.keyset_file: ` + keyset + `: KMS: PUT `)
	if gets("first") != first {
		t.Error("the caller's key changed")
	}
	gets("second")
	refused := exec.CommandContext(t.Context(), binary, "serve", "--config", s.config)
	refused.Env = environment()
	out, _ := refused.CombinedOutput() // the exit code is looked at
	if code := refused.ProcessState.ExitCode(); code != 1 || !strings.Contains(string(out), ": KMS: PUT ") || strings.Count(string(out), "\n") != 1 {
		t.Errorf("serve without its KMS: exit code %d: %s", code, out)
	}
	down.Store(false)
	v.awaitLogs("keyset reloaded", 2)
	if gets("first") != first {
		t.Error("the caller's key changed")
	}
	if strings.Contains(v.logged(), token) || strings.Contains(string(out), token) {
		t.Error("the KMS's token was logged")
	}
}
