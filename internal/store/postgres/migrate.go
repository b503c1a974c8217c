package postgres

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"io/fs"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/extauthz/extauthz/internal/store/rows"
)

//go:embed migrations/*.sql
var migrations embed.FS

const (
	// schemaVersion is the version of the last file in migrations.
	schemaVersion = 3
	// versionTable is our own: an operator's application may use goose in the same database.
	versionTable = "extauthz_schema_version"
	// lockID is the advisory lock of a migration: "extauthz" as bytes.
	lockID = 0x6578746175746878
	// lockSeconds is how long a migration waits for another one.
	lockSeconds = 300
)

var errEncoding = errors.New("postgres: migrate: the database's encoding must be UTF8")

// Migrate brings the database to schemaVersion and returns the versions before and after. A session
// advisory lock makes concurrent migrations wait for each other, so it needs a direct
// connection, not a pooler in transaction mode. It takes as long as ctx permits.
func Migrate(ctx context.Context, url string) (from, to int64, err error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return 0, 0, errURL
	}
	if err := checkProtocol(config); err != nil {
		return 0, 0, err
	}
	db := stdlib.OpenDB(*config)
	defer func() { _ = db.Close() }()
	if err := checkEncoding(ctx, db); err != nil {
		return 0, 0, err
	}
	from, to, err = up(ctx, db)
	return from, to, translate(ctx, "migrate", err)
}

// checkEncoding refuses a database whose bytes are not the text that the CHECKs think they are.
func checkEncoding(ctx context.Context, db *sql.DB) error {
	var encoding string
	if err := db.QueryRowContext(ctx, "SHOW server_encoding").Scan(&encoding); err != nil {
		return translate(ctx, "migrate", err)
	}
	if encoding != "UTF8" {
		return errEncoding
	}
	return nil
}

func up(ctx context.Context, db *sql.DB) (from, to int64, err error) {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return 0, 0, err
	}
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockID(lockID), lock.WithLockTimeout(1, lockSeconds))
	if err != nil {
		return 0, 0, err
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, db, files,
		goose.WithDisableGlobalRegistry(true), goose.WithTableName(versionTable), goose.WithSessionLocker(locker))
	if err != nil {
		return 0, 0, err
	}
	applied, err := provider.Up(ctx)
	if err != nil {
		return 0, 0, err
	}
	to, err = provider.GetDBVersion(ctx)
	if err != nil {
		return 0, 0, err
	}
	return to - int64(len(applied)), to, rows.CheckVersion(to, schemaVersion)
}
