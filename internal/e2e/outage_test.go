package e2e

import (
	"net/http"
	"testing"
	"time"

	"github.com/extauthz/extauthz/internal/extauthztest/envoytest"
	"github.com/extauthz/extauthz/internal/extauthztest/pgtest"
)

const outageResources = teamA + `
keys: [{alias: k1, secret: sk-k1-0123456789abc, team_id: a}, {alias: k2, secret: sk-k2-0123456789abc, team_id: a}]
mappings: [{claim: client_id, value: client-1, key: k1}, {claim: client_id, value: client-2, key: k2}]
`

// PostgreSQL is really stopped: callers whose decision is cached still pass, all others are told 503 in our
// own words, and everything works again once it is back.
func TestPostgresDown(t *testing.T) {
	postgresServer := pgtest.Start(t)
	s := newSite(t, postgres(t, postgresServer), plan{config: autoRegister, resources: outageResources})
	s.outcome(s.as(client1()), 200, "mapping")
	postgresServer.Stop(t)
	for range 3 {
		s.outcome(s.as(client1()), 200, "mapping")
	}
	s.expect(s.as(with(client1(), "client_id", "client-2")), 503, "store_unavailable")
	s.expect(s.as(with(client1(), "client_id", "never-seen")), 503, "store_unavailable")
	s.expect(s.as(with(client1(), "team", "b")), 503, "store_unavailable")
	s.expect(s.servers[0].do(call{}), 401, "token_missing") // needs no store
	s.expect(s.servers[0].do(call{token: "x"}), 401, "token_malformed")
	postgresServer.Start(t)
	s.outcome(s.recovered(with(client1(), "client_id", "client-2")), 200, "mapping")
	s.outcome(s.as(with(client1(), "client_id", "never-seen")), 200, "auto_register")
}

// recovered asks until the answer is no outage's, for at most as long as a recovery may take.
func (s *site) recovered(claims map[string]any) answer {
	s.t.Helper()
	deadline := time.After(recovery)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		a := s.as(claims)
		if a.status != http.StatusServiceUnavailable {
			return a
		}
		select {
		case <-deadline:
			return a
		case <-tick.C:
		}
	}
}

// With Envoy set to fail open, an outage still denies: it is a denial, not an error.
func TestOutageDeniesWhateverEnvoysFailureMode(t *testing.T) {
	open := func(tree map[string]any) { envoytest.ExtAuthz(tree)["failure_mode_allow"] = true }
	eachStore(t, func(t *testing.T, fresh func(*testing.T) database) {
		s := newSite(t, fresh(t), plan{config: fallback, resources: teamA, envoy: open})
		s.store.breakMappings(t)
		s.expect(s.as(client1()), 503, "store_unavailable")
	})
}

func TestIssuerDown(t *testing.T) {
	s := newSite(t, noStore(), plan{config: fallback})
	token := s.issuer.Mint(client1())
	s.outcome(s.servers[0].do(call{token: token}), 200, "fallback")
	s.issuer.Down()
	s.outcome(s.servers[0].do(call{token: token}), 200, "fallback") // keys that are known stay in use
}

// An issuer whose keys were never fetched is an outage, for its own callers alone.
func TestIssuerNeverUp(t *testing.T) {
	const nobody = "http://127.0.0.1:1"
	s := newSite(t, noStore(), plan{config: "- issuer: " + nobody + "\n  audiences: [llm-gateway]" + claims + fallback, notReady: true})
	s.expect(s.as(with(client1(), "iss", nobody)), 503, "issuer_unavailable")
	s.outcome(s.as(client1()), 200, "fallback")
}
