package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/extauthz/extauthz/internal/admission"
	"github.com/extauthz/extauthz/internal/cache"
	"github.com/extauthz/extauthz/internal/gather"
	"github.com/extauthz/extauthz/internal/store"
	"github.com/extauthz/extauthz/internal/telemetry"
	"github.com/extauthz/extauthz/internal/transport"
	"github.com/extauthz/extauthz/pkg/authz"
	"github.com/extauthz/extauthz/pkg/mapping"
	"github.com/extauthz/extauthz/pkg/teams"
	configv1 "github.com/extauthz/extauthz/proto/extauthz/config/v1"
)

// addresses are where a running server listens; a configured port 0 has become a real one.
type addresses struct{ server, telemetry string }

// serve runs the service until ctx ends. It is the one place where everything is wired.
func serve(ctx context.Context, c *configv1.Config, file configFile, out io.Writer, started func(addresses)) error {
	level, lines := &slog.LevelVar{}, gather.New(out)
	defer func() { _ = lines.Close() }() // last: what the others say at their end is written
	logger := slog.New(slog.NewJSONHandler(lines, &slog.HandlerOptions{Level: level}))
	metrics := telemetry.NewMetrics(version())

	rows, err := openRows(ctx, c, metrics, logger, func(s telemetry.Store) (mapping.Store, teams.Store) { return s, s })
	if err != nil {
		return err
	}
	defer rows.close()
	seals, err := openKeyset(ctx, c.GetSealing())
	if err != nil {
		return err
	}
	callers, err := newCallers(c.GetCache())
	if err != nil {
		return err
	}
	defer callers.Close()
	decisions := &configuration{
		file: file, logger: logger, logLevel: level, metrics: metrics,
		parts: parts{verification: newVerificationGate(c), rows: rows, seals: seals, callers: callers},
	}
	if err := decisions.enforce(c); err != nil {
		return usageError{err}
	}

	listener, err := openServerEndpoint(c.GetServer())
	if err != nil {
		return err
	}
	defer func() { _ = listener.Close() }()
	telemetryListener, err := openTelemetryEndpoint(c.GetTelemetry())
	if err != nil {
		return err
	}
	defer func() { _ = telemetryListener.Close() }()
	listener.warnIfOpen(logger)

	checks := health.NewServer()
	ready := &readiness{checks: checks, verifier: &decisions.verifier, store: rows.store, logger: logger}
	ready.set(healthv1.HealthCheckResponse_NOT_SERVING)
	s := &service{
		logger: logger, metrics: metrics, decisions: decisions, ready: ready, store: rows.store, changes: rows.changes,
		caches:       cacheBytes(c.GetCache()),
		files:        slices.Concat(seals.watched(), listener.watched(metrics), telemetryListener.watched(metrics)),
		grpc:         authz.NewGRPCServer(decisions.server, checks, grpcOptions(c.GetServer(), listener.credentials(logger))),
		http:         telemetry.NewHTTPServer(telemetry.Handler(metrics, ready.check), telemetryListener.tlsConfig(), logger),
		drainDelay:   c.GetServer().GetDrainDelay().AsDuration(),
		drainTimeout: c.GetServer().GetDrainTimeout().AsDuration(),
	}
	at := addresses{server: listener.Addr().String(), telemetry: telemetryListener.Addr().String()}
	logger.Info("listening", "server", at.server, "telemetry", at.telemetry, "version", version())
	started(at)
	return s.run(ctx, listener, telemetryListener)
}

func grpcOptions(s *configv1.Server, creds credentials.TransportCredentials) authz.GRPCOptions {
	return authz.GRPCOptions{
		MaxMessageBytes:      int(s.GetMaxMessageBytes()),
		MaxConcurrentStreams: s.GetMaxConcurrentStreams(),
		MaxConnectionAge:     s.GetMaxConnectionAge().AsDuration(),
		Reflection:           s.GetReflection(),
		Credentials:          creds,
	}
}

// parts are what a configuration's decisions are made with.
type parts struct {
	verifier     authz.Verifier
	verification *admission.Gate // nil: any number of signatures are verified at once
	rows         *rows
	seals        *keysetFile      // nil: keys are not sealed
	callers      *authz.Callers   // nil: every token is verified each time
	now          func() time.Time // the clock of tokens, keys, budgets and bounds; nil means time.Now
}

// decisionsOf returns what a server needs to decide by the configuration, but for its observer.
func decisionsOf(c *configv1.Config, p parts) (authz.Config, error) {
	profiles := make(map[string]authz.Profile)
	for _, v := range variantsOf(c) {
		decider, err := newAuthorizer(c, v, p)
		if err != nil {
			return authz.Config{}, err
		}
		profiles[v.name] = authz.Profile{
			Authorizer:   decider,
			Selector:     v.policy.GetTeams().GetSelectorHeader(),
			ModelHeaders: v.policy.GetModelHeaders(),
			Response:     responseOf(c, v.credential),
			Shadow:       v.shadow,
		}
	}
	return authz.Config{Profiles: profiles, Timeout: c.GetServer().GetCheckTimeout().AsDuration(), MaxWait: maxWait(c)}, nil
}

func newAuthorizer(c *configv1.Config, v variant, p parts) (*authz.Authorizer, error) {
	directory := p.rows.directory
	if static, err := staticTeamsOf(v.policy); err != nil {
		return nil, err
	} else if static != nil {
		directory = static
	}
	declared, err := policyOf(c, v.policy)
	if err != nil {
		return nil, err
	}
	declared.Now = p.now
	policy, err := teams.NewPolicy(declared, directory, p.rows.registrar)
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
		Verifier: p.verifier, Policy: policy, Claims: claims, Callers: p.callers,
		CredentialHeaders: c.GetCredentials().GetHeaders(),
		VirtualKeys:       c.GetCredentials().GetVirtualKeys(),
		Now:               time.Now,
	}
	if p.now != nil {
		a.Now = p.now
	}
	mappings.Now = p.now
	if p.seals != nil {
		mappings.Seal = p.seals.seal
	}
	if v.credential == "virtual_key" {
		a.OpenKey = p.seals.open
	}
	a.Resolver = mapping.NewResolver(mappings, p.rows.mappings)
	return a, nil
}

// newCallers returns the memory of verified tokens; nil if there is to be none.
func newCallers(c *configv1.Cache) (*authz.Callers, error) {
	if c.GetMaxTokenBytes() == 0 {
		return nil, nil
	}
	return authz.NewCallers(int64(c.GetMaxTokenBytes()))
}

// rows are the store as the decision sees it. With no store, all but close are nil.
type rows struct {
	store     store.Store
	directory teams.Directory
	registrar teams.Registrar
	mappings  *mapping.Cached
	changes   *changes
	close     func()
}

// guard stands between the caches and the store.
type guard func(telemetry.Store) (mapping.Store, teams.Store)

func openRows(ctx context.Context, c *configv1.Config, metrics *telemetry.Metrics, logger *slog.Logger, g guard) (*rows, error) {
	if c.GetStore().GetUrl() == "none" {
		return &rows{close: func() {}}, nil
	}
	opened, err := openStore(ctx, c.GetStore())
	if err != nil {
		return nil, err
	}
	keyed, named := g(guardStore(opened, newStoreGate(c), metrics, logger))
	feed := cache.NewFeed(maxBlind, nil)
	limits, stale := c.GetCache(), c.GetMapping().GetServeStale().AsDuration()
	// Twice the store's own timeout, which ends a load before: it is for a store that does not keep to it.
	timeout := 2 * c.GetStore().GetTimeout().AsDuration()
	space, err := cache.NewSpace(int64(limits.GetMaxBytes()), int64(limits.GetMaxAbsentBytes()))
	if err != nil {
		opened.Close()
		return nil, err
	}
	directory := teams.NewCachedDirectory(named, teams.CacheOptions{
		TTL: limits.GetTtl().AsDuration(), Space: space, LoadTimeout: timeout, ServeStale: stale, Feed: feed,
	})
	mappings := mapping.NewCached(keyed, mapping.CacheOptions{
		MappingTTL: c.GetMapping().GetCacheTtl().AsDuration(), AbsentTTL: c.GetMapping().GetAbsentTtl().AsDuration(),
		KeyTTL: limits.GetTtl().AsDuration(), Space: space, LoadTimeout: timeout, ServeStale: stale, Feed: feed,
	})
	return &rows{
		store: opened, directory: directory, registrar: directory, mappings: mappings,
		changes: &changes{directory: directory, mappings: mappings, feed: feed, metrics: metrics, logger: logger},
		close: func() {
			directory.Close()
			mappings.Close()
			space.Close()
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
	metrics      *telemetry.Metrics
	decisions    *configuration
	ready        *readiness
	files        []watched
	store        store.Store // nil: there is none
	changes      *changes    // nil: there is no store
	caches       uint64      // what they may take, in bytes
	grpc         *grpc.Server
	http         *http.Server
	drainDelay   time.Duration
	drainTimeout time.Duration
}

// run serves until ctx ends or a part fails, then drains. Whichever part returns first ends the others. What decisions
// are made from is kept up to date until the last of them: a replica that drains must not miss a revocation.
func (s *service) run(ctx context.Context, server, telemetryListener *endpoint) error {
	deciding, decided := context.WithCancel(context.WithoutCancel(ctx))
	defer decided()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { s.decisions.watch(deciding); return nil })
	group.Go(func() error { s.watchChanges(deciding); return nil })
	group.Go(func() error { s.ready.watch(ctx); return nil })
	group.Go(func() error { watchHeap(ctx, s.caches); return nil })
	for _, w := range s.files {
		group.Go(func() error { w.watch(ctx, s.logger, s.metrics); return nil })
	}
	group.Go(func() error { s.resetBudgets(ctx); return nil })
	group.Go(func() error { return s.grpc.Serve(transport.Gather(server)) })
	group.Go(func() error {
		if err := telemetry.Serve(s.http, telemetryListener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("telemetry: %w", err)
		}
		return nil
	})
	group.Go(func() error { <-ctx.Done(); defer decided(); return s.drain() })
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
