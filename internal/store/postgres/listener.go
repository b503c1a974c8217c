package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/extauthz/extauthz/internal/store/rows"
)

// changesChannel is where the triggers of migration 0002 notify.
const changesChannel = "extauthz_changes"

// A beat is a notification to ourselves. The server hands notifications out in the order of their commits, so
// when it is back, every change that was committed before it began has been told. One that does not
// come back in time shows a connection that is dead.
const (
	beatInterval = time.Second
	beatTimeout  = 2 * time.Second
)

// closeTimeout bounds the goodbye to a server that may be gone.
const closeTimeout = 100 * time.Millisecond

var (
	errBeat = errors.New("postgres: watch: no notification came back in time")
	// A pooler drops what arrives between two transactions, and may still bring our own beat back.
	errPooler = errors.New("postgres: watch: the connection goes through a pooler, which may keep notifications: it must be direct")
)

// listener is a connection that listens.
type listener struct {
	conn    *pgx.Conn
	watcher rows.Watcher
	beats   string        // the channel of our own beats
	ahead   time.Duration // how far the server's clock is ahead of ours, about
}

func newListener(ctx context.Context, config *pgx.ConnConfig, w rows.Watcher) (*listener, error) {
	config.RuntimeParams["application_name"] += " changes"
	ctx, cancel := context.WithTimeout(ctx, beatTimeout)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	l := &listener{conn: conn, watcher: w, beats: changesChannel + "_" + strings.ToLower(rand.Text())}
	if err := l.listen(ctx); err != nil {
		l.close()
		return nil, err
	}
	w.Watching(time.Now())
	return l, nil
}

func (l *listener) listen(ctx context.Context) error {
	var backend uint32
	if err := l.conn.QueryRow(ctx, "SELECT pg_backend_pid()").Scan(&backend); err != nil {
		return err
	}
	if backend != l.conn.PgConn().PID() {
		return errPooler
	}
	for _, channel := range []string{changesChannel, l.beats} {
		if _, err := l.conn.Exec(ctx, "LISTEN "+channel); err != nil {
			return err
		}
	}
	return nil
}

func (l *listener) close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_ = l.conn.Close(ctx)
}

// beat makes one round trip and tells of the changes that arrive before it is back.
func (l *listener) beat(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, beatTimeout)
	defer cancel()
	sent := time.Now()
	var clock time.Time
	err := l.conn.QueryRow(ctx, "SELECT clock_timestamp() FROM pg_notify($1, '')", l.beats).Scan(&clock)
	l.ahead = clock.Sub(sent.Add(time.Since(sent) / 2))
	for err == nil {
		var n *pgconn.Notification
		if n, err = l.conn.WaitForNotification(ctx); err != nil {
			break
		}
		if n.Channel == l.beats {
			l.watcher.Confirmed(sent)
			return nil
		}
		l.tell(n)
	}
	if ctx.Err() != nil {
		return errBeat
	}
	return err
}

// receive tells of the changes that arrive until the instant.
func (l *listener) receive(ctx context.Context, until time.Time) error {
	waiting, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	for {
		n, err := l.conn.WaitForNotification(waiting)
		switch {
		case err != nil && waiting.Err() != nil:
			return ctx.Err()
		case err != nil:
			return err
		}
		l.tell(n)
	}
}

func (l *listener) tell(n *pgconn.Notification) {
	if n.Channel == changesChannel {
		l.watcher.Changed(l.change(n.Payload))
	}
}

// change reads a payload. One that cannot be read, as that of a later version, means that anything may have
// changed.
func (l *listener) change(payload string) rows.Change {
	fields := strings.Split(payload, " ")
	if len(fields) != 4 || fields[0] != "1" {
		return rows.Change{}
	}
	micros, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return rows.Change{}
	}
	c := rows.Change{Table: fields[2], At: time.UnixMicro(micros).Add(-l.ahead)}
	if fields[3] == "*" {
		return c
	}
	if c.Digests, err = readDigests(fields[3]); err != nil {
		return rows.Change{}
	}
	return c
}

const digestLength = 16 // hexadecimal digits

func readDigests(text string) ([]uint64, error) {
	list := make([]uint64, 0, len(text)/digestLength)
	for ; len(text) >= digestLength; text = text[digestLength:] {
		digest, err := strconv.ParseUint(text[:digestLength], 16, 64)
		if err != nil {
			return nil, err
		}
		list = append(list, digest)
	}
	if text != "" || len(list) == 0 {
		return nil, strconv.ErrSyntax
	}
	return list, nil
}
