package docstest

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/extauthz/extauthz/internal/extauthztest/envoytest"
	"github.com/extauthz/extauthz/internal/telemetry"
	"github.com/extauthz/extauthz/pkg/authz"
)

// The page has every reason, with its status, and none that does not exist.
func TestReasons(t *testing.T) {
	documented := make(map[authz.Reason]string)
	for _, row := range rows(read(t, reasons)) {
		if len(row) != 4 {
			t.Errorf("%s: a row of %d cells: %v", reasons, len(row), row)
			continue
		}
		reason := authz.Reason(strings.Trim(row[0], "`"))
		if _, twice := documented[reason]; twice {
			t.Errorf("%s has %s twice", reasons, reason)
		}
		documented[reason] = row[1]
	}
	types := section(t, reasons, "# Reasons")
	for _, o := range authz.Outcomes() {
		status := strconv.Itoa(int(o.Status))
		if got := documented[o.Reason]; got != status {
			t.Errorf("%s: %s has status %q, want %s", reasons, o.Reason, got, status)
		}
		if !strings.Contains(types, "| "+status+" | `"+o.Type+"` |") {
			t.Errorf("%s: no type %s for status %s, which %s has", reasons, o.Type, status, o.Reason)
		}
		delete(documented, o.Reason)
	}
	for reason := range documented {
		t.Errorf("%s: there is no reason %s", reasons, reason)
	}
}

// Reasons with a status, wherever they are told, have the right one.
func TestStatusesOfReasons(t *testing.T) {
	status := make(map[string]string)
	for _, o := range authz.Outcomes() {
		status[string(o.Reason)] = strconv.Itoa(int(o.Status))
	}
	list := regexp.MustCompile("\\b([45][0-9][0-9]) (`[a-z_]+`(?:, `[a-z_]+`)*)")
	for _, page := range pages(t) {
		for _, match := range list.FindAllStringSubmatch(read(t, page), -1) {
			for _, reason := range coded(match[2]) {
				if want := status[reason]; want != match[1] {
					t.Errorf("%s says %s %s; the status is %q", page, match[1], reason, want)
				}
			}
		}
	}
}

// Keys of the configuration that the pages name exist, and a default in a table is the default.
func TestConfigurationKeys(t *testing.T) {
	reference := make(map[string][]string)
	for _, row := range rows(read(t, "docs/configuration.md")) {
		reference[strings.TrimSuffix(strings.Trim(row[0], "`"), "[]")] = row
	}
	key := regexp.MustCompile(`^(server|telemetry|store|cache|issuers\[\]|policy|mapping|credentials|headers|log)(\.[a-z_]+)+$`)
	for _, page := range pages(t) {
		for _, word := range coded(withoutBlocks(t, page)) {
			if name, _, _ := strings.Cut(word, ":"); key.MatchString(name) && reference[name] == nil && name != "policy.rules" {
				t.Errorf("%s names the key %s, which does not exist", page, name)
			}
		}
	}
	told := 0
	for _, heading := range []string{"## Timeouts", "## Caches, and how long a change takes"} {
		for line := range strings.Lines(section(t, operations, heading)) {
			for name, row := range reference {
				value := strings.Trim(row[2], "`")
				if strings.Contains(line, "`"+name+"`") && strings.HasPrefix(line, "|") {
					told++
					if !strings.Contains(line, value) {
						t.Errorf("%s: %s is %s by default: %s", operations, name, value, line)
					}
				}
			}
		}
	}
	if told < 6 {
		t.Errorf("only %d defaults found in %s", told, operations)
	}
}

func withoutBlocks(t *testing.T, page string) string {
	t.Helper()
	text := read(t, page)
	for _, b := range blocks(t, page) {
		text = strings.Replace(text, "```"+b.info+"\n"+b.text+"```", "", 1)
	}
	return text
}

// Tests that the pages name exist, and no threat is without one.
func TestNamedTestsExist(t *testing.T) {
	exist := make(map[string]bool)
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)[A-Z][A-Za-z0-9]*)\(`)
	err := filepath.WalkDir(envoytest.ModuleRoot(t), func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, match := range declared.FindAllStringSubmatch(string(text), -1) {
			exist[match[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile(`^(Test|Fuzz)[A-Z][A-Za-z0-9]*$`)
	for _, page := range pages(t) {
		for _, word := range coded(withoutBlocks(t, page)) {
			if named.MatchString(word) && !exist[word] {
				t.Errorf("%s: there is no test %s", page, word)
			}
		}
	}
	threats := 0
	for line := range strings.Lines(section(t, "docs/security.md", "## Threats")) {
		if cells := strings.Split(line, " | "); strings.HasPrefix(line, "| ") && cells[0] != "| threat" {
			threats++
			if len(cells) != 3 || !strings.Contains(cells[2], "`Test") {
				t.Errorf("a threat without a test: %s", line)
			}
		}
	}
	if threats < 20 {
		t.Errorf("only %d threats", threats)
	}
}

// What the pages link to, and the files in the repository that they name, are there.
func TestLinks(t *testing.T) {
	root := envoytest.ModuleRoot(t)
	link := regexp.MustCompile(`\]\(([^):#]+)(#[^)]*)?\)`)
	file := regexp.MustCompile(`^(deploy|docs|internal|pkg|cmd)/[a-z0-9/._-]+$`)
	for _, page := range pages(t) {
		var targets []string
		for _, match := range link.FindAllStringSubmatch(withoutBlocks(t, page), -1) {
			targets = append(targets, filepath.Join(filepath.Dir(page), match[1]))
		}
		for _, word := range coded(withoutBlocks(t, page)) {
			if file.MatchString(word) {
				targets = append(targets, word)
			}
		}
		for _, target := range targets {
			if _, err := os.Stat(filepath.Join(root, target)); err != nil {
				t.Errorf("%s: %s does not exist", page, target)
			}
		}
	}
}

// The functions and tests that the page on tokens names exist.
func TestTokenRules(t *testing.T) {
	var code strings.Builder
	for _, pattern := range []string{"pkg/token/*.go", "internal/differential/*.go"} {
		files, err := filepath.Glob(filepath.Join(envoytest.ModuleRoot(t), pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			code.Write(text)
		}
	}
	named := 0
	for line := range strings.Lines(read(t, tokens)) {
		cells := strings.Split(line, " | ")
		if !strings.HasPrefix(line, "|") || len(cells) < 3 {
			continue
		}
		for _, name := range coded(strings.Join(cells[len(cells)-2:], " ")) {
			named++
			if declared := regexp.MustCompile(`(?m)^(func (\([^)]*\) )?|type )` + name + `\b`); !declared.MatchString(code.String()) {
				t.Errorf("%s: there is no %s", tokens, name)
			}
		}
	}
	if named < 60 {
		t.Errorf("%s names only %d functions and tests", tokens, named)
	}
}

// Metrics that the pages for operators name exist.
func TestNamesOfMetrics(t *testing.T) {
	described := make(chan *prometheus.Desc, 1000)
	telemetry.NewMetrics("test").Registry.Describe(described)
	close(described)
	var all strings.Builder
	for d := range described {
		all.WriteString(d.String())
	}
	name := regexp.MustCompile(`^(extauthz_[a-z_]+)(\{[^}]*\})?( \d)?$`)
	found := 0
	for _, page := range []string{operations, "docs/reliability.md"} {
		for _, word := range coded(withoutBlocks(t, page)) {
			match := name.FindStringSubmatch(word)
			if match == nil || match[1] == "extauthz_changes" { // PostgreSQL's channel
				continue
			}
			found++
			if !strings.Contains(all.String(), `"`+match[1]+`"`) {
				t.Errorf("%s names the metric %s, which does not exist", page, match[1])
			}
		}
	}
	if found < 20 {
		t.Errorf("only %d names were found", found)
	}
}
