package sqlite

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// opener is the variable that makes the test binary a process which opens files.
const opener = "EXTAUTHZ_TEST_OPENER"

func TestMain(m *testing.M) {
	if os.Getenv(opener) != "" {
		openEach(os.Stdin, os.Stdout)
		return
	}
	os.Exit(m.Run())
}

// openEach opens each file that it is told of, says what came of it, and keeps the file open.
func openEach(in io.Reader, out io.Writer) {
	for lines := bufio.NewScanner(in); lines.Scan(); {
		_, err := openWriter(context.Background(), lines.Text())
		_, _ = fmt.Fprintln(out, err)
	}
}

// process is another process that opens files when it is told to.
type process struct {
	files io.WriteCloser
	said  *bufio.Scanner
}

func start(t *testing.T) process {
	t.Helper()
	command := exec.Command(os.Args[0]) // it ends with its input
	command.Env = append(os.Environ(), opener+"=1")
	command.Stderr = os.Stderr
	files, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	said, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = files.Close()
		if err := command.Wait(); err != nil {
			t.Errorf("the process that opens files: %v", err)
		}
	})
	return process{files, bufio.NewScanner(said)}
}

// Several processes open one new file at the same instant, many times.
func TestOpenAtOnce(t *testing.T) {
	t.Parallel()
	var processes []process
	for range 4 {
		processes = append(processes, start(t))
	}
	dir := t.TempDir()
	for round := range 150 {
		path := filepath.Join(dir, fmt.Sprint(round, ".db"))
		for _, p := range processes {
			if _, err := fmt.Fprintln(p.files, path); err != nil {
				t.Fatal(err)
			}
		}
		for _, p := range processes {
			if !p.said.Scan() || p.said.Text() != "<nil>" {
				t.Errorf("round %d: %s", round, p.said.Text())
			}
		}
	}
}

// A file that somebody writes cannot be switched to WAL: opening it waits as long as it may, and succeeds
// once the file is free.
func TestOpenWaits(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "old.db")
	other, err := sql.Open("sqlite", dsn(path, "&_txlock=immediate"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	writing, err := other.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := openWriter(ctx, path); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a file in use: %v, want it to wait", err)
	}
	if _, err := openWriter(t.Context(), path); err == nil || !strings.Contains(err.Error(), "SQLITE_BUSY") {
		t.Errorf("a file that stays in use: %v, want SQLITE_BUSY", err)
	}
	if err := writing.Rollback(); err != nil {
		t.Fatal(err)
	}
	db, err := openWriter(t.Context(), path)
	if err != nil {
		t.Fatalf("a file that is free again: %v", err)
	}
	defer func() { _ = db.Close() }()
	var mode string
	if err := db.QueryRowContext(t.Context(), "PRAGMA journal_mode").Scan(&mode); err != nil || mode != "wal" {
		t.Errorf("the journal mode is %q, %v", mode, err)
	}
}
