// Command licenses lists the license of every module that is linked into extauthz, as CSV. It fails if a module has none, or one
// that is not recognized or not allowed.
//
//	go run ./build/licenses [-texts DIR] >third_party/licenses.csv
//
// It decides by the license files beside the linked packages and above them, and trusts these files; it reads no source headers.
// The modules are those of a build for Linux without cgo, whatever machine it runs on.
package main

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

func main() {
	texts := flag.String("texts", "", "`directory` to copy the files into, one below it for each module")
	flag.Parse()
	modules, err := linked()
	if err == nil {
		err = run(modules, *texts, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "licenses:", strings.ReplaceAll(err.Error(), "\n", "\nlicenses: "))
		os.Exit(1)
	}
}

// run writes the list, and the texts unless that directory is "". An error names every module that has no allowed license.
func run(modules []module, texts string, list io.Writer) error {
	rows := [][]string{{"module", "licenses", "files"}}
	var problems []error
	for _, m := range modules {
		files, err := m.legalFiles()
		if err != nil {
			return err
		}
		ids, err := m.licenses(files)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		rows = append(rows, []string{m.path, strings.Join(ids, " AND "), strings.Join(files, " ")})
		if texts == "" {
			continue
		}
		if err := m.copyTo(filepath.Join(texts, filepath.FromSlash(m.path)), files); err != nil {
			return err
		}
	}
	if len(problems) > 0 {
		return errors.Join(problems...)
	}
	return csv.NewWriter(list).WriteAll(rows)
}

// linked returns the modules that extauthz is made of, its own included, sorted by path, and Go's standard library last.
func linked() ([]module, error) {
	list := exec.Command("go", "list", "-deps", "-json=Dir,Module", "./cmd/extauthz")
	list.Env = append(os.Environ(), "GOOS=linux", "GOARCH=amd64", "CGO_ENABLED=0")
	list.Stderr = os.Stderr
	out, err := list.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	packages, err := readPackages(string(out))
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	dir, err := goroot()
	if err != nil {
		return nil, err
	}
	return append(group(packages), module{path: "std", dir: dir, packages: []string{dir}}), nil
}

func goroot() (string, error) {
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOROOT: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// listed is what `go list -json` says of a package; Module is nil for the standard library.
type listed struct {
	Dir    string
	Module *struct{ Path, Dir string }
}

func readPackages(out string) ([]listed, error) {
	var list []listed
	for d := json.NewDecoder(strings.NewReader(out)); ; {
		var p listed
		switch err := d.Decode(&p); {
		case errors.Is(err, io.EOF):
			return list, nil
		case err != nil:
			return nil, err
		}
		list = append(list, p)
	}
}
