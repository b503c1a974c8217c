package main

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
)

// module is one that is linked.
type module struct {
	path     string
	dir      string
	packages []string // directories of the linked packages, each dir or below it
}

// Files that have to go along with a binary, and those among them that grant a license.
var (
	legal   = regexp.MustCompile(`(?i)^(licen[cs]e|unlicense|copying|copyright|notice|patents)`)
	license = regexp.MustCompile(`(?i)^(licen[cs]e|unlicense|copying)`)
)

func group(packages []listed) []module {
	byPath := make(map[string]*module)
	for _, p := range packages {
		if p.Module == nil {
			continue
		}
		m := byPath[p.Module.Path]
		if m == nil {
			m = &module{path: p.Module.Path, dir: p.Module.Dir}
			byPath[m.path] = m
		}
		m.packages = append(m.packages, p.Dir)
	}
	var list []module
	for _, m := range byPath {
		list = append(list, *m)
	}
	slices.SortFunc(list, func(a, b module) int { return cmp.Compare(a.path, b.path) })
	return list
}

// legalFiles returns the files that cover the linked packages, relative to the module, with slashes and sorted. A directory may
// have a license of its own, for code that came from elsewhere.
func (m module) legalFiles() ([]string, error) {
	files := make(map[string]bool)
	seen := make(map[string]bool)
	for _, dir := range m.packages {
		for ; !seen[dir]; dir = filepath.Dir(dir) {
			seen[dir] = true
			entries, err := os.ReadDir(dir)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", m.path, err)
			}
			for _, e := range entries {
				if e.IsDir() || !legal.MatchString(e.Name()) || filepath.Ext(e.Name()) == ".go" {
					continue
				}
				name, err := filepath.Rel(m.dir, filepath.Join(dir, e.Name()))
				if err != nil {
					return nil, fmt.Errorf("%s: %w", m.path, err)
				}
				files[filepath.ToSlash(name)] = true
			}
			if dir == m.dir {
				break
			}
		}
	}
	return slices.Sorted(maps.Keys(files)), nil
}

// licenses returns the SPDX identifiers of the license files, sorted.
func (m module) licenses(files []string) ([]string, error) {
	ids := make(map[string]bool)
	for _, name := range files {
		if !license.MatchString(filepath.Base(name)) {
			continue
		}
		text, err := m.read(name)
		if err != nil {
			return nil, err
		}
		found, err := classify(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", m.path, name, err)
		}
		for _, id := range found {
			ids[id] = true
		}
	}
	if len(ids) == 0 {
		return nil, fmt.Errorf("%s: no file with a license beside its linked packages, or above them", m.path)
	}
	return slices.Sorted(maps.Keys(ids)), nil
}

func (m module) copyTo(dir string, files []string) error {
	for _, name := range files {
		text, err := m.read(name)
		if err != nil {
			return err
		}
		to := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil { //nolint:gosec // made to be handed on: anybody may read it
			return err
		}
		if err := os.WriteFile(to, text, 0o644); err != nil { //nolint:gosec // likewise
			return err
		}
	}
	return nil
}

func (m module) read(name string) ([]byte, error) {
	text, err := os.ReadFile(filepath.Join(m.dir, filepath.FromSlash(name)))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m.path, err)
	}
	return text, nil
}
