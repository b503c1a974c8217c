package e2e

import (
	"fmt"
	"sync"
	"time"
)

// truth is what a caller is to be answered.
type truth struct {
	status int
	what   string // the source of an allow, the reason of a denial
	key    string // that reaches the upstream
	team   string
}

// registered is the what of a caller whom extauthz gives a key: the first answer says which.
const registered = "registered"

func allowed(source, key, team string) truth { return truth{200, source, key, team} }

func denied(status int, reason string) truth { return truth{status: status, what: reason} }

// state is a truth and the change that made it so.
type state struct {
	truth
	// begun is before the change could have any effect, done is when it was known to be made; zero: not yet.
	begun, done time.Time
	// lag is how long the change may go unnoticed, if that is longer than told.
	lag time.Duration
}

// class is what a caller may be refused for.
type class int

const (
	// known callers are those whose rows every replica has in its cache, or who need none.
	known class = iota
	// changing callers have rows that change all the time.
	changing
	// registering callers are new.
	registering
)

// caller is one client, and what is true of it.
type caller struct {
	name    string
	class   class
	token   string
	request []byte // as it is sent to Envoy

	mu     sync.Mutex
	states []state
	key    string // of a registered caller, once it is known
}

// begin notes that a change is about to be made, and returns what is to be called when it has been.
func (c *caller) begin(next truth, lag time.Duration) (done func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.states = append(c.states, state{truth: next, begun: time.Now(), lag: lag})
	n := len(c.states) - 1
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.states[n].done = time.Now()
	}
}

// observed is an answer as the client got it.
type observed struct {
	truth
	stale     bool
	sent, got time.Time
}

func (o observed) String() string {
	return fmt.Sprintf("%d %q key %.8s team %q stale %t after %s", o.status, o.what, o.key, o.team, o.stale, o.got.Sub(o.sent).Round(time.Millisecond))
}

// fits reports whether the answer is one of those that were true while it was asked for, or may still have been taken
// for it: unnoticed says until when a change may go unnoticed. An allow that is so far behind that no connection can be the
// excuse has to be marked stale.
func (c *caller) fits(o observed, unnoticed func(done time.Time, lag time.Duration) time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	late := false
	for n := len(c.states) - 1; n >= 0; n-- {
		s := c.states[n]
		if s.begun.After(o.got) {
			continue
		}
		if c.matches(s.truth, o.truth) && (o.stale || !late || o.status != 200) {
			return true
		}
		late = late || !s.done.IsZero() && o.sent.After(s.done.Add(max(everywhere, s.lag)))
		if !s.done.IsZero() && o.sent.After(unnoticed(s.done, s.lag)) {
			return false
		}
	}
	return false
}

// changedSince reports whether the truth changed after an instant.
func (c *caller) changedSince(at time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	last := c.states[len(c.states)-1]
	return last.begun.After(at) || last.done.After(at)
}

// matches is called with mu held. The first key that a registered caller is seen with is its key from then on.
func (c *caller) matches(want, got truth) bool {
	if want.what != registered {
		return want == got
	}
	if got.status != 200 || got.key == "" || got.team != want.team || got.what != "auto_register" && got.what != "mapping" {
		return false
	}
	if c.key == "" {
		c.key = got.key
	}
	return got.key == c.key
}

// describe says what is true of the caller, for a failure.
func (c *caller) describe() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	text := c.name
	for _, s := range c.states[max(0, len(c.states)-4):] {
		text += fmt.Sprintf("; from %s to %s: %d %q key %.8s team %q", s.begun.Format(clock), s.done.Format(clock), s.status, s.what, s.key, s.team)
	}
	return text + fmt.Sprintf("; registered key %.8s", c.key)
}

const clock = "05.000"
