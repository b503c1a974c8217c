package authz

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/extauthz/extauthz/internal/trace"
)

// A checkContext ends when context.WithDeadline's does, whether or not anybody has waited on it.
func TestCheckContext(t *testing.T) {
	type waiter func(context.Context) context.Context
	nobody := func(ctx context.Context) context.Context { return ctx }
	waited := func(ctx context.Context) context.Context { ctx.Done(); return ctx }
	derived := func(ctx context.Context) context.Context {
		below, cancel := context.WithTimeout(ctx, time.Hour)
		context.AfterFunc(ctx, cancel)
		return below
	}
	for name, wait := range map[string]waiter{"nobody waits": nobody, "somebody waits": waited, "a context below it": derived} {
		t.Run(name, func(t *testing.T) {
			for end, want := range map[string]error{"its deadline": context.DeadlineExceeded, "its caller": context.Canceled, "its end": context.Canceled} {
				synctest.Test(t, func(t *testing.T) {
					parent, cancel := context.WithCancel(t.Context())
					defer cancel()
					c := &checkContext{Context: parent, deadline: time.Now().Add(time.Second)}
					defer c.end()
					ctx := wait(c)
					time.Sleep(time.Second - 1)
					if err := ctx.Err(); err != nil {
						t.Fatalf("%s: too early: %v", end, err)
					}
					switch end {
					case "its deadline":
						time.Sleep(time.Nanosecond)
					case "its caller":
						cancel()
					case "its end":
						c.end()
					}
					synctest.Wait()
					if err := ctx.Err(); !errors.Is(err, want) {
						t.Errorf("%s: %v", end, err)
					}
					select {
					case <-ctx.Done():
					default:
						t.Errorf("%s: not done", end)
					}
					if err := context.Cause(ctx); !errors.Is(err, want) {
						t.Errorf("%s: the cause is %v", end, err)
					}
				})
			}
		})
	}
}

func TestCheckContextHasTheRecord(t *testing.T) {
	type key struct{}
	c := &checkContext{Context: context.WithValue(t.Context(), key{}, "caller's"), deadline: time.Now().Add(time.Hour)}
	defer c.end()
	for range 2 { // before and after somebody waits
		if trace.From(c) != &c.record || c.Value(key{}) != "caller's" {
			t.Error("the record, or what the caller's context holds, is not found")
		}
		c.Done()
	}
	if at, ok := c.Deadline(); !ok || !at.Equal(c.deadline) {
		t.Errorf("deadline %v, %t", at, ok)
	}
}
