package adversary

import (
	"database/sql"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/extauthz/extauthz/internal/extauthztest/envoytest"
	"github.com/extauthz/extauthz/internal/extauthztest/pgtest"
)

// faultConfig has the no-match policies that let most callers pass, and the defaults for every timeout.
const faultConfig = `
server: {address: '127.0.0.1:0', drain_delay: 0s, drain_timeout: 1s}
telemetry: {address: '127.0.0.1:0'}
store: {url: '${STORE_URL}'}
mapping: {claim: client_id, no_match: fallback_team_mapping}
profiles: [{name: register, mapping: {no_match: auto_register}}]
issuers:
`

// TestNoAllowOnError causes each fault that can be caused from outside, behind a real Envoy that fails closed and one that
// fails open. Neither lets a request pass: what we cannot decide is a denial in band, of which Envoy's failure mode knows
// nothing. Package authz injects the faults that only code can cause.
func TestNoAllowOnError(t *testing.T) {
	w, pg := newWorld(t), pgtest.Start(t)
	s := prepare(t, w, newPostgres(t, pg), faultConfig+w.issuers("served as it should be", "status 500", "slow", "no JSON", "the connection is cut"))
	s.start()
	f := &faults{t: t, w: w, server: s, envoys: map[string]*envoytest.Envoy{}}
	for name, open := range map[string]bool{"fails closed": false, "fails open": true} {
		f.envoys[name] = envoytest.Start(t, envoytest.Options{Authz: s.address, Upstream: envoytest.NewUpstream(t).Address, Edit: func(tree map[string]any) {
			envoytest.ExtAuthz(tree)["failure_mode_allow"] = open
			profiled(tree)
		}})
	}
	f.work()
	for _, name := range []string{"status 500", "slow", "no JSON", "the connection is cut"} {
		f.deny("the issuer: "+name, name)
	}
	f.store("another schema", func() func() {
		f.exec("ALTER TABLE jwt_key_mappings RENAME TO gone")
		return func() { f.exec("ALTER TABLE gone RENAME TO jwt_key_mappings") }
	})
	f.store("a column that is gone", func() func() {
		f.exec("ALTER TABLE jwt_key_mappings RENAME COLUMN active TO was_active")
		return func() { f.exec("ALTER TABLE jwt_key_mappings RENAME COLUMN was_active TO active") }
	})
	f.store("locked", f.lock)
	f.store("down", func() func() {
		pg.Stop(t)
		return func() { pg.Start(t) }
	})
	f.killed()
}

// issuers is the part of a configuration for some of the hostile issuers.
func (w *world) issuers(names ...string) string {
	text := ""
	for _, name := range names {
		text += fmt.Sprintf("- issuer: %s\n  audiences: [%s]\n  claims: {user_id: sub, team_id: team}\n", w.hostile[name].URL(), audience)
	}
	return text
}

type faults struct {
	t       *testing.T
	w       *world
	server  *server
	envoys  map[string]*envoytest.Envoy
	clients int
}

// ask sends the request of a client whom nobody has seen, with a token of one of the issuers.
func (f *faults) ask(t *testing.T, envoy *envoytest.Envoy, issuer, profileName string) envoytest.Response {
	t.Helper()
	f.clients++
	a, err := newAttempt(f.w, Case{Moves: moves{of(hostile(issuer)), client(fmt.Sprint("new-", f.clients)), profile(profileName)}})
	if err != nil {
		t.Fatal(err)
	}
	lines, _ := a.lines()
	return dispatch(t, envoy, a.method, lines)
}

const soundIssuer = "served as it should be"

// work waits until everybody passes: without that, nothing would be shown.
func (f *faults) work() {
	f.t.Helper()
	deadline := time.Now().Add(patience)
	for _, envoy := range f.envoys {
		for got := f.ask(f.t, envoy, soundIssuer, ""); got.Status != http.StatusOK; got = f.ask(f.t, envoy, soundIssuer, "") {
			if time.Now().After(deadline) {
				f.t.Fatalf("nobody passes: %d %s\n%s", got.Status, got.Body, f.server.logged())
			}
		}
	}
}

// deny requires that nobody passes, and that it is we who say so.
func (f *faults) deny(fault, issuer string) {
	for name, envoy := range f.envoys {
		for _, policy := range []string{"", "register"} {
			f.t.Run(fault+", Envoy "+name+", "+policy, func(t *testing.T) {
				got := f.ask(t, envoy, issuer, policy)
				reason := got.Header.Get("x-extauthz-reason")
				if got.Status != http.StatusServiceUnavailable || reason == "" {
					t.Errorf("%d %s %s", got.Status, reason, got.Body)
				}
			})
		}
	}
}

// store has a fault of the store happen, and end.
func (f *faults) store(name string, happen func() (end func())) {
	f.t.Helper()
	end := happen()
	f.deny("the store: "+name, soundIssuer)
	end()
	f.work()
}

func (f *faults) exec(statement string) {
	f.t.Helper()
	if err := f.server.store.exec(f.t, statement); err != nil {
		f.t.Fatal(err)
	}
}

// lock makes every look-up of a mapping wait.
func (f *faults) lock() (end func()) {
	f.t.Helper()
	opened, err := sql.Open(f.server.store.driver, f.server.store.source)
	if err != nil {
		f.t.Fatal(err)
	}
	held, err := opened.BeginTx(f.t.Context(), nil)
	if err != nil {
		f.t.Fatal(err)
	}
	if _, err := held.ExecContext(f.t.Context(), "LOCK TABLE jwt_key_mappings IN ACCESS EXCLUSIVE MODE"); err != nil {
		f.t.Fatal(err)
	}
	return func() {
		if err := held.Rollback(); err != nil {
			f.t.Error(err)
		}
		_ = opened.Close()
	}
}

// killed is the one fault that is not ours to answer: with no process there, Envoy's failure_mode_allow decides. It is
// false as shipped.
func (f *faults) killed() {
	f.server.kill()
	for name, want := range map[string]int{"fails closed": http.StatusServiceUnavailable, "fails open": http.StatusOK} {
		f.t.Run("the process is killed, Envoy "+name, func(t *testing.T) {
			if got := f.ask(t, f.envoys[name], soundIssuer, ""); got.Status != want || got.Header.Get("x-extauthz-reason") != "" {
				t.Errorf("%d %s", got.Status, got.Body)
			}
		})
	}
}
