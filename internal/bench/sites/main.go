// Command sites writes the tables of what sites of many replicas ask of their database.
//
//	sites PAGE.md
//
// It replaces what stands between the marks in the page.
package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"os"
	"text/template"
	"time"
)

//go:embed tables.md.tmpl
var tables string

// The marks in the page.
const (
	begin = "<!-- Written by internal/bench/sites, by make generate. -->\n"
	end   = "<!-- End of what is written. -->\n"
)

// sites are the small and the large. The last but one is more than the database that was measured can serve; the last is each half
// of it when it is partitioned.
var sites = []site{
	{Clients: 2_000, Replicas: 3, Rate: 100, Changes: 1},
	{Clients: 10_000, Replicas: 3, Rate: 1_000, Changes: 1},
	{Clients: 100_000, Replicas: 3, Rate: 10_000, Changes: 10},
	{Clients: 100_000, Replicas: 8, Rate: 10_000, Changes: 10},
	{Clients: 1_000_000, Replicas: 8, Rate: 10_000, Changes: 10},
	{Clients: 1_000_000, Replicas: 8, Rate: 50_000, Changes: 10},
	{Clients: 1_000_000, Replicas: 8, Rate: 100_000, Changes: 100},
	{Clients: 1_000_000, Replicas: 30, Rate: 100_000, Changes: 100},
	{Clients: 500_000, Replicas: 15, Rate: 50_000, Changes: 50},
}

// ttls are times to live of keys and mappings, for the largest site.
var ttls = [][2]time.Duration{
	{defaultKeyTTL, defaultMappingTTL},
	{defaultMappingTTL, defaultMappingTTL},
	{time.Hour, time.Hour},
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: sites PAGE.md")
		os.Exit(2)
	}
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func write(path string) error {
	page, err := os.ReadFile(path) //nolint:gosec // the page that the developer named
	if err != nil {
		return err
	}
	before, rest, begins := bytes.Cut(page, []byte(begin))
	_, after, ends := bytes.Cut(rest, []byte(end))
	if !begins || !ends {
		return fmt.Errorf("%s: the lines %q and %q are needed, in this order", path, begin, end)
	}
	var out bytes.Buffer
	out.Write(before)
	out.WriteString(begin)
	if err := render(&out); err != nil {
		return err
	}
	out.WriteString(end)
	out.Write(after)
	return os.WriteFile(path, out.Bytes(), 0o644) //nolint:gosec // a page is for all to read
}

// row is a line of a table.
type row struct {
	site
	load
}

// Memory is that of a replica's cached rows, in MB.
func (r row) Memory() float64 { return r.Cached * clientBytes / 1e6 }

// Each is what one replica asks in a second.
func (r row) Each() float64 { return r.Statements / float64(r.Replicas) }

// Percent is a ratio as text.
func (row) Percent(ratio float64) string { return fmt.Sprintf("%.1f %%", 100*ratio) }

func render(out *bytes.Buffer) error {
	var data struct{ Sites, TTLs []row }
	for _, s := range sites {
		s.KeyTTL, s.MappingTTL = defaultKeyTTL, defaultMappingTTL
		data.Sites = append(data.Sites, row{s, s.load()})
	}
	for _, ttl := range ttls {
		s := sites[len(sites)-2]
		s.KeyTTL, s.MappingTTL = ttl[0], ttl[1]
		data.TTLs = append(data.TTLs, row{s, s.load()})
	}
	t, err := template.New("tables").Parse(tables)
	if err != nil {
		return err
	}
	return t.Execute(out, data)
}
