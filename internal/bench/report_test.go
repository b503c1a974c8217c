package bench

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/extauthz/extauthz/internal/bench/page/figures"
)

var report = flag.String("report", "", "JSON file that the figures are written to")

// save changes the report, if there is to be one.
func save(t *testing.T, change func(*figures.Report)) {
	t.Helper()
	if *report == "" {
		return
	}
	var r figures.Report
	switch data, err := os.ReadFile(*report); {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		t.Fatal(err)
	default:
		if err := json.Unmarshal(data, &r); err != nil {
			t.Fatalf("%s: %v", *report, err)
		}
	}
	r.Machine = figures.Machine{CPU: processor(), Cores: runtime.NumCPU(), Go: runtime.Version(), Rounds: *rounds, Burst: burst.String(), Workers: *workers}
	change(&r)
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(*report), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(*report, append(data, '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
}

// processor returns the processor's name as Linux gives it; "" if it does not.
func processor() string {
	text, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(text)) {
		if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
