package authz

import (
	"context"
	"sync"
	"time"

	"github.com/extauthz/extauthz/internal/cache"
	"github.com/extauthz/extauthz/internal/trace"
)

// checkContext is the context of one check: the caller's, with an earlier deadline, and with the check's record. Most
// checks wait for nothing: the timer behind Done, which costs more than they do, is made when somebody asks for it. It is
// safe for concurrent use, its record and near apart.
type checkContext struct {
	context.Context
	began    time.Time
	deadline time.Time
	record   trace.Record
	near     *cache.Near // the caller's; nil until it is known

	mu     sync.Mutex
	timed  context.Context // nil: nobody has waited yet
	cancel context.CancelFunc
	ended  bool
}

// Deadline implements [context.Context].
func (c *checkContext) Deadline() (time.Time, bool) { return c.deadline, true }

// Done implements [context.Context].
func (c *checkContext) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timed == nil {
		c.timed, c.cancel = context.WithDeadline(c.Context, c.deadline)
		if c.ended {
			c.cancel()
		}
	}
	return c.timed.Done()
}

// Err implements [context.Context]. The deadline counts from the instant that it names, timer or no timer.
func (c *checkContext) Err() error { return c.errAt(time.Now()) }

func (c *checkContext) errAt(now time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timed != nil {
		return c.timed.Err()
	}
	if err := c.Context.Err(); err != nil {
		return err
	}
	switch {
	case c.ended:
		return context.Canceled
	case !now.Before(c.deadline):
		return context.DeadlineExceeded
	}
	return nil
}

// Value implements [context.Context].
func (c *checkContext) Value(key any) any {
	switch key.(type) {
	case trace.Key:
		return &c.record
	case cache.NearKey:
		return c.near
	}
	c.mu.Lock()
	parent := c.timed // whose cause and timer are ours
	c.mu.Unlock()
	if parent == nil {
		parent = c.Context
	}
	return parent.Value(key)
}

// end releases the timer. Whoever still waits is told that the check was given up.
func (c *checkContext) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	if c.cancel != nil {
		c.cancel()
	}
}
