package mapping

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/extauthz/extauthz/internal/trace"
	"github.com/extauthz/extauthz/pkg/keys"
	"github.com/extauthz/extauthz/pkg/teams"
)

// DryRun returns a store whose reads are another's and whose writes go nowhere: they are noted in the
// trace, and what they would have written can be read from this store alone.
func DryRun(store Store) Store {
	return &dryRun{Store: store, written: make(map[keys.ID]*keys.Key)}
}

type dryRun struct {
	Store
	mu      sync.Mutex
	written map[keys.ID]*keys.Key
}

func (d *dryRun) Key(ctx context.Context, id keys.ID) (*keys.Key, error) {
	d.mu.Lock()
	key, found := d.written[id]
	d.mu.Unlock()
	if found {
		return key, nil
	}
	return d.Store.Key(ctx, id)
}

// Register returns the mapping that is there, as a store does, or else the one that it would write. It
// does not count the team's keys.
func (d *dryRun) Register(ctx context.Context, subject Subject, key *keys.Key, _ int) (*Mapping, *keys.Key, error) {
	found, stored, err := d.Lookup(ctx, subject)
	if !errors.Is(err, teams.ErrNotFound) {
		return found, stored, err
	}
	trace.From(ctx).Add("mapping", "would register a new key")
	return d.write(subject, key), nil, nil
}

func (d *dryRun) Rebind(ctx context.Context, subject Subject, _ keys.ID, key *keys.Key, _ int) (*Mapping, error) {
	trace.From(ctx).Add("mapping", "would block the old key and bind the caller to a new one")
	return d.write(subject, key), nil
}

func (d *dryRun) Touch(context.Context, keys.ID, time.Time) error { return nil }

func (d *dryRun) write(subject Subject, key *keys.Key) *Mapping {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.written[key.ID] = key
	return &Mapping{Issuer: subject.Issuer, Claim: subject.Claim, Value: subject.Value, KeyID: key.ID, Active: true, AutoRegistered: true}
}
