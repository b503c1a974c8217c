package main

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/extauthz/extauthz/internal/store"
	"github.com/extauthz/extauthz/pkg/authz"
	"github.com/extauthz/extauthz/pkg/token"
)

var errDraining = errors.New("draining")

// readiness says whether this process can decide. A store that was reachable once does not make it
// unready again: cached callers still pass, the others are told 503 by any replica, and one
// database must not take every replica out of service at once.
type readiness struct {
	checks   *health.Server
	verifier *atomic.Pointer[token.Verifier]
	store    store.Store // nil: none is configured
	logger   *slog.Logger

	storeSeen atomic.Bool
	draining  atomic.Bool
}

// watchInterval is how often the gRPC health status follows. At the start it is looked at sooner, and then less and less
// often: what is waited for, the keys of an issuer and the store, is mostly there within milliseconds.
const (
	watchInterval = time.Second
	firstInterval = 5 * time.Millisecond
	lastInterval  = 100 * time.Millisecond
)

// check returns nil if the process is ready, else why not.
func (r *readiness) check(ctx context.Context) error {
	if r.draining.Load() {
		return errDraining
	}
	if r.store != nil && !r.storeSeen.Load() {
		if err := r.store.Ready(ctx); err != nil {
			return err
		}
		r.storeSeen.Store(true)
	}
	return r.verifier.Load().Ready()
}

// watch keeps the gRPC health status and logs its changes until ctx ends.
func (r *readiness) watch(ctx context.Context) {
	last, settled, interval := "starting", false, firstInterval
	r.set(healthv1.HealthCheckResponse_NOT_SERVING)
	for {
		now := "ready"
		err := r.check(ctx)
		if err != nil {
			now = err.Error()
		}
		if ctx.Err() != nil {
			return
		}
		if now != last {
			r.change(err)
			last = now
		}
		settled = settled || err == nil
		if settled {
			interval = watchInterval
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(interval):
		}
		interval = min(2*interval, lastInterval)
	}
}

func (r *readiness) change(err error) {
	if err != nil {
		r.logger.Warn("not ready", "error", err.Error())
		r.set(healthv1.HealthCheckResponse_NOT_SERVING)
		return
	}
	r.logger.Info("ready")
	r.set(healthv1.HealthCheckResponse_SERVING)
}

func (r *readiness) set(status healthv1.HealthCheckResponse_ServingStatus) {
	r.checks.SetServingStatus("", status)
	r.checks.SetServingStatus(authz.ServiceName, status)
}

// drain makes the process unready for good.
func (r *readiness) drain() {
	r.draining.Store(true)
	r.checks.Shutdown()
}
