// Package breaker keeps callers from waiting for a database that does not answer.
//
// It counts failures in a row, and decides from them whether a call is made at all. What a failure is
// its user says; what a caller is told is left to the caller.
package breaker

import (
	"context"
	"errors"
	"time"

	"github.com/sony/gobreaker/v2"
)

// ErrOpen says that a call was not made, because the ones before it failed.
var ErrOpen = errors.New("the store is not asked: its last calls failed")

// Options configure a [Breaker]. All are required.
type Options struct {
	// Failures is how many calls in a row have to fail before calls are refused.
	Failures uint32
	// Pause is how long calls are refused before one is let through to see.
	Pause time.Duration
	// Answered reports whether the database answered a call that ended with this error.
	Answered func(error) bool
	// Changed is told when calls begin to be refused (open), and when they no longer are. It must not block.
	Changed func(open bool)
}

// Breaker refuses calls while they would fail. It is safe for concurrent use.
type Breaker struct {
	answered func(error) bool
	breaker  *gobreaker.TwoStepCircuitBreaker[any]
}

// New returns a breaker that lets calls through.
func New(o Options) *Breaker {
	return &Breaker{
		answered: o.Answered,
		breaker: gobreaker.NewTwoStepCircuitBreaker[any](gobreaker.Settings{
			MaxRequests:  1,
			Timeout:      o.Pause,
			ReadyToTrip:  func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= o.Failures },
			IsExcluded:   func(err error) bool { return errors.Is(err, errAbandoned) },
			IsSuccessful: func(err error) bool { return err == nil },
			OnStateChange: func(_ string, from, to gobreaker.State) {
				switch {
				case to == gobreaker.StateClosed:
					o.Changed(false)
				case from == gobreaker.StateClosed:
					o.Changed(true)
				}
			},
		}),
	}
}

var (
	errAbandoned = errors.New("the caller has gone")
	errPanicked  = errors.New("the call panicked")
)

// Do makes the call and returns its error, or ErrOpen. A call whose caller has gone, or has run out of time, shows
// nothing about the database.
func (b *Breaker) Do(ctx context.Context, call func() error) error {
	done, err := b.breaker.Allow()
	if err != nil {
		return ErrOpen
	}
	result := errPanicked
	defer func() { done(result) }()
	err = call()
	switch {
	case b.answered(err):
		result = nil
	case ctx.Err() != nil:
		result = errAbandoned
	default:
		result = err
	}
	return err
}
