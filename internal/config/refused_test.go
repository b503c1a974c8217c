package config_test

import (
	"os"
	"strings"
	"testing"

	"github.com/extauthz/extauthz/internal/config"
)

// onlyLevel is the environment of the tests.
func onlyLevel(name string) (string, bool) {
	return "secret-level", name == "LEVEL"
}

// TestRefused holds every kind of fault against its exact line.
func TestRefused(t *testing.T) {
	data, err := os.ReadFile("testdata/refused.txt")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.TrimSuffix(string(data), "\n")
	for strings.HasPrefix(text, "#") {
		_, text, _ = strings.Cut(text, "\n")
	}
	blocks := strings.Split(text, "\n====\n")
	if len(blocks) < 100 {
		t.Fatalf("read %d blocks, which cannot be all", len(blocks))
	}
	for _, block := range blocks {
		yaml, want, ok := strings.Cut("\n"+block, "\n! ")
		if !ok {
			t.Fatalf("block without an error:\n%s", block)
		}
		t.Run(want, func(t *testing.T) { refuses(t, strings.TrimPrefix(yaml, "\n"), want) })
	}
}

func refuses(t *testing.T, yaml, want string) {
	c, err := config.Parse("f.yaml", []byte(yaml), onlyLevel)
	switch {
	case err == nil:
		t.Errorf("accepted:\n%s", yaml)
	case err.Error() != want:
		t.Errorf("file:\n%s\n got %s\nwant %s", yaml, err, want)
	case c != nil:
		t.Error("returned a configuration together with an error")
	}
}
