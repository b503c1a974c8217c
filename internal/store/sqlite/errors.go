package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/extauthz/extauthz/internal/store/rows"
	"github.com/extauthz/extauthz/pkg/teams"
)

// primary is the part of a result code that names the class of an error.
const primary = 0xff

// translate turns a driver's error into one that may leave the package. An expired context wins over
// what the driver made of it.
func translate(ctx context.Context, op string, err error) error {
	switch {
	case err == nil, rows.Own(err):
		return err
	case errors.Is(err, sql.ErrNoRows):
		return teams.ErrNotFound
	case ctx.Err() != nil:
		return fmt.Errorf("sqlite: %s: %w", op, ctx.Err())
	case errors.Is(err, errList):
		return fmt.Errorf("sqlite: %s: %w", op, errList)
	}
	if refusal := refused(err); rows.Own(refusal) {
		return fmt.Errorf("sqlite: %s: %w", op, refusal)
	}
	var failure *sqlite.Error
	if errors.As(err, &failure) {
		return fmt.Errorf("sqlite: %s: code %d: %s", op, failure.Code(), sqlite.ErrorCodeString[failure.Code()&primary])
	}
	return fmt.Errorf("sqlite: %s: unexpected error of the driver", op)
}

// refused turns the violation of a constraint into an [rows.Invalid]; other errors pass.
func refused(err error) error {
	var failure *sqlite.Error
	if !errors.As(err, &failure) || failure.Code()&primary != sqlite3.SQLITE_CONSTRAINT {
		return err
	}
	kind := "constraints"
	switch failure.Code() {
	case sqlite3.SQLITE_CONSTRAINT_CHECK:
		kind = "CHECK constraints"
	case sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
		kind = "unique keys"
	case sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY:
		kind = "foreign keys"
	case sqlite3.SQLITE_CONSTRAINT_TRIGGER:
		kind = "triggers"
	}
	return &rows.Invalid{Reason: fmt.Sprintf("must satisfy the database's %s (code %d)", kind, failure.Code())}
}

func isUnique(err error) bool {
	var failure *sqlite.Error
	return errors.As(err, &failure) &&
		(failure.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE || failure.Code() == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY)
}

func isBusy(err error) bool {
	var failure *sqlite.Error
	return errors.As(err, &failure) && failure.Code()&primary == sqlite3.SQLITE_BUSY
}
