package config_test

import (
	"os"
	"strings"
	"testing"

	"github.com/extauthz/extauthz/internal/config"
	"github.com/extauthz/extauthz/pkg/token"
	configv1 "github.com/extauthz/extauthz/proto/extauthz/config/v1"
)

// FuzzLoad shows that no file makes Parse panic, that every error is one line that names the file, and that the issuers of a
// file that is accepted are accepted by the verifier, which has checks of its own.
func FuzzLoad(f *testing.F) {
	full, err := os.ReadFile("testdata/full.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(full)
	for _, seed := range []string{
		"", minimal, "issuers:\n- &a\n- *a", "a: {b: [", "? [a]\n: b", "%YAML 1.1\n--- !!map {}", "issuers: [{issuer: \"\x00\"}]",
		minimal + "log: {level: \"${LEVEL}$${\"}", minimal + "mapping: {cache_ttl: 9e99h}", "<<: {}", "\xff\xfe",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if strings.Contains(string(data), "url_file") {
			return // a file of the fuzzer's choice
		}
		c, err := config.Parse("f.yaml", data, onlyLevel)
		if err == nil {
			if _, err := token.NewVerifier(issuersOf(c), token.Options{}); err != nil {
				t.Errorf("accepted, but not by the verifier: %v", err)
			}
			return
		}
		if text := err.Error(); !strings.HasPrefix(text, "f.yaml:") || strings.ContainsAny(text, "\n\r") || strings.Contains(text, "secret-level") {
			t.Errorf("the error is %q", text)
		}
	})
}

// issuersOf leaves out ca_file, which names a file of the fuzzer's choice.
func issuersOf(c *configv1.Config) []token.Issuer {
	var list []token.Issuer
	for _, i := range c.GetIssuers() {
		list = append(list, token.Issuer{
			URL: token.IssuerURL(i.GetIssuer()), Audiences: i.GetAudiences(), JWKSURL: i.GetJwksUrl(), Algorithms: i.GetAlgorithms(),
			Leeway: i.GetLeeway().AsDuration(), MaxLifetime: i.GetMaxLifetime().AsDuration(), Types: i.GetTypes(),
			RefreshInterval: i.GetJwksRefresh().AsDuration(), MaxAge: i.GetJwksMaxAge().AsDuration(),
		})
	}
	return list
}
