package adversary

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/extauthz/extauthz/internal/extauthztest/pgtest"
	"github.com/extauthz/extauthz/internal/resource"
	"github.com/extauthz/extauthz/internal/store"
)

// TestMistakesStopTheStart: with a configuration that would leave a door open the server does not start, and one line says
// where the mistake is.
func TestMistakesStopTheStart(t *testing.T) {
	type end struct {
		code   int
		stderr string
	}
	ends := make([]end, len(mistakes()))
	places, running := make(chan struct{}, 4), sync.WaitGroup{}
	for n, m := range mistakes() {
		places <- struct{}{}
		running.Go(func() {
			defer func() { <-places }()
			code, stderr := serveUntilItEnds(t, m.Text)
			ends[n] = end{code, stderr}
		})
	}
	running.Wait()
	line := regexp.MustCompile(`^extauthz: extauthz\.yaml:\d+:\d+: [^\n]+\n$`)
	built := regexp.MustCompile(`ca_file|keyset`) // found where the file's meaning is built: the key is named, not the place
	for n, m := range mistakes() {
		t.Run(m.Name, func(t *testing.T) {
			got := ends[n]
			if got.code != 2 || !strings.Contains(got.stderr, m.Says) || !line.MatchString(got.stderr) && !built.MatchString(got.stderr) {
				t.Errorf("exit code %d (%s)\n%s", got.code, m.Basis, got.stderr)
			}
			if strings.Contains(got.stderr, "hunter2") || strings.Count(got.stderr, "\n") != 1 {
				t.Errorf("a password, or more than a line: %s", got.stderr)
			}
		})
	}
}

// serveUntilItEnds starts the server with a configuration file. One that does not end is ended, with code -1.
func serveUntilItEnds(t *testing.T, config string) (code int, stderr string) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "extauthz.yaml"), []byte(config), 0o600); err != nil {
		t.Error(err)
		return 0, ""
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var text strings.Builder
	command := exec.CommandContext(ctx, binary, "serve")
	command.Dir, command.Stderr = dir, &text
	command.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	_ = command.Run() // how it ended is looked at
	return command.ProcessState.ExitCode(), text.String()
}

// eachStore calls test with an open, migrated store of each kind.
func eachStore(t *testing.T, test func(t *testing.T, d database, s store.Store)) {
	pg := pgtest.Start(t)
	for name, d := range map[string]database{"postgres": newPostgres(t, pg), "sqlite": newSQLite(t)} {
		t.Run(name, func(t *testing.T) {
			options := store.Options{URL: d.url, Timeout: 10 * time.Second}
			if _, _, err := store.Migrate(t.Context(), options); err != nil {
				t.Fatal(err)
			}
			s, err := store.Open(t.Context(), options)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			test(t, d, s)
		})
	}
}

// TestRefusedRows: resources that would mean two things are refused whole, with their line.
func TestRefusedRows(t *testing.T) {
	line := regexp.MustCompile(`^resources\.yaml:\d+:\d+: [^\n]+$`)
	eachStore(t, func(t *testing.T, _ database, s store.Store) {
		for _, r := range refusedRows() {
			t.Run(r.Name, func(t *testing.T) {
				set, places, err := resource.Parse("resources.yaml", []byte(r.Text))
				if err == nil {
					if err = s.Apply(t.Context(), set); err != nil {
						err = places.Locate(err)
					}
				}
				if err == nil || !line.MatchString(err.Error()) || !strings.Contains(err.Error(), r.Says) {
					t.Errorf("%s: %v", r.Basis, err)
				}
				if left, err := s.Export(t.Context()); err != nil || len(left.Keys)+len(left.Teams)+len(left.Mappings) != 0 {
					t.Errorf("a part of it was applied: %+v, %v", left, err)
				}
			})
		}
	})
}

// TestRefusedStatements: the database itself keeps what hand-written SQL must not break.
func TestRefusedStatements(t *testing.T) {
	const rows = "keys: [{alias: k, hash: 0000000000000000000000000000000000000000000000000000000000000001}]\nmappings: [{claim: c, value: mapped, key: k}]\n"
	eachStore(t, func(t *testing.T, d database, s store.Store) {
		set, _, err := resource.Parse("resources.yaml", []byte(rows))
		if err := errors.Join(err, s.Apply(t.Context(), set)); err != nil {
			t.Fatal(err)
		}
		for _, r := range refusedStatements() {
			t.Run(r.Name, func(t *testing.T) {
				statement := r.Text
				if d.pg == nil {
					statement = strings.ReplaceAll(statement, "chr(", "char(")
				}
				if err := d.exec(t, foreignKeys(d), statement); err == nil {
					t.Errorf("%s: the database took it: %s", r.Basis, statement)
				}
			})
		}
	})
}

// foreignKeys turns them on, which SQLite leaves to each connection.
func foreignKeys(d database) string {
	if d.pg == nil {
		return "PRAGMA foreign_keys = on"
	}
	return "SELECT" // PostgreSQL always has them on
}
