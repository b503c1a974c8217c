//go:build keycloak

package e2e

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/extauthz/extauthz/internal/extauthztest/envoytest"
)

// keycloak is a running Keycloak with the realm of testdata/keycloak-realm.json.
type keycloak struct {
	base, issuer string
	secret       string // every password and client secret
}

func startKeycloak(t *testing.T) keycloak {
	t.Helper()
	java, home := onPath(t, "java", "keycloak"), filepath.Dir(installed(t, "keycloak/version.txt", "keycloak"))
	k := keycloak{secret: rand.Text()}
	ports := neighbour{
		name: "keycloak", ports: 2, patience: 4 * time.Minute, // it takes 13 seconds on an idle machine
		command: func(ports []string) *exec.Cmd {
			// What bin/kc.sh does, which would leave Java as a child that outlives it; the first two options are for a short run.
			command := exec.Command(java, "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx512m",
				"-Dkc.home.dir="+home, "-Djava.util.logging.manager=org.jboss.logmanager.LogManager",
				"-cp", filepath.Join(home, "lib/quarkus-run.jar"), "io.quarkus.bootstrap.runner.QuarkusEntryPoint",
				"start", "--optimized", "--http-enabled=true", "--hostname-strict=false", "--cache=local", "--log-level=warn",
				"--http-host=127.0.0.1", "--http-port="+ports[0], "--http-management-port="+ports[1])
			command.Env = append(os.Environ(), "KC_BOOTSTRAP_ADMIN_USERNAME=admin", "KC_BOOTSTRAP_ADMIN_PASSWORD="+k.secret)
			return command
		},
		ready: func(ports []string) bool { return answersOK("http://127.0.0.1:" + ports[1] + "/health/ready") },
	}.start(t)
	k.base = "http://127.0.0.1:" + ports[0]
	k.issuer = k.base + "/realms/acme"
	realm, err := os.ReadFile("testdata/keycloak-realm.json")
	if err != nil {
		t.Fatal(err)
	}
	k.admin(t, "/admin/realms", strings.ReplaceAll(string(realm), "SECRET", k.secret))
	return k
}

// admin creates something.
func (k keycloak) admin(t *testing.T, path, body string) {
	t.Helper()
	form := url.Values{"grant_type": {"password"}, "username": {"admin"}, "password": {k.secret}}
	_, token := fetchTokens(t, k.base+"/realms/master/protocol/openid-connect/token", form, "admin-cli", "")
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, k.base+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Content-Type", "application/json")
	if response := envoytest.Do(t, request); response.Status != http.StatusCreated {
		t.Fatalf("POST %s: %d %s", path, response.Status, response.Body)
	}
}

// service returns a token of the client credentials grant.
func (k keycloak) service(t *testing.T) string {
	t.Helper()
	_, token := fetchTokens(t, k.issuer+"/protocol/openid-connect/token", url.Values{"grant_type": {"client_credentials"}}, "batch", k.secret)
	return token
}

// user returns the tokens of a user's login.
func (k keycloak) user(t *testing.T, name, clientID string) (idToken, accessToken string) {
	t.Helper()
	form := url.Values{"grant_type": {"password"}, "username": {name}, "password": {k.secret}, "scope": {"openid"}}
	return fetchTokens(t, k.issuer+"/protocol/openid-connect/token", form, clientID, "")
}

// rotate gives the realm a signing key that comes before the one that it has.
func (k keycloak) rotate(t *testing.T) {
	t.Helper()
	k.admin(t, "/admin/realms/acme/components", `{
		"name": "next", "providerId": "rsa-generated", "providerType": "org.keycloak.keys.KeyProvider",
		"config": {"priority": ["200"], "enabled": ["true"], "active": ["true"], "algorithm": ["RS256"], "keySize": ["2048"]}
	}`)
}

// keyID returns the kid of a token.
func keyID(t *testing.T, token string) string {
	t.Helper()
	head, _, _ := strings.Cut(token, ".")
	text, err := base64.RawURLEncoding.DecodeString(head)
	if err != nil {
		t.Fatal(err)
	}
	var header struct{ Kid string }
	if err := json.Unmarshal(text, &header); err != nil || header.Kid == "" {
		t.Fatalf("%s (%v)", text, err)
	}
	return header.Kid
}

func TestKeycloak(t *testing.T) {
	k := startKeycloak(t)
	s := newSite(t, sqlite(t), plan{
		issuers: "- issuer: " + k.issuer + "\n  audiences: [llm-gateway]\n" +
			"  claims: {user_id: sub, email: email, team_ids: groups, roles: realm_access.roles}\n",
		config: "policy: {roles: [{role: llm_user, routes: [openai_routes]}]}\nmapping: {claim: azp, no_match: reject}\n",
		resources: `
teams: [{id: research}, {id: sales, blocked: true}]
keys: [{alias: batch-key, secret: sk-batch-0123456789, team_id: research}, {alias: chat-key, secret: sk-chat-0123456789, team_id: research}]
mappings: [{claim: azp, value: batch, key: batch-key}, {claim: azp, value: chat, key: chat-key}]
`})
	send := func(token string) answer {
		t.Helper()
		return s.servers[0].do(call{token: token})
	}

	// Keycloak publishes a key for encryption beside the one that signs. It is left out.
	s.servers[0].awaitLog("use is not sig")

	service := send(k.service(t))
	s.outcome(service, 200, "mapping")
	if service.sees("x-extauthz-key-alias") != "batch-key" || service.sees("x-extauthz-team-id") != "research" || service.sees("x-extauthz-user-id") == "" {
		t.Errorf("a service: %v", service.upstream.Headers)
	}
	aliceID, alice := k.user(t, "alice", "chat")
	user := send(alice)
	s.outcome(user, 200, "mapping")
	if user.sees("x-extauthz-key-alias") != "chat-key" || user.sees("x-extauthz-team-id") != "research" || user.sees("x-extauthz-user-email") != "alice@corp.example.com" {
		t.Errorf("a user: %v", user.upstream.Headers)
	}
	_, bob := k.user(t, "bob", "chat")
	s.expect(send(bob), 403, "role_missing")
	_, carol := k.user(t, "carol", "chat")
	s.expect(send(carol), 403, "team_blocked")
	_, elsewhere := k.user(t, "alice", "elsewhere")
	s.expect(send(elsewhere), 401, "audience_mismatch")
	s.expect(send(aliceID), 401, "audience_mismatch") // an ID token is for its client

	// The first token of a new key is accepted, and the tokens of the old one still are.
	k.rotate(t)
	renewed := k.service(t)
	if keyID(t, renewed) == keyID(t, alice) {
		t.Fatal("the new token is signed with the old key")
	}
	s.outcome(send(renewed), 200, "mapping")
	s.outcome(send(alice), 200, "mapping")
}
