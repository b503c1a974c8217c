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

	"github.com/extauthz/extauthz/pkg/authz"
	"github.com/extauthz/extauthz/pkg/teams"
)

// Metrics are the service's Prometheus metrics. They are safe for concurrent use.
type Metrics struct {
	Registry  *prometheus.Registry
	decisions *prometheus.CounterVec
	shadowed  *prometheus.CounterVec
	duration  *prometheus.HistogramVec
	store     *prometheus.HistogramVec
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
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "extauthz_decision_duration_seconds",
			Help:    "Time from a CheckRequest to its answer.",
			Buckets: []float64{.00005, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1},
		}, []string{"decision"}),
		store: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "extauthz_store_duration_seconds",
			Help:    "Time of a call to the store, by operation and result (ok, absent, error).",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1},
		}, []string{"operation", "result"}),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "extauthz_build_info", Help: "Always 1; the label is the binary's version.",
		ConstLabels: prometheus.Labels{"version": version},
	})
	build.Set(1)
	m.Registry.MustRegister(m.decisions, m.shadowed, m.duration, m.store, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.rows = newStoreMetrics(m.Registry)
	return m
}

// Decided counts a decision.
func (m *Metrics) Decided(d *authz.Decision, elapsed time.Duration) {
	verdict := verdictOf(d)
	m.decisions.WithLabelValues(verdict, string(d.Outcome.Reason), string(d.Source)).Inc()
	m.duration.WithLabelValues(verdict).Observe(elapsed.Seconds())
	if d.Shadowed != "" {
		m.shadowed.WithLabelValues(string(d.Shadowed)).Inc()
	}
	if d.Stale {
		m.rows.stale.Inc()
	}
}

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

func verdictOf(d *authz.Decision) string {
	if d.Allowed() {
		return "allow"
	}
	return "deny"
}

// Observer returns the function that the server tells of every decision.
func Observer(m *Metrics, log *DecisionLog) func(context.Context, *authz.Decision, time.Duration) {
	return func(ctx context.Context, d *authz.Decision, elapsed time.Duration) {
		m.Decided(d, elapsed)
		log.Decided(ctx, d, elapsed)
	}
}
