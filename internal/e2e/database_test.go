package e2e

import (
	"database/sql"
	"path/filepath"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib" // hand-written SQL in PostgreSQL
	_ "modernc.org/sqlite"             // and in SQLite

	"github.com/extauthz/extauthz/internal/extauthztest/pgtest"
)

// database is a store's database, reachable for hand-written SQL as well.
type database struct {
	driver, source string
	storeURL       string
}

func (d database) url() string { return d.storeURL }

func noStore() database { return database{storeURL: "none"} }

// exec runs hand-written SQL, past the product.
func (d database) exec(t *testing.T, statements ...string) {
	t.Helper()
	opened, err := sql.Open(d.driver, d.source)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = opened.Close() }()
	for _, statement := range statements {
		if _, err := opened.ExecContext(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

// texts returns the first column of a query.
func (d database) texts(t *testing.T, query string) []string {
	t.Helper()
	opened, err := sql.Open(d.driver, d.source)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = opened.Close() }()
	rows, err := opened.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	var list []string
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			t.Fatal(err)
		}
		list = append(list, text)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return list
}

// breakMappings makes every look-up of a mapping fail, as a botched schema change would.
func (d database) breakMappings(t *testing.T) {
	t.Helper()
	d.exec(t, "ALTER TABLE jwt_key_mappings RENAME TO gone")
}

// suppressMappings makes the database drop every new mapping without an error: to the program, the
// row of a concurrent winner that vanished at once.
func (d database) suppressMappings(t *testing.T) {
	t.Helper()
	if d.driver == "sqlite" {
		d.exec(t, "CREATE TRIGGER drop_mapping BEFORE INSERT ON jwt_key_mappings BEGIN SELECT RAISE(IGNORE); END")
		return
	}
	d.exec(t, "CREATE FUNCTION drop_mapping() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
		"CREATE TRIGGER drop_mapping BEFORE INSERT ON jwt_key_mappings FOR EACH ROW EXECUTE FUNCTION drop_mapping()")
}

// eachStore runs a test on a fresh PostgreSQL database and on a fresh SQLite file for each call of open.
func eachStore(t *testing.T, test func(t *testing.T, open func(*testing.T) database)) {
	t.Run("postgres", func(t *testing.T) {
		server := pgtest.Start(t)
		test(t, func(t *testing.T) database { return postgres(t, server) })
	})
	t.Run("sqlite", func(t *testing.T) {
		test(t, sqliteFile)
	})
}

func sqliteFile(t *testing.T) database {
	path := filepath.Join(t.TempDir(), "extauthz.db")
	return database{driver: "sqlite", source: "file:" + path + "?_pragma=busy_timeout(5000)", storeURL: "sqlite:" + path}
}

func postgres(t *testing.T, server *pgtest.Server) database {
	t.Helper()
	url := server.NewDatabase(t)
	return database{driver: "pgx", source: url, storeURL: url}
}
