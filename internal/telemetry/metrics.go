// Package telemetry is what an operator sees of the service: metrics, the decision log, and the
// liveness and readiness endpoints.
//
// It decides what may be seen: an allow-list of fields, none of which is a token, a claim value, a
// key or a hash. No label holds anything a client can choose.
package telemetry

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/extauthz/extauthz/internal/admission"
	"github.com/extauthz/extauthz/pkg/authz"
	"github.com/extauthz/extauthz/pkg/mapping"
	"github.com/extauthz/extauthz/pkg/teams"
)

// Metrics are the service's Prometheus metrics. They are safe for concurrent use.
type Metrics struct {
	Registry  *prometheus.Registry
	decisions *prometheus.CounterVec
	allowed   map[mapping.Source]prometheus.Counter // of decisions, by source, without the search for its labels
	shadowed  *prometheus.CounterVec
	duration  map[string]prometheus.Observer // by verdict
	waited    prometheus.Histogram
	shed      *prometheus.CounterVec
	store     *prometheus.HistogramVec
	reloaded  *prometheus.CounterVec
	expires   *prometheus.GaugeVec
	rows      storeMetrics
}

// NewMetrics returns metrics in a registry of their own.
func NewMetrics(version string) *Metrics {
	m := &Metrics{
		Registry: prometheus.NewRegistry(),
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "extauthz_decisions_total",
			Help: "Decisions, by verdict, by the reason of a denial and by the source of an allowed caller's rights.",
		}, []string{"decision", "reason", "source"}),
		shadowed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "extauthz_shadowed_denials_total",
			Help: "Denials that shadow mode held back, by reason.",
		}, []string{"reason"}),
		waited: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "extauthz_check_wait_seconds",
			Help:    "Time from the arrival of a CheckRequest until it was begun, or found to have waited too long.",
			Buckets: []float64{.0001, .001, .005, .01, .025, .05, .1, .25, .5, 1},
		}),
		shed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "extauthz_shed_total",
			Help: "Checks that were turned away because of overload, by where there was no room (arrival, verification, store).",
		}, []string{"at"}),
		store: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "extauthz_store_duration_seconds",
			Help:    "Time of a call to the store, by operation and result (ok, absent, error).",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1},
		}, []string{"operation", "result"}),
		reloaded: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "extauthz_file_reloads_total",
			Help: "Changed files that were taken over (ok), and looks at files that cannot be (error: what they held before stays in use).",
		}, []string{"files", "result"}),
		expires: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "extauthz_certificate_expiration_timestamp_seconds",
			Help: "When the certificate of a listener with TLS expires.",
		}, []string{"listener"}),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "extauthz_build_info", Help: "Always 1; the label is the binary's version.",
		ConstLabels: prometheus.Labels{"version": version},
	})
	build.Set(1)
	duration := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "extauthz_decision_duration_seconds",
		Help:    "Time from a CheckRequest to its answer.",
		Buckets: []float64{.00005, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1},
	}, []string{"decision"})
	m.duration = map[string]prometheus.Observer{allow: duration.WithLabelValues(allow), deny: duration.WithLabelValues(deny)}
	m.Registry.MustRegister(m.decisions, m.shadowed, duration, m.waited, m.shed, m.store, m.reloaded, m.expires, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.rows = newStoreMetrics(m.Registry)
	m.allowed = make(map[mapping.Source]prometheus.Counter)
	for _, source := range []mapping.Source{
		mapping.SourceMapping, mapping.SourceAutoRegister, mapping.SourceFallback, mapping.SourceTeam,
		authz.SourceAdmin, authz.SourcePublic, authz.SourceVirtualKey, authz.SourceShadow,
	} {
		m.allowed[source] = m.decisions.WithLabelValues(allow, "", string(source))
	}
	return m
}

// Decided counts a decision.
func (m *Metrics) Decided(d *authz.Decision, elapsed time.Duration) {
	verdict := verdictOf(d)
	if counter, known := m.allowed[d.Source]; known && verdict == allow {
		counter.Inc()
	} else {
		m.decisions.WithLabelValues(verdict, string(d.Outcome.Reason), string(d.Source)).Inc()
	}
	m.duration[verdict].Observe(elapsed.Seconds())
	if d.Shadowed != "" {
		m.shadowed.WithLabelValues(string(d.Shadowed)).Inc()
	}
	if d.Stale {
		m.rows.stale.Inc()
	}
	if d.Outcome.Status == 503 {
		m.turnedAway(d.Err)
	}
}

func (m *Metrics) turnedAway(err error) {
	var full *admission.Error
	if errors.As(err, &full) {
		m.shed.WithLabelValues(full.At).Inc()
	}
}

// Waited records how long a check has waited for its decision to begin.
func (m *Metrics) Waited(waited time.Duration) { m.waited.Observe(waited.Seconds()) }

// Stored counts a call to the store.
func (m *Metrics) Stored(operation string, err error, elapsed time.Duration) {
	result := "ok"
	switch {
	case errors.Is(err, teams.ErrNotFound):
		result = "absent"
	case err != nil:
		result = "error"
	}
	m.store.WithLabelValues(operation, result).Observe(elapsed.Seconds())
}

// FilesReloaded counts files that were taken over (nil), or that changed and cannot be.
func (m *Metrics) FilesReloaded(files string, err error) {
	result := "ok"
	if err != nil {
		result = "error"
	}
	m.reloaded.WithLabelValues(files, result).Inc()
}

// Expires records until when a listener's certificate is valid.
func (m *Metrics) Expires(listener string, at time.Time) {
	m.expires.WithLabelValues(listener).Set(float64(at.Unix()))
}

// The verdicts, as metrics and the log name them.
const (
	allow = "allow"
	deny  = "deny"
)

func verdictOf(d *authz.Decision) string {
	if d.Allowed() {
		return allow
	}
	return deny
}

// Observer returns the function that the server tells of every decision.
func Observer(m *Metrics, log *DecisionLog) func(context.Context, *authz.Decision, time.Duration) {
	return func(ctx context.Context, d *authz.Decision, elapsed time.Duration) {
		m.Decided(d, elapsed)
		log.Decided(ctx, d, elapsed)
	}
}
