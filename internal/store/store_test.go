package store_test

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/extauthz/extauthz/internal/store"
)

// patience is the timeout of stores that are expected to answer, on however slow a machine.
const patience = time.Minute

func open(t *testing.T, o store.Options) store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), o)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(s.Close)
	return s
}

func raw(t *testing.T, driver, name string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func TestOpenRefusesURLs(t *testing.T) {
	for _, url := range []string{
		"", "none", "sqlite:", "sqlite::memory:", "sqlite://x/hunter2", "mysql://u:hunter2@h/d", "Postgres://u:hunter2@h/d",
		"postgres://u:hunter2@h:port/d", "postgres://u:hunter2@h/d?sslmode=hunter2", "postgres://u:hunter2@[/d",
		"postgres://u:hunter2@h/d?default_query_exec_mode=simple_protocol", "host=h password=hunter2",
		"sqlite:" + filepath.Join(t.TempDir(), "missing", "hunter2.db"), "sqlite:" + t.TempDir(),
	} {
		s, err := store.Open(t.Context(), store.Options{URL: url})
		if err == nil || s != nil {
			t.Errorf("Open(%q) succeeds", url)
			continue
		}
		if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "\n") {
			t.Errorf("Open(%q): %v", url, err)
		}
		if _, _, err := store.Migrate(t.Context(), store.Options{URL: url}); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("Migrate(%q): %v", url, err)
		}
	}
	for _, o := range []store.Options{{Timeout: -1}, {MaxConnections: -1}, {MaxConnections: 10001}} {
		o.URL = "postgres://u:hunter2@127.0.0.1/d"
		if _, err := store.Open(t.Context(), o); err == nil {
			t.Errorf("Open with timeout %v and %d connections succeeds", o.Timeout, o.MaxConnections)
		}
	}
}

// testMigrate migrates one database twice, another one many times at once, and a newer one.
func testMigrate(t *testing.T, newDatabase func(testing.TB) string, version int64) {
	o := store.Options{URL: newDatabase(t)}
	for _, from := range []int64{0, version} {
		gotFrom, gotTo, err := store.Migrate(t.Context(), o)
		if gotFrom != from || gotTo != version || err != nil {
			t.Errorf("Migrate: from %d to %d, %v; want from %d to %d", gotFrom, gotTo, err, from, version)
		}
	}
	if err := open(t, o).Ready(t.Context()); err != nil {
		t.Errorf("Ready: %v", err)
	}
	o = store.Options{URL: newDatabase(t)}
	results := make(chan string)
	const migrations = 4
	for range migrations {
		go func() {
			from, to, err := store.Migrate(t.Context(), o)
			results <- fmt.Sprint(from, to, err)
		}()
	}
	count := map[string]int{}
	for range migrations {
		count[<-results]++
	}
	first, others := fmt.Sprint(0, version, error(nil)), fmt.Sprint(version, version, error(nil))
	if count[first] != 1 || count[others] != migrations-1 {
		t.Errorf("concurrent migrations: %v", count)
	}
	if err := open(t, o).Ready(t.Context()); err != nil {
		t.Errorf("Ready: %v", err)
	}
}
