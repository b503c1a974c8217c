package e2e

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/extauthz/extauthz/pkg/authz"
)

// proof names the test that produces a reason which no line of the truth table can: it needs a fault.
type proof struct {
	dir, test  string
	bothStores bool
}

func faults() map[authz.Reason]proof {
	return map[authz.Reason]proof{
		"store_unavailable":      {".", "TestNoMatch", true},
		"registration_conflict":  {".", "TestVanishedWinnerIsNeverAnAllow", true},
		"key_secret_unavailable": {".", "TestUpstreamGetsTheVirtualKey", true},
		"profile_unknown":        {".", "TestShadowAndProfiles", true},
		"store_required":         {".", "TestNoStore", false},
		"issuer_unavailable":     {".", "TestIssuerNeverUp", false},
		"deadline_exceeded":      {"../../pkg/authz", "TestLateDecisionIsAnOutage", false},
		authz.ReasonOverloaded:   {"../../pkg/authz", "TestCheckThatWaitedIsShed", false},
		authz.ReasonInternal:     {"../../pkg/authz", "TestEveryFailureDeniesInBand", false},
	}
}

// Every reason is one that a line of the truth table expects, on both stores, or a fault's.
func TestEveryReasonIsProduced(t *testing.T) {
	inTable := make(map[authz.Reason]bool)
	for _, table := range tables() {
		for _, l := range table.lines {
			if l.status != 200 {
				inTable[authz.Reason(l.what)] = true
			}
		}
	}
	listed := make(map[authz.Reason]bool)
	for _, o := range authz.Outcomes() {
		listed[o.Reason] = true
		proof, fault := faults()[o.Reason]
		switch {
		case inTable[o.Reason] == fault:
			t.Errorf("%s: in the truth table: %v, a fault: %v; want one of the two", o.Reason, inTable[o.Reason], fault)
		case fault:
			proof.check(t, o.Reason)
		}
	}
	for reason := range inTable {
		if !listed[reason] {
			t.Errorf("the truth table expects %q, which is no reason", reason)
		}
	}
}

// check requires that the test is there, speaks of the reason and, if it has to, runs on both stores.
func (p proof) check(t *testing.T, reason authz.Reason) {
	t.Helper()
	body := p.body(t)
	if body == nil {
		t.Errorf("%s: there is no test %s in %s", reason, p.test, p.dir)
		return
	}
	speaks, eachStore := false, false
	ast.Inspect(body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BasicLit:
			text, _ := strconv.Unquote(n.Value)
			speaks = speaks || text == string(reason)
		case *ast.Ident:
			eachStore = eachStore || n.Name == "eachStore"
		}
		return true
	})
	if !speaks || p.bothStores && !eachStore {
		t.Errorf("%s: %s speaks of it: %v, runs on each store: %v", reason, p.test, speaks, eachStore)
	}
}

// body returns the body of the test, nil if there is none.
func (p proof) body(t *testing.T) *ast.BlockStmt {
	t.Helper()
	files, err := os.ReadDir(p.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if !strings.HasSuffix(file.Name(), "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.dir, file.Name()), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, declaration := range parsed.Decls {
			if f, ok := declaration.(*ast.FuncDecl); ok && f.Name.Name == p.test {
				return f.Body
			}
		}
	}
	return nil
}
