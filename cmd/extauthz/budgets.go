package main

import (
	"context"
	"time"
)

// resetInterval is how often budgets whose window has ended are reset in the store. A decision does not
// wait for it: it takes the spend of a window that has ended for zero.
const (
	resetInterval = 10 * time.Second
	resetTimeout  = 30 * time.Second
)

// resetBudgets resets budgets until ctx ends. Every replica does it; each row is reset once.
func (s *service) resetBudgets(ctx context.Context) {
	if s.store == nil {
		return
	}
	ticker := time.NewTicker(resetInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		s.resetOnce(ctx)
	}
}

func (s *service) resetOnce(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, resetTimeout)
	defer cancel()
	reset, err := s.store.ResetBudgets(ctx, time.Now())
	switch {
	case err != nil && ctx.Err() == nil:
		s.logger.Warn("budgets not reset", "error", err.Error())
	case reset > 0:
		s.logger.Info("budgets reset", "rows", reset)
	}
}
