package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/extauthz/extauthz/internal/config"
	"github.com/extauthz/extauthz/internal/telemetry"
	"github.com/extauthz/extauthz/pkg/authz"
	"github.com/extauthz/extauthz/pkg/token"
	configv1 "github.com/extauthz/extauthz/proto/extauthz/config/v1"
)

// configFile is a configuration file and what it held when it was last looked at. The zero value is no file: what
// was configured then stays for good.
type configFile struct {
	path string
	data []byte
}

func readConfig(path string) (*configv1.Config, configFile, error) {
	data, err := config.Read(path)
	if err != nil {
		return nil, configFile{}, err
	}
	c, err := config.ParseToServe(path, data, os.LookupEnv)
	return c, configFile{path, data}, err
}

// configuration is what the server decides by, and what takes its place when the file changes.
type configuration struct {
	file     configFile
	logger   *slog.Logger
	logLevel *slog.LevelVar
	metrics  *telemetry.Metrics
	parts    parts // but for the verifier

	inForce  *configv1.Config
	server   *authz.Server
	verifier atomic.Pointer[token.Verifier]
}

// enforce makes the server decide by next, whole; on an error it decides as before.
func (c *configuration) enforce(next *configv1.Config) error {
	var level slog.Level
	if err := level.UnmarshalText([]byte(next.GetLog().GetLevel())); err != nil {
		return err
	}
	options := token.Options{Logger: c.logger}
	if c.parts.verification != nil {
		options.Around = c.parts.verification.Do
	}
	verifier, err := token.NewVerifier(issuersOf(next), options)
	if err != nil {
		return err
	}
	p := c.parts
	p.verifier = verifier
	rules, err := decisionsOf(next, p)
	if err != nil {
		return err
	}
	rules.Waited = c.metrics.Waited
	rules.Observe = telemetry.Observer(c.metrics, &telemetry.DecisionLog{
		Logger: c.logger, AllowSampleRate: next.GetLog().GetAllowSampleRate(),
	})
	if c.server == nil {
		c.server, err = authz.NewServer(rules)
	} else {
		verifier.Adopt(c.verifier.Load())
		err = c.server.Replace(rules)
	}
	if err != nil {
		return err
	}
	c.verifier.Store(verifier)
	c.inForce = next
	c.logLevel.Set(level)
	return nil
}

// reloadInterval is how often the file is looked at. SIGHUP has it looked at once more, changed or not.
const reloadInterval = 5 * time.Second

// watch keeps the issuers' keys fresh and takes the file's changes over until ctx ends.
func (c *configuration) watch(ctx context.Context) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	ticker := time.NewTicker(reloadInterval)
	defer ticker.Stop()
	stop := c.fetchKeys(ctx)
	for {
		replaced := false
		select {
		case <-ctx.Done():
			stop()
			return
		case <-hangup:
			replaced = c.reload(true)
		case <-ticker.C:
			replaced = c.reload(false)
		}
		if replaced {
			stop()
			stop = c.fetchKeys(ctx)
		}
	}
}

// fetchKeys keeps the keys of the issuers in force fresh until it is stopped.
func (c *configuration) fetchKeys(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	verifier := c.verifier.Load()
	go func() { defer close(ended); verifier.Run(ctx) }()
	return func() { cancel(); <-ended }
}

// reload reports whether the file took the place of what was in force. A file that cannot do so changes nothing,
// and is complained of once.
func (c *configuration) reload(unchangedToo bool) bool {
	if c.file.path == "" {
		return false
	}
	data, err := config.Read(c.file.path)
	if !unchangedToo && bytes.Equal(data, c.file.data) {
		return false
	}
	c.file.data = data
	if err == nil {
		err = c.take(data)
	}
	c.metrics.FilesReloaded("configuration", err)
	if err != nil {
		c.logger.Error("configuration not reloaded, the one before stays in force", "error", err.Error())
		return false
	}
	c.logger.Info("configuration reloaded")
	return true
}

func (c *configuration) take(data []byte) error {
	next, err := config.ParseToServe(c.file.path, data, os.LookupEnv)
	if err != nil {
		return err
	}
	before := fixed(c.inForce)
	for n, part := range fixed(next) {
		if !proto.Equal(part.message, before[n].message) {
			return fmt.Errorf("%s: %s: cannot change while the server runs; restart it", c.file.path, part.name)
		}
	}
	return c.enforce(next)
}

// part is a part of the configuration under its name in the file.
type part struct {
	name    string
	message proto.Message
}

// fixed are the parts that last as long as the process: listeners, the store and its caches, the keyset.
func fixed(c *configv1.Config) []part {
	store := proto.CloneOf(c.GetStore())
	if store.GetUrlFile() != "" {
		store.Url = nil // read from that file; the pool keeps the password that it began with
	}
	return []part{
		{"server", c.GetServer()}, {"telemetry", c.GetTelemetry()}, {"store", store}, {"cache", c.GetCache()},
		{"sealing", c.GetSealing()},
		{"mapping.cache_ttl", c.GetMapping().GetCacheTtl()}, {"mapping.absent_ttl", c.GetMapping().GetAbsentTtl()},
		{"mapping.serve_stale", c.GetMapping().GetServeStale()},
	}
}
