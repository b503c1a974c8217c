package e2e

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/extauthz/extauthz/internal/extauthztest/envoytest"
	"github.com/extauthz/extauthz/internal/extauthztest/faultproxy"
	"github.com/extauthz/extauthz/internal/extauthztest/issuertest"
	"github.com/extauthz/extauthz/internal/extauthztest/issuertest/localissuer"
	"github.com/extauthz/extauthz/internal/extauthztest/pgtest"
)

// world is an installation that can fail in every part: three replicas behind one Envoy, PostgreSQL behind a proxy, issuers,
// and callers of whom the test knows what is true.
type world struct {
	*site
	postgres *pgtest.Server
	proxy    *faultproxy.Proxy
	sql      *sql.DB // goes past the proxy
	envoy    *envoytest.Envoy
	replicas []*replica
	// issuers by what happens to a caller without a mapping; that of the rotating ones withdraws its keys.
	rejecting, registrar, falling, rotating *issuertest.Issuer

	callers   callers
	changed   []*row
	turning   []*caller // the rotating issuer's, with tokens of its present keys
	newcomers atomic.Int64
	court     court
}

// replica is a place for a server: its address stays while processes come and go.
type replica struct {
	config, address string
	*server
	asker   *asker
	started time.Time
}

const (
	replicaCount = 3
	teamCount    = 10 // of callers whose rows stay
	// refreshed is how long a change of an issuer's keys may go unnoticed: jwks_refresh, and the fetch.
	refreshed = 5 * time.Second
	// dead is how long a replica is left out, at least, so that Envoy's health checks have seen that it is.
	dead = 4 * time.Second
)

// newWorld starts everything, by a plan of which the configuration and the timeouts count.
func newWorld(t *testing.T, p plan) *world {
	t.Helper()
	w := &world{site: &site{t: t}, postgres: pgtest.Start(t, pgtest.Durable)}
	direct := postgres(t, w.postgres)
	var store database
	w.proxy, store = proxied(t, direct)
	var err error
	// A database that is read-only is so for all but the test.
	if w.sql, err = sql.Open(direct.driver, direct.source+"&default_transaction_read_only=off"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.sql.Close() })
	issuers := ""
	for _, i := range []struct {
		at      **issuertest.Issuer
		noMatch string
	}{{&w.rejecting, "reject"}, {&w.registrar, "auto_register"}, {&w.falling, "fallback_team_mapping"}, {&w.rotating, "reject"}} {
		*i.at = issuertest.New(t, localissuer.Audience("llm-gateway"), localissuer.Algorithms("ES256"))
		issuers += fmt.Sprintf("- issuer: %s\n  audiences: [llm-gateway]\n  leeway: 1s\n  jwks_refresh: 1s\n  mapping: {no_match: %s}\n"+
			"  claims: {user_id: sub, team_id: team}\n", (*i.at).URL(), i.noMatch)
	}
	const config = "mapping: {claim: client_id, no_match: reject, auto_register: {max_keys_per_team: 1000000, max_per_minute: 0}}\n" +
		"log: {allow_sample_rate: 0.001}\n"
	w.site = newSite(t, store, plan{
		config: config + p.config, issuers: issuers, resources: w.declare(), servers: -1, drainDelay: form().drain,
		checkTimeout: cmp.Or(p.checkTimeout, form().checkTimeout), storeTimeout: cmp.Or(p.storeTimeout, form().storeTimeout.String()),
	})
	w.quiet = true
	for range replicaCount {
		r := w.place()
		w.replicas = append(w.replicas, r)
		w.start(r)
	}
	w.envoy = envoytest.Start(t, envoytest.Options{Authz: w.replicas[0].address, Upstream: w.upstream.Address, Edit: w.front})
	w.whole()
	w.introduce(time.Time{})
	return w
}

// front has Envoy balance over all replicas, and answer by itself with what the upstream would have got.
func (w *world) front(tree map[string]any) {
	for _, r := range w.replicas[1:] {
		addEndpoint(w.t, envoytest.Cluster(tree, "extauthz"), r.address)
	}
	// Three machines' work is on one: this and check_timeout are longer than the defaults.
	envoytest.ExtAuthz(tree)["grpc_service"].(map[string]any)["timeout"] = "2s"
	hcm := envoytest.HCM(tree)
	delete(hcm, "access_log")
	var seen []any
	for name, value := range map[string]string{
		"x-seen-source": "%REQ(x-extauthz-source)%", "x-seen-key": "%REQ(x-extauthz-key-id)%", "x-seen-team": "%REQ(x-extauthz-team-id)%",
		"x-seen-stale": "%DYNAMIC_METADATA(envoy.filters.http.ext_authz:stale)%",
	} {
		seen = append(seen, map[string]any{"header": map[string]any{"key": name, "value": value}})
	}
	host := hcm["route_config"].(map[string]any)["virtual_hosts"].([]any)[0].(map[string]any)
	host["routes"] = []any{map[string]any{
		"match": map[string]any{"prefix": "/"}, "direct_response": map[string]any{"status": 200}, "response_headers_to_add": seen,
	}}
}

// place finds a port for a replica, below those that the kernel gives to connections, and writes its configuration.
func (w *world) place() *replica {
	w.t.Helper()
	for range 100 {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(20000+rand.IntN(10000)))
		listener, err := net.Listen("tcp", address)
		if err != nil {
			continue
		}
		if err := listener.Close(); err != nil {
			w.t.Fatal(err)
		}
		common, err := os.ReadFile(w.config)
		if err != nil {
			w.t.Fatal(err)
		}
		r := &replica{config: filepath.Join(w.t.TempDir(), "extauthz.yaml"), address: address}
		if err := os.WriteFile(r.config, []byte(strings.Replace(string(common), "127.0.0.1:0", address, 1)), 0o600); err != nil {
			w.t.Fatal(err)
		}
		return r
	}
	w.t.Fatal("no free port for a replica")
	return nil
}

// start starts a process in the place.
func (w *world) start(r *replica) {
	w.t.Helper()
	r.server = w.site.start(r.config)
	r.asker, r.started = r.server.asker(), time.Now()
}

// end ends the replica's process with a signal and waits until it has.
func (w *world) end(r *replica, signal syscall.Signal) {
	w.t.Helper()
	if err := r.command.Process.Signal(signal); err != nil {
		w.t.Error(err)
	}
	<-r.ended
	if err := r.command.Wait(); err != nil && signal == syscall.SIGTERM {
		w.t.Errorf("a replica ended with %v:\n%s", err, r.logged())
	}
	r.checkLeaks()
}

// meet has a replica read the rows of some callers, if it has not: those of whom an outage must not find it ignorant.
func (w *world) meet(r *replica, which func(*caller) bool) {
	for k := known; k <= registering; k++ {
		for _, c := range w.callers.of(k) {
			if c.token != "" && which(c) {
				r.asker.must(c.token)
			}
		}
	}
}

// whole waits until every part works again, as the parts themselves see it.
func (w *world) whole() {
	w.t.Helper()
	for _, r := range w.replicas {
		r.await("be ready", r.ready)
		r.awaitMetric("extauthz_change_feed_up 1")
		r.awaitMetric("extauthz_store_refusing 0")
	}
	w.await("Envoy sees every replica", func() bool {
		return w.envoy.Stats(w.t, "cluster.extauthz.membership_healthy") == replicaCount
	})
}

// introduce has the replicas read what they may have missed since an instant. One that was started since then has to
// know every known caller; the others, whatever changed: what changes while it is not told, and is not asked for before the next
// outage, is answered there with what it was.
func (w *world) introduce(since time.Time) {
	var group sync.WaitGroup
	for _, r := range w.replicas {
		group.Go(func() {
			w.meet(r, func(c *caller) bool { return c.class == known && r.started.After(since) || c.changedSince(since) })
		})
	}
	group.Wait()
}

// await polls for a condition.
func (w *world) await(what string, holds func() bool) {
	w.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); !holds(); <-tick.C {
		if time.Since(began) > patience {
			w.t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// suffer lets a fault happen while the load runs, and waits for full service after it.
func (w *world) suffer(f *fault) *spell {
	w.t.Helper()
	s := &spell{fault: f, begun: time.Now()}
	w.court.mu.Lock()
	w.court.spells = append(w.court.spells, s)
	w.court.mu.Unlock()
	f.cause(w)
	pause(w.t.Context(), max(f.hold, form().hold)-time.Since(s.begun))
	f.heal(w)
	w.court.mu.Lock()
	s.healed = time.Now()
	w.court.mu.Unlock()
	w.whole()
	w.introduce(s.begun)
	pause(w.t.Context(), recovery-time.Since(s.healed))
	return s
}

// pause lets the load run for a while.
func pause(ctx context.Context, d time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, max(0, d))
	defer cancel()
	<-ctx.Done()
}

// audit compares what the registrations were answered with what the database holds.
func (w *world) audit() (registrations, lost, orphans int, err error) {
	stored := make(map[string]string)
	rows, err := w.sql.QueryContext(w.t.Context(), "SELECT m.value, m.key_id FROM jwt_key_mappings AS m JOIN virtual_keys AS k ON k.id = m.key_id WHERE m.issuer = $1", w.registrar.URL())
	if err != nil {
		return 0, 0, 0, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var value, key string
		if err := rows.Scan(&value, &key); err != nil {
			return 0, 0, 0, err
		}
		stored[value] = key
	}
	for _, c := range w.callers.of(registering) {
		if c.key == "" {
			continue // it was refused
		}
		registrations++
		if stored[c.name] != c.key {
			lost++
		}
	}
	const orphaned = "SELECT count(*) FROM virtual_keys WHERE auto_registered AND NOT EXISTS (SELECT FROM jwt_key_mappings WHERE key_id = virtual_keys.id)"
	err = cmp.Or(rows.Err(), w.sql.QueryRowContext(w.t.Context(), orphaned).Scan(&orphans))
	return registrations, lost, orphans, err
}
