package e2e

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/extauthz/extauthz/internal/cache"
	"github.com/extauthz/extauthz/internal/extauthztest/faultproxy"
	"github.com/extauthz/extauthz/internal/extauthztest/pgtest"
)

// recovery is how long the service may take to be whole again once the database is.
const recovery = 2 * time.Second

// outagePlan lets rows live for a second and, in an outage, for eight more.
func outagePlan() plan {
	const config = "mapping: {claim: client_id, no_match: reject, cache_ttl: 1s, serve_stale: 8s}\ncache: {ttl: 1s}\n"
	return plan{config: config, resources: manyKeys(20), servers: 2, checkTimeout: "2s", storeTimeout: "500ms"}
}

const (
	outageTTL   = time.Second
	outageStale = 8 * time.Second
)

// during asks for one token after the other, a hundred times a second, until the time is over, and returns the answers.
func (a *asker) during(d time.Duration, tokens ...string) []verdict {
	a.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	var list []verdict
	for began := time.Now(); time.Since(began) < d; <-tick.C {
		list = append(list, a.must(tokens[len(list)%len(tokens)]))
	}
	return list
}

// sharing returns another client whose mapping's changes are noted in the same one of the cache's 65,536 places.
func sharing(client string) string {
	place := func(client string) uint64 { return cache.Digest("client_id", client) % (1 << 16) }
	n := 0
	for place(fmt.Sprint("other-", n)) != place(client) {
		n++
	}
	return fmt.Sprint("other-", n)
}

// PostgreSQL is stopped: callers whose rows are cached are served, marked, until the stated bound, and nobody else
// is. What was revoked before stays revoked. It is started, and all is well.
func TestCallersOutliveTheDatabase(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t)
	r := newReplicas(t, postgres(t, server), outagePlan())
	cached, revoked, cold := r.token("c0"), r.token("c1"), r.token("c2")
	r.all(cached, 200, "mapping")
	r.all(revoked, 200, "mapping")
	r.seen(r.run("UPDATE virtual_keys SET blocked = true WHERE alias = 'k1'"), revoked, 403, "key_blocked")

	last := make([]time.Time, len(r.askers)) // before that, every row of the cached caller was loaded
	for n, a := range r.askers {
		a.must(cached)
		last[n] = time.Now()
	}
	// A change that is told just before takes nobody with it.
	other := r.token(sharing("c0"))
	r.all(other, 403, "no_mapping")
	r.seen(r.run("INSERT INTO jwt_key_mappings (claim, value, key_id) SELECT 'client_id', $1, id FROM virtual_keys WHERE alias = 'k3'", sharing("c0")),
		other, 200, "mapping")
	server.Stop(t)
	stopped := time.Now()
	var group sync.WaitGroup
	for n, a := range r.askers {
		group.Go(func() {
			stale := 0
			served := stopped
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			for ; ; <-tick.C {
				v := a.must(cached)
				if v.status != 200 {
					if v.status != 503 || v.what != "store_unavailable" {
						t.Errorf("replica %d: %s", n, v)
					}
					break
				}
				if served = time.Now(); v.stale {
					stale++
				} else if age := time.Since(stopped); age > outageTTL+everywhere {
					t.Errorf("replica %d: not marked %s after the outage began", n, age)
				}
				if time.Since(stopped) > patience {
					t.Errorf("replica %d: served without a bound", n)
					break
				}
			}
			lasted := served.Sub(stopped)
			t.Logf("replica %d: served for %s of the outage, %d answers marked stale", n, lasted.Round(time.Millisecond), stale)
			if lasted < outageStale-time.Second || served.Sub(last[n]) > outageTTL+outageStale+time.Second || stale == 0 {
				t.Errorf("replica %d: served for %s, %d answers marked", n, lasted, stale)
			}
			if v := a.must(revoked); v.status == 200 {
				t.Errorf("replica %d: a revoked key is served in an outage: %s", n, v)
			}
			refused := 0
			for _, v := range a.during(500*time.Millisecond, cold, cached) {
				if v.status != 503 || v.what != "store_unavailable" || v.stale {
					t.Errorf("replica %d: %s", n, v)
				}
				refused++
			}
			t.Logf("replica %d: %d requests refused meanwhile", n, refused)
		})
	}
	group.Wait()
	for _, v := range r.servers {
		v.awaitMetric("extauthz_store_refusing 1")
		if page := v.get("/readyz"); page.Status != 200 {
			t.Errorf("a replica that was ready is not, because of the store: %d %s", page.Status, page.Body)
		}
		if log := v.logged(); !strings.Contains(log, `"stale":true`) {
			t.Errorf("no line of the log is marked:\n%s", log)
		}
	}

	server.Start(t)
	began := time.Now()
	took := r.seen(began, cached, 200, "mapping")
	took = append(took, r.seen(began, cold, 200, "mapping")...)
	if longest := report(t, "full service after the database is back", took); longest > recovery {
		t.Errorf("the longest took %s, want at most %s", longest, recovery)
	}
	r.all(revoked, 403, "key_blocked")
	for _, v := range r.servers {
		v.awaitMetric("extauthz_store_refusing 0")
		v.awaitMetric("extauthz_change_feed_up 1")
	}
	r.seen(r.run("UPDATE virtual_keys SET blocked = true WHERE alias = 'k0'"), cached, 403, "key_blocked")
}

// The database hangs: nothing comes back on any connection. Callers whose rows are cached lose nothing, all others are
// told so within the time of a check.
func TestCallersOutliveADatabaseThatHangs(t *testing.T) {
	t.Parallel()
	proxy, store := proxied(t, postgres(t, pgtest.Start(t)))
	r := newReplicas(t, store, outagePlan())
	cached, cold := r.token("c0"), r.token("c1")
	r.all(cached, 200, "mapping")
	proxy.Hang(faultproxy.All)
	began := time.Now()
	var group sync.WaitGroup
	for n, a := range r.askers {
		group.Go(func() {
			var took, refused []time.Duration
			for time.Since(began) < outageStale-2*time.Second {
				for _, v := range a.during(100*time.Millisecond, cached) {
					if v.status != 200 {
						t.Errorf("replica %d: a cached caller got %s", n, v)
					}
					took = append(took, v.took)
				}
				v := a.must(cold)
				if v.status != 503 || v.what != "store_unavailable" {
					t.Errorf("replica %d: %s", n, v)
				}
				refused = append(refused, v.took)
			}
			report(t, fmt.Sprintf("replica %d, cached callers", n), took)
			if longest := report(t, fmt.Sprintf("replica %d, refused callers", n), refused); longest > 2*time.Second {
				t.Errorf("replica %d: a refusal took %s", n, longest)
			}
		})
	}
	group.Wait()
	proxy.Heal()
	healed := time.Now()
	took := append(r.seen(healed, cold, 200, "mapping"), r.seen(healed, cached, 200, "mapping")...)
	if longest := report(t, "full service after the database answers again", took); longest > recovery {
		t.Errorf("the longest took %s, want at most %s", longest, recovery)
	}
}

// In an outage nobody is registered, whatever the cache remembers of who was not.
func TestNobodyRegistersInAnOutage(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t)
	const config = "mapping: {claim: client_id, no_match: auto_register, cache_ttl: 1s, serve_stale: 1m, auto_register: {max_keys_per_team: 1}}\ncache: {ttl: 1s}\n"
	r := newReplicas(t, postgres(t, server), plan{config: config, resources: teamA, checkTimeout: "2s", storeTimeout: "500ms"})
	registered := r.token("first")
	const changes = "extauthz_change_lag_seconds_count"
	before := r.servers[0].metric(changes)
	r.all(registered, 200, "auto_register")
	r.servers[0].awaitMore(changes, before) // it is told of its own registration, and forgets what that changed
	r.all(registered, 200, "mapping")       // cached from here on
	unknown := r.token("second")
	r.all(unknown, 403, "registration_limited") // the absence is cached
	server.Stop(t)
	for _, v := range r.askers[0].during(3*time.Second, unknown) {
		if v.status != 503 || v.what != "store_unavailable" {
			t.Fatalf("%s; want 503 store_unavailable", v)
		}
	}
	if v := r.askers[0].must(registered); v.status != 200 || !v.stale {
		t.Errorf("the registered caller: %s; want 200, stale", v)
	}
}
