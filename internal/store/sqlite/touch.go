package sqlite

import (
	"context"
	"time"

	"github.com/extauthz/extauthz/internal/store/rows"
	"github.com/extauthz/extauthz/pkg/keys"
)

// touchKey can neither revive a key nor bring its end nearer.
const touchKey = `UPDATE virtual_keys SET idle_expires_at = ?2
	WHERE id = ?1 AND NOT blocked AND (expires_at IS NULL OR expires_at > ` + now + `)
		AND idle_expires_at > ` + now + ` AND idle_expires_at < ?2`

// Touch is documented on [mapping.Store].
func (s *Store) Touch(ctx context.Context, id keys.ID, idleExpiresAt time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	if _, err := s.writer.ExecContext(ctx, touchKey, id, timestamp(idleExpiresAt)); err != nil {
		return translate(ctx, "touch key", err)
	}
	return nil
}

// ResetBudgets is documented on package store's Store.
func (s *Store) ResetBudgets(ctx context.Context, now time.Time) (int, error) {
	reset, err := rows.ResetBudgets(ctx, resetter{s}, now)
	if err != nil {
		return reset, translate(ctx, "reset budgets", err)
	}
	return reset, nil
}

// resetter is the [rows.Resetter] of SQLite.
type resetter struct{ s *Store }

func (r resetter) Due(ctx context.Context, table string, now time.Time, limit int) (list []rows.Due, err error) {
	//nolint:gosec // the table is one of four constants
	result, err := r.s.readers.QueryContext(ctx, `SELECT id, budget_window, budget_reset_at FROM `+table+`
		WHERE budget_reset_at <= ?1 ORDER BY budget_reset_at LIMIT ?2`, timestamp(now), limit)
	if err != nil {
		return nil, err
	}
	defer func() { _ = result.Close() }()
	for result.Next() {
		var due rows.Due
		var at int64
		if err := result.Scan(&due.ID, &due.Window, &at); err != nil {
			return nil, err
		}
		due.ResetAt = instant(&at)
		list = append(list, due)
	}
	return list, result.Err()
}

func (r resetter) Reset(ctx context.Context, table string, due rows.Due, next time.Time) (bool, error) {
	//nolint:gosec // the table is one of four constants
	result, err := r.s.writer.ExecContext(ctx, `UPDATE `+table+` SET spend_micros = 0, budget_reset_at = ?3, updated_at = `+now+`
		WHERE id = ?1 AND budget_reset_at = ?2`, due.ID, timestamp(due.ResetAt), timestamp(next))
	if err != nil {
		return false, err
	}
	changed, err := result.RowsAffected()
	return changed == 1, err
}
