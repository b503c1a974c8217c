package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/extauthz/extauthz/internal/telemetry"
)

// watched is something that was made from files, and is made anew when they change.
type watched struct {
	name string // in the log and in the metrics
	// load looks at the files and reports whether they were taken over. After an error, what was there before stays.
	load func(context.Context) (bool, error)
}

// fileInterval is how often files are looked at.
const fileInterval = 5 * time.Second

// watch looks at the files until ctx ends, and tells what becomes of them: each change, and each fault once. A fault has to
// last for two looks, because files that belong together are not always written at one instant.
func (w watched) watch(ctx context.Context, logger *slog.Logger, metrics *telemetry.Metrics) {
	ticker := time.NewTicker(fileInterval)
	defer ticker.Stop()
	faulty, told := false, ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		changed, err := w.load(ctx)
		switch {
		case err == nil:
			faulty, told = false, ""
			if changed {
				metrics.FilesReloaded(w.name, nil)
				logger.Info(w.name + " reloaded")
			}
		case !faulty:
			faulty = true
		default:
			metrics.FilesReloaded(w.name, err)
			if text := err.Error(); text != told {
				logger.Error(w.name+" not reloaded", "error", text)
				told = text
			}
		}
	}
}
