package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/extauthz/extauthz/internal/store/rows"
	"github.com/extauthz/extauthz/pkg/teams"
)

const secret = "tenant-secret"

// server is an error of the server that holds the secret wherever the server may put a value.
func server(code, message string) error {
	return &pgconn.PgError{Code: code, Message: message, Detail: secret, Hint: secret, Where: secret, InternalQuery: secret}
}

func TestTranslateText(t *testing.T) {
	for _, test := range []struct {
		err  error
		want string
	}{
		{server("57P01", "terminating connection due to administrator command"), "SQLSTATE 57P01: terminating connection due to administrator command"},
		{server("25006", "cannot execute INSERT in a read-only transaction"), "SQLSTATE 25006: cannot execute INSERT in a read-only transaction"},
		{server("22P02", "invalid input syntax: "+secret), "SQLSTATE 22P02"},
		{server("28P01", "password authentication failed for user "+secret), "SQLSTATE 28P01: the server refuses the user or the password"},
		{server("3D000", "no database "+secret), "SQLSTATE 3D000: the database does not exist"},
		{server("", secret), "SQLSTATE "},
		{&net.OpError{Op: "dial", Addr: &net.UnixAddr{Name: secret}, Err: syscall.ECONNREFUSED}, "connection: connection refused"},
		{&net.DNSError{Name: secret, Err: "no such host"}, "connection: the host name cannot be resolved"},
		{fmt.Errorf("%s: %w", secret, io.ErrUnexpectedEOF), "connection: lost or refused"},
		{errors.New(secret), "unexpected error of the driver"},
	} {
		got := translate(context.Background(), "read mapping", test.err)
		if want := "postgres: read mapping: " + test.want; got.Error() != want {
			t.Errorf("%T: %s, want %s", test.err, got, want)
		}
		if rows.Own(got) || errors.Unwrap(got) != nil {
			t.Errorf("%T: %v wraps something", test.err, got)
		}
	}
}

func TestTranslateMeaning(t *testing.T) {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	for _, test := range []struct {
		ctx       context.Context
		err, want error
	}{
		{context.Background(), nil, nil},
		{ended, pgx.ErrNoRows, teams.ErrNotFound}, // the answer was there
		{ended, server("57014", "canceling statement due to user request"), context.Canceled},
		{context.Background(), fmt.Errorf("%s: %w", secret, context.DeadlineExceeded), context.DeadlineExceeded},
		{context.Background(), server("23514", secret), rows.ErrInvalid},
	} {
		got := translate(test.ctx, "read", test.err)
		if !errors.Is(got, test.want) {
			t.Errorf("%v: %v, want %v", test.err, got, test.want)
		}
		if strings.Contains(fmt.Sprint(got), secret) {
			t.Errorf("%v leaves the package", got)
		}
	}
}
