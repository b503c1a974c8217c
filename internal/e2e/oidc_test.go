package e2e

import (
	"encoding/json"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os/exec"
	"strings"
	"testing"

	"github.com/extauthz/extauthz/internal/extauthztest/envoytest"
)

// provider is a running OpenID provider with a user who can log in, and the clients web and api.
type provider struct{ issuer string }

const (
	providerUser     = "test-user@localhost"
	providerUserID   = "id1"
	providerPassword = "verysecure"
	redirectURI      = "http://localhost:9999/auth/callback" // nobody listens there: the test reads the redirect itself
)

func startProvider(t *testing.T) provider {
	t.Helper()
	binary := installed(t, "bin/oidc-op", "deps")
	ports := neighbour{
		name: "oidc-op", ports: 1, patience: patience,
		command: func(ports []string) *exec.Cmd {
			command := exec.Command(binary)
			command.Env = []string{"PORT=" + ports[0], "REDIRECT_URI=" + redirectURI}
			return command
		},
		ready: func(ports []string) bool {
			return answersOK("http://localhost:" + ports[0] + "/.well-known/openid-configuration")
		},
	}.start(t)
	return provider{issuer: "http://localhost:" + ports[0] + "/"}
}

// login is the authorization code flow: it logs the user in for a client and returns what the token endpoint answers.
func (p provider) login(t *testing.T, clientID string) (idToken, accessToken string) {
	t.Helper()
	browser := newBrowser(t)
	query := url.Values{"client_id": {clientID}, "redirect_uri": {redirectURI}, "response_type": {"code"}, "scope": {"openid"}, "state": {"s"}}
	page := browser.follow(p.issuer + "auth?" + query.Encode())
	page = browser.submit(page, url.Values{"username": {providerUser}, "password": {providerPassword}, "id": {page.Query().Get("authRequestID")}})
	back := browser.follow(page.String())
	if !strings.HasPrefix(back.String(), redirectURI) || back.Query().Get("code") == "" {
		t.Fatalf("the login ended at %s", back)
	}
	form := url.Values{"grant_type": {"authorization_code"}, "code": {back.Query().Get("code")}, "redirect_uri": {redirectURI}}
	return fetchTokens(t, p.issuer+"oauth/token", form, clientID, "secret")
}

// browser keeps cookies and follows redirects one at a time.
type browser struct {
	t      *testing.T
	client *http.Client
}

func newBrowser(t *testing.T) browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	c := client()
	c.Jar = jar
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return browser{t: t, client: c}
}

// follow opens a page and returns where it redirects to.
func (b browser) follow(page string) *url.URL {
	b.t.Helper()
	return b.redirected(b.client.Get(page))
}

// submit sends a form to a page and returns where it redirects to.
func (b browser) submit(page *url.URL, form url.Values) *url.URL {
	b.t.Helper()
	return b.redirected(b.client.PostForm(page.String(), form))
}

func (b browser) redirected(response *http.Response, err error) *url.URL {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
	_ = response.Body.Close()
	to, err := response.Location()
	if err != nil {
		b.t.Fatalf("%s answers %s: %v", response.Request.URL.Path, response.Status, err)
	}
	return to
}

// fetchTokens asks a token endpoint. A client without a secret is a public one.
func fetchTokens(t *testing.T, endpoint string, form url.Values, clientID, secret string) (idToken, accessToken string) {
	t.Helper()
	if secret == "" {
		form.Set("client_id", clientID)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if secret != "" {
		request.SetBasicAuth(clientID, secret)
	}
	response := envoytest.Do(t, request)
	var tokens struct {
		ID     string `json:"id_token"`
		Access string `json:"access_token"`
	}
	if err := json.Unmarshal([]byte(response.Body), &tokens); err != nil || response.Status != http.StatusOK {
		t.Fatalf("the token endpoint answers %d %s (%v)", response.Status, response.Body, err)
	}
	return tokens.ID, tokens.Access
}

// Tokens of an OpenID provider that others wrote, found by its discovery document.
func TestOpenIDProvider(t *testing.T) {
	p := startProvider(t)
	issuer := func(url, jwks string) string {
		return "- issuer: " + url + jwks + "\n  audiences: [web]\n  claims: {user_id: sub}\n"
	}
	s := newSite(t, noStore(), plan{issuers: issuer(p.issuer, "")})
	idToken, accessToken := p.login(t, "web")
	a := s.servers[0].do(call{token: idToken})
	s.outcome(a, 200, "team")
	if user := a.sees("x-extauthz-user-id"); user != providerUserID {
		t.Errorf("user %q, want %q", user, providerUserID)
	}
	forAPI, _ := p.login(t, "api")
	s.expect(s.servers[0].do(call{token: forAPI}), 401, "audience_mismatch")
	s.expect(s.servers[0].do(call{token: accessToken}), 401, "token_malformed") // opaque at this provider

	// The issuer is compared as it is written: without its slash it is another one.
	other := newSite(t, noStore(), plan{issuers: issuer(strings.TrimSuffix(p.issuer, "/"), "\n  jwks_url: "+p.issuer+"keys")})
	other.expect(other.servers[0].do(call{token: idToken}), 401, "issuer_unknown")
}
