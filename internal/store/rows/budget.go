package rows

import (
	"context"
	"time"

	"github.com/extauthz/extauthz/pkg/teams"
)

// Budget makes a budget of its columns.
func Budget(ceiling *teams.Micros, spend teams.Micros, window string, resetAt time.Time) (teams.Budget, error) {
	parsed, err := teams.ParseWindow(window)
	return teams.Budget{Max: ceiling, Spend: spend, Window: parsed, ResetAt: resetAt}, err
}

// Due is a row whose budget's window has ended.
type Due struct {
	ID      string
	Window  string
	ResetAt time.Time
}

// Resetter finds and resets such rows.
type Resetter interface {
	// Due returns rows of the table whose reset is not after now, at most limit.
	Due(ctx context.Context, table string, now time.Time, limit int) ([]Due, error)
	// Reset sets a row's spend to zero and its reset to next (the zero time is never), unless the reset is
	// no longer that of due: then somebody else was first. It reports whether it did.
	Reset(ctx context.Context, table string, due Due, next time.Time) (bool, error)
}

// resetBatch bounds the rows that are read at once.
const resetBatch = 500

// ResetBudgets resets every budget whose window has ended and returns how many it reset.
func ResetBudgets(ctx context.Context, r Resetter, now time.Time) (reset int, err error) {
	for _, table := range []string{"organizations", "teams", "users", "virtual_keys"} {
		for {
			due, err := r.Due(ctx, table, now, resetBatch)
			if err != nil {
				return reset, err
			}
			done, err := resetAll(ctx, r, table, due, now)
			reset += done
			if err != nil || len(due) < resetBatch {
				if err != nil {
					return reset, err
				}
				break
			}
		}
	}
	return reset, nil
}

func resetAll(ctx context.Context, r Resetter, table string, list []Due, now time.Time) (reset int, err error) {
	for _, due := range list {
		window, err := teams.ParseWindow(due.Window)
		if err != nil {
			return reset, err
		}
		done, err := r.Reset(ctx, table, due, window.End(now))
		if err != nil {
			return reset, err
		}
		if done {
			reset++
		}
	}
	return reset, nil
}
