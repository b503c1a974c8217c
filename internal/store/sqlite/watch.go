package sqlite

import (
	"context"
	"time"

	"github.com/extauthz/extauthz/internal/store/rows"
)

// pollInterval is how often the file is looked at for changes of other processes.
const pollInterval = 500 * time.Millisecond

// Watch is documented on package store's Store. SQLite says that another connection has committed, not what: a
// change is one of every row. The connection that is asked is the one that writes, so that our own writes,
// which their makers know of, are none.
func (s *Store) Watch(ctx context.Context, w rows.Watcher) {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	var seen, none version
	for {
		at := time.Now()
		now, err := s.version(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			w.Interrupted(translate(ctx, "watch", err))
			seen = none
		case seen == none:
			w.Watching(time.Now()) // what was committed before the count was read is in it
			seen = now
		case seen != now:
			w.Changed(rows.Change{})
			seen = now
			w.Confirmed(at)
		default:
			w.Confirmed(at)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// version is SQLite's count of the commits that one connection has seen others make. The counts of two
// connections cannot be compared.
type version struct {
	connection any
	count      int64
}

func (s *Store) version(ctx context.Context) (version, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	conn, err := s.writer.Conn(ctx)
	if err != nil {
		return version{}, err
	}
	defer func() { _ = conn.Close() }()
	var v version
	if err := conn.QueryRowContext(ctx, "PRAGMA data_version").Scan(&v.count); err != nil {
		return version{}, err
	}
	err = conn.Raw(func(driver any) error { v.connection = driver; return nil })
	return v, err
}

// Reset does nothing: a file's connections do not die.
func (s *Store) Reset() {}
