package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"io/fs"

	"github.com/pressly/goose/v3"

	"github.com/extauthz/extauthz/internal/store/rows"
)

//go:embed migrations/*.sql
var migrations embed.FS

const (
	// schemaVersion is the version of the last file in migrations.
	schemaVersion = 1
	// versionTable has the same name as in PostgreSQL.
	versionTable = "extauthz_schema_version"
)

// Migrate creates the file if there is none, brings it to schemaVersion and returns the versions
// before and after.
func Migrate(ctx context.Context, path string) (from, to int64, err error) {
	db, err := openWriter(ctx, path)
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = db.Close() }()
	return migrate(ctx, db)
}

// migrate tries again when it fails, once for each step that another process may have taken
// first (the version table, each migration): steps are transactions that take the write lock when
// they begin, so the loser fails on what the winner made, and finds it made when it looks again.
func migrate(ctx context.Context, db *sql.DB) (from, to int64, err error) {
	for range schemaVersion + 2 {
		if from, to, err = up(ctx, db); err == nil || ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		return 0, 0, translate(ctx, "migrate", err)
	}
	return from, to, rows.CheckVersion(to, schemaVersion)
}

func up(ctx context.Context, db *sql.DB) (from, to int64, err error) {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return 0, 0, err
	}
	provider, err := goose.NewProvider(goose.DialectSQLite3, db, files,
		goose.WithDisableGlobalRegistry(true), goose.WithTableName(versionTable))
	if err != nil {
		return 0, 0, err
	}
	applied, err := provider.Up(ctx)
	if err != nil {
		return 0, 0, err
	}
	to, err = provider.GetDBVersion(ctx)
	return to - int64(len(applied)), to, err
}
