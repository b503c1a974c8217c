package e2e

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// fault is something that breaks while requests are answered.
type fault struct {
	name string
	// cause breaks it and heal mends it; heal returns when what was broken is there again.
	cause, heal func(w *world)
	// store says that callers whom the replicas do not know may be refused, writes that those may who are to be
	// registered: by extauthz, with the reason of an outage of the store.
	store, writes bool
	// bare is how many requests Envoy may refuse by itself, whoever's they are: checks that were under way are lost.
	bare int64
	// lag is how long a change may go unnoticed; 0 means told.
	lag time.Duration
	// hold is how long it lasts at least.
	hold time.Duration
	// long keeps it out of the short form.
	long bool
}

// spell is one time that a fault occurred.
type spell struct {
	*fault
	begun  time.Time
	healed time.Time // zero: not yet

	checks, refusals, bareRefusals, stale atomic.Int64

	mu      sync.Mutex
	slowest time.Duration // refusal
	last    time.Time     // that a refused request was sent
}

// outage are the reasons of a 503 that comes from the store.
var outage = []string{"store_unavailable", "deadline_exceeded"}

// permits reports whether the fault is an excuse for the refusal.
func (s *spell) permits(k class, o observed) bool {
	switch {
	case o.got.Before(s.begun), !s.healed.IsZero() && o.sent.After(s.healed.Add(recovery)):
		return false
	case o.what == "":
		return s.bare > 0
	case !slices.Contains(outage, o.what):
		return false
	}
	return s.store && k != known || s.writes && k == registering
}

func (s *spell) refuse(o observed) {
	s.refusals.Add(1)
	if o.what == "" {
		s.bareRefusals.Add(1)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.slowest = max(s.slowest, o.got.Sub(o.sent))
	if o.sent.After(s.last) {
		s.last = o.sent
	}
}

// court compares answers with the truth. It is safe for concurrent use.
type court struct {
	mu     sync.RWMutex
	spells []*spell

	checks, allowed, denied, refused, stale, failed atomic.Int64
	wrong                                           atomic.Int64

	whyMu sync.Mutex
	why   []string // of the first wrong answers
}

// maxWhy bounds the wrong answers that are told one by one.
const maxWhy = 20

// unnoticed is until when a change that was made at an instant may go unnoticed.
func (j *court) unnoticed(done time.Time, lag time.Duration) time.Time {
	until := done.Add(max(told, lag))
	for _, s := range j.spells {
		if s.lag == 0 || s.begun.After(done.Add(told)) {
			continue
		}
		late := done.Add(s.lag)
		if !s.healed.IsZero() && late.After(s.healed.Add(recovery+told)) {
			late = s.healed.Add(recovery + told)
		}
		if late.After(until) {
			until = late
		}
	}
	return until
}

// judge counts an answer, or a request that had none.
func (w *world) judge(c *caller, o observed, err error) {
	j := &w.court
	j.checks.Add(1)
	j.mu.RLock()
	defer j.mu.RUnlock()
	var current *spell
	if n := len(j.spells); n > 0 {
		current = j.spells[n-1]
		current.checks.Add(1)
	}
	if o.stale {
		j.stale.Add(1)
		if current != nil {
			current.stale.Add(1)
		}
	}
	switch {
	case err != nil:
		j.failed.Add(1)
		j.condemn(c, o, err.Error())
	case o.status == 503:
		j.refused.Add(1)
		for _, s := range j.spells {
			if s.permits(c.class, o) {
				s.refuse(o)
				return
			}
		}
		j.condemn(c, o, "refused without an excuse")
	case !c.fits(o, j.unnoticed):
		j.condemn(c, o, "not the truth")
	case o.status == 200:
		j.allowed.Add(1)
	default:
		j.denied.Add(1)
	}
}

func (j *court) condemn(c *caller, o observed, why string) {
	j.wrong.Add(1)
	j.whyMu.Lock()
	defer j.whyMu.Unlock()
	if len(j.why) < maxWhy {
		fault := "no fault"
		if n := len(j.spells); n > 0 {
			fault = fmt.Sprintf("%s, %s", j.spells[n-1].name, o.sent.Sub(j.spells[n-1].begun).Round(time.Millisecond))
		}
		j.why = append(j.why, fmt.Sprintf("%s (%s): at %s %s; %s", why, fault, o.sent.Format(clock), o, c.describe()))
	}
}

// sum is the verdict on everything.
func (j *court) sum() string {
	return fmt.Sprintf("%d checks: %d allowed, %d denied, %d refused (503) in a fault, %d stale, %d without an answer; %d wrong",
		j.checks.Load(), j.allowed.Load(), j.denied.Load(), j.refused.Load(), j.stale.Load(), j.failed.Load(), j.wrong.Load())
}

func (j *court) complaints() string {
	j.whyMu.Lock()
	defer j.whyMu.Unlock()
	return strings.Join(j.why, "\n")
}
