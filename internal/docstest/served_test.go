package docstest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/extauthz/extauthz/internal/extauthztest/issuertest"
	"github.com/extauthz/extauthz/internal/extauthztest/issuertest/localissuer"
)

const servedConfig = `
server: {address: "127.0.0.1:0"}
telemetry: {address: "127.0.0.1:0"}
issuers:
- issuer: %s
  audiences: [llm-gateway]
  claims: {user_id: sub, team_id: team}
mapping: {claim: sub, no_match: reject}
`

const servedResources = `
organizations: [{id: acme}]
teams: [{id: a, organization_id: acme, rpm_limit: 1, tpm_limit: 2}]
keys: [{alias: k, secret: sk-0123456789abcdef, team_id: a, rpm_limit: 3, tpm_limit: 4}]
mappings: [{claim: sub, value: alice, key: k}]
`

// TestTelemetry compares the tables of metrics, log fields and metadata with what a real server shows after an allow and denials.
func TestTelemetry(t *testing.T) {
	s := serve(t)
	answers := []map[string]any{s.check("alice", "a"), s.check("bob", "a"), s.check("alice", "")}
	t.Run("metrics", func(t *testing.T) {
		compare(t, "metric and labels", documentedMetrics(t), s.metrics())
	})
	t.Run("log", func(t *testing.T) {
		compare(t, "field", fields(t, "## Decision log"), s.logFields())
	})
	t.Run("metadata", func(t *testing.T) {
		shown := make(map[string]bool)
		for _, answer := range answers {
			for name := range answer["metadata"].(map[string]any) {
				shown[name] = true
			}
		}
		compare(t, "field", fields(t, "## Dynamic metadata"), shown)
	})
}

func compare(t *testing.T, what string, documented, shown map[string]bool) {
	t.Helper()
	if len(documented) == 0 || len(shown) == 0 {
		t.Fatalf("nothing to compare: %v, %v", documented, shown)
	}
	for name := range shown {
		if !documented[name] {
			t.Errorf("%s lacks the %s %s", operations, what, name)
		}
	}
	for name := range documented {
		if !shown[name] {
			t.Errorf("%s has the %s %s, which the server does not show", operations, what, name)
		}
	}
}

// fields returns the names in the first column of a section's table.
func fields(t *testing.T, heading string) map[string]bool {
	t.Helper()
	names := make(map[string]bool)
	for _, row := range rows(section(t, operations, heading)) {
		for _, name := range coded(row[0]) {
			names[name] = true
		}
	}
	return names
}

// documentedMetrics returns "name label label" of each row of the table of metrics.
func documentedMetrics(t *testing.T) map[string]bool {
	t.Helper()
	values := regexp.MustCompile(`\([^()]*(\([^()]*\)[^()]*)*\)`)
	metrics := make(map[string]bool)
	for _, row := range rows(section(t, operations, "## Metrics")) {
		labels := coded(values.ReplaceAllString(row[2], ""))
		slices.Sort(labels)
		metrics[strings.Trim(row[0], "`")+" "+row[1]+" "+strings.Join(labels, " ")] = true
	}
	return metrics
}

// served is a running server.
type served struct {
	t                  *testing.T
	issuer             *issuertest.Issuer
	address, telemetry string
	log                []map[string]any
	ended              chan struct{} // after it, log is complete
	stop               func()
}

func serve(t *testing.T) *served {
	t.Helper()
	s := &served{t: t, ended: make(chan struct{}), issuer: issuertest.New(t, localissuer.Audience("llm-gateway"), localissuer.Algorithms("ES256"))}
	dir := t.TempDir()
	for file, text := range map[string]string{"extauthz.yaml": fmt.Sprintf(servedConfig, s.issuer.URL()), "resources.yaml": servedResources} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	apply := exec.CommandContext(t.Context(), binary, "apply", "-f", "resources.yaml")
	apply.Dir = dir
	if out, err := apply.CombinedOutput(); err != nil {
		t.Fatalf("apply: %v\n%s", err, out)
	}
	command := exec.Command(binary, "serve")
	command.Dir = dir
	command.Stderr = os.Stderr
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	s.stop = func() { _ = command.Process.Signal(syscall.SIGTERM) }
	ready := make(chan struct{})
	go s.readLog(out, ready)
	t.Cleanup(func() {
		s.stop()
		<-s.ended
		if err := command.Wait(); err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	select {
	case <-ready:
	case <-s.ended:
		t.Fatal("extauthz ended")
	case <-time.After(time.Minute):
		t.Fatal("extauthz is not ready")
	}
	return s
}

func (s *served) readLog(out io.Reader, ready chan<- struct{}) {
	defer close(s.ended)
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		line := make(map[string]any)
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			s.t.Errorf("not a JSON line: %s", lines.Text())
			continue
		}
		switch line["msg"] {
		case "listening":
			s.address, s.telemetry = line["server"].(string), line["telemetry"].(string)
		case "ready":
			close(ready)
		case "decision":
			s.log = append(s.log, line)
		}
	}
}

// check asks the server and returns what `extauthz check -o json` prints.
func (s *served) check(user, team string) map[string]any {
	s.t.Helper()
	command := exec.CommandContext(s.t.Context(), binary, "check", "--address", s.address, "-o", "json", "--token-file", "-", "--body", `{"model":"gpt-4o"}`)
	command.Stdin = strings.NewReader(s.issuer.Mint(map[string]any{"sub": user, "team": team}))
	out, err := command.Output() // a denial ends with 3
	answer := make(map[string]any)
	if json.Unmarshal(out, &answer) != nil || answer["metadata"] == nil {
		s.t.Fatalf("check: %v\n%s", err, out)
	}
	return answer
}

// logFields ends the server and returns the fields of all its decisions.
func (s *served) logFields() map[string]bool {
	s.stop()
	<-s.ended
	names := make(map[string]bool)
	for _, line := range s.log {
		for name := range line {
			names[name] = true
		}
	}
	return names
}

// metrics returns "name type label label" of each metric of our own.
func (s *served) metrics() map[string]bool {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, "http://"+s.telemetry+"/metrics", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return metricsIn(body)
}

var (
	typeLine   = regexp.MustCompile(`^# TYPE (extauthz_\w+) (\w+)$`)
	sampleLine = regexp.MustCompile(`^(extauthz_\w+)(?:\{(.*)\})? `)
	labelName  = regexp.MustCompile(`(\w+)="[^"]*"`)
)

func metricsIn(body []byte) map[string]bool {
	shown, name, kind := make(map[string]bool), "", ""
	lines := bufio.NewScanner(bytes.NewReader(body))
	for lines.Scan() {
		if match := typeLine.FindStringSubmatch(lines.Text()); match != nil {
			name, kind = match[1], match[2]
		}
		match := sampleLine.FindStringSubmatch(lines.Text())
		if match == nil || !strings.HasPrefix(match[1], name) {
			continue
		}
		labels := make(map[string]bool)
		for _, label := range labelName.FindAllStringSubmatch(match[2], -1) {
			labels[label[1]] = label[1] != "le"
		}
		maps.DeleteFunc(labels, func(_ string, ours bool) bool { return !ours })
		shown[name+" "+kind+" "+strings.Join(slices.Sorted(maps.Keys(labels)), " ")] = true
	}
	return shown
}
