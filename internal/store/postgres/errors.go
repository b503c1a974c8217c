package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/extauthz/extauthz/internal/store/rows"
	"github.com/extauthz/extauthz/pkg/teams"
)

// SQLSTATEs that mean something of their own.
const (
	undefinedTable       = "42P01"
	uniqueViolation      = "23505"
	serializationFailure = "40001"
)

// raiseRoutine is where the server says that a function's RAISE made an error, with any code and text.
const raiseRoutine = "exec_stmt_raise"

// translate turns a driver's error into one that may leave the package. An expired context wins over
// what the driver made of it.
func translate(ctx context.Context, op string, err error) error {
	switch {
	case err == nil, rows.Own(err):
		return err
	case errors.Is(err, pgx.ErrNoRows):
		return teams.ErrNotFound
	case ctx.Err() != nil:
		return fmt.Errorf("postgres: %s: %w", op, ctx.Err())
	case errors.Is(err, context.DeadlineExceeded): // the connection attempt's own
		return fmt.Errorf("postgres: %s: connect: %w", op, context.DeadlineExceeded)
	}
	if refusal := refused(err); rows.Own(refusal) {
		return fmt.Errorf("postgres: %s: %w", op, refusal)
	}
	return fmt.Errorf("postgres: %s: %s", op, describe(err))
}

// refused turns the violation of a constraint into an [rows.Invalid]; other errors pass.
func refused(err error) error {
	var server *pgconn.PgError
	if errors.As(err, &server) && class(server) == "23" {
		return &rows.Invalid{Reason: fmt.Sprintf("must satisfy the database's constraint %q (SQLSTATE %s)", server.ConstraintName, server.Code)}
	}
	return err
}

// describe returns what can be said of an error without naming hosts, users or values.
func describe(err error) string {
	var server *pgconn.PgError
	if errors.As(err, &server) {
		return "SQLSTATE " + server.Code + message(server)
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return "connection: " + errno.Error()
	}
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return "connection: the host name cannot be resolved"
	}
	var connect *pgconn.ConnectError
	if errors.As(err, &connect) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) {
		return "connection: lost or refused"
	}
	return "unexpected error of the driver"
}

// message returns the server's own text where the text cannot quote a value: a class not listed
// (22 "data exception", 28 "authorization" with the user's name, …) is told by its code alone.
func message(server *pgconn.PgError) string {
	if server.Routine == raiseRoutine {
		return ""
	}
	switch class(server) {
	case "08", "25", "40", "42", "53", "55", "57":
		return ": " + server.Message
	case "28":
		return ": the server refuses the user or the password"
	case "3D":
		return ": the database does not exist"
	}
	return ""
}

func class(server *pgconn.PgError) string {
	if len(server.Code) < 2 {
		return ""
	}
	return server.Code[:2]
}

func hasCode(err error, code string) bool {
	var server *pgconn.PgError
	return errors.As(err, &server) && server.Code == code
}

// violates reports whether the error is the violation of the named constraint.
func violates(err error, constraint string) bool {
	var server *pgconn.PgError
	return errors.As(err, &server) && class(server) == "23" && server.ConstraintName == constraint
}
