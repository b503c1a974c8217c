//go:build faults

package e2e

import (
	"context"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

// perSecond is the load beside which revocations are measured: some two thirds of what two cores can do.
const perSecond = 1000

// TestRollingRestartUnderLoad ends one replica after the other as Kubernetes does, and starts another in its place. Nobody
// notices.
func TestRollingRestartUnderLoad(t *testing.T) {
	const requests = 100_000
	w := newWorld(t, plan{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	changed := w.changes(ctx, 50*time.Millisecond)
	answered := w.load(ctx, form().perSecond)
	restarts := 0
	for w.court.checks.Load() < requests || restarts < replicaCount {
		r := w.replicas[restarts%replicaCount]
		w.end(r, syscall.SIGTERM)
		w.start(r)
		w.whole()
		restarts++
	}
	cancel()
	answered()
	changed()
	t.Logf("%d restarts", restarts)
	w.verdict()
}

// TestRevocationUnderLoad measures how long a revocation takes on each replica while requests come through Envoy.
func TestRevocationUnderLoad(t *testing.T) {
	w := newWorld(t, plan{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	answered := w.load(ctx, perSecond)
	for _, step := range []struct {
		what         string
		cause        func()
		rounds       int
		p99, longest time.Duration
	}{
		{"while changes are told", func() {}, 200, 100 * time.Millisecond, told},
		{"while the connection that tells of them is refused", func() { w.proxy.Refuse(feed) }, 8, everywhere, everywhere},
		{"while it hangs", func() { w.proxy.Heal(); w.whole(); w.proxy.Hang(feed) }, 8, everywhere, everywhere},
	} {
		step.cause()
		spell := &spell{fault: &fault{name: step.what, lag: step.longest}, begun: time.Now()}
		w.court.mu.Lock()
		w.court.spells = append(w.court.spells, spell)
		w.court.mu.Unlock()
		var took []time.Duration
		for n := range step.rounds {
			took = append(took, w.revoke(w.changed[n%len(w.changed)])...)
		}
		p99 := report(t, "revocation "+step.what, took)
		if longest := slices.Max(took); p99 > step.p99 || longest > step.longest {
			t.Errorf("%s: p99 %s, longest %s; want at most %s and %s", step.what, p99, longest, step.p99, step.longest)
		}
	}
	w.proxy.Heal()
	cancel()
	answered()
	t.Log(w.court.sum())
	if w.court.wrong.Load() > 0 {
		t.Errorf("wrong answers, the first of them:\n%s", w.court.complaints())
	}
}

// revoke blocks a caller's keys, measures how long that takes on each replica, and gives them back.
func (w *world) revoke(r *row) []time.Duration {
	w.t.Helper()
	const statement = "UPDATE virtual_keys SET blocked = $1 WHERE id IN ($2, $3)"
	set := func(blocked bool, status int, what string) []time.Duration {
		r.blocked = blocked
		began := time.Now()
		w.commit(w.t.Context(), r.caller, r.truth(), statement, blocked, r.keys[0], r.keys[1])
		took := make([]time.Duration, len(w.replicas))
		var group sync.WaitGroup
		for n, replica := range w.replicas {
			group.Go(func() { took[n] = replica.asker.until(began, r.caller.token, status, what) })
		}
		group.Wait()
		return took
	}
	took := set(true, 403, "key_blocked")
	set(false, 200, "mapping")
	return took
}
