package e2e

import (
	"fmt"
	"strings"
	"time"

	"github.com/extauthz/extauthz/internal/extauthztest/issuertest"
	"github.com/extauthz/extauthz/internal/extauthztest/issuertest/localissuer"
	"github.com/extauthz/extauthz/pkg/keys"
)

// declare makes the callers whose rows stay or change, and returns their rows.
func (w *world) declare() string {
	var teams, keyRows, mappings strings.Builder
	for n := range teamCount {
		fmt.Fprintf(&teams, "- {id: t%d}\n", n)
	}
	key := func(name, team, more string) string {
		secret := "sk-fault-" + name + "-0123456789"
		fmt.Fprintf(&keyRows, "- {alias: %s, secret: %s, team_id: %s%s}\n", name, secret, team, more)
		return string(keys.Secret(secret).ID())
	}
	mapped := func(name, key, more string) {
		fmt.Fprintf(&mappings, "- {claim: client_id, value: %s, key: %s%s}\n", name, key, more)
	}
	team := func(n int) string { return fmt.Sprint("t", n%teamCount) }

	for n := range 100 {
		name := fmt.Sprint("mapped-", n)
		mapped(name, name, "")
		w.caller(name, known, w.rejecting, team(n), allowed("mapping", key(name, team(n), ""), team(n)))
	}
	for n := range 10 {
		name := fmt.Sprint("blocked-", n)
		key(name, team(n), ", blocked: true")
		mapped(name, name, "")
		w.caller(name, known, w.rejecting, team(n), denied(403, "key_blocked"))
		name = fmt.Sprint("inactive-", n)
		key(name, team(n), "")
		mapped(name, name, ", active: false")
		w.caller(name, known, w.rejecting, team(n), denied(403, "mapping_disabled"))
		name = fmt.Sprint("direct-", n)
		w.credential(name, "sk-fault-"+name+"-0123456789", allowed("virtual_key", key(name, team(n), ""), team(n)))
		name = fmt.Sprint("turning-", n)
		key(name, team(n), "")
		mapped(name, name, "")
	}
	for n := range 20 {
		w.caller(fmt.Sprint("unmapped-", n), known, w.rejecting, team(n), denied(403, "no_mapping"))
		w.caller(fmt.Sprint("fallback-", n), known, w.falling, team(n), allowed("fallback", "", team(n)))
	}
	for n := range 40 {
		name := fmt.Sprint("changing-", n)
		r := &row{name: name, team: "own-" + name, mapped: true, active: true}
		fmt.Fprintf(&teams, "- {id: %s}\n", r.team)
		r.keys = [2]string{key(name, r.team, ""), key(name+"-second", r.team, "")}
		mapped(name, name, "")
		r.caller = w.caller(name, changing, w.rejecting, r.team, r.truth())
		w.changed = append(w.changed, r)
	}
	w.tokens()
	w.turn()
	return "teams:\n" + teams.String() + "keys:\n" + keyRows.String() + "mappings:\n" + mappings.String()
}

// tokens makes callers with tokens of every kind that needs no row, or expires.
func (w *world) tokens() {
	other := issuertest.New(w.t, localissuer.Audience("llm-gateway"), localissuer.Algorithms("ES256"))
	claims := func(more map[string]any) map[string]any {
		c := map[string]any{"sub": "alice", "team": "t0", "client_id": "mapped-0", "exp": time.Now().Add(12 * time.Hour).Unix()}
		for name, value := range more {
			c[name] = value
		}
		return c
	}
	expired := map[string]any{"exp": time.Now().Add(-time.Hour).Unix(), "iat": time.Now().Add(-2 * time.Hour).Unix()}
	w.credential("expired", w.rejecting.Mint(claims(expired)), denied(401, "token_expired"))
	w.credential("of another issuer", other.Mint(claims(nil)), denied(401, "issuer_unknown"))
	w.credential("forged", w.rejecting.Mint(claims(nil), localissuer.SignedBy(other.PrivateKey("ES256"))), denied(401, "token_invalid"))
	w.credential("of another audience", w.rejecting.Mint(claims(map[string]any{"aud": "other"})), denied(401, "audience_mismatch"))
	w.credential("no token", "x", denied(401, "token_malformed"))
	w.credential("nothing", "", denied(401, "token_missing"))
	w.credential("unknown key", "sk-fault-nobody-0123456789", denied(401, "key_unknown"))
	w.credential("unknown team", w.rejecting.Mint(claims(map[string]any{"team": "nope"})), denied(403, "team_unknown"))
	w.credential("no claim", w.rejecting.Mint(claims(map[string]any{"client_id": 7})), denied(403, "claim_missing"))
	for n := range 30 {
		exp := time.Now().Add(time.Duration(20+10*n) * time.Second).Truncate(time.Second)
		end := exp.Add(time.Second) // the leeway
		valid := w.key("mapped-0")
		c := w.credential(fmt.Sprint("expires-", n), w.rejecting.Mint(claims(map[string]any{"exp": exp.Unix()})), allowed("mapping", valid, "t0"))
		c.states = append(c.states, state{truth: denied(401, "token_expired"), begun: end.Add(-time.Second), done: end})
	}
}

func (w *world) key(name string) string {
	return string(keys.Secret("sk-fault-" + name + "-0123456789").ID())
}

// caller adds a caller with a token.
func (w *world) caller(name string, k class, issuer *issuertest.Issuer, team string, is truth) *caller {
	return w.callers.add(w.client(name, k, issuer, team, is))
}

func (w *world) client(name string, k class, issuer *issuertest.Issuer, team string, is truth) *caller {
	token, err := issuer.Issuer.Mint(map[string]any{
		"sub": name, "team": team, "client_id": name, "exp": time.Now().Add(12 * time.Hour).Unix(),
	})
	if err != nil {
		w.court.condemn(&caller{name: name}, observed{}, err.Error())
	}
	return &caller{name: name, class: k, token: token, request: requestOf(token), states: []state{{truth: is}}}
}

// credential adds a known caller with any credential.
func (w *world) credential(name, text string, is truth) *caller {
	return w.callers.add(&caller{name: name, token: text, request: requestOf(text), states: []state{{truth: is}}})
}

// newcomer adds a caller whom extauthz is to register.
func (w *world) newcomer() *caller {
	n := int(w.newcomers.Add(1))
	team := fmt.Sprint("t", n%teamCount)
	return w.caller(fmt.Sprint("newcomer-", n), registering, w.registrar, team, truth{200, registered, "", team})
}

// turn adds callers with tokens of the rotating issuer's present keys; the answer to them was another one before.
func (w *world) turn(before ...state) {
	w.turning = nil
	for n := range 10 {
		name, team := fmt.Sprint("turning-", n), fmt.Sprint("t", n%teamCount)
		c := w.client(name, known, w.rotating, team, allowed("mapping", w.key(name), team))
		if before != nil {
			now := time.Now()
			c.states = append(before, state{truth: c.states[0].truth, begun: now, done: now, lag: refreshed})
		}
		w.turning = append(w.turning, w.callers.add(c))
	}
}

// rotate has the rotating issuer replace its keys at once, as after a leak: tokens of the old ones are invalid,
// those of the new ones valid, as soon as the replicas have them.
func (w *world) rotate() {
	for _, c := range w.turning {
		defer c.begin(denied(401, "token_invalid"), refreshed)()
	}
	w.rotating.Rotate()
	w.turn(state{truth: denied(401, "token_invalid")})
}
