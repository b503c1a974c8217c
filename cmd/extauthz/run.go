package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/extauthz/extauthz/internal/cache"
	"github.com/extauthz/extauthz/internal/store"
	"github.com/extauthz/extauthz/internal/telemetry"
	"github.com/extauthz/extauthz/pkg/authz"
	"github.com/extauthz/extauthz/pkg/mapping"
	"github.com/extauthz/extauthz/pkg/teams"
	"github.com/extauthz/extauthz/pkg/token"
	configv1 "github.com/extauthz/extauthz/proto/extauthz/config/v1"
)

// addresses are where a running server listens; a configured port 0 has become a real one.
type addresses struct{ server, telemetry string }

// serve runs the service until ctx ends. It is the one place where everything is wired.
func serve(ctx context.Context, c *configv1.Config, out io.Writer, started func(addresses)) error {
	logger := newLogger(out, c.GetLog().GetLevel())
	metrics := telemetry.NewMetrics(version())

	verifier, err := token.NewVerifier(issuersOf(c), token.Options{Logger: logger})
	if err != nil {
		return usageError{err}
	}
	rows, err := openRows(ctx, c, metrics, logger, func(s mapping.Store) mapping.Store { return s })
	if err != nil {
		return err
	}
	defer rows.close()
	seals, err := openKeyset(c.GetSealing(), logger)
	if err != nil {
		return usageError{err}
	}
	server, err := newServer(c, verifier, rows, seals, telemetry.Observer(metrics, &telemetry.DecisionLog{
		Logger: logger, AllowSampleRate: c.GetLog().GetAllowSampleRate(),
	}))
	if err != nil {
		return usageError{err}
	}

	listener, err := listen(c.GetServer().GetAddress(), c.GetServer().GetSocketMode())
	if err != nil {
		return err
	}
	defer func() { _ = listener.Close() }()
	telemetryListener, err := listen(c.GetTelemetry().GetAddress(), "")
	if err != nil {
		return err
	}
	defer func() { _ = telemetryListener.Close() }()

	checks := health.NewServer()
	ready := &readiness{checks: checks, verifier: verifier, store: rows.store, logger: logger}
	ready.set(healthv1.HealthCheckResponse_NOT_SERVING)
	s := &service{
		logger: logger, verifier: verifier, ready: ready, seals: seals, store: rows.store, changes: rows.changes,
		grpc:         authz.NewGRPCServer(server, checks, grpcOptions(c.GetServer())),
		http:         telemetry.NewHTTPServer(telemetry.Handler(metrics, ready.check)),
		drainDelay:   c.GetServer().GetDrainDelay().AsDuration(),
		drainTimeout: c.GetServer().GetDrainTimeout().AsDuration(),
	}
	at := addresses{server: listener.Addr().String(), telemetry: telemetryListener.Addr().String()}
	logger.Info("listening", "server", at.server, "telemetry", at.telemetry, "version", version())
	started(at)
	return s.run(ctx, listener, telemetryListener)
}

func newLogger(out io.Writer, level string) *slog.Logger {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		l = slog.LevelInfo
	}
	return slog.New(slog.NewJSONHandler(out, &slog.HandlerOptions{Level: l}))
}

func grpcOptions(s *configv1.Server) authz.GRPCOptions {
	return authz.GRPCOptions{
		MaxMessageBytes:      int(s.GetMaxMessageBytes()),
		MaxConcurrentStreams: s.GetMaxConcurrentStreams(),
		MaxConnectionAge:     s.GetMaxConnectionAge().AsDuration(),
		Reflection:           s.GetReflection(),
	}
}

func newServer(
	c *configv1.Config, verifier authz.Verifier, rows *rows, seals *keysetFile, observe func(context.Context, *authz.Decision, time.Duration),
) (*authz.Server, error) {
	profiles := make(map[string]authz.Profile)
	for _, v := range variantsOf(c) {
		decider, err := newAuthorizer(c, v, verifier, rows, seals)
		if err != nil {
			return nil, err
		}
		profiles[v.name] = authz.Profile{
			Authorizer:   decider,
			Selector:     v.policy.GetTeams().GetSelectorHeader(),
			ModelHeaders: v.policy.GetModelHeaders(),
			Response:     responseOf(c, v.credential),
			Shadow:       v.shadow,
		}
	}
	return authz.NewServer(authz.Config{Profiles: profiles, Timeout: c.GetServer().GetCheckTimeout().AsDuration(), Observe: observe})
}

func newAuthorizer(c *configv1.Config, v variant, verifier authz.Verifier, rows *rows, seals *keysetFile) (*authz.Authorizer, error) {
	directory := rows.directory
	if static, err := staticTeamsOf(v.policy); err != nil {
		return nil, err
	} else if static != nil {
		directory = static
	}
	policy, err := teams.NewPolicy(policyOf(c, v.policy), directory)
	if err != nil {
		return nil, err
	}
	claims, err := claimsOf(c)
	if err != nil {
		return nil, err
	}
	mappings, err := mappingOf(c, v.profile)
	if err != nil {
		return nil, err
	}
	a := &authz.Authorizer{
		Verifier: verifier, Policy: policy, Claims: claims,
		CredentialHeaders: c.GetCredentials().GetHeaders(),
		VirtualKeys:       c.GetCredentials().GetVirtualKeys(),
		Now:               time.Now,
	}
	if seals != nil {
		mappings.Seal = seals.seal
	}
	if v.credential == "virtual_key" {
		a.OpenKey = seals.open
	}
	a.Resolver = mapping.NewResolver(mappings, rows.mappings)
	return a, nil
}

// rows are the store as the decision sees it. With no store, directory and mappings are nil.
type rows struct {
	store     store.Store
	directory teams.Directory
	mappings  *mapping.Cached
	changes   *changes
	close     func()
}

// openRows opens the store; guard stands between the caches and it.
func openRows(
	ctx context.Context, c *configv1.Config, metrics *telemetry.Metrics, logger *slog.Logger, guard func(mapping.Store) mapping.Store,
) (*rows, error) {
	if c.GetStore().GetUrl() == "none" {
		return &rows{close: func() {}}, nil
	}
	opened, err := openStore(ctx, c.GetStore())
	if err != nil {
		return nil, err
	}
	measured, feed := guardStore(opened, metrics, logger), cache.NewFeed(maxBlind, nil)
	limits, stale := c.GetCache(), c.GetMapping().GetServeStale().AsDuration()
	// Twice the store's own timeout, which ends a load before: it is for a store that does not keep to it.
	timeout := 2 * c.GetStore().GetTimeout().AsDuration()
	directory, err := teams.NewCachedDirectory(measured, teams.CacheOptions{
		TTL: limits.GetTtl().AsDuration(), LoadTimeout: timeout, ServeStale: stale, Feed: feed,
		MaxEntries: int64(limits.GetMaxEntries()), MaxAbsent: int64(limits.GetMaxAbsentEntries()),
	})
	if err != nil {
		return nil, err
	}
	mappings, err := mapping.NewCached(guard(measured), mapping.CacheOptions{
		MappingTTL: c.GetMapping().GetCacheTtl().AsDuration(), AbsentTTL: c.GetMapping().GetAbsentTtl().AsDuration(),
		KeyTTL: limits.GetTtl().AsDuration(), LoadTimeout: timeout, ServeStale: stale, Feed: feed,
		MaxEntries: int64(limits.GetMaxEntries()), MaxAbsent: int64(limits.GetMaxAbsentEntries()),
	})
	if err != nil {
		return nil, err
	}
	return &rows{
		store: opened, directory: directory, mappings: mappings,
		changes: &changes{directory: directory, mappings: mappings, feed: feed, metrics: metrics, logger: logger},
		close: func() {
			directory.Close()
			mappings.Close()
			opened.Close()
		},
	}, nil
}

func openStore(ctx context.Context, s *configv1.Store) (store.Store, error) {
	return openWith(ctx, storeOptions(s))
}

func storeOptions(s *configv1.Store) store.Options {
	return store.Options{URL: s.GetUrl(), Timeout: s.GetTimeout().AsDuration(), MaxConnections: int(s.GetMaxConnections())}
}

// service is what runs.
type service struct {
	logger       *slog.Logger
	verifier     *token.Verifier
	ready        *readiness
	seals        *keysetFile // nil: keys are not sealed
	store        store.Store // nil: there is none
	changes      *changes    // nil: there is no store
	grpc         *grpc.Server
	http         *http.Server
	drainDelay   time.Duration
	drainTimeout time.Duration
}

// run serves until ctx ends or a part fails, then drains. Whichever part returns first ends the others.
func (s *service) run(ctx context.Context, server, telemetryListener net.Listener) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { s.verifier.Run(ctx); return nil })
	group.Go(func() error { s.ready.watch(ctx); return nil })
	group.Go(func() error { s.seals.watch(ctx); return nil })
	group.Go(func() error { s.resetBudgets(ctx); return nil })
	group.Go(func() error { s.watchChanges(ctx); return nil })
	group.Go(func() error { return s.grpc.Serve(server) })
	group.Go(func() error {
		if err := s.http.Serve(telemetryListener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("telemetry: %w", err)
		}
		return nil
	})
	group.Go(func() error { <-ctx.Done(); return s.drain() })
	return group.Wait()
}

// drain tells health checks that this replica is going, serves on until they have seen it, lets the checks
// under way end, and stops the telemetry listener last, so that a probe can see the drain.
func (s *service) drain() error {
	s.logger.Info("draining")
	s.ready.drain()
	<-time.After(s.drainDelay)
	drained := make(chan struct{})
	go func() { s.grpc.GracefulStop(); close(drained) }()
	select {
	case <-drained:
	case <-time.After(s.drainTimeout):
		s.grpc.Stop()
	}
	s.logger.Info("drained")
	return s.http.Close()
}
