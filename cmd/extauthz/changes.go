package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/extauthz/extauthz/internal/cache"
	"github.com/extauthz/extauthz/internal/store"
	"github.com/extauthz/extauthz/internal/telemetry"
	"github.com/extauthz/extauthz/pkg/mapping"
	"github.com/extauthz/extauthz/pkg/teams"
)

// maxBlind is how long a cached row is used on nothing but its load. The store tells of changes, and confirms each
// second that it does; while it does not, rows are read again after this time. With the time of a read it
// bounds how long a revocation goes unnoticed here, whatever happens to the connection that tells of it.
const maxBlind = 3 * time.Second

// changes hands what the store tells of changes to the caches. It is a [store.Watcher].
type changes struct {
	directory *teams.CachedDirectory
	mappings  *mapping.Cached
	feed      *cache.Feed
	metrics   *telemetry.Metrics
	logger    *slog.Logger
	lost      bool // as the log has it
}

// watchChanges keeps the caches up to date until ctx ends.
func (s *service) watchChanges(ctx context.Context) {
	if s.store != nil {
		s.store.Watch(ctx, s.changes)
	}
}

// Watching implements [store.Watcher].
func (c *changes) Watching(since time.Time) {
	c.feed.Open(since)
	c.metrics.FeedUp()
	if c.lost {
		c.logger.Info("changes are told again")
		c.lost = false
	}
}

// Confirmed implements [store.Watcher].
func (c *changes) Confirmed(until time.Time) { c.feed.Confirm(until) }

// Interrupted implements [store.Watcher].
func (c *changes) Interrupted(err error) {
	c.metrics.FeedInterrupted()
	if !c.lost {
		c.logger.Warn("changes are not told, rows are read again every few seconds", "error", err.Error())
		c.lost = true
	}
}

// Changed implements [store.Watcher].
func (c *changes) Changed(change store.Change) {
	table := c.forget(change)
	lag := time.Duration(-1)
	if !change.At.IsZero() {
		lag = max(0, time.Since(change.At))
	}
	c.metrics.ChangeTold(table, lag)
}

// forget forgets what changed and returns its name for the metrics. A table that is none of ours stands for
// all of them.
func (c *changes) forget(change store.Change) (table string) {
	switch change.Table {
	case "organizations":
		c.directory.OrganizationsChanged(change.Digests)
	case "teams":
		c.directory.TeamsChanged(change.Digests)
	case "team_members":
		c.directory.MembersChanged(change.Digests)
	case "users":
		c.directory.UsersChanged(change.Digests)
	case "virtual_keys":
		c.mappings.KeysChanged(change.Digests)
	case "jwt_key_mappings":
		c.mappings.MappingsChanged(change.Digests)
	default:
		c.directory.Changed()
		c.mappings.Changed()
		return "all"
	}
	return change.Table
}
