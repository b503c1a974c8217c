package token_test

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/extauthz/extauthz/pkg/token"
)

func TestNewVerifierRefusesMistakes(t *testing.T) {
	notPEM := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(notPEM, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name   string
		change func(*token.Issuer)
		want   string // part of the error; "" for a good configuration
	}{
		{"good", func(*token.Issuer) {}, ""},
		{"no issuer", func(i *token.Issuer) { i.URL = "" }, "issuer: required"},
		{"issuer with a control character", func(i *token.Issuer) { i.URL = "https://a.example/\n" }, "issuer: required"},
		{"issuer with bad UTF-8", func(i *token.Issuer) { i.URL = "https://a.example/\xff" }, "issuer: required"},
		{"issuer too long", func(i *token.Issuer) { i.URL += token.IssuerURL(strings.Repeat("x", 1024)) }, "issuer: required"},
		{"issuer by http", func(i *token.Issuer) { i.URL = "http://idp.example" }, "issuer: must be https"},
		{"issuer by http with jwks_url", func(i *token.Issuer) { i.URL, i.JWKSURL = "http://idp.example", "https://idp.example/k" }, "issuer: must be https"},
		{"issuer on loopback", func(i *token.Issuer) { i.URL = "http://127.0.0.1:8080/realm" }, ""},
		{"issuer on IPv6 loopback", func(i *token.Issuer) { i.URL = "http://[::1]:8080" }, ""},
		{"issuer on localhost", func(i *token.Issuer) { i.URL = "http://localhost:8080" }, ""},
		{"issuer on localhost.example", func(i *token.Issuer) { i.URL = "http://localhost.example" }, "issuer: must be https"},
		{"issuer on 127.0.0.1.example", func(i *token.Issuer) { i.URL = "http://127.0.0.1.example" }, "issuer: must be https"},
		{"issuer of a name", func(i *token.Issuer) { i.URL = "accounts.example" }, "issuer: not an absolute URL"},
		{"issuer of a name with jwks_url", func(i *token.Issuer) { i.URL, i.JWKSURL = "accounts.example", "https://idp.example/k" }, ""},
		{"issuer of another scheme", func(i *token.Issuer) { i.URL = "ftp://idp.example" }, "issuer: must be https"},
		{"issuer without host", func(i *token.Issuer) { i.URL = "https:///realm" }, "issuer: not an absolute URL"},
		{"issuer with a query", func(i *token.Issuer) { i.URL = "https://idp.example?a=b" }, "issuer: must not have a query"},
		{"issuer with an empty query", func(i *token.Issuer) { i.URL = "https://idp.example?" }, "issuer: must not have a query"},
		{"issuer with a fragment", func(i *token.Issuer) { i.URL = "https://idp.example#a" }, "issuer: must not have a fragment"},
		{"issuer with an empty fragment", func(i *token.Issuer) { i.URL = "https://idp.example#" }, "issuer: must not have a fragment"},
		{"issuer with a user", func(i *token.Issuer) { i.URL = "https://me@idp.example" }, "issuer: must not carry a user"},
		{"issuer that does not parse", func(i *token.Issuer) { i.URL = "https://[bad" }, "issuer: not a URL"},
		{"jwks_url by http", func(i *token.Issuer) { i.JWKSURL = "http://idp.example/keys" }, "jwks_url: must be https"},
		{"issuer at a metadata service", func(i *token.Issuer) { i.URL = "https://169.254.169.254" }, "issuer: must not be at"},
		{"jwks_url at a metadata service", func(i *token.Issuer) { i.JWKSURL = "https://[::ffff:169.254.169.254]/k" }, "jwks_url: must not be at"},
		{"jwks_url at no address", func(i *token.Issuer) { i.JWKSURL = "https://0.0.0.0/k" }, "jwks_url: must not be at"},
		{"jwks_url on IPv6 loopback", func(i *token.Issuer) { i.JWKSURL = "http://[::1]:8080/k" }, ""},
		{"jwks_url with a query", func(i *token.Issuer) { i.JWKSURL = "https://idp.example/keys?tenant=a" }, ""},
		{"jwks_url with a user", func(i *token.Issuer) { i.JWKSURL = "https://me:secret@idp.example/keys" }, "jwks_url: must not carry a user"},
		{"jwks_url relative", func(i *token.Issuer) { i.JWKSURL = "/keys" }, "jwks_url: not an absolute URL"},
		{"no audiences", func(i *token.Issuer) { i.Audiences = nil }, "audiences: at least one"},
		{"an empty audience", func(i *token.Issuer) { i.Audiences = []string{"a", ""} }, "audiences:"},
		{"an empty algorithm", func(i *token.Issuer) { i.Algorithms = []string{""} }, "algorithms:"},
		{"none", func(i *token.Issuer) { i.Algorithms = []string{"RS256", "none"} }, `algorithms: "none"`},
		{"HS256", func(i *token.Issuer) { i.Algorithms = []string{"HS256"} }, `algorithms: "HS256"`},
		{"HS512", func(i *token.Issuer) { i.Algorithms = []string{"HS512"} }, `algorithms: "HS512"`},
		{"rs256", func(i *token.Issuer) { i.Algorithms = []string{"rs256"} }, `algorithms: "rs256"`},
		{"every algorithm", func(i *token.Issuer) {
			i.Algorithms = strings.Fields("RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384 ES512 EdDSA")
		}, ""},
		{"longest leeway", func(i *token.Issuer) { i.Leeway = 5 * time.Minute }, ""},
		{"longer leeway", func(i *token.Issuer) { i.Leeway = 5*time.Minute + 1 }, "leeway:"},
		{"negative leeway", func(i *token.Issuer) { i.Leeway = -1 }, "leeway:"},
		{"negative lifetime", func(i *token.Issuer) { i.MaxLifetime = -1 }, "max_lifetime:"},
		{"refresh too often", func(i *token.Issuer) { i.RefreshInterval = time.Second - 1 }, "refresh_interval:"},
		{"negative refresh", func(i *token.Issuer) { i.RefreshInterval = -1 }, "refresh_interval:"},
		{"max age as short as the refresh", func(i *token.Issuer) { i.RefreshInterval, i.MaxAge = time.Hour, time.Hour }, "max_age:"},
		{"negative max age", func(i *token.Issuer) { i.MaxAge = -1 }, "max_age:"},
		{"CA file that is not there", func(i *token.Issuer) { i.CAFile = "/nowhere/ca.pem" }, "ca_file:"},
		{"CA file of no certificates", func(i *token.Issuer) { i.CAFile = notPEM }, "no PEM certificate"},
		{"two kinds of roots", func(i *token.Issuer) { i.CAFile, i.RootCAs = notPEM, x509.NewCertPool() }, "ca_file: cannot"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			config := token.Issuer{URL: "https://idp.example", Audiences: []string{"extauthz"}}
			c.change(&config)
			_, err := token.NewVerifier([]token.Issuer{config}, token.Options{})
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// TestNewVerifierNamesEveryMistake checks that one start shows all of them.
func TestNewVerifierNamesEveryMistake(t *testing.T) {
	good := token.Issuer{URL: "https://idp.example", Audiences: []string{"extauthz"}}
	_, err := token.NewVerifier([]token.Issuer{
		good, good, {URL: "http://a.example", Algorithms: []string{"HS256"}, Leeway: -1},
	}, token.Options{})
	if err == nil {
		t.Fatal("no error")
	}
	for _, part := range []string{
		`issuers[1] "https://idp.example": issuer: listed twice`, `issuers[2] "http://a.example"`,
		"must be https", "audiences:", "algorithms:", "leeway:",
	} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%v\ndoes not say %q", err, part)
		}
	}
	if _, err := token.NewVerifier(nil, token.Options{}); err == nil {
		t.Error("no issuers: no error")
	}
}

// TestNewVerifierCopiesItsConfiguration changes the caller's slices afterwards.
func TestNewVerifierCopiesItsConfiguration(t *testing.T) {
	audiences := []string{"extauthz"}
	r := newRigWith(t, func(i *token.Issuer) { i.Audiences = audiences })
	audiences[0] = "other"
	r.wantVerdict(t, r.Mint(nil), "")
}
