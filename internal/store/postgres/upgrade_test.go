package postgres

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/extauthz/extauthz/internal/extauthztest/pgtest"
	"github.com/extauthz/extauthz/internal/store/rows"
	"github.com/extauthz/extauthz/pkg/keys"
	"github.com/extauthz/extauthz/pkg/mapping"
)

// firstExpanding is the first migration that must leave the binaries of the version before it working.
const firstExpanding = 3

// breaking is what a migration must not do while older binaries run, or while rows are many.
var breaking = map[string]*regexp.Regexp{
	"drops or renames what older binaries use":                                 regexp.MustCompile(`(?i)\b(DROP\s+(TABLE|COLUMN|FUNCTION|INDEX|TRIGGER|CONSTRAINT)|RENAME)\b`),
	"rewrites or scans a table":                                                regexp.MustCompile(`(?i)\b(TYPE\s+\w+\s+USING|SET\s+DATA\s+TYPE|ALTER\s+COLUMN\s+\w+\s+TYPE|SET\s+NOT\s+NULL|CLUSTER|VACUUM\s+FULL)\b`),
	"adds a column that older binaries must fill, or a rule without NOT VALID": regexp.MustCompile(`(?i)\bADD\s+(CONSTRAINT\s+\w+\s+)?(CHECK|FOREIGN)\b|\bADD\s+COLUMN\s+[^;]*\bNOT\s+NULL\b`),
	"builds an index under a lock":                                             regexp.MustCompile(`(?i)\bCREATE\s+(UNIQUE\s+)?INDEX\s+\w+`),
}

// TestMigrationRules reads each migration that runs while older binaries serve.
func TestMigrationRules(t *testing.T) {
	files, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil || len(files) != schemaVersion {
		t.Fatalf("%d migrations, want %d: %v", len(files), schemaVersion, err)
	}
	for n, file := range files {
		version := n + 1
		data, err := migrations.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(file, fmt.Sprintf("migrations/%04d_", version)) {
			t.Errorf("%s: must be version %d", file, version)
		}
		if version >= firstExpanding {
			for _, complaint := range complaints(version, string(data)) {
				t.Errorf("%s: %s", file, complaint)
			}
		}
	}
}

var comment = regexp.MustCompile(`(?m)--.*$`)

// complaints are the rules that a migration breaks.
func complaints(version int, text string) (list []string) {
	statements := comment.ReplaceAllString(text, "")
	for what, pattern := range breaking {
		if found := pattern.FindString(statements); found != "" && !strings.Contains(found, "CONCURRENTLY") {
			list = append(list, fmt.Sprintf("%s: %q", what, found))
		}
	}
	if !strings.Contains(statements, "SET LOCAL lock_timeout = '") {
		list = append(list, "must set lock_timeout: who waits for a lock makes everybody wait")
	}
	if !strings.Contains(statements, "SELECT "+strconv.Itoa(version)+"::bigint, ") {
		list = append(list, "must say in extauthz_schema_window which version it is and which is the oldest that may use it")
	}
	if strings.Contains(text, "+goose Down") {
		list = append(list, "there is no way back")
	}
	return list
}

// TestMigrationRulesFind shows that each rule can be broken.
func TestMigrationRulesFind(t *testing.T) {
	const good = "SET LOCAL lock_timeout = '2s';\nSELECT 9::bigint, 8::bigint;\n"
	if list := complaints(9, good+"CREATE TABLE x (id text); ALTER TABLE x ADD COLUMN y text; -- DROP TABLE x"); len(list) != 0 {
		t.Errorf("complaints of what is allowed: %q", list)
	}
	for _, bad := range []string{
		"DROP TABLE x;", "alter table x drop column y;", "ALTER TABLE x RENAME TO y;", "ALTER TABLE x ALTER COLUMN y TYPE bigint;",
		"ALTER TABLE x ALTER COLUMN y SET NOT NULL;", "ALTER TABLE x ADD COLUMN y text NOT NULL;", "ALTER TABLE x ADD CHECK (y > 0);",
		"ALTER TABLE x ADD CONSTRAINT c CHECK (y > 0);", "CREATE INDEX i ON x (y);", "CREATE UNIQUE INDEX i ON x (y);", "DROP FUNCTION f;", "-- +goose Down\n",
	} {
		if len(complaints(9, good+bad)) != 1 {
			t.Errorf("%q is allowed: %q", bad, complaints(9, good+bad))
		}
	}
	if len(complaints(9, "")) != 2 {
		t.Error("neither a lock_timeout nor a window is asked for")
	}
}

var update = flag.Bool("update", false, "write the statements of this schema version")

// TestStatements keeps what this version asks for, so that the next one can be tested with it.
func TestStatements(t *testing.T) {
	var text strings.Builder
	fmt.Fprintf(&text, "-- What the binaries of schema version %d ask the database for.\n", schemaVersion)
	for _, s := range [][2]string{
		{"lockTeams", lockTeams}, {"lockAdvisory", lockAdvisory}, {"registerKeys", registerKeys}, {"countKeys", countKeys}, {"insertKey", insertKey},
		{"lockKey", lockKey}, {"pointMapping", pointMapping}, {"takeSpend", takeSpend}, {"blockKey", blockKey},
		{"selectMapped", selectMapped}, {"selectOwnMapping", selectOwnMapping}, {"selectKey", selectKey}, {"selectTeam", selectTeam},
		{"selectTeamAlong", selectTeamAlong},
		{"selectOrganization", selectOrganization}, {"selectUser", selectUser}, {"selectTeamByAlias", selectTeamByAlias},
		{"selectOrganizationByAlias", selectOrganizationByAlias}, {"selectMember", selectMember}, {"touchKey", touchKey},
		{"selectCensus", selectCensus}, {"insertTeam", insertTeam}, {"putOrganization", putOrganization}, {"putTeam", putTeam},
		{"putUser", putUser}, {"putKey", putKey}, {"putMapping", putMapping}, {"aliasHolders", aliasHolders}, {"releaseAlias", releaseAlias},
		{"dropMembers", dropMembers}, {"addMembers", addMembers}, {"allOrganizations", allOrganizations}, {"allTeams", allTeams},
		{"allUsers", allUsers}, {"allKeys", allKeys}, {"allMappings", allMappings},
	} {
		fmt.Fprintf(&text, "\n-- name: %s\n%s\n", s[0], s[1])
	}
	file := fmt.Sprintf("testdata/statements-%d.sql", schemaVersion)
	if *update {
		if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if kept, err := os.ReadFile(file); err != nil || string(kept) != text.String() {
		t.Errorf("%s is not what is asked for (%v): run this test with -update", file, err)
	}
}

// statements reads what the binaries of a schema version ask for, by name.
func statements(t *testing.T, version int) map[string]string {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("testdata/statements-%d.sql", version))
	if err != nil {
		t.Fatal(err)
	}
	list := map[string]string{}
	for _, part := range strings.Split(string(data), "\n-- name: ")[1:] {
		name, statement, _ := strings.Cut(part, "\n")
		list[name] = strings.TrimSpace(statement)
	}
	return list
}

func migrateTo(t *testing.T, url string, version int64) {
	t.Helper()
	config, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	db := stdlib.OpenDB(*config)
	defer func() { _ = db.Close() }()
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		t.Fatal(err)
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, db, files, goose.WithDisableGlobalRegistry(true), goose.WithTableName(versionTable))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := provider.UpTo(t.Context(), version); err != nil {
		t.Fatal(err)
	}
}

func openTest(t *testing.T, url string) *Store {
	t.Helper()
	s, err := Open(t.Context(), Options{URL: url, Timeout: 20 * time.Second, MaxConnections: 6})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// TestUpgrade migrates a database under the binaries of the version before, by several replicas at once, and lets both
// versions write: nobody fails, and nothing is lost.
func TestUpgrade(t *testing.T) {
	url := pgtest.Start(t).NewDatabase(t)
	migrateTo(t, url, schemaVersion-1)
	s := openTest(t, url)
	var schema *rows.SchemaError
	if err := s.Ready(t.Context()); !errors.As(err, &schema) || schema.Have != schemaVersion-1 {
		t.Fatalf("Ready before the migration: %v, want a SchemaError", err)
	}
	old := &previous{statements: statements(t, schemaVersion-1), pool: openTest(t, url).pool}
	if _, err := old.pool.Exec(t.Context(), "INSERT INTO teams (id) VALUES ('team-a')"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var writers, migrating sync.WaitGroup
	for range 3 {
		writers.Go(func() { old.write(ctx, t) })
	}
	for range 3 {
		migrating.Go(func() {
			if _, to, err := Migrate(t.Context(), url); to != schemaVersion || err != nil {
				t.Errorf("Migrate: to %d, %v", to, err)
			}
		})
	}
	migrating.Wait()
	if err := s.Ready(t.Context()); err != nil {
		t.Errorf("Ready after the migration: %v", err)
	}
	before := old.written.Load()
	for n := range 50 {
		id := keys.Generate().ID()
		subject := mapping.Subject{Issuer: "https://idp", Claim: "sub", Value: fmt.Sprint("new-", n)}
		if _, _, err := s.Register(t.Context(), subject, &keys.Key{ID: id, TeamID: "team-a", AutoRegistered: true}, 1_000_000); err != nil {
			t.Errorf("Register beside the previous version: %v", err)
		}
	}
	for deadline := time.Now().Add(20 * time.Second); old.written.Load() < before+5 && time.Now().Before(deadline); {
		old.one(t)
	}
	cancel()
	writers.Wait()
	var mappings, orphans int64
	if err := s.pool.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM jwt_key_mappings),
		(SELECT count(*) FROM virtual_keys WHERE id NOT IN (SELECT key_id FROM jwt_key_mappings))`).Scan(&mappings, &orphans); err != nil {
		t.Fatal(err)
	}
	if want := old.written.Load() + 50; mappings != want || orphans != 0 {
		t.Errorf("%d mappings and %d keys without one, want %d and 0", mappings, orphans, want)
	}
	for name, statement := range old.statements {
		if _, err := old.pool.Exec(t.Context(), "PREPARE "+name+" AS "+statement); err != nil {
			t.Errorf("the previous version's %s: %v", name, err)
		}
	}
}

// previous registers as the binaries of schema version 2 do.
type previous struct {
	statements map[string]string
	pool       *pgxpool.Pool
	written    atomic.Int64
	last       atomic.Int64
}

func (p *previous) write(ctx context.Context, t *testing.T) {
	for ctx.Err() == nil {
		p.one(t)
	}
}

// one registers a client to the end: of a commit that is given up nobody knows whether it counts.
func (p *previous) one(t *testing.T) {
	ctx := t.Context()
	n, id := p.last.Add(1), keys.Generate().ID()
	key := &keys.Key{ID: id, TeamID: "team-a", AutoRegistered: true}
	err := pgx.BeginFunc(ctx, p.pool, func(tx pgx.Tx) error {
		_, locked := tx.Exec(ctx, p.statements["lockTeam"], "team-a")
		var count int
		counted := tx.QueryRow(ctx, p.statements["countKeys"], "team-a", 1000).Scan(&count)
		_, inserted := tx.Exec(ctx, p.statements["insertKey"], keyArguments(key)...)
		_, mapped := tx.Exec(ctx, p.statements["insertMapping"], "https://idp", "sub", fmt.Sprint("old-", n), id)
		return cmp.Or(locked, counted, inserted, mapped)
	})
	if err != nil {
		t.Errorf("a registration of the previous version: %v", err)
		return
	}
	p.written.Add(1)
}

// TestMigrationDoesNotWait: a migration that cannot have a lock gives up, changes nothing, and can be run again.
func TestMigrationDoesNotWait(t *testing.T) {
	url := pgtest.Start(t).NewDatabase(t)
	migrateTo(t, url, schemaVersion-1)
	pool := openTest(t, url).pool
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "LOCK TABLE virtual_keys IN ROW EXCLUSIVE MODE"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Migrate(t.Context(), url); err == nil || !strings.Contains(err.Error(), "SQLSTATE 55P03: canceling statement due to lock timeout") {
		t.Errorf("Migrate while a writer holds the table: %v", err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if from, to, err := Migrate(t.Context(), url); from != schemaVersion-1 || to != schemaVersion || err != nil {
		t.Errorf("Migrate afterwards: from %d to %d, %v", from, to, err)
	}
}

// TestNewerSchema: a database of a later version is used only if it says of itself that this binary may.
func TestNewerSchema(t *testing.T) {
	url := pgtest.Start(t).NewDatabase(t)
	if _, _, err := Migrate(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	s := openTest(t, url)
	execute := func(statement string, args ...any) {
		t.Helper()
		if _, err := s.pool.Exec(t.Context(), fmt.Sprintf(statement, args...)); err != nil {
			t.Fatal(err)
		}
	}
	execute("INSERT INTO "+versionTable+" (version_id, is_applied) VALUES (%d, true)", schemaVersion+2)
	for _, window := range []struct {
		version, oldest int
		ready           bool
	}{
		{schemaVersion + 2, schemaVersion, true}, {schemaVersion + 2, schemaVersion - 1, true},
		{schemaVersion + 2, schemaVersion + 1, false}, {schemaVersion + 1, schemaVersion, false}, {schemaVersion, 2, false},
	} {
		execute("CREATE OR REPLACE FUNCTION extauthz_schema_window(OUT version bigint, OUT oldest bigint) LANGUAGE sql AS 'SELECT %d::bigint, %d::bigint'",
			window.version, window.oldest)
		err := s.Ready(t.Context())
		if (err == nil) != window.ready || err != nil && !errors.Is(err, rows.ErrSchema) {
			t.Errorf("window %+v: %v", window, err)
		}
	}
	execute("DROP FUNCTION extauthz_schema_window")
	if err := s.Ready(t.Context()); !errors.Is(err, rows.ErrSchema) {
		t.Errorf("without a window: %v, want ErrSchema", err)
	}
}
