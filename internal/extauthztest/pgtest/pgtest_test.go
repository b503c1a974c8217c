package pgtest_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/extauthz/extauthz/internal/extauthztest/pgtest"
)

// orphan makes this test binary start a server, print its URL and wait to be killed.
const orphan = "PGTEST_ORPHAN"

func TestServer(t *testing.T) {
	server := pgtest.Start(t)
	template := server.NewTemplate(t, func(url string) error { return execute(url, "CREATE TABLE seen (n int)") })
	url := template.NewDatabase(t)
	if other := template.NewDatabase(t); other == url {
		t.Fatalf("two databases have one url")
	}
	if err := execute(url, "INSERT INTO seen VALUES (1)"); err != nil {
		t.Fatalf("the copy lacks the template's table: %v", err)
	}
	server.Stop(t)
	if err := execute(url, "SELECT 1"); err == nil {
		t.Error("a stopped server answers")
	}
	server.Start(t)
	if err := execute(url, "INSERT INTO seen VALUES (2)"); err != nil {
		t.Errorf("the restarted server: %v", err)
	}
	server.Restart(t)
	if err := execute(url, "INSERT INTO seen VALUES (3)"); err != nil {
		t.Errorf("the restarted server: %v", err)
	}
}

// A killed server loses no commit, and a frozen one answers when it is thawed.
func TestServerFails(t *testing.T) {
	server := pgtest.Start(t, pgtest.Durable)
	url := server.NewDatabase(t)
	if err := execute(url, "CREATE TABLE seen (n int)"); err != nil {
		t.Fatal(err)
	}
	for n := range 20 {
		if err := execute(url, fmt.Sprintf("INSERT INTO seen VALUES (%d)", n)); err != nil {
			t.Fatal(err)
		}
	}
	server.Kill(t)
	if err := execute(url, "SELECT 1"); err == nil {
		t.Error("a killed server answers")
	}
	server.Start(t)
	if err := execute(url, "SELECT 1 / (count(*) / 20)::int FROM seen"); err != nil {
		t.Errorf("rows were lost: %v", err)
	}
	server.Freeze(t)
	answered := make(chan error, 1)
	go func() { answered <- execute(url, "SELECT 1") }()
	select {
	case err := <-answered:
		t.Errorf("a frozen server answers: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	server.Thaw(t)
	if err := <-answered; err != nil {
		t.Errorf("a thawed server: %v", err)
	}
}

// TestServerDiesWithItsTest kills a process that runs a server, and finds the server gone.
func TestServerDiesWithItsTest(t *testing.T) {
	if os.Getenv(orphan) != "" {
		runOrphan(t)
		return
	}
	folder := orphanFolder(t)
	cmd := exec.Command(os.Args[0], "-test.run", "^TestServerDiesWithItsTest$")
	cmd.Env = append(os.Environ(), orphan+"=1", "TMPDIR="+folder)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	lines.Scan()
	url := lines.Text()
	if err := execute(url, "SELECT 1"); err != nil {
		t.Fatalf("the server of the other process: %v", err)
	}
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	// The connection ends with its server: nothing to poll for.
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := conn.WaitForNotification(ctx); err == nil || ctx.Err() != nil {
		t.Errorf("the server outlived its test: %v", err)
	}
	_ = cmd.Wait()
}

// orphanFolder is where the other process, which cannot clean up, has its server's files. The server may
// still be closing them when it is removed.
func orphanFolder(t *testing.T) string {
	folder, err := os.MkdirTemp("", "pgtest")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for started := time.Now(); os.RemoveAll(folder) != nil; {
			if time.Since(started) > 10*time.Second {
				t.Errorf("cannot remove %s", folder)
				return
			}
		}
	})
	if err := os.Chmod(folder, 0o711); err != nil { // postgres runs as another user
		t.Fatal(err)
	}
	return folder
}

func runOrphan(t *testing.T) {
	server := pgtest.Start(t)
	url := server.NewDatabase(t)
	_, _ = os.Stdout.WriteString(strings.TrimSpace(url) + "\n")
	<-t.Context().Done()
}

func execute(url, statement string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, statement)
	return err
}
