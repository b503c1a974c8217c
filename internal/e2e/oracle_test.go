package e2e

import (
	"testing"
	"time"
)

// The oracle itself: what it lets pass, and what it does not.
func TestOracle(t *testing.T) {
	start := time.Now()
	at := func(seconds float64) time.Time { return start.Add(time.Duration(seconds * float64(time.Second))) }
	allow, block := allowed("mapping", "k", "a"), denied(403, "key_blocked")
	outage := &fault{store: true, lag: outlived}
	// Blocked from second 10 on; the statement took half a second.
	changed := []state{{truth: allow}, {truth: block, begun: at(10), done: at(10.5)}}
	refused := denied(503, "store_unavailable")
	for _, c := range []struct {
		name   string
		class  class
		states []state
		spells []*spell
		answer observed
		wrong  bool
	}{
		{name: "the truth", states: changed, answer: observed{truth: allow, sent: at(1), got: at(1.1)}},
		{name: "another key", states: changed, answer: observed{truth: allowed("mapping", "k2", "a"), sent: at(1), got: at(1.1)}, wrong: true},
		{name: "another team", states: changed, answer: observed{truth: allowed("mapping", "k", "b"), sent: at(1), got: at(1.1)}, wrong: true},
		{name: "another source", states: changed, answer: observed{truth: allowed("fallback", "k", "a"), sent: at(1), got: at(1.1)}, wrong: true},
		{name: "blocked before it was", states: changed, answer: observed{truth: block, sent: at(9), got: at(9.9)}, wrong: true},
		{name: "blocked while it is made", states: changed, answer: observed{truth: block, sent: at(9), got: at(10.1)}},
		{name: "allowed until it is told", states: changed, answer: observed{truth: allow, sent: at(11.4), got: at(12)}},
		{name: "allowed after that", states: changed, answer: observed{truth: allow, sent: at(11.6), got: at(12)}, wrong: true},
		{name: "allowed in an outage, and not marked", states: changed, spells: []*spell{{fault: outage, begun: at(9)}},
			answer: observed{truth: allow, sent: at(60), got: at(60)}, wrong: true},
		{name: "allowed in an outage", states: changed, spells: []*spell{{fault: outage, begun: at(9)}},
			answer: observed{truth: allow, sent: at(60), got: at(60), stale: true}},
		{name: "allowed in an outage that began after it was told", states: changed, spells: []*spell{{fault: outage, begun: at(15)}},
			answer: observed{truth: allow, sent: at(60), got: at(60), stale: true}, wrong: true},
		{name: "allowed long after an outage", states: changed, spells: []*spell{{fault: outage, begun: at(9), healed: at(20)}},
			answer: observed{truth: allow, sent: at(24), got: at(24), stale: true}, wrong: true},
		{name: "refused in an outage", class: changing, states: changed, spells: []*spell{{fault: outage, begun: at(9)}},
			answer: observed{truth: refused, sent: at(12), got: at(12)}},
		{name: "refused in an outage, though known", states: changed, spells: []*spell{{fault: outage, begun: at(9)}},
			answer: observed{truth: refused, sent: at(12), got: at(12)}, wrong: true},
		{name: "refused without a reason", class: changing, states: changed, spells: []*spell{{fault: outage, begun: at(9)}},
			answer: observed{truth: denied(503, ""), sent: at(12), got: at(12)}, wrong: true},
		{name: "refused long after an outage", class: changing, states: changed, spells: []*spell{{fault: outage, begun: at(9), healed: at(10)}},
			answer: observed{truth: refused, sent: at(13), got: at(13)}, wrong: true},
		{name: "registered", states: []state{{truth: truth{200, registered, "", "a"}}},
			answer: observed{truth: allowed("auto_register", "k9", "a"), sent: at(1), got: at(1)}},
		{name: "registered without a key", states: []state{{truth: truth{200, registered, "", "a"}}},
			answer: observed{truth: allowed("auto_register", "", "a"), sent: at(1), got: at(1)}, wrong: true},
	} {
		w := &world{court: court{spells: c.spells}}
		w.judge(&caller{name: c.name, class: c.class, states: c.states}, c.answer, nil)
		if got := w.court.wrong.Load() == 1; got != c.wrong {
			t.Errorf("%s: wrong is %t, want %t", c.name, got, c.wrong)
		}
	}
	one := &caller{states: []state{{truth: truth{200, registered, "", "a"}}}}
	w := &world{}
	for n, key := range []string{"k1", "k1", "k2"} {
		w.judge(one, observed{truth: allowed("mapping", key, "a"), sent: at(1), got: at(1)}, nil)
		if wrong := int(w.court.wrong.Load()); wrong != n/2 {
			t.Errorf("the key of a registered caller changes: %d wrong after %d answers", wrong, n+1)
		}
	}
}
