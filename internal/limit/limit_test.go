package limit_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/extauthz/extauthz/internal/limit"
)

var errSpent, errCall = errors.New("spent"), errors.New("the call failed")

func TestPerMinute(t *testing.T) {
	now := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	p := limit.New[string](2, errSpent, func() time.Time { return now })
	succeed, fail := func() error { return nil }, func() error { return errCall }
	do := func(key string, call func() error, want error) {
		t.Helper()
		if left := p.Left(key); left == errors.Is(want, errSpent) {
			t.Errorf("left: %v", left)
		}
		if err := p.Do(key, call); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
	for range 3 {
		do("a", fail, errCall) // spends nothing
	}
	do("a", succeed, nil)
	do("a", succeed, nil)
	do("a", succeed, errSpent)
	do("b", succeed, nil) // another key has its own
	now = now.Add(30*time.Second - time.Millisecond)
	do("a", succeed, errSpent)
	now = now.Add(2 * time.Millisecond)
	do("a", succeed, nil)
	do("a", succeed, errSpent)
	now = now.Add(time.Hour) // no more than two are ever left
	do("a", succeed, nil)
	do("a", succeed, nil)
	do("a", succeed, errSpent)
}

func TestNoBound(t *testing.T) {
	p := limit.New[string](0, errSpent, time.Now)
	for range 1000 {
		if err := p.Do("a", func() error { return nil }); err != nil || !p.Left("a") {
			t.Fatal(err)
		}
	}
}

func TestPerMinuteTogether(t *testing.T) {
	now := time.Now()
	p := limit.New[string](5, errSpent, func() time.Time { return now })
	var made atomic.Int32
	var group sync.WaitGroup
	for range 50 {
		group.Go(func() { _ = p.Do("a", func() error { made.Add(1); return nil }) })
	}
	group.Wait()
	if made.Load() != 5 {
		t.Errorf("%d calls, want 5", made.Load())
	}
}
