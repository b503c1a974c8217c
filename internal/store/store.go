// Package store keeps the rows that decisions are made of: mappings, virtual keys, teams,
// organizations and users, in PostgreSQL or in an embedded SQLite file.
//
// Both stores answer alike: the same rows are refused, text is compared byte for byte, and one
// conformance suite (storetest) runs on both. No driver's type, connection string or row value
// leaves a store. What the rows mean for a request is decided by packages mapping, teams and keys.
package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/extauthz/extauthz/internal/resource"
	"github.com/extauthz/extauthz/internal/store/postgres"
	"github.com/extauthz/extauthz/internal/store/rows"
	"github.com/extauthz/extauthz/internal/store/sqlite"
	"github.com/extauthz/extauthz/pkg/mapping"
	"github.com/extauthz/extauthz/pkg/teams"
)

// Errors of a store, besides [teams.ErrNotFound], [mapping.ErrConflict] and [mapping.ErrLimited].
// Every other error means that nothing is known: the database could not be asked.
var (
	// ErrSchema says that the database has another schema version than this binary needs. The error
	// that wraps it is a [*SchemaError].
	ErrSchema = rows.ErrSchema
	// ErrInvalid says that a row breaks a rule of the schema; trying again cannot help.
	ErrInvalid = rows.ErrInvalid
	// ErrOptions says that the store was described wrongly: a URL that is none, or a bound that is not
	// allowed. Its text never repeats the URL.
	ErrOptions = rows.ErrOptions
)

// Change is what [Store.Watch] tells.
type Change = rows.Change

// Watcher is whom it tells.
type Watcher = rows.Watcher

// Answered reports whether the error of a call is the database's answer, or none: it was reached.
func Answered(err error) bool { return err == nil || rows.Own(err) }

// SchemaError is an [ErrSchema] with both versions.
type SchemaError = rows.SchemaError

// DefaultTimeout is the Timeout of [Options] that state none.
const DefaultTimeout = 2 * time.Second

// Store is everything that the commands need of a database. Its methods are safe for concurrent
// use. Consumers take the narrow interface they use: a server that answers checks needs
// [mapping.Store] and [teams.Directory], readiness needs Ready, `apply` needs Apply.
type Store interface {
	mapping.Store   // for the mapping resolver
	teams.Directory // for the policy

	// Apply creates or updates every resource that the set declares, in one transaction. The error
	// for a set that cannot be applied is a [*resource.Error]; nothing is applied then. Applying a
	// set again changes nothing. It takes as long as ctx permits.
	Apply(ctx context.Context, set *resource.Set) error

	// Export returns everything in the store, as of one instant and in the order of ids (mappings: of
	// issuer, claim and value). Applied to an empty store it reproduces this one but for the
	// rows' times. It takes as long as ctx permits.
	Export(ctx context.Context) (*resource.Set, error)

	// ResetBudgets resets the spend of every row whose budget window has ended at now, moves its reset to
	// the end of the current window, and returns how many rows it reset. Replicas may do it at once:
	// each row is reset once.
	ResetBudgets(ctx context.Context, now time.Time) (int, error)

	// Ready asks the database whether it answers and has the schema that this binary needs: nil,
	// [ErrSchema], or an error that means it does not answer.
	Ready(ctx context.Context) error

	// Watch tells w of what is changed in the database, whoever changes it, until ctx ends. It connects anew as
	// often as it has to.
	Watch(ctx context.Context, w Watcher)

	// Reset drops the connections that are not in use, for when they may be dead.
	Reset()

	// Close releases all connections. No method may be called afterwards.
	Close()
}

// Options say which database to use, and how.
type Options struct {
	// URL is "sqlite:PATH", or "postgres://…" or "postgresql://…" as for libpq. It may hold a
	// password and appears in no error.
	URL string
	// Timeout bounds each call that answers a check or a probe, on top of its context's deadline; 0
	// means [DefaultTimeout]. It does not bound Apply, Export and Migrate.
	Timeout time.Duration
	// MaxConnections bounds the pool; 0 leaves it to the driver (PostgreSQL: pool_max_conns of the
	// URL, else the larger of 4 and the number of CPUs; SQLite: 4 readers).
	MaxConnections int
}

var errURL = fmt.Errorf("%w url: must be sqlite:PATH, postgres://USER:PASSWORD@HOST:PORT/DATABASE or postgresql://…", ErrOptions)

var errBounds = fmt.Errorf("%w options: the timeout must not be negative, the connections must be 0 to 10000", ErrOptions)

// Open opens the store. A SQLite file is created and migrated; PostgreSQL is not even contacted,
// so that a server starts while its database is down: ask Ready.
func Open(ctx context.Context, o Options) (Store, error) {
	if o.Timeout < 0 || o.MaxConnections < 0 || o.MaxConnections > 10000 {
		return nil, errBounds
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if path, ok := sqlitePath(o.URL); ok {
		s, err := sqlite.Open(ctx, sqlite.Options{Path: path, Timeout: o.Timeout, MaxConnections: o.MaxConnections})
		return opened(s, err)
	}
	if isPostgres(o.URL) {
		s, err := postgres.Open(ctx, postgres.Options{URL: o.URL, Timeout: o.Timeout, MaxConnections: o.MaxConnections})
		return opened(s, err)
	}
	return nil, errURL
}

// Migrate brings the database to the schema that this binary needs and returns the versions before
// and after, equal if there was nothing to do. Concurrent migrations of one database wait for
// each other. A database that is already newer is an [ErrSchema].
func Migrate(ctx context.Context, o Options) (from, to int64, err error) {
	if path, ok := sqlitePath(o.URL); ok {
		return sqlite.Migrate(ctx, path)
	}
	if isPostgres(o.URL) {
		return postgres.Migrate(ctx, o.URL)
	}
	return 0, 0, errURL
}

// opened keeps a nil pointer from becoming a Store that is not nil.
func opened[S Store](s S, err error) (Store, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}

func sqlitePath(url string) (string, bool) {
	path, ok := strings.CutPrefix(url, "sqlite:")
	return path, ok && path != "" && path != ":memory:" && !strings.HasPrefix(path, "//")
}

func isPostgres(url string) bool {
	return strings.HasPrefix(url, "postgres://") || strings.HasPrefix(url, "postgresql://")
}
