package main

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The address of a license counts as the license; this one is not allowed.
const nonCommercial = "\nhttps://creativecommons.org/licenses/by-nc/4.0/\n"

func TestRun(t *testing.T) {
	root, err := goroot()
	if err != nil {
		t.Fatal(err)
	}
	apache, bsd := read(t, "../../LICENSE"), read(t, filepath.Join(root, "LICENSE"))
	tests := map[string]struct {
		files map[string]string
		row   string // what is listed
		err   string // or a part of the error
	}{
		"one file":                 {files: map[string]string{"LICENSE": apache}, row: "example.com/m,Apache-2.0,LICENSE"},
		"British, with an ending":  {files: map[string]string{"Licence.txt": bsd}, row: "example.com/m,BSD-3-Clause,Licence.txt"},
		"notices go along":         {files: map[string]string{"COPYING": bsd, "NOTICE": "ours"}, row: "example.com/m,BSD-3-Clause,COPYING NOTICE"},
		"a package of its own":     {files: map[string]string{"LICENSE": bsd, "p/LICENSE": apache}, row: "example.com/m,Apache-2.0 AND BSD-3-Clause,LICENSE p/LICENSE"},
		"beside no linked package": {files: map[string]string{"LICENSE": bsd, "other/LICENSE": nonCommercial}, row: "example.com/m,BSD-3-Clause,LICENSE"},
		"Go code is none":          {files: map[string]string{"LICENSE": bsd, "license.go": "package m"}, row: "example.com/m,BSD-3-Clause,LICENSE"},
		"a heading":                {files: map[string]string{"LICENSE": "The license of this module:\n\n" + bsd}, row: "example.com/m,BSD-3-Clause,LICENSE"},
		"none":                     {err: "example.com/m: no file with a license"},
		"only a notice":            {files: map[string]string{"NOTICE": bsd}, err: "example.com/m: no file with a license"},
		"empty":                    {files: map[string]string{"LICENSE": ""}, err: "example.com/m: LICENSE: 0 words"},
		"unknown":                  {files: map[string]string{"LICENSE": "Ask us first."}, err: "example.com/m: LICENSE: 3 words"},
		"terms before":             {files: map[string]string{"LICENSE": "You may use this on six days a week:\n" + bsd}, err: "example.com/m: LICENSE: 9 words"},
		"terms after":              {files: map[string]string{"LICENSE": apache + "\nAll of this holds on six days a week.\n"}, err: "example.com/m: LICENSE: 9 words"},
		"not allowed":              {files: map[string]string{"LICENSE": nonCommercial}, err: "example.com/m: LICENSE: license CC-BY-NC-4.0 is not"},
		"one of two not allowed":   {files: map[string]string{"LICENSE": apache + nonCommercial}, err: "example.com/m: LICENSE: license CC-BY-NC-4.0 is not"},
		"a package not allowed":    {files: map[string]string{"LICENSE": bsd, "p/LICENSE": nonCommercial}, err: "example.com/m: p/LICENSE: license CC-BY-NC-4.0 is not"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			m := module{path: "example.com/m", dir: t.TempDir()}
			m.packages = []string{m.dir, filepath.Join(m.dir, "p")}
			write(t, m.packages[1], "p.go", "package p")
			for file, text := range test.files {
				write(t, m.dir, file, text)
			}
			texts := t.TempDir()
			var list strings.Builder
			err := run([]module{m}, texts, &list)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Fatalf("error %v, want %q", err, test.err)
				}
				if list.Len() > 0 {
					t.Errorf("listed all the same: %s", list.String())
				}
				return
			}
			if want := "module,licenses,files\n" + test.row + "\n"; err != nil || list.String() != want {
				t.Fatalf("got %q, %v, want %q", list.String(), err, want)
			}
			for _, file := range strings.Fields(test.row[strings.LastIndex(test.row, ",")+1:]) {
				if text := read(t, filepath.Join(texts, m.path, file)); text != test.files[file] {
					t.Errorf("copy of %s: %q", file, text)
				}
			}
		})
	}
}

// An error names every module to look at, not only the first.
func TestRunNamesEveryModule(t *testing.T) {
	one, two := module{path: "example.com/one", dir: t.TempDir()}, module{path: "example.com/two", dir: t.TempDir()}
	err := run([]module{one, two}, "", &strings.Builder{})
	if err == nil || !strings.Contains(err.Error(), one.path) || !strings.Contains(err.Error(), two.path) {
		t.Errorf("error %v", err)
	}
}

// What was read by a person is bound by the same list.
func TestReviewedAreAllowed(t *testing.T) {
	for _, id := range slices.Concat(slices.Collect(maps.Values(reviewed))...) {
		if !allowed[id] {
			t.Errorf("%s is not allowed", id)
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func write(t *testing.T, dir, file, text string) {
	t.Helper()
	path := filepath.Join(dir, file)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
