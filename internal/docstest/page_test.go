package docstest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/extauthz/extauthz/internal/extauthztest/envoytest"
)

// The pages that are tested. docs/configuration.md is generated and tested where it is made.
const (
	readme     = "README.md"
	quickstart = "docs/quickstart.md"
	reasons    = "docs/reasons.md"
	operations = "docs/operations.md"
	tokens     = "docs/tokens.md"
	policy     = "docs/policy.md"
)

// block is one fenced block of a page.
type block struct {
	page string
	line int
	info string // as in "yaml config"
	text string
}

func read(t *testing.T, page string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(envoytest.ModuleRoot(t), page))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// pages returns every page: the ones named above, the decisions and the changelog.
func pages(t *testing.T) []string {
	t.Helper()
	root := envoytest.ModuleRoot(t)
	list := []string{readme, "CHANGELOG.md"}
	for _, pattern := range []string{"docs/*.md", "docs/adr/*.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range found {
			page, err := filepath.Rel(root, file)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, page)
		}
	}
	return list
}

// blocks returns the fenced blocks of a page, in order.
func blocks(t *testing.T, page string) []block {
	t.Helper()
	var list []block
	var open *block
	for n, line := range strings.Split(read(t, page), "\n") {
		info, fence := strings.CutPrefix(line, "```")
		switch {
		case fence && open == nil:
			open = &block{page: page, line: n + 1, info: info}
		case fence:
			list = append(list, *open)
			open = nil
		case open != nil:
			open.text += line + "\n"
		}
	}
	if open != nil {
		t.Fatalf("%s:%d: the block does not end", page, open.line)
	}
	return list
}

// only returns the one block of a page with this info string.
func only(t *testing.T, page, info string) block {
	t.Helper()
	var found []block
	for _, b := range blocks(t, page) {
		if b.info == info {
			found = append(found, b)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%s has %d blocks %q, want 1", page, len(found), info)
	}
	return found[0]
}

// section returns the text of a page under a heading, up to the next one of any level.
func section(t *testing.T, page, heading string) string {
	t.Helper()
	_, text, found := strings.Cut("\n"+read(t, page), "\n"+heading+"\n")
	if !found {
		t.Fatalf("%s has no heading %q", page, heading)
	}
	text, _, _ = strings.Cut(text, "\n#")
	return text
}

// rows returns the cells of the table rows in a text that begin with code, trimmed.
func rows(text string) [][]string {
	var list [][]string
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "| `") {
			cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
			for i := range cells {
				cells[i] = strings.TrimSpace(cells[i])
			}
			list = append(list, cells)
		}
	}
	return list
}

// coded returns the texts in backquotes.
func coded(text string) []string {
	var list []string
	for i, part := range strings.Split(text, "`") {
		if i%2 == 1 {
			list = append(list, part)
		}
	}
	return list
}
