package mapping

import (
	"context"
	"sync"
	"time"

	"github.com/extauthz/extauthz/pkg/keys"
)

// touchTimeout bounds the write that keeps a key from expiring.
const touchTimeout = 2 * time.Second

// touches are the keys whose idle expiry is being moved, so that a busy key is written once.
type touches struct {
	mu    sync.Mutex
	under map[keys.ID]bool
}

func (t *touches) begin(id keys.ID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.under[id] {
		return false
	}
	if t.under == nil {
		t.under = make(map[keys.ID]bool)
	}
	t.under[id] = true
	return true
}

func (t *touches) end(id keys.ID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.under, id)
}

// Used notes that a key was used, so that it does not expire as idle. It writes at most once in half the
// key's idle timeout, beside the request: a write that fails is tried again by the next one.
func (r *Resolver) Used(ctx context.Context, key *keys.Key) {
	if r.store == nil || key.IdleTimeout <= 0 {
		return
	}
	now := r.config.Now()
	if key.IdleExpiresAt.Sub(now) > key.IdleTimeout/2 || !r.touches.begin(key.ID) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), touchTimeout)
	go func() {
		defer r.touches.end(key.ID)
		defer cancel()
		defer func() { _ = recover() }()                         // here it would end the process, and leave every request to Envoy's failure mode
		_ = r.store.Touch(ctx, key.ID, now.Add(key.IdleTimeout)) // counted with the store's other calls
	}()
}
