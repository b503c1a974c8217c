// Command page writes the page of the benchmark and its plots from the figures of a run.
//
//	page FIGURES.json DIRECTORY
//
// It writes DIRECTORY/benchmarks.md, and the plots in DIRECTORY/benchmarks/.
package main

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"text/template"

	"github.com/extauthz/extauthz/internal/bench/page/figures"
)

//go:embed benchmarks.md.tmpl
var page string

//go:embed bars.svg.tmpl
var plot string

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: page FIGURES.json DIRECTORY")
		os.Exit(2)
	}
	if err := write(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func write(from, directory string) error {
	data, err := os.ReadFile(from) //nolint:gosec // the file that the developer named
	if err != nil {
		return err
	}
	var r figures.Report
	if err := json.Unmarshal(data, &r); err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	if len(r.Servers) == 0 || len(r.Envoy) == 0 {
		return fmt.Errorf("%s: figures of servers and of Envoy are needed; there are %d and %d", from, len(r.Servers), len(r.Envoy))
	}
	var cpu, added bars
	for _, s := range r.Servers {
		if s.StoreCalls < 1 { // what asks the store costs many times as much, and would leave no room for the rest
			cpu = cpu.with(s.Name, s.Ratio, "%.2f")
		}
	}
	for _, f := range r.Envoy {
		if f.P50Added != 0 { // no filter adds nothing
			added = added.with(fmt.Sprintf("%s, %d/s", f.Name, f.Rate), f.P50Added, "%.0f µs")
		}
	}
	for file, render := range map[string]struct {
		template string
		data     any
	}{
		"benchmarks.md":        {page, r},
		"benchmarks/cpu.svg":   {plot, cpu.scaled("CPU time for a check, no-op server = 1", 1)},
		"benchmarks/envoy.svg": {plot, added.scaled("What a filter adds to a request through Envoy, p50", 0)},
	} {
		var out bytes.Buffer
		t, err := template.New(file).Parse(render.template)
		if err != nil {
			return err
		}
		if err := t.Execute(&out, render.data); err != nil {
			return err
		}
		path := filepath.Join(directory, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // pages are for all to read
			return err
		}
		if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil { //nolint:gosec // the same
			return err
		}
	}
	return nil
}

// bars are what a plot shows.
type bars []bar

type bar struct {
	Name, Label   string
	value         float64
	Top, Width    int
	Middle, After int // where the text stands
}

func (b bars) with(name string, value float64, format string) bars {
	return append(b, bar{Name: name, Label: fmt.Sprintf(format, value), value: value})
}

// The plot's measures in pixels.
const (
	rowHeight = 26
	firstRow  = 40
	nameWidth = 370
	barWidth  = 420 // of the longest
)

// chart is a plot. Line is where the line of reference stands; 0: there is none.
type chart struct {
	Title               string
	Bars                bars
	Height, Line, Begin int
}

func (b bars) scaled(title string, reference float64) chart {
	longest := 0.0
	for _, x := range b {
		longest = max(longest, x.value)
	}
	for n := range b {
		b[n].Width = int(barWidth * max(b[n].value, 0) / max(longest, 1e-9))
		b[n].Top = firstRow + n*rowHeight
		b[n].Middle, b[n].After = b[n].Top+13, nameWidth+b[n].Width+6
	}
	c := chart{Title: title, Bars: b, Height: firstRow + len(b)*rowHeight + 10, Begin: nameWidth}
	if reference > 0 {
		c.Line = nameWidth + int(barWidth*reference/max(longest, 1e-9))
	}
	return c
}
