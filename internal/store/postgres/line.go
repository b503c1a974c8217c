package postgres

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/extauthz/extauthz/pkg/keys"
	"github.com/extauthz/extauthz/pkg/mapping"
)

const (
	// mostTogether bounds the registrations of one statement.
	mostTogether = 64
	// longTurn is how long registrations wait for those before them: one that waits for a lock must not keep the others.
	longTurn = 100 * time.Millisecond
)

// line is where registrations wait while others are under way. Those that wait are made together: a transaction costs more
// than its rows, and commits that notify wait for each other.
type line struct {
	mu      sync.Mutex
	busy    bool
	waiting []*registration
}

// registration is one call of Register.
type registration struct {
	subject mapping.Subject
	key     *keys.Key
	bound   int           // on the keys of the key's team; 0 for none
	until   time.Time     // when its caller stops waiting
	tried   chan struct{} // closed when it was tried together with others
	outcome               // what became of it then; nothing if it must be tried alone
}

// outcome is what became of a registration.
type outcome struct {
	mapped      // the subject's mapping, and its key if it was written
	full   bool // the team has as many keys as it may have
}

// err is what an outcome means to the caller.
func (o outcome) err() error {
	switch {
	case o.mapping != nil:
		return nil
	case o.full:
		return fmt.Errorf("postgres: register: %w", mapping.ErrLimited)
	}
	return fmt.Errorf("postgres: register: %w", mapping.ErrConflict)
}

// enter reports whether nothing is under way but this registration now. Otherwise it waits.
func (l *line) enter(r *registration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.busy {
		l.waiting = append(l.waiting, r)
		return false
	}
	l.busy = true
	return true
}

// leave takes a registration out of those that wait.
func (l *line) leave(r *registration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = slices.DeleteFunc(l.waiting, func(other *registration) bool { return other == r })
}

// next returns those that are under way now, which waited the longest.
func (l *line) next() []*registration {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := min(len(l.waiting), mostTogether)
	list := slices.Clone(l.waiting[:n])
	l.waiting = slices.Delete(l.waiting, 0, n)
	l.busy = n > 0
	return list
}

// registerInTurn makes a registration at once if none is under way, and else together with others. What cannot be made
// together, for whatever reason, is tried alone: none fails because of another.
func (s *Store) registerInTurn(ctx context.Context, r *registration) (o outcome, err error) {
	if s.line.enter(r) {
		s.takeTurn(func() { o, err = s.registerAlone(ctx, r) })
		return o, err
	}
	select {
	case <-r.tried:
	case <-ctx.Done():
		s.line.leave(r)
		return outcome{}, ctx.Err()
	}
	if r.outcome == (outcome{}) {
		return s.registerAlone(ctx, r)
	}
	return r.outcome, r.err()
}

// takeTurn lets the next ones go when do has returned, or when it takes long.
func (s *Store) takeTurn(do func()) {
	pass := sync.OnceFunc(func() {
		if list := s.line.next(); len(list) > 0 {
			go s.takeTurn(func() { s.registerTogether(list) })
		}
	})
	late := time.AfterFunc(longTurn, pass)
	defer late.Stop()
	defer pass()
	do()
}

// registerTogether tries registrations whose callers wait. Of several of one subject the others are tried alone, and find its
// mapping. All replicas take subjects in the same order, so that none waits for one that waits for it.
func (s *Store) registerTogether(list []*registration) {
	defer func() {
		_ = recover() // here a panic would end the process; those who try alone meet it again
		for _, r := range list {
			close(r.tried)
		}
	}()
	slices.SortFunc(list, func(a, b *registration) int {
		return cmp.Or(cmp.Compare(a.subject.Issuer, b.subject.Issuer), cmp.Compare(a.subject.Claim, b.subject.Claim), cmp.Compare(a.subject.Value, b.subject.Value))
	})
	last := slices.MaxFunc(list, func(a, b *registration) int { return a.until.Compare(b.until) })
	ctx, cancel := context.WithDeadline(context.Background(), last.until)
	defer cancel()
	outcomes, err := s.register(ctx, list, true)
	if err != nil {
		return
	}
	for i, r := range list {
		r.outcome = outcomes[i]
	}
}

// registerAlone makes a registration, or says why it cannot be made.
func (s *Store) registerAlone(ctx context.Context, r *registration) (outcome, error) {
	outcomes, err := s.register(ctx, []*registration{r}, false)
	switch {
	case hasCode(err, uniqueViolation):
		return outcome{}, fmt.Errorf("postgres: create key: id or alias is taken: %w", mapping.ErrConflict)
	case hasCode(err, serializationFailure), violates(err, mappedKeyExists):
		return outcome{}, fmt.Errorf("postgres: register: %w", mapping.ErrConflict)
	case err != nil:
		return outcome{}, err
	}
	return outcomes[0], outcomes[0].err()
}
