// Package sqlite is the embedded store: one file, no server, one machine.
//
// All writes go through one connection, one at a time; readers see the last committed state and
// wait for nobody (WAL). Its errors carry SQLite's result code and a fixed text, never the path or
// a row's values.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	_ "modernc.org/sqlite" // the driver of the name "sqlite"

	"github.com/extauthz/extauthz/internal/store/rows"
)

// Options say which file to use; package store documents and checks them.
type Options struct {
	Path           string
	Timeout        time.Duration // > 0
	MaxConnections int           // readers; 0: 4
}

// Store is a SQLite store. Its methods are safe for concurrent use.
type Store struct {
	writer  *sql.DB // one connection: a second writer would only wait inside SQLite
	readers *sql.DB
	timeout time.Duration
}

// busyMillis is how long a statement waits for another process that writes; the call's deadline
// ends the wait earlier.
const busyMillis = 5000

// busyPause is how long a switch to WAL that was refused waits until it is tried again.
const busyPause = 5 * time.Millisecond

// defaultReaders is the size of the readers' pool when the options leave it open.
const defaultReaders = 4

// Open creates the file if there is none, brings it to the schema of this binary and opens it. The
// folder must exist. A file of a newer schema is an [rows.ErrSchema].
func Open(ctx context.Context, o Options) (*Store, error) {
	writer, err := openWriter(ctx, o.Path)
	if err != nil {
		return nil, err
	}
	if _, _, err := migrate(ctx, writer); err != nil {
		_ = writer.Close()
		return nil, err
	}
	readers, err := sql.Open("sqlite", dsn(o.Path, "&_pragma=query_only(1)"))
	if err != nil {
		_ = writer.Close()
		return nil, translate(ctx, "open", err)
	}
	connections := o.MaxConnections
	if connections == 0 {
		connections = defaultReaders
	}
	readers.SetMaxOpenConns(connections)
	readers.SetMaxIdleConns(connections)
	return &Store{writer: writer, readers: readers, timeout: o.Timeout}, nil
}

// openWriter opens the one connection that writes. Its transactions take the write lock when they
// begin: what they read first is still true when they write.
func openWriter(ctx context.Context, path string) (*sql.DB, error) {
	if err := create(path); err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite", dsn(path, "&_txlock=immediate"))
	if err != nil {
		return nil, translate(ctx, "open", err)
	}
	db.SetMaxOpenConns(1)
	if err := useWAL(ctx, db); err != nil {
		_ = db.Close()
		return nil, translate(ctx, "open", err)
	}
	return db, nil
}

// useWAL switches a file to WAL, in which it stays. SQLite does not wait for the lock that this takes,
// whatever busy_timeout says: it has read the file by then, and two that read and wait for each other
// would wait for ever. So two processes that open a new file at once refuse each other, and try again.
func useWAL(ctx context.Context, db *sql.DB) error {
	patience := time.After(busyMillis * time.Millisecond)
	for {
		_, err := db.ExecContext(ctx, "PRAGMA journal_mode = WAL")
		if !isBusy(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-patience:
			return err
		case <-time.After(busyPause):
		}
	}
}

// create makes a missing file readable by its owner alone (SQLite would use the umask; its
// side files take after the file). An existing one is not opened here: closing it would drop the locks
// that another store of this process holds on it.
func create(path string) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err == nil {
		return file.Close()
	}
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	var cause *fs.PathError
	if errors.As(err, &cause) {
		err = cause.Err // without the path
	}
	return fmt.Errorf("sqlite: open: %w", err)
}

// dsn names the file as a URI, in which a path may hold any character.
func dsn(path, options string) string {
	path = filepath.ToSlash(filepath.Clean(path))
	name := "file:" + (&url.URL{Path: path}).EscapedPath()
	return fmt.Sprintf("%s?_pragma=busy_timeout(%d)&_pragma=foreign_keys(1)%s", name, busyMillis, options)
}

// Close closes the file.
func (s *Store) Close() {
	_ = s.readers.Close()
	_ = s.writer.Close()
}

// Ready returns nil if the file can be read and has the schema this binary needs.
func (s *Store) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	var have int64
	query := "SELECT COALESCE(max(version_id), 0) FROM " + versionTable
	if err := s.readers.QueryRowContext(ctx, query).Scan(&have); err != nil {
		return translate(ctx, "ready", err)
	}
	return rows.CheckVersion(have, schemaVersion)
}

// inTx runs do in a transaction of db and commits it if do returns nil.
func inTx(ctx context.Context, db *sql.DB, op string, do func(*sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return translate(ctx, op, err)
	}
	if err := do(tx); err != nil {
		_ = tx.Rollback() // also done by the driver if ctx has ended
		return translate(ctx, op, err)
	}
	return translate(ctx, op, tx.Commit())
}
