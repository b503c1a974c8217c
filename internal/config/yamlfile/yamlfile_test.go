package yamlfile_test

import (
	"strings"
	"testing"
	"time"

	"github.com/extauthz/extauthz/internal/config/yamlfile"
	configv1 "github.com/extauthz/extauthz/proto/extauthz/config/v1"
)

func decode(data string) (*yamlfile.File, error) {
	return yamlfile.Decode("f", []byte(data), new(configv1.Config), nil)
}

// TestSyntaxLines holds the mended line numbers of the YAML parser.
func TestSyntaxLines(t *testing.T) {
	for data, line := range map[string]string{
		"a: 1\n- b\nc: 2\n":               "2",
		"a: 1\n# c\n\n- b\n\n# e\nc: 2\n": "4",
		"a:\n  b: 1\n c: 2\nd: 3\n":       "3",
		"a: 1\nb: {c: 1\nd: 2\n":          "2", // where the brace opens
		"a: [1\n":                         "1",
		"a: 1\nb: }\n":                    "2",
		"}":                               "1",
		"a: 1\nb: c: d\n":                 "2",
		"a: 1\n\tb: 2\n":                  "2",
		"a: 1\nb: \"x\nc: 3\n":            "2",
		"a: 1\nb: \"\\q\"\n":              "2",
		"a: 1\nb: @x\nc: 1\n":             "2",
		"a: 1\nb: *x\nc: 1\n":             "2",
		"a: |\n  x\n y\nb: 1\n":           "3",
		"- a\n- b\nc: d\n":                "3",
		"a: 1\nb: !x!y 1\n":               "2",
		"a: \x01":                         "1",
		"\xff":                            "1",
	} {
		_, err := decode(data)
		if err == nil || !strings.HasPrefix(err.Error(), "f:"+line+":1: document: is not YAML") {
			t.Errorf("%q: got %v, want line %s", data, err, line)
		}
	}
}

func TestEmptyDocuments(t *testing.T) {
	for _, data := range []string{"", "\n", "# x\n", "---\n", "---\n...\n", "{}"} {
		if _, err := decode(data); err != nil {
			t.Errorf("%q: %v", data, err)
		}
	}
	for _, data := range []string{"null", "~", "---\n---\n"} {
		if _, err := decode(data); err == nil {
			t.Errorf("%q: accepted", data)
		}
	}
}

// TestFirstFaultCounts shows the order of faults, and that a fault of what is not there has the place of what is.
func TestFirstFaultCounts(t *testing.T) {
	file, err := decode("server:\n  reflection: true\nstore:\n  url: none\n")
	if err != nil || file.Err() != nil {
		t.Fatal(err, file.Err())
	}
	file.Report("store.url", "later", "x")
	file.Report("server.address", "absent", "x")
	file.Report("server.reflection", "same place, later", "x")
	file.Refuse("server.address", "is absent", "x")
	if got := file.Err().Error(); got != "f:2:3: server.address: absent; allowed: x" {
		t.Errorf("got %s", got)
	}
	if got := file.First("a.b", "store[0]", "store.url", "server"); got != "store.url" {
		t.Errorf("First returned %s", got)
	}
	if got := file.First("a.b", "c"); got != "a.b" {
		t.Errorf("First returned %s", got)
	}
}

// TestErrorIsOneLine holds the form even for the name of a file that nobody should have.
func TestErrorIsOneLine(t *testing.T) {
	err := &yamlfile.Error{File: "a\nb", Line: 1, Column: 2, Reason: "c\u2028d"}
	if got := err.Error(); got != "a?b:1:2: document: c?d" {
		t.Errorf("got %q", got)
	}
}

func TestDurationText(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", time.Second: "1s", time.Minute: "1m", 90 * time.Second: "1m30s", time.Hour: "1h", 90 * time.Minute: "1h30m",
		24 * time.Hour: "24h", time.Hour + time.Second: "1h0m1s", 400 * time.Millisecond: "400ms", 10 * time.Minute: "10m", 10 * time.Second: "10s",
	} {
		if got := yamlfile.DurationText(d); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
