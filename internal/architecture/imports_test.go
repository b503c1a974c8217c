package architecture

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/extauthz/extauthz/"

// allowed lists what each package may import of our own, tests aside. A package that is not listed may
// be imported by nobody who is.
func allowed() map[string][]string {
	domain := []string{"pkg/token", "pkg/teams", "pkg/keys", "pkg/mapping"}
	store := append([]string{"internal/resource"}, domain...)
	return map[string][]string{
		"internal/admission":           {},
		"internal/ascii":               {},
		"internal/breaker":             {},
		"internal/cache":               {},
		"internal/limit":               {},
		"internal/trace":               {},
		"pkg/authz/wire":               {"internal/ascii"},
		"internal/gather":              {},
		"internal/transport":           {"internal/gather"},
		"internal/kms":                 {},
		"pkg/token":                    {},
		"pkg/teams":                    {"pkg/token", "internal/ascii", "internal/cache", "internal/limit", "internal/trace"},
		"pkg/keys":                     {"pkg/teams"},
		"pkg/mapping":                  {"pkg/keys", "pkg/teams", "pkg/token", "internal/cache", "internal/limit", "internal/trace"},
		"pkg/authz":                    append([]string{"internal/admission", "internal/ascii", "internal/cache", "internal/trace", "pkg/authz/wire"}, domain...),
		"internal/telemetry":           append([]string{"internal/admission", "pkg/authz"}, domain...),
		"internal/resource":            append([]string{"internal/config/yamlfile", "proto/extauthz/config/v1"}, domain...),
		"internal/config/yamlfile":     {},
		"internal/config":              append([]string{"internal/config/yamlfile", "internal/resource", "internal/transport", "proto/extauthz/config/v1"}, domain...),
		"internal/store":               append([]string{"internal/store/postgres", "internal/store/sqlite", "internal/store/rows"}, store...),
		"internal/store/rows":          store,
		"internal/store/postgres":      append([]string{"internal/store/rows"}, store...),
		"internal/store/sqlite":        append([]string{"internal/store/rows"}, store...),
		"internal/store/storetest":     append([]string{"internal/cache", "internal/store", "internal/store/rows"}, store...),
		"internal/echo":                {},
		"internal/envoyproc":           {},
		"deploy/envoy":                 {},
		"proto/extauthz/config/v1":     {},
		"cmd/extauthz":                 nil, // anything: it wires everything
		"internal/config/refdoc":       nil,
		"internal/extauthztest/pgtest": {},
	}
}

func TestImportsGoOneWay(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-f", `{{.ImportPath}}{{range .Imports}} {{.}}{{end}}`, module+"...").Output()
	if err != nil {
		t.Fatal(err)
	}
	rules, seen := allowed(), 0
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		name := strings.TrimPrefix(fields[0], module)
		permitted, listed := rules[name]
		if !listed || permitted == nil {
			continue
		}
		seen++
		for _, imported := range fields[1:] {
			own, ours := strings.CutPrefix(imported, module)
			if ours && !slices.Contains(permitted, own) {
				t.Errorf("%s must not import %s", name, own)
			}
		}
	}
	if seen < 15 {
		t.Fatalf("only %d packages were looked at", seen)
	}
}
