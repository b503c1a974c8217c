package e2e

import (
	"context"
	"math/rand/v2"
	"time"
)

// row is what the database says of a changing caller.
type row struct {
	caller                               *caller
	name, team                           string
	keys                                 [2]string
	which                                int
	blocked, active, mapped, teamBlocked bool
}

func (r *row) truth() truth {
	switch {
	case r.teamBlocked:
		return denied(403, "team_blocked")
	case !r.mapped:
		return denied(403, "no_mapping")
	case !r.active:
		return denied(403, "mapping_disabled")
	case r.blocked:
		return denied(403, "key_blocked")
	}
	return allowed("mapping", r.keys[r.which], r.team)
}

// change makes the next change of the row: what was taken away is given back first. It returns the statement.
func (r *row) change() (statement string, args []any) {
	kind := rand.IntN(5)
	switch {
	case r.blocked:
		kind = 0
	case !r.active:
		kind = 1
	case !r.mapped:
		kind = 2
	case r.teamBlocked:
		kind = 3
	}
	switch kind {
	case 0:
		r.blocked = !r.blocked
		return "UPDATE virtual_keys SET blocked = $1 WHERE id IN ($2, $3)", []any{r.blocked, r.keys[0], r.keys[1]}
	case 1:
		r.active = !r.active
		return "UPDATE jwt_key_mappings SET active = $1 WHERE claim = 'client_id' AND value = $2", []any{r.active, r.name}
	case 2:
		if r.mapped = !r.mapped; !r.mapped {
			return "DELETE FROM jwt_key_mappings WHERE claim = 'client_id' AND value = $1", []any{r.name}
		}
		return "INSERT INTO jwt_key_mappings (claim, value, key_id) VALUES ('client_id', $1, $2) ON CONFLICT DO NOTHING", []any{r.name, r.keys[r.which]}
	case 3:
		r.teamBlocked = !r.teamBlocked
		return "UPDATE teams SET blocked = $1 WHERE id = $2", []any{r.teamBlocked, r.team}
	}
	r.which = 1 - r.which
	return "UPDATE jwt_key_mappings SET key_id = $1 WHERE claim = 'client_id' AND value = $2", []any{r.keys[r.which], r.name}
}

// changes changes rows by hand-written SQL until ctx ends: those of the changing callers, and now and then the key
// of one who was registered.
func (w *world) changes(ctx context.Context, every time.Duration) (wait func()) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for n := 0; ctx.Err() == nil; n++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if n%8 == 0 && w.blockRegistered(ctx) {
				continue
			}
			r := w.changed[rand.IntN(len(w.changed))]
			statement, args := r.change()
			w.commit(ctx, r.caller, r.truth(), statement, args...)
		}
	}()
	return func() { <-ended }
}

// blockRegistered switches the key of a registered caller off, or on again.
func (w *world) blockRegistered(ctx context.Context) bool {
	list := w.callers.of(registering)
	if len(list) == 0 {
		return false
	}
	c := list[rand.IntN(len(list))]
	c.mu.Lock()
	key, is := c.key, c.states[len(c.states)-1].truth
	c.mu.Unlock()
	if key == "" {
		return false
	}
	next := denied(403, "key_blocked")
	if is == next {
		next = c.states[0].truth
	}
	w.commit(ctx, c, next, "UPDATE virtual_keys SET blocked = $1 WHERE id = $2", next.status != 200, key)
	return true
}

// commit makes a change, again and again until the database says that it has: a statement whose answer was lost may have
// been committed or not, and does no harm twice.
func (w *world) commit(ctx context.Context, c *caller, next truth, statement string, args ...any) {
	done := c.begin(next, 0)
	for {
		_, err := w.sql.ExecContext(context.WithoutCancel(ctx), statement, args...)
		if err == nil {
			done()
			return
		}
		if ctx.Err() != nil {
			return
		}
		pause(ctx, 20*time.Millisecond)
	}
}
