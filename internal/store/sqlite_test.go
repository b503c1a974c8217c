package store_test

import (
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/extauthz/extauthz/internal/store"
	"github.com/extauthz/extauthz/internal/store/storetest"
)

// sqliteVersion is the version of its last migration.
const sqliteVersion = 1

func TestSQLite(t *testing.T) { storetest.Run(t, openSQLite, sqliteFeatures()) }

func sqliteFeatures() storetest.Features {
	return storetest.Features{
		SchemaVersion: sqliteVersion,
		Integers:      true,
		Character:     "char",
		Suppress: func(table string) []string {
			return []string{"CREATE TRIGGER suppress_" + table + " BEFORE INSERT ON " + table + " BEGIN SELECT RAISE(IGNORE); END"}
		},
		Unchecked: func(statement string) string {
			return "PRAGMA foreign_keys = OFF; " + statement + "; PRAGMA foreign_keys = ON"
		},
	}
}

func openSQLite(t *testing.T) storetest.Instance {
	path := filepath.Join(t.TempDir(), "odd name?#%20.db")
	s := open(t, store.Options{URL: "sqlite:" + path, Timeout: patience})
	name := "file:" + (&url.URL{Path: path}).EscapedPath() + "?_pragma=foreign_keys(1)&_pragma=busy_timeout(5000)"
	return storetest.Instance{Store: s, Raw: raw(t, "sqlite", name)}
}

func TestSQLiteFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "extauthz.db")
	first := open(t, store.Options{URL: "sqlite:" + path})
	second := open(t, store.Options{URL: "sqlite:" + path})
	if err := errors.Join(first.Ready(t.Context()), second.Ready(t.Context())); err != nil {
		t.Errorf("Ready: %v", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the file's mode is %v, want 0600", info.Mode().Perm())
	}
}

func TestSQLiteMigrate(t *testing.T) {
	testMigrate(t, func(t testing.TB) string { return "sqlite:" + filepath.Join(t.TempDir(), "extauthz.db") }, sqliteVersion)
	path := filepath.Join(t.TempDir(), "newer.db")
	open(t, store.Options{URL: "sqlite:" + path}).Close()
	db := raw(t, "sqlite", path)
	if _, err := db.ExecContext(t.Context(), "INSERT INTO extauthz_schema_version (version_id, is_applied) VALUES (99, 1)"); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(t.Context(), store.Options{URL: "sqlite:" + path}); !errors.Is(err, store.ErrSchema) {
		t.Errorf("Open of a newer file: %v, want ErrSchema", err)
	}
}
