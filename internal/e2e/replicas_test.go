package e2e

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/extauthz/extauthz/internal/extauthztest/faultproxy"
	"github.com/extauthz/extauthz/internal/extauthztest/pgtest"
)

// everywhere is how long a revocation may take on every replica, whatever happens to the connection that tells of
// it; told is how long it may take while nothing does.
const (
	told       = time.Second
	everywhere = 5 * time.Second
)

// replicas are several servers over one PostgreSQL, asked without Envoy.
type replicas struct {
	*site
	askers []*asker
	sql    *sql.DB
}

func newReplicas(t *testing.T, store database, p plan) *replicas {
	t.Helper()
	p.noEnvoy = true
	r := &replicas{site: newSite(t, store, p)}
	for _, server := range r.servers {
		r.askers = append(r.askers, server.asker())
		server.awaitMetric("extauthz_change_feed_up 1")
	}
	var err error
	if r.sql, err = sql.Open(store.driver, store.source); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.sql.Close() })
	return r
}

// awaitMetric waits for a line of the metrics page.
func (v *server) awaitMetric(line string) {
	v.t.Helper()
	v.awaitPage(line, func() bool { return strings.Contains(v.get("/metrics").Body, "\n"+line+"\n") })
}

// awaitMore waits until a metric is greater than it was.
func (v *server) awaitMore(name string, than float64) {
	v.t.Helper()
	v.awaitPage(fmt.Sprintf("more %s than %v", name, than), func() bool { return v.metric(name) > than })
}

// awaitPage waits until the metrics say what they are to say.
func (v *server) awaitPage(what string, said func() bool) {
	v.t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !said() {
		select {
		case <-deadline:
			v.t.Fatalf("the metrics never said %q", what)
		case <-tick.C:
		}
	}
}

// run runs hand-written SQL and returns when it began: its commit is later.
func (r *replicas) run(statement string, args ...any) time.Time {
	r.t.Helper()
	began := time.Now()
	if _, err := r.sql.ExecContext(r.t.Context(), statement, args...); err != nil {
		r.t.Fatalf("%s: %v", statement, err)
	}
	return began
}

// seen waits until every replica gives the answer and returns how long each took.
func (r *replicas) seen(since time.Time, token string, status int, what string) []time.Duration {
	r.t.Helper()
	took := make([]time.Duration, len(r.askers))
	var group sync.WaitGroup
	for n, a := range r.askers {
		group.Go(func() { took[n] = a.until(since, token, status, what) })
	}
	group.Wait()
	return took
}

// all requires that every replica gives the answer at once.
func (r *replicas) all(token string, status int, what string) {
	r.t.Helper()
	for n, a := range r.askers {
		if v := a.must(token); v.status != status || v.what != what {
			r.t.Fatalf("replica %d: %s; want %d %s", n, v, status, what)
		}
	}
}

// manyKeys are so many callers with a key each, and a team.
func manyKeys(count int) string {
	var keys, mappings strings.Builder
	for n := range count {
		fmt.Fprintf(&keys, "- {alias: k%d, secret: sk-replica-key-%06d, team_id: a}\n", n, n)
		fmt.Fprintf(&mappings, "- {claim: client_id, value: c%d, key: k%d}\n", n, n)
	}
	return teamA + "keys:\n" + keys.String() + "mappings:\n" + mappings.String()
}

func (r *replicas) token(client string) string {
	return r.issuer.Mint(map[string]any{"sub": "alice", "team": "a", "client_id": client})
}

// report prints the distribution of durations and returns its 99th percentile.
func report(t *testing.T, what string, took []time.Duration) time.Duration {
	slices.Sort(took)
	p99 := took[(len(took)*99+99)/100-1]
	t.Logf("%s: %d measured, p50 %s, p99 %s, longest %s", what, len(took), took[len(took)/2].Round(10*time.Microsecond),
		p99.Round(10*time.Microsecond), took[len(took)-1].Round(10*time.Microsecond))
	return p99
}

// background asks every replica for keys that stay valid until the returned function is called.
func (r *replicas) background(tokens []string) (stop func()) {
	ctx, cancel := context.WithCancel(r.t.Context())
	var group sync.WaitGroup
	var asked, wrong atomic.Int64
	for _, a := range r.askers {
		group.Go(func() {
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for n := 0; ; n++ {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
				v, err := a.ask(ctx, tokens[n%len(tokens)])
				if ctx.Err() == nil {
					asked.Add(1)
					if err != nil || v.status != 200 {
						wrong.Add(1)
					}
				}
			}
		})
	}
	return func() {
		cancel()
		group.Wait()
		r.t.Logf("beside it: %d requests, %d wrong answers", asked.Load(), wrong.Load())
		if wrong.Load() > 0 {
			r.t.Errorf("%d of %d requests of callers whose keys stay valid were answered wrongly", wrong.Load(), asked.Load())
		}
	}
}

// A key that is blocked by plain SQL is denied on every replica, and fast.
func TestRevocationReachesEveryReplica(t *testing.T) {
	const revocations, staying = 200, 20
	r := newReplicas(t, postgres(t, pgtest.Start(t)), plan{config: reject, resources: manyKeys(revocations + staying), servers: 3})
	tokens := make([]string, revocations+staying)
	for n := range tokens {
		tokens[n] = r.token(fmt.Sprint("c", n))
		r.all(tokens[n], 200, "mapping")
	}
	stop := r.background(tokens[revocations:])
	var took []time.Duration
	for n := range revocations {
		began := r.run("UPDATE virtual_keys SET blocked = true WHERE alias = $1", fmt.Sprint("k", n))
		took = append(took, r.seen(began, tokens[n], 403, "key_blocked")...)
	}
	stop()
	if p99 := report(t, "revocation on three replicas", took); p99 > told {
		t.Errorf("p99 %s, want at most %s", p99, told)
	}
	for n, v := range r.servers {
		all, fast := v.metric("extauthz_change_lag_seconds_count"), v.metric(`extauthz_change_lag_seconds_bucket{le="1"}`)
		t.Logf("replica %d: its own lag is %.1f ms on the average of %.0f changes", n, 1000*v.metric("extauthz_change_lag_seconds_sum")/all, all)
		if all < revocations || fast < all*99/100 {
			t.Errorf("replica %d counts %.0f changes, %.0f of them within 1 s", n, all, fast)
		}
	}
}

// A replica that drains still answers, and is still told.
func TestRevocationReachesADrainingReplica(t *testing.T) {
	t.Parallel()
	r := newReplicas(t, postgres(t, pgtest.Start(t)), plan{config: reject, resources: manyKeys(8), drainDelay: "6s"})
	for n := range 8 {
		r.all(r.token(fmt.Sprint("c", n)), 200, "mapping")
	}
	leaving := r.servers[0]
	if err := leaving.command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	leaving.awaitPage("drain", func() bool { return leaving.get("/readyz").Status == http.StatusServiceUnavailable })
	var took []time.Duration
	for n := range 8 {
		began := r.run("UPDATE virtual_keys SET blocked = true WHERE alias = $1", fmt.Sprint("k", n))
		took = append(took, r.seen(began, r.token(fmt.Sprint("c", n)), 403, "key_blocked")...)
	}
	report(t, "revocation on a replica that drains", took)
	if longest := slices.Max(took); longest > told {
		t.Errorf("the longest took %s, want at most %s", longest, told)
	}
}

// metric returns the value of a line of the metrics page.
func (v *server) metric(name string) (value float64) {
	v.t.Helper()
	for line := range strings.Lines(v.get("/metrics").Body) {
		if text, found := strings.CutPrefix(line, name+" "); found {
			if _, err := fmt.Sscan(text, &value); err != nil {
				v.t.Fatal(err)
			}
			return value
		}
	}
	v.t.Fatalf("there is no metric %s", name)
	return 0
}

const everyRow = `
organizations: [{id: acme, alias: Acme}]
teams: [{id: a, alias: A, organization_id: acme, members: [alice]}, {id: b, alias: B, members: [alice]}]
keys: [{alias: k1, secret: sk-every-row-000001, team_id: a}, {alias: k2, secret: sk-every-row-000002, team_id: a}]
mappings: [{claim: client_id, value: mapped, key: k1}]
`

// Whatever a decision read, its change reaches the other replicas: rows, their absence, aliases, memberships.
func TestEveryKindOfChangeReachesEveryReplica(t *testing.T) {
	const config = reject + "policy: {teams: {by_alias: true, require_member: true}}\n"
	r := newReplicas(t, postgres(t, pgtest.Start(t)), plan{config: config, resources: everyRow, servers: 2})
	caller := func(team, client string) string {
		return r.issuer.Mint(map[string]any{"sub": "alice", "team": team, "client_id": client})
	}
	mapped := caller("a", "mapped")
	var took []time.Duration
	for _, step := range []struct {
		sql         string
		token       string
		before      int
		beforeWhat  string
		status      int
		what        string
		description string
	}{
		{"UPDATE virtual_keys SET blocked = true WHERE alias = 'k1'", mapped, 200, "mapping", 403, "key_blocked", "key"},
		{"UPDATE virtual_keys SET blocked = false WHERE alias = 'k1'", mapped, 403, "key_blocked", 200, "mapping", "key, back"},
		{"UPDATE virtual_keys SET max_budget_micros = 5, spend_micros = 5 WHERE alias = 'k1'", mapped, 200, "mapping", 429, "budget_exceeded", "budget"},
		{"UPDATE virtual_keys SET spend_micros = 4 WHERE alias = 'k1'", mapped, 429, "budget_exceeded", 200, "mapping", "budget, reset"},
		{"UPDATE jwt_key_mappings SET active = false", mapped, 200, "mapping", 403, "mapping_disabled", "mapping"},
		{"DELETE FROM jwt_key_mappings", mapped, 403, "mapping_disabled", 403, "no_mapping", "mapping, gone"},
		{"INSERT INTO jwt_key_mappings (claim, value, key_id) SELECT 'client_id', 'mapped', id FROM virtual_keys WHERE alias = 'k2'",
			mapped, 403, "no_mapping", 200, "mapping", "absence of a mapping"},
		{"UPDATE teams SET blocked = true WHERE id = 'a'", mapped, 200, "mapping", 403, "team_blocked", "team"},
		{"UPDATE teams SET blocked = false WHERE id = 'a'", mapped, 403, "team_blocked", 200, "mapping", "team, back"},
		{"UPDATE organizations SET blocked = true", mapped, 200, "mapping", 403, "org_blocked", "organization"},
		{"UPDATE organizations SET blocked = false", mapped, 403, "org_blocked", 200, "mapping", "organization, back"},
		{"INSERT INTO users (id, blocked) VALUES ('alice', true)", mapped, 200, "mapping", 403, "user_blocked", "absence of a user"},
		{"DELETE FROM users", mapped, 403, "user_blocked", 200, "mapping", "user, gone"},
		{"DELETE FROM team_members WHERE team_id = 'a'", mapped, 200, "mapping", 403, "team_not_member", "member"},
		{"INSERT INTO team_members (team_id, user_id) VALUES ('a', 'alice')", mapped, 403, "team_not_member", 200, "mapping", "absence of a member"},
		{"UPDATE teams SET alias = 'B' WHERE id = 'a'", caller("A", "mapped"), 200, "mapping", 403, "team_unknown", "alias, taken away"},
		{"UPDATE teams SET alias = 'C' WHERE id = 'a'", caller("C", "mapped"), 403, "team_unknown", 200, "mapping", "alias, given"},
		{"UPDATE teams SET alias = 'C' WHERE id = 'b'", caller("C", "mapped"), 200, "mapping", 403, "team_unknown", "alias, of two teams now"},
		{"TRUNCATE jwt_key_mappings", mapped, 200, "mapping", 403, "no_mapping", "TRUNCATE"},
	} {
		for range 2 { // from the store, and from the cache
			r.all(step.token, step.before, step.beforeWhat)
		}
		took = append(took, r.seen(r.run(step.sql), step.token, step.status, step.what)...)
	}
	if longest := report(t, "changes on two replicas", took); longest > told {
		t.Errorf("the longest took %s, want at most %s", longest, told)
	}
}

// The connection that tells of changes is cut by the server, again and again; it hangs; it cannot be made. A
// revocation is seen in time all the same, and callers whose keys stay valid notice nothing.
func TestChangeFeedCut(t *testing.T) {
	t.Parallel()
	direct := postgres(t, pgtest.Start(t))
	proxy, store := proxied(t, direct)
	const rounds = 8
	r := newReplicas(t, store, plan{config: reject, resources: manyKeys(4*rounds + 1), servers: 2})
	stop := r.background([]string{r.token(fmt.Sprint("c", 4*rounds))})
	next := 0
	revoke := func() []time.Duration {
		t.Helper()
		token := r.token(fmt.Sprint("c", next))
		r.all(token, 200, "mapping")
		began := r.run("UPDATE virtual_keys SET blocked = true WHERE alias = $1", fmt.Sprint("k", next))
		next++
		return r.seen(began, token, 403, "key_blocked")
	}
	revokeTwice := func() []time.Duration { return append(revoke(), revoke()...) }
	within := func(what string, took []time.Duration, bound time.Duration) {
		t.Helper()
		report(t, what, took)
		if longest := slices.Max(took); longest > bound {
			t.Errorf("%s: the longest took %s, want at most %s", what, longest, bound)
		}
	}

	var took []time.Duration
	for range rounds {
		r.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'extauthz changes'")
		took = append(took, revoke()...)
	}
	within("revocation while the feed's connection is ended by the server", took, everywhere)

	feed := faultproxy.Containing("extauthz changes")
	proxy.Hang(feed)
	within("revocation while the feed's connection hangs", revokeTwice(), everywhere)
	proxy.Heal()

	proxy.Refuse(feed)
	within("revocation while the feed's connection is refused", revokeTwice(), everywhere)
	for _, server := range r.servers {
		server.awaitMetric("extauthz_change_feed_up 0")
	}
	proxy.Heal()
	for _, server := range r.servers {
		server.awaitMetric("extauthz_change_feed_up 1")
	}
	within("revocation after the feed's connection was made again", revokeTwice(), told)
	stop()
}

// proxied is the database behind a proxy that can fail; hand-written SQL goes past it.
func proxied(t *testing.T, direct database) (*faultproxy.Proxy, database) {
	t.Helper()
	_, rest, _ := strings.Cut(direct.storeURL, "@")
	address, _, _ := strings.Cut(rest, "/")
	proxy := faultproxy.Start(t, address)
	behind := direct
	behind.storeURL = strings.Replace(direct.storeURL, address, proxy.Address(), 1)
	return proxy, behind
}

// SQLite has no notifications: another process's change is seen when the file is looked at.
func TestOtherProcessChangesTheFile(t *testing.T) {
	t.Parallel()
	r := newReplicas(t, sqlite(t), plan{config: reject, resources: manyKeys(20), servers: 2})
	var took []time.Duration
	for n := range 20 {
		token := r.token(fmt.Sprint("c", n))
		r.all(token, 200, "mapping")
		began := r.run("UPDATE virtual_keys SET blocked = true WHERE alias = $1", fmt.Sprint("k", n))
		took = append(took, r.seen(began, token, 403, "key_blocked")...)
	}
	report(t, "revocation on two processes over one SQLite file", took)
	if longest := slices.Max(took); longest > 2*time.Second {
		t.Errorf("the longest took %s, want at most 2 s", longest)
	}
}
