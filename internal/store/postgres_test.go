package store_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // for Raw

	"github.com/extauthz/extauthz/internal/extauthztest/pgtest"
	"github.com/extauthz/extauthz/internal/store"
	"github.com/extauthz/extauthz/internal/store/storetest"
	"github.com/extauthz/extauthz/pkg/teams"
)

// postgresVersion is the version of its last migration.
const postgresVersion = 3

// TestPostgres shares one server; every test has its own database.
func TestPostgres(t *testing.T) {
	server := pgtest.Start(t)
	template := server.NewTemplate(t, func(url string) error {
		_, _, err := store.Migrate(t.Context(), store.Options{URL: url})
		return err
	})
	t.Run("Conformance", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) storetest.Instance {
			url := template.NewDatabase(t)
			return storetest.Instance{
				Store: open(t, store.Options{URL: url, Timeout: patience, MaxConnections: 12}), Raw: raw(t, "pgx", url),
			}
		}, storetest.Features{
			SchemaVersion: postgresVersion, Character: "chr", ChecksElements: true, ConcurrentWriters: true, TellsRows: true, KeyAlong: true,
			Unchecked: func(statement string) string {
				return "BEGIN; SET LOCAL session_replication_role = replica; " + statement + "; COMMIT"
			},
			Suppress: func(table string) []string {
				return []string{
					"CREATE OR REPLACE FUNCTION suppress() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
					"CREATE TRIGGER suppress BEFORE INSERT ON " + table + " FOR EACH ROW EXECUTE FUNCTION suppress()",
				}
			},
		})
	})
	t.Run("Migrate", func(t *testing.T) { testMigrate(t, server.NewDatabase, postgresVersion) })
	t.Run("EmptyDatabase", func(t *testing.T) { testEmptyDatabase(t, server) })
	t.Run("OtherEncoding", func(t *testing.T) { testOtherEncoding(t, server) })
	t.Run("ServersText", func(t *testing.T) { testServersText(t, template) })
	t.Run("NoSuchDatabase", func(t *testing.T) { testNoSuchDatabase(t, server) })
	t.Run("BlackHole", testBlackHole)
	t.Run("Trips", func(t *testing.T) { testTrips(t, template) })
	t.Run("Watch", func(t *testing.T) { testWatch(t, template) })
	t.Run("Outage", func(t *testing.T) { testOutage(t, server, template) })
}

func testEmptyDatabase(t *testing.T, server *pgtest.Server) {
	url := server.NewDatabase(t)
	s := open(t, store.Options{URL: url, Timeout: patience})
	err := s.Ready(t.Context())
	var schema *store.SchemaError
	if !errors.As(err, &schema) || !errors.Is(err, store.ErrSchema) || schema.Have != 0 {
		t.Fatalf("Ready: %v, want ErrSchema", err)
	}
	if want := "the database schema is at version 0, this binary needs 3: run `extauthz migrate`"; err.Error() != want {
		t.Errorf("Ready: %s, want %s", err, want)
	}
	if _, err := s.Team(t.Context(), "x"); err == nil || errors.Is(err, teams.ErrNotFound) || !strings.Contains(err.Error(), "SQLSTATE 42P01") {
		t.Errorf("Team without a table: %v", err)
	}
	if _, _, err := store.Migrate(t.Context(), store.Options{URL: url}); err != nil {
		t.Fatal(err)
	}
	if err := s.Ready(t.Context()); err != nil {
		t.Errorf("Ready after the migration: %v", err)
	}
	if _, err := raw(t, "pgx", url).ExecContext(t.Context(), "INSERT INTO extauthz_schema_version (version_id, is_applied) VALUES (4, true)"); err != nil {
		t.Fatal(err)
	}
	if from, to, err := store.Migrate(t.Context(), store.Options{URL: url}); !errors.Is(err, store.ErrSchema) || from != 4 || to != 4 {
		t.Errorf("Migrate of a newer database: %d, %d, %v; want ErrSchema", from, to, err)
	}
}

func testOtherEncoding(t *testing.T, server *pgtest.Server) {
	url := server.NewDatabase(t)
	if _, err := raw(t, "pgx", url).ExecContext(t.Context(), "CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1'"); err != nil {
		t.Fatal(err)
	}
	latin := strings.Replace(url, "/test_", "/latin?application_name=", 1)
	latin = strings.Replace(latin, "?sslmode", "&sslmode", 1)
	if _, _, err := store.Migrate(t.Context(), store.Options{URL: latin}); err == nil || !strings.Contains(err.Error(), "UTF8") {
		t.Errorf("Migrate of a LATIN1 database: %v", err)
	}
}

// testServersText lets the server raise errors whose text or detail holds values.
func testServersText(t *testing.T, template *pgtest.Template) {
	url := template.NewDatabase(t)
	s := open(t, store.Options{URL: url, Timeout: patience})
	db := raw(t, "pgx", url)
	for _, body := range []string{
		`BEGIN RAISE EXCEPTION 'row % of tenant-secret', NEW USING DETAIL = 'tenant-secret', HINT = 'tenant-secret'; END`,
		`BEGIN PERFORM 'tenant-secret'::int; RETURN NEW; END`,
		`BEGIN RAISE EXCEPTION USING ERRCODE = '23505', DETAIL = 'tenant-secret', MESSAGE = 'tenant-secret'; END`,
		`BEGIN RAISE EXCEPTION USING ERRCODE = '57014', DETAIL = 'tenant-secret', MESSAGE = 'tenant-secret'; END`,
	} {
		for _, statement := range []string{
			"CREATE OR REPLACE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $body$ " + body + " $body$",
			"CREATE OR REPLACE TRIGGER fail BEFORE INSERT ON teams FOR EACH ROW EXECUTE FUNCTION fail()",
		} {
			if _, err := db.ExecContext(t.Context(), statement); err != nil {
				t.Fatal(err)
			}
		}
		err := s.Apply(t.Context(), storetest.OneTeam("tenant-secret-id"))
		if err == nil || strings.Contains(err.Error(), "tenant-secret") {
			t.Errorf("Apply: %v", err)
		}
	}
}

func testNoSuchDatabase(t *testing.T, server *pgtest.Server) {
	url := strings.Replace(server.NewDatabase(t), "/test_", "/gone_", 1)
	s := open(t, store.Options{URL: url, Timeout: patience})
	storetest.CheckUnavailable(t, s, patience, "hunter2", "127.0.0.1", "gone_", "postgres:hunter2")
	_, _, err := store.Migrate(t.Context(), store.Options{URL: url})
	if err == nil || !strings.Contains(err.Error(), "SQLSTATE 3D000: the database does not exist") {
		t.Errorf("Migrate: %v", err)
	}
}

// testBlackHole connects to a server that accepts and never answers: calls end with their timeout.
func testBlackHole(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	url := "postgres://u:hunter2@" + listener.Addr().String() + "/d?sslmode=disable"
	s := open(t, store.Options{URL: url, Timeout: 200 * time.Millisecond})
	began := time.Now()
	for range 8 { // more calls than connections
		if _, err := s.Team(t.Context(), "x"); !errors.Is(err, context.DeadlineExceeded) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("Team: %v, want a DeadlineExceeded", err)
		}
	}
	if err := s.Ready(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Ready: %v, want a DeadlineExceeded", err)
	}
	if took := time.Since(began); took > 9*time.Second {
		t.Errorf("nine calls of 200 ms took %v", took)
	}
	storetest.CheckUnavailable(t, s, 300*time.Millisecond, "hunter2", "127.0.0.1")
}

// testOutage stops the server under a store that is in use, and starts it again.
func testOutage(t *testing.T, server *pgtest.Server, template *pgtest.Template) {
	url := template.NewDatabase(t)
	s := open(t, store.Options{URL: url, Timeout: patience})
	if err := s.Apply(t.Context(), storetest.OneTeam("team-a")); err != nil {
		t.Fatal(err)
	}
	server.Stop(t)
	began := time.Now()
	storetest.CheckUnavailable(t, s, patience, "hunter2", "127.0.0.1", "test_")
	down := open(t, store.Options{URL: url}) // a server starts while its database is down
	storetest.CheckUnavailable(t, down, patience, "hunter2", "127.0.0.1", "test_")
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("20 calls to a stopped server took %v", took)
	}
	server.Start(t)
	for _, s := range []store.Store{s, down} {
		recovers(t, s)
		if team, err := s.Team(t.Context(), "team-a"); err != nil || team.ID != "team-a" {
			t.Errorf("Team after the outage: %v, %v", team, err)
		}
	}
	server.Restart(t) // the pool's connections are dead, and nobody told it
	recovers(t, s)
}

// recovers asks until the store is ready: the first calls may find connections that are dead.
func recovers(t *testing.T, s store.Store) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	calls := 0
	for s.Ready(ctx) != nil {
		if calls++; ctx.Err() != nil {
			t.Fatalf("not ready %v after the server is", patience)
		}
	}
	t.Logf("ready after %d failed calls", calls)
}
