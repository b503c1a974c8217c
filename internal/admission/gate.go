// Package admission keeps work from piling up: it knows how long a request has waited to be begun, and lets only so
// much of one kind of work run at once and only so much wait for it.
//
// It decides what is turned away. What a client is then told is left to the caller.
package admission

import (
	"context"
	"errors"
	"runtime"
	"time"
)

// ErrOverloaded is what every [Error] wraps.
var ErrOverloaded = errors.New("overloaded")

// Error is an [ErrOverloaded] that says where there was no room.
type Error struct{ At string }

func (e *Error) Error() string { return ErrOverloaded.Error() + ": " + e.At }

func (e *Error) Unwrap() error { return ErrOverloaded }

// Gate bounds one kind of work. It is safe for concurrent use.
type Gate struct {
	places, queue chan struct{}
	wait          time.Duration
	full          *Error
}

// NewGate returns a gate that lets places calls run at once, and queue more wait for that, in their order, each for at most
// wait. All must be positive. The name is the At of its errors.
func NewGate(name string, places, queue int, wait time.Duration) *Gate {
	return &Gate{places: make(chan struct{}, places), queue: make(chan struct{}, queue), wait: wait, full: &Error{name}}
}

// Do makes the call and returns its error. It makes none, and returns an [Error], if too many wait already, or if
// there is no place in time or before ctx ends.
func (g *Gate) Do(ctx context.Context, call func() error) error {
	if err := g.enter(ctx); err != nil {
		return err
	}
	defer func() { <-g.places }()
	// Work that is dear lets all that can run go first. Otherwise those who come would find the gate open, one after
	// another, each with its work just done; the queue would be in Go's scheduler, where who has dear work and who has not
	// wait alike. Whoever is handed a place would run at once, ahead of all others, and so on with the next.
	runtime.Gosched()
	return call()
}

func (g *Gate) enter(ctx context.Context) error {
	select {
	case g.places <- struct{}{}: // those that wait are served first: a place that is left is theirs at once
		return nil
	default:
	}
	select {
	case g.queue <- struct{}{}:
	default:
		return g.full
	}
	defer func() { <-g.queue }()
	late := time.NewTimer(g.wait)
	defer late.Stop()
	select {
	case g.places <- struct{}{}:
		return nil
	case <-late.C:
	case <-ctx.Done():
	}
	return g.full
}
