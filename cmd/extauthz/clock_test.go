package main

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/extauthz/extauthz/internal/extauthztest/issuertest/localissuer"
	"github.com/extauthz/extauthz/pkg/authz"
	"github.com/extauthz/extauthz/pkg/token"
)

// steppedClock is a clock that somebody sets: its wall time steps, and its monotonic reading goes on, as with the
// machine's own.
type steppedClock struct{ offset atomic.Int64 }

func (c *steppedClock) step(d time.Duration) { c.offset.Store(int64(d)) }

// now changes the seconds in a time.Time's word of wall time; package time has no way to set the one without the other.
func (c *steppedClock) now() time.Time {
	const secondsAt = 30 // the word is a bit for the monotonic reading, 33 bits of seconds and 30 of nanoseconds
	t := time.Now()
	*(*uint64)(unsafe.Pointer(&t)) += uint64(time.Duration(c.offset.Load())/time.Second) << secondsAt
	return t
}

// The steps are longer than any time to live, any token and any bound here.
const clockStep = 2 * time.Hour

func TestSteppedClock(t *testing.T) {
	var c steppedClock
	began, unset := c.now(), time.Now()
	for _, d := range []time.Duration{clockStep, -clockStep} {
		c.step(d)
		now := c.now()
		if elapsed := now.Sub(began); elapsed < 0 || elapsed > time.Minute {
			t.Errorf("a step of %s is one of the monotonic reading too: %s", d, elapsed)
		}
		if stepped := now.Round(0).Sub(unset.Round(0)) - d; stepped < -time.Second || stepped > time.Minute {
			t.Errorf("a step of %s is one of %s", d, d+stepped)
		}
	}
}

// The clock is set two hours ahead, back, two hours behind, and back. Tokens, keys and budgets are judged by what it shows. How
// old rows and keys of issuers are, and how much may be registered in a minute, is not.
func TestClockSteps(t *testing.T) {
	callers, err := authz.NewCallers(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(callers.Close)
	clock := new(steppedClock)
	soon := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	f := newInProcess(t, "mapping: {claim: sub, no_match: auto_register, auto_register: {max_per_minute: 2}}\ncache: {ttl: 1h}\n", fmt.Sprintf(`
teams: [{id: a}]
keys:
- {alias: plain, secret: sk-clock-plain-0123, team_id: a}
- {alias: expiring, secret: sk-clock-expiring-0123, team_id: a, expires_at: %s}
- {alias: spent, secret: sk-clock-spent-0123, team_id: a, max_budget: 1, spend: 1, budget_window: 1d, budget_reset_at: %s}
mappings:
- {claim: sub, value: plain, key: plain}
- {claim: sub, value: expiring, key: expiring}
- {claim: sub, value: spent, key: spent}
`, soon, soon), parts{callers: callers, now: clock.now}, token.Options{Now: clock.now})

	mint := func(client string, at time.Time) string {
		return f.issuer.Mint(map[string]any{"sub": client, "team": "a", "iat": at.Unix(), "exp": at.Add(time.Hour).Unix()})
	}
	old := mint("plain", time.Now()) // of before every step; the server remembers it
	require := func(when, what, bearer, want string) {
		t.Helper()
		if got := f.send(bearer); got != want {
			t.Errorf("%s: %s: %q, want %q", when, what, got, want)
		}
	}
	require("at first", "a caller", old, "")
	require("at first", "a newcomer", mint("newcomer-1", time.Now()), "")
	require("at first", "another one", mint("newcomer-2", time.Now()), "")
	require("at first", "a third one", mint("newcomer-3", time.Now()), "registration_limited")
	require("at first", "a key that will expire", mint("expiring", time.Now()), "")
	require("at first", "a spent key", mint("spent", time.Now()), "budget_exceeded")
	calls := f.storeCalls()

	for _, step := range []struct {
		when                string
		by                  time.Duration
		old, expired, spent string
	}{
		{"two hours ahead", clockStep, "token_expired", "key_expired", ""},
		{"back from ahead", 0, "", "", "budget_exceeded"},
		{"two hours behind", -clockStep, "token_not_yet_valid", "", "budget_exceeded"},
		{"back from behind", 0, "", "", "budget_exceeded"},
	} {
		clock.step(step.by)
		now := clock.now()
		require(step.when, "a token of before", old, step.old)
		require(step.when, "a token of now", mint("plain", now), "")
		require(step.when, "a key that expires", mint("expiring", now), step.expired)
		require(step.when, "a spent key", mint("spent", now), step.spent)
		require(step.when, "a newcomer of the same minute", mint("newcomer-3", now), "registration_limited")
		require(step.when, "a forged token", f.issuer.Mint(map[string]any{"sub": "plain", "iat": now.Unix(), "exp": now.Add(time.Hour).Unix()},
			localissuer.Sign(func(string) ([]byte, error) { return make([]byte, 64), nil })), "token_invalid")
	}
	if more := f.storeCalls() - calls; more > 0 {
		t.Errorf("rows were read again %d times because the clock was set", more)
	}
	for _, by := range []time.Duration{clockStep, -clockStep} { // a change is seen all the same
		clock.step(by)
		for _, state := range []struct{ blocked, want string }{{"true", "key_blocked"}, {"false", ""}} {
			f.apply("keys: [{alias: plain, secret: sk-clock-plain-0123, team_id: a, blocked: " + state.blocked + "}]")
			bearer := mint("plain", clock.now())
			for began := time.Now(); f.send(bearer) != state.want; time.Sleep(time.Millisecond) {
				if time.Since(began) > 5*time.Second {
					t.Fatalf("the clock set by %s: still not %q", by, state.want)
				}
			}
		}
	}
}
