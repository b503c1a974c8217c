package issuertest_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"go.uber.org/goleak"

	"github.com/extauthz/extauthz/internal/extauthztest/issuertest"
	"github.com/extauthz/extauthz/internal/extauthztest/issuertest/localissuer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// get returns the status and the JSON object at the URL.
func get(t *testing.T, url string) (int, map[string]any) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	var object map[string]any
	_ = json.Unmarshal(text, &object) // errors have no JSON
	return response.StatusCode, object
}

func kids(t *testing.T, i *issuertest.Issuer) string {
	t.Helper()
	_, set := get(t, i.JWKSURL())
	var names []string
	for _, entry := range set["keys"].([]any) {
		names = append(names, entry.(map[string]any)["kid"].(string))
	}
	return strings.Join(names, " ")
}

func TestDocuments(t *testing.T) {
	i := issuertest.New(t, localissuer.Path("/realms/acme"))
	status, metadata := get(t, i.URL()+"/.well-known/openid-configuration")
	if status != http.StatusOK || metadata["issuer"] != i.URL() || metadata["jwks_uri"] != i.JWKSURL() {
		t.Errorf("%d %v", status, metadata)
	}
	if got, want := kids(t, i), "RS256-1 ES256-1 EdDSA-1"; got != want {
		t.Errorf("kids %q, want %q", got, want)
	}
	if i.Requests() != 1 || i.DiscoveryRequests() != 1 {
		t.Errorf("counted %d and %d requests", i.Requests(), i.DiscoveryRequests())
	}
}

func TestRotation(t *testing.T) {
	i := issuertest.New(t, localissuer.Algorithms("ES256"))
	i.Overlap()
	if got := kids(t, i); got != "ES256-1 ES256-2" {
		t.Errorf("after Overlap: %q", got)
	}
	i.Rotate()
	if got := kids(t, i); got != "ES256-3" {
		t.Errorf("after Rotate: %q", got)
	}
}

func TestMint(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	i := issuertest.New(t, localissuer.Now(func() time.Time { return now }), localissuer.Audience("llm"))
	raw := i.Mint(map[string]any{"sub": localissuer.Absent, "n": 1}, localissuer.Header("typ", "at+jwt"))
	claims := jwt.MapClaims{}
	parsed, err := jwt.NewParser(jwt.WithTimeFunc(func() time.Time { return now })).ParseWithClaims(raw, claims,
		func(*jwt.Token) (any, error) { return i.PrivateKey("RS256").Public(), nil })
	if err != nil {
		t.Fatal(err)
	}
	if parsed.Header["typ"] != "at+jwt" || parsed.Header["kid"] != "RS256-1" {
		t.Errorf("header %v", parsed.Header)
	}
	if _, ok := claims["sub"]; ok || claims["aud"] != "llm" || claims["iss"] != i.URL() || claims["exp"] != 1_800_000_300.0 {
		t.Errorf("claims %v", claims)
	}
}

func TestFailures(t *testing.T) {
	i := issuertest.New(t, localissuer.Algorithms("EdDSA"))
	i.Down()
	if status, _ := get(t, i.JWKSURL()); status != http.StatusServiceUnavailable {
		t.Errorf("down: %d", status)
	}
	if status, _ := get(t, i.URL()+"/.well-known/openid-configuration"); status != http.StatusServiceUnavailable {
		t.Errorf("down: %d", status)
	}
	i.Up()
	i.Respond(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	if status, _ := get(t, i.JWKSURL()); status != http.StatusTeapot {
		t.Errorf("respond: %d", status)
	}
	i.Respond(nil)
	i.Delay(time.Nanosecond)
	i.Publish(map[string]any{"kid": "extra"})
	if got := kids(t, i); got != "EdDSA-1 extra" {
		t.Errorf("kids %q", got)
	}
}

// TestLivingIssuersShareNoKey guards the tests of key confusion: equal kids, different keys.
func TestLivingIssuersShareNoKey(t *testing.T) {
	first, second := issuertest.New(t), issuertest.New(t)
	a := localissuer.JWK(first.PrivateKey("RS256").Public())["n"]
	if b := localissuer.JWK(second.PrivateKey("RS256").Public())["n"]; a == b {
		t.Error("two living issuers share an RSA key")
	}
}
