package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// storeMetrics say how fresh the rows in memory are, and whether the store is asked for them.
type storeMetrics struct {
	changes     *prometheus.CounterVec
	lag         prometheus.Histogram
	feed        prometheus.Gauge
	interrupted prometheus.Counter
	refusing    prometheus.Gauge
	stale       prometheus.Counter
}

func newStoreMetrics(registry *prometheus.Registry) storeMetrics {
	m := storeMetrics{
		changes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "extauthz_changes_total", Help: "Changes that the store told of, by table; all stands for every table.",
		}, []string{"table"}),
		lag: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "extauthz_change_lag_seconds",
			Help:    "Time from a statement that changed a row until no decision here uses the row as it was. Includes the wait for the commit.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}),
		feed: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "extauthz_change_feed_up", Help: "Whether the store tells of changes (1) or rows are read again every few seconds (0).",
		}),
		interrupted: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "extauthz_change_feed_interruptions_total", Help: "How often the connection that tells of changes was lost, or could not be made.",
		}),
		refusing: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "extauthz_store_refusing", Help: "Whether the store is not asked, since its last calls failed (1).",
		}),
		stale: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "extauthz_stale_decisions_total", Help: "Decisions with a row that the store could not give anew.",
		}),
	}
	registry.MustRegister(m.changes, m.lag, m.feed, m.interrupted, m.refusing, m.stale)
	return m
}

// ChangeTold counts a change that the store told of. A lag that is not known is negative.
func (m *Metrics) ChangeTold(table string, lag time.Duration) {
	m.rows.changes.WithLabelValues(table).Inc()
	if lag >= 0 {
		m.rows.lag.Observe(lag.Seconds())
	}
}

// FeedUp says that the store tells of changes from now on.
func (m *Metrics) FeedUp() { m.rows.feed.Set(1) }

// FeedInterrupted says that it no longer does.
func (m *Metrics) FeedInterrupted() {
	m.rows.feed.Set(0)
	m.rows.interrupted.Inc()
}

// StoreRefusing says whether calls to the store are refused from now on.
func (m *Metrics) StoreRefusing(refusing bool) {
	value := 0.
	if refusing {
		value = 1
	}
	m.rows.refusing.Set(value)
}
