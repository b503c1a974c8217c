package admission_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/extauthz/extauthz/internal/admission"
)

func TestWaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type key struct{}
		ctx := context.WithValue(t.Context(), key{}, "kept")
		if waited := admission.Waited(ctx, time.Now()); waited != 0 {
			t.Errorf("a request that nobody noted has waited %s", waited)
		}
		ctx, cancel := context.WithTimeout(admission.Arrive(ctx), time.Minute)
		defer cancel()
		time.Sleep(3 * time.Second)
		if waited := admission.Waited(ctx, time.Now()); waited != 3*time.Second {
			t.Errorf("waited %s, want 3s", waited)
		}
		if ctx.Value(key{}) != "kept" {
			t.Error("a value of the context is lost")
		}
	})
}

const wait = 100 * time.Millisecond

// gate is a gate with calls that last until they are let go.
type gate struct {
	*admission.Gate
	t     *testing.T
	leave chan error

	mu    sync.Mutex
	began []string
}

func newGate(t *testing.T, places, queue int) *gate {
	return &gate{Gate: admission.NewGate("test", places, queue, wait), t: t, leave: make(chan error)}
}

// call makes a call beside the test and returns where its error will be.
func (g *gate) call(ctx context.Context, name string) <-chan error {
	result := make(chan error, 1)
	go func() {
		result <- g.Do(ctx, func() error {
			g.mu.Lock()
			g.began = append(g.began, name)
			g.mu.Unlock()
			return <-g.leave
		})
	}()
	synctest.Wait()
	return result
}

func (g *gate) expectBegun(names ...string) {
	g.t.Helper()
	synctest.Wait()
	g.mu.Lock()
	defer g.mu.Unlock()
	if !slices.Equal(g.began, names) {
		g.t.Fatalf("begun: %v, want %v", g.began, names)
	}
}

func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, own := newGate(t, 1, 2), errors.New("the call's own")
		first := g.call(t.Context(), "first")
		second, third := g.call(t.Context(), "second"), g.call(t.Context(), "third")
		g.expectBegun("first")

		began := time.Now()
		err := <-g.call(t.Context(), "fourth")
		var full *admission.Error
		if !errors.Is(err, admission.ErrOverloaded) || !errors.As(err, &full) || full.At != "test" || time.Since(began) != 0 {
			t.Errorf("with a full queue: %v after %s", err, time.Since(began))
		}

		g.leave <- own
		if err := <-first; !errors.Is(err, own) {
			t.Errorf("the error of the call is lost: %v", err)
		}
		g.expectBegun("first", "second")
		if err := <-third; !errors.Is(err, admission.ErrOverloaded) || time.Since(began) != wait {
			t.Errorf("who waits too long: %v after %s, want an overload after %s", err, time.Since(began), wait)
		}
		g.leave <- nil
		if err := <-second; err != nil {
			t.Errorf("who waited: %v", err)
		}
		last := g.call(t.Context(), "last")
		g.expectBegun("first", "second", "last")
		g.leave <- nil
		if err := <-last; err != nil {
			t.Errorf("once it is empty again: %v", err)
		}
	})
}

// Whoever gives up while waiting takes nobody's place, and a call that panics gives its own back.
func TestGateIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(t, 1, 1)
		first := g.call(t.Context(), "first")
		ctx, cancel := context.WithCancel(t.Context())
		began, waiting := time.Now(), g.call(ctx, "waiting")
		cancel()
		if err := <-waiting; !errors.Is(err, admission.ErrOverloaded) || time.Since(began) != 0 {
			t.Errorf("who has gone: %v after %s", err, time.Since(began))
		}
		next := g.call(t.Context(), "next")
		g.leave <- nil
		g.leave <- nil
		if err := errors.Join(<-first, <-next); err != nil {
			t.Error(err)
		}
		func() {
			defer func() { _ = recover() }()
			_ = g.Do(t.Context(), func() error { panic("a bug") })
		}()
		if err := g.Do(t.Context(), func() error { return nil }); err != nil {
			t.Errorf("after a panic: %v", err)
		}
	})
}

func BenchmarkGate(b *testing.B) {
	g := admission.NewGate("test", 1, 1, wait)
	ctx, call := b.Context(), func() error { return nil }
	b.ReportAllocs()
	for b.Loop() {
		_ = g.Do(ctx, call)
	}
}
