package breaker_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/extauthz/extauthz/internal/breaker"
)

var (
	errDown   = errors.New("down")
	errAbsent = errors.New("absent")
)

// fixture is a breaker that opens after three failures, for a second.
type fixture struct {
	t       *testing.T
	breaker *breaker.Breaker
	changes []bool
}

func newFixture(t *testing.T) *fixture {
	f := &fixture{t: t}
	f.breaker = breaker.New(breaker.Options{
		Failures: 3, Pause: time.Second,
		Answered: func(err error) bool { return err == nil || errors.Is(err, errAbsent) },
		Changed:  func(open bool) { f.changes = append(f.changes, open) },
	})
	return f
}

// call makes calls that end with an error, and requires that each is made.
func (f *fixture) call(results ...error) {
	f.t.Helper()
	for _, result := range results {
		made := false
		if err := f.breaker.Do(f.t.Context(), func() error { made = true; return result }); !made || !errors.Is(err, result) {
			f.t.Fatalf("made %v, got %v; want the call's own %v", made, err, result)
		}
	}
}

// refused requires that a call is not made.
func (f *fixture) refused() {
	f.t.Helper()
	err := f.breaker.Do(f.t.Context(), func() error { f.t.Error("the call was made"); return nil })
	if !errors.Is(err, breaker.ErrOpen) {
		f.t.Fatalf("got %v, want ErrOpen", err)
	}
}

func (f *fixture) changed(want ...bool) {
	f.t.Helper()
	if !slices.Equal(f.changes, want) {
		f.t.Fatalf("told of %v, want %v", f.changes, want)
	}
}

func TestOpensAfterFailuresInARow(t *testing.T) {
	f := newFixture(t)
	f.call(errDown, errDown, nil, errDown, errDown, errAbsent, errDown, errDown)
	f.changed()
	f.call(errDown)
	f.changed(true)
	f.refused()
}

func TestClosesWithTheFirstAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.call(errDown, errDown, errDown)
		time.Sleep(time.Second)
		f.refused()
		time.Sleep(time.Nanosecond)
		f.call(errDown) // the one that sees whether it is over
		f.refused()
		f.changed(true)
		time.Sleep(time.Second + 1)
		f.call(errAbsent, nil, nil)
		f.changed(true, false)
	})
}

// While one call finds out, the others are not made.
func TestOneCallFindsOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.call(errDown, errDown, errDown)
		time.Sleep(time.Second + 1)
		finding := make(chan struct{})
		go func() { _ = f.breaker.Do(t.Context(), func() error { <-finding; return nil }) }()
		synctest.Wait()
		f.refused()
		close(finding)
		synctest.Wait()
		f.call(nil)
	})
}

// A caller who leaves says nothing about the database, whether it is being found out or not.
func TestAbandonedCallsDoNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		abandon := func() {
			if err := f.breaker.Do(gone, func() error { return gone.Err() }); !errors.Is(err, context.Canceled) {
				t.Fatalf("got %v", err)
			}
		}
		for range 10 {
			abandon()
		}
		f.call(errDown, errDown)
		f.changed()
		f.call(errDown)
		time.Sleep(time.Second + 1)
		abandon()
		f.call(nil)
		f.changed(true, false)
	})
}

func TestPanicCountsAsFailure(t *testing.T) {
	f := newFixture(t)
	for range 3 {
		func() {
			defer func() { _ = recover() }()
			_ = f.breaker.Do(t.Context(), func() error { panic("bug") })
		}()
	}
	f.changed(true)
}

func BenchmarkRefused(b *testing.B) {
	broken := breaker.New(breaker.Options{
		Failures: 1, Pause: time.Hour, Answered: func(err error) bool { return err == nil }, Changed: func(bool) {},
	})
	for b.Loop() {
		_ = broken.Do(b.Context(), func() error { return errDown })
	}
}
