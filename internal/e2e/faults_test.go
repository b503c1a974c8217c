package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/extauthz/extauthz/internal/extauthztest/faultproxy"
)

// extent is how much of the suite is run.
type extent struct {
	all       bool          // of the faults
	only      string        // those whose names contain it
	checks    int           // at least
	most      time.Duration // that it takes, the first round aside
	perSecond int
	hold      time.Duration // of each fault
	drain     string        // the replicas' drain_delay
	// checkTimeout and storeTimeout are the replicas' bounds.
	checkTimeout string
	storeTimeout time.Duration
}

// inFlight is how many requests are sent at a time.
const inFlight = 16

// outlived is longer than any fault here: while the database is out of reach, a change goes unnoticed for as long as stale rows
// are served.
const outlived = 5*time.Minute + 30*time.Second

// feed chooses the connections that tell of changes.
var feed = faultproxy.Containing("extauthz changes")

// mishaps are what happens, one after the other.
var mishaps = []fault{
	{
		name: "PostgreSQL is killed with -9", store: true, writes: true, lag: outlived,
		cause: func(w *world) { w.postgres.Kill(w.t) },
		heal:  func(w *world) { w.postgres.Start(w.t) },
	},
	{
		name: "PostgreSQL is stopped with SIGSTOP", store: true, writes: true, lag: outlived,
		cause: func(w *world) { w.postgres.Freeze(w.t) },
		heal:  func(w *world) { w.postgres.Thaw(w.t) },
	},
	{
		name: "PostgreSQL is read-only", writes: true,
		cause: func(w *world) { w.readOnly("on") },
		heal:  func(w *world) { w.readOnly("off") },
	},
	{
		name: "PostgreSQL is slow, 5 ms each way", long: true,
		cause: func(w *world) { w.proxy.Slow(5*time.Millisecond, faultproxy.All) },
		heal:  func(w *world) { w.proxy.Heal() },
	},
	{
		name: "PostgreSQL is slower than store.timeout", store: true, writes: true, lag: outlived,
		cause: func(w *world) { w.proxy.Slow(form().storeTimeout+form().storeTimeout/3, faultproxy.All) },
		heal:  func(w *world) { w.proxy.Heal() },
	},
	{
		name: "connections to PostgreSQL are half-open", store: true, writes: true, lag: everywhere,
		cause: func(w *world) { w.proxy.Abandon() },
		heal:  func(w *world) { w.proxy.Heal() },
	},
	{
		name: "connections to PostgreSQL are refused", store: true, writes: true, lag: outlived,
		cause: func(w *world) { w.proxy.Close() },
		heal:  func(w *world) { w.proxy.Heal() },
	},
	{
		name: "the connection that tells of changes is cut", lag: everywhere,
		cause: func(w *world) { w.proxy.Refuse(feed) },
		heal:  func(w *world) { w.proxy.Heal() },
	},
	{
		name: "the connection that tells of changes hangs", lag: everywhere, hold: 4 * time.Second, long: true,
		cause: func(w *world) { w.proxy.Hang(feed) },
		heal:  func(w *world) { w.proxy.Heal() },
	},
	{
		name: "the connection that tells of changes hangs, and PostgreSQL is slow", lag: everywhere, hold: 4 * time.Second, long: true,
		cause: func(w *world) {
			w.proxy.Hang(feed)
			pause(w.t.Context(), time.Second)
			w.proxy.Slow(5*time.Millisecond, faultproxy.All)
		},
		heal: func(w *world) { w.proxy.Heal() },
	},
	{
		name: "an issuer's keys cannot be fetched", long: true,
		cause: func(w *world) { w.rejecting.Down() },
		heal:  func(w *world) { w.rejecting.Up() },
	},
	{
		name: "an issuer answers slowly", long: true,
		cause: func(w *world) { w.rejecting.Delay(20 * time.Second) },
		heal:  func(w *world) { w.rejecting.Delay(0) },
	},
	{
		name: "an issuer answers garbage, another rotates its keys",
		cause: func(w *world) {
			w.rejecting.Respond(func(out http.ResponseWriter, _ *http.Request) { fmt.Fprint(out, `{"keys":[{"kty":`) })
			w.rotate()
		},
		heal: func(w *world) { w.rejecting.Respond(nil) },
	},
	{
		name: "a replica ends on SIGTERM, another one takes its place", long: true,
		cause: func(w *world) { w.end(w.replicas[0], syscall.SIGTERM) },
		heal:  func(w *world) { w.start(w.replicas[0]) },
	},
	{
		// A registration that it was making is one message, and ends without it.
		name: "a replica is stopped with SIGSTOP", bare: 3 * inFlight, lag: everywhere, hold: 5 * time.Second, long: true,
		cause: func(w *world) { _ = w.replicas[2].command.Process.Signal(syscall.SIGSTOP) },
		heal:  func(w *world) { _ = w.replicas[2].command.Process.Signal(syscall.SIGCONT) },
	},
	{
		// The next fault kills another one soon after this one is back.
		name: "a replica is killed with -9", bare: 3 * inFlight, hold: dead, long: true,
		cause: func(w *world) { w.end(w.replicas[1], syscall.SIGKILL) },
		heal:  func(w *world) { w.start(w.replicas[1]) },
	},
	{
		name: "PostgreSQL and a replica are killed with -9", store: true, writes: true, bare: 3 * inFlight, lag: outlived, hold: dead, long: true,
		cause: func(w *world) { w.end(w.replicas[0], syscall.SIGKILL); w.postgres.Kill(w.t) },
		heal:  func(w *world) { w.postgres.Start(w.t); w.start(w.replicas[0]) },
	},
	{
		name: "a replica is started while an issuer is down", long: true, hold: dead,
		cause: func(w *world) {
			w.rejecting.Down()
			w.end(w.replicas[1], syscall.SIGTERM)
			w.start(w.replicas[1])
		},
		heal: func(w *world) { w.rejecting.Up() },
	},
	{
		name: "a replica is started while PostgreSQL is refused", store: true, writes: true, lag: outlived, long: true, hold: dead,
		cause: func(w *world) {
			w.end(w.replicas[2], syscall.SIGTERM)
			w.proxy.Close()
			w.start(w.replicas[2])
		},
		heal: func(w *world) { w.proxy.Heal() },
	},
}

// readOnly makes every transaction but the test's own read-only, or no longer.
func (w *world) readOnly(value string) {
	w.t.Helper()
	for _, statement := range []string{"ALTER SYSTEM SET default_transaction_read_only = " + value, "SELECT pg_reload_conf()"} {
		if _, err := w.sql.ExecContext(w.t.Context(), statement); err != nil {
			w.t.Error(err)
		}
	}
}

// TestFaults has everything fail that a site is made of, while callers are answered and rows change. Each answer must be what
// was true of the caller, but for what the fault excuses.
func TestFaults(t *testing.T) {
	t.Parallel()
	w := newWorld(t, plan{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	changed := w.changes(ctx, 50*time.Millisecond)
	answered := w.load(ctx, form().perSecond)
	pause(ctx, time.Second)
	began := time.Now()
	for n := 0; n < len(mishaps) || int(w.court.checks.Load()) < form().checks && time.Since(began) < form().most; n++ {
		f := &mishaps[n%len(mishaps)]
		if (!f.long || form().all) && strings.Contains(f.name, form().only) {
			t.Log(w.report(w.suffer(f)))
		}
	}
	cancel()
	answered()
	changed()
	w.verdict()
}

// report says what a spell did, and fails the test if full service took too long.
func (w *world) report(s *spell) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if refused := s.bareRefusals.Load(); refused > s.bare {
		w.t.Errorf("%s: Envoy refused %d requests, want at most %d", s.name, refused, s.bare)
	}
	whole := max(0, s.last.Sub(s.healed))
	if whole > recovery {
		w.t.Errorf("%s: full service after %s, want at most %s", s.name, whole, recovery)
	}
	return fmt.Sprintf("%s: %d checks, %d refused, %d of them by Envoy; slowest refusal %s; %d stale; full service after %s; %d wrong so far", s.name,
		s.checks.Load(), s.refusals.Load(), s.bareRefusals.Load(), s.slowest.Round(time.Millisecond), s.stale.Load(), whole.Round(time.Millisecond), w.court.wrong.Load())
}

// verdict fails the test for anything that was wrong.
func (w *world) verdict() {
	w.t.Helper()
	w.t.Log(w.court.sum())
	if w.court.wrong.Load() > 0 {
		w.t.Errorf("wrong answers, the first of them:\n%s", w.court.complaints())
	}
	registrations, lost, orphans, err := w.audit()
	w.t.Logf("%d registrations that were answered, %d lost, %d keys without a mapping", registrations, lost, orphans)
	if err != nil || lost > 0 || orphans > 0 || registrations == 0 {
		w.t.Errorf("%d registrations, %d lost, %d orphans, %v", registrations, lost, orphans, err)
	}
}
