// Package postgres is the store for production: any number of replicas over one PostgreSQL.
//
// It speaks the extended protocol with $n parameters only and trusts nothing it reads before the
// schema's CHECKs did. Its errors carry an SQLSTATE and a fixed or generic text, never the
// connection string, a host or a row's values.
package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/extauthz/extauthz/internal/store/rows"
)

// Options say which database to use; package store documents and checks them.
type Options struct {
	URL            string
	Timeout        time.Duration // > 0
	MaxConnections int           // 0: the URL's pool_max_conns or the driver's default
}

// Store is a PostgreSQL store. Its methods are safe for concurrent use.
type Store struct {
	pool    *pgxpool.Pool
	timeout time.Duration
	line    line // of registrations
}

var (
	errURL      = fmt.Errorf("%w url: must be postgres://USER:PASSWORD@HOST:PORT/DATABASE with libpq's options", rows.ErrOptions)
	errProtocol = fmt.Errorf("%w url: default_query_exec_mode must not be simple_protocol: parameters would become SQL text", rows.ErrOptions)
)

// Open makes a pool that connects when it is first used: the server may be down.
func Open(ctx context.Context, o Options) (*Store, error) {
	config, err := pgxpool.ParseConfig(o.URL)
	if err != nil {
		return nil, errURL // the driver's error quotes the URL
	}
	if err := checkProtocol(config.ConnConfig); err != nil {
		return nil, err
	}
	if o.MaxConnections > 0 {
		config.MaxConns = int32(min(o.MaxConnections, 10000))
	}
	// A connection attempt occupies a place in the pool: into a black hole, not for long.
	config.ConnConfig.ConnectTimeout = min(config.ConnConfig.ConnectTimeout, o.Timeout)
	if config.ConnConfig.RuntimeParams["application_name"] == "" {
		config.ConnConfig.RuntimeParams["application_name"] = "extauthz"
	}
	config.AfterConnect = withoutJIT
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, errURL
	}
	return &Store{pool: pool, timeout: o.Timeout}, nil
}

// withoutJIT keeps PostgreSQL from compiling statements. Over millions of rows it takes a registration for one that may be
// long, and compiles for 30 ms what runs for 1. It is not asked for with the connection: PgBouncer would refuse that.
func withoutJIT(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, "SET jit = off")
	return err
}

// checkProtocol refuses the simple protocol, in which the client quotes parameters into the SQL
// (CVE-2024-27289, CVE-2026-41889).
func checkProtocol(config *pgx.ConnConfig) error {
	if config.DefaultQueryExecMode == pgx.QueryExecModeSimpleProtocol {
		return errProtocol
	}
	return nil
}

// Close closes all connections, after waiting for those in use.
func (s *Store) Close() { s.pool.Close() }

// Ready returns nil if the server answers and has the schema this binary needs, or a newer one that says that it
// may be used by this binary.
func (s *Store) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	var have int64
	err := s.pool.QueryRow(ctx, "SELECT COALESCE(max(version_id), 0) FROM "+versionTable).Scan(&have)
	if hasCode(err, undefinedTable) {
		have, err = 0, nil
	}
	if err != nil {
		return translate(ctx, "ready", err)
	}
	if have > schemaVersion && s.admitted(ctx, have) {
		return nil
	}
	return rows.CheckVersion(have, schemaVersion)
}

// admitted reports whether a newer schema is one for this binary too. It must say so itself, of this very version: who
// cannot tell refuses.
func (s *Store) admitted(ctx context.Context, have int64) bool {
	var version, oldest int64
	err := s.pool.QueryRow(ctx, "SELECT version, oldest FROM extauthz_schema_window()").Scan(&version, &oldest)
	return err == nil && version == have && oldest <= schemaVersion
}

// inTx runs do in a transaction and commits it if do returns nil. The isolation is stated, since a
// role may have another default than the statements were written for.
func (s *Store) inTx(ctx context.Context, op string, options pgx.TxOptions, do func(pgx.Tx) error) error {
	tx, err := s.pool.BeginTx(ctx, options)
	if err != nil {
		return translate(ctx, op, err)
	}
	if err := do(tx); err != nil {
		_ = tx.Rollback(ctx) // on failure the driver drops the connection, and with it the transaction
		return translate(ctx, op, err)
	}
	return translate(ctx, op, tx.Commit(ctx))
}
