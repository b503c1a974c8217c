package kms_test

import (
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/extauthz/extauthz/internal/extauthztest/baotest"
	"github.com/extauthz/extauthz/internal/kms"
)

const vaultKey = "hcvault:///transit/keys/extauthz"

// startBao runs OpenBao with a key, and makes it the one of the environment.
func startBao(t *testing.T) *baotest.Server {
	t.Helper()
	bao := baotest.Start(t)
	bao.NewKey("extauthz")
	t.Setenv("VAULT_ADDR", bao.Address)
	t.Setenv("VAULT_TOKEN", bao.RootToken)
	t.Setenv("VAULT_MAX_RETRIES", "0")
	return bao
}

func TestVault(t *testing.T) {
	bao := startBao(t)
	sealed := roundTrip(t, open(t, vaultKey), nil)
	if !strings.HasPrefix(string(sealed), "vault:v1:") {
		t.Errorf("the ciphertext is %q", sealed)
	}
	bound := roundTrip(t, open(t, vaultKey), []byte("associated"))
	_, err := open(t, vaultKey).DecryptWithContext(t.Context(), bound, []byte("other"))
	fails(t, err, "status 400: ")

	bao.Do(http.MethodPost, "transit/keys/extauthz/rotate", nil)
	if plaintext, err := open(t, vaultKey).DecryptWithContext(t.Context(), sealed, nil); err != nil || string(plaintext) != secret {
		t.Errorf("after a rotation in the KMS: %v", err)
	}
	_, err = open(t, "hcvault:///transit/keys/other").DecryptWithContext(t.Context(), sealed, nil)
	fails(t, err, "/v1/transit/decrypt/other: status 400: ")
	_, err = open(t, "hcvault:///nowhere/keys/extauthz").DecryptWithContext(t.Context(), sealed, nil)
	fails(t, err, "status 404: ")
	_, err = open(t, vaultKey).DecryptWithContext(t.Context(), []byte("garbage"), nil)
	fails(t, err, "status 400: ")
}

func TestVaultPermissions(t *testing.T) {
	bao := startBao(t)
	sealed := roundTrip(t, open(t, vaultKey), nil)
	token := bao.Token(`path "transit/decrypt/extauthz" { capabilities = ["update"] }`) // as the documentation has it for servers
	t.Setenv("VAULT_TOKEN", token)
	if _, err := open(t, vaultKey).DecryptWithContext(t.Context(), sealed, nil); err != nil {
		t.Errorf("a token that may decrypt: %v", err)
	}
	_, err := open(t, vaultKey).EncryptWithContext(t.Context(), []byte(secret), nil)
	fails(t, err, "/v1/transit/encrypt/extauthz: status 403: ", token)
	for _, token := range []string{"", "hvs.of-nobody"} {
		t.Setenv("VAULT_TOKEN", token)
		_, err = open(t, vaultKey).DecryptWithContext(t.Context(), sealed, nil)
		fails(t, err, "status 403: ", "hvs.of-nobody")
	}
}

func TestVaultFaults(t *testing.T) {
	bao := startBao(t)
	sealed := roundTrip(t, open(t, vaultKey), nil)
	answer := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	faulty := func(t *testing.T, handler http.HandlerFunc) kms.Key {
		t.Helper()
		proxy := httptest.NewServer(handler)
		t.Cleanup(proxy.Close)
		t.Setenv("VAULT_ADDR", proxy.URL)
		return open(t, vaultKey)
	}
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		why     string
	}{
		"no JSON":         {answer(200, "<html>"), "invalid character"},
		"nothing":         {answer(204, ""), "has no plaintext"},
		"no data":         {answer(200, "{}"), "has no plaintext"},
		"no plaintext":    {answer(200, `{"data":{"ciphertext":"x"}}`), "has no plaintext"},
		"a number":        {answer(200, `{"data":{"plaintext":1}}`), "has no plaintext"},
		"no base64":       {answer(200, `{"data":{"plaintext":"`+secret+`"}}`), "is no plaintext"},
		"sealed":          {answer(503, `{"errors":["Vault is sealed"]}`), "status 503: Vault is sealed"},
		"no error of its": {answer(502, secret), "status 502: the answer is not Vault's"},
		"a redirect":      {answer(307, ""), "no Location header"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := faulty(t, c.handler).DecryptWithContext(t.Context(), sealed, nil)
			fails(t, err, c.why, bao.RootToken+"\n")
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("the error has several lines: %v", err)
			}
		})
	}
	t.Run("echo", func(t *testing.T) {
		echo := func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(500)
			_, _ = io.Copy(w, r.Body)
		}
		_, err := faulty(t, echo).EncryptWithContext(t.Context(), []byte(secret), nil)
		fails(t, err, "status 500: ")
	})
	t.Run("silence", func(t *testing.T) {
		release := make(chan struct{})
		key := faulty(t, func(http.ResponseWriter, *http.Request) { <-release })
		endsInTime(t, key)
		close(release)
	})
	t.Run("down", func(t *testing.T) {
		t.Setenv("VAULT_ADDR", "http://127.0.0.1:1")
		_, err := open(t, vaultKey).DecryptWithContext(t.Context(), sealed, nil)
		fails(t, err, "connection refused")
	})
}

// The host of the URI is spoken to by TLS, whatever the environment's address is; its CA comes from there.
func TestVaultOverTLS(t *testing.T) {
	bao := startBao(t)
	at, err := url.Parse(bao.Address)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httptest.NewTLSServer(httputil.NewSingleHostReverseProxy(at))
	t.Cleanup(proxy.Close)
	uri := "hcvault://" + strings.TrimPrefix(proxy.URL, "https://") + "/transit/keys/extauthz"
	t.Setenv("VAULT_ADDR", "http://127.0.0.1:1")
	t.Setenv("VAULT_AGENT_ADDR", "http://127.0.0.1:1")
	_, err = open(t, uri).EncryptWithContext(t.Context(), []byte(secret), nil)
	fails(t, err, "certificate")
	authority := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(authority, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: proxy.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("VAULT_CACERT", authority)
	roundTrip(t, open(t, uri), nil)
}

func TestVaultEnvironment(t *testing.T) {
	for _, address := range []string{"http://vault.example", "http://10.0.0.1:8200", "http://"} {
		t.Setenv("VAULT_ADDR", address)
		_, err := kms.Open(t.Context(), vaultKey)
		fails(t, err, "must be https")
	}
	for _, address := range []string{"https://vault.example", "http://127.0.0.1:8100", "http://[::1]:8100", "http://localhost:8100", "unix:///run/vault.sock"} {
		t.Setenv("VAULT_ADDR", address)
		open(t, vaultKey)
	}
	t.Setenv("VAULT_CACERT", "/nowhere/ca.pem")
	_, err := kms.Open(t.Context(), vaultKey)
	fails(t, err, "environment of Vault: ")
}
