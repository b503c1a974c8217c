package config_test

import (
	"os"
	"strings"
	"testing"

	"github.com/extauthz/extauthz/internal/config"
)

// FuzzLoad shows that no file makes Parse panic, and that every error is one line that names the file.
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
			if len(c.GetIssuers()) == 0 {
				t.Error("accepted without issuers")
			}
			return
		}
		if text := err.Error(); !strings.HasPrefix(text, "f.yaml:") || strings.ContainsAny(text, "\n\r") || strings.Contains(text, "secret-level") {
			t.Errorf("the error is %q", text)
		}
	})
}
