package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/extauthz/extauthz/internal/admission"
	"github.com/extauthz/extauthz/internal/breaker"
	"github.com/extauthz/extauthz/internal/store"
	"github.com/extauthz/extauthz/internal/telemetry"
)

// A store whose calls fail is not asked for a moment, so that nobody waits for it. The moment is short: it is also
// how long the service takes to notice that the store is back.
const (
	breakerFailures = 5
	breakerPause    = 500 * time.Millisecond
)

// guardStore measures the store's calls, and makes none while they would fail or while too many wait.
func guardStore(s store.Store, gate *admission.Gate, metrics *telemetry.Metrics, logger *slog.Logger) *telemetry.MeasuredStore {
	failing := breaker.New(breaker.Options{
		Failures: breakerFailures, Pause: breakerPause, Answered: store.Answered,
		Changed: func(open bool) {
			metrics.StoreRefusing(open)
			if !open {
				logger.Info("the store answers again")
				return
			}
			logger.Error("the store fails: cached rows are used while they may be, other requests are denied")
			s.Reset()
		},
	})
	return telemetry.Measure(s, metrics, func(ctx context.Context, call func() error) error {
		return gate.Do(ctx, func() error { return failing.Do(ctx, call) })
	})
}
