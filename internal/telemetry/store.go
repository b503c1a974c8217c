package telemetry

import (
	"context"
	"time"

	"github.com/extauthz/extauthz/pkg/keys"
	"github.com/extauthz/extauthz/pkg/mapping"
	"github.com/extauthz/extauthz/pkg/teams"
)

// Store is what the decision asks of the store.
type Store interface {
	mapping.Store
	teams.Store
}

// Around makes a call, or returns an error of its own in place of it.
type Around func(ctx context.Context, call func() error) error

// MeasuredStore is a [Store] whose calls are counted and timed, those that are made.
type MeasuredStore struct {
	store   Store
	metrics *Metrics
	around  Around
}

// Measure wraps a store. Every call goes through around.
func Measure(store Store, metrics *Metrics, around Around) *MeasuredStore {
	return &MeasuredStore{store: store, metrics: metrics, around: around}
}

func measured[T any](ctx context.Context, s *MeasuredStore, operation string, call func() (T, error)) (value T, err error) {
	err = s.around(ctx, func() error {
		start := time.Now()
		value, err = call()
		s.metrics.Stored(operation, err, time.Since(start))
		return err
	})
	return value, err
}

// Lookup implements [mapping.Store].
func (s *MeasuredStore) Lookup(ctx context.Context, subject mapping.Subject) (m *mapping.Mapping, key *keys.Key, err error) {
	m, err = measured(ctx, s, "mapping", func() (*mapping.Mapping, error) {
		m, key, err = s.store.Lookup(ctx, subject)
		return m, err
	})
	return m, key, err
}

// Key implements [mapping.Store].
func (s *MeasuredStore) Key(ctx context.Context, id keys.ID) (*keys.Key, error) {
	return measured(ctx, s, "key", func() (*keys.Key, error) { return s.store.Key(ctx, id) })
}

// Register implements [mapping.Store].
func (s *MeasuredStore) Register(
	ctx context.Context, subject mapping.Subject, key *keys.Key, maxTeamKeys int,
) (m *mapping.Mapping, stored *keys.Key, err error) {
	m, err = measured(ctx, s, "register", func() (*mapping.Mapping, error) {
		m, stored, err = s.store.Register(ctx, subject, key, maxTeamKeys)
		return m, err
	})
	return m, stored, err
}

// Rebind implements [mapping.Store].
func (s *MeasuredStore) Rebind(ctx context.Context, subject mapping.Subject, old keys.ID, key *keys.Key, maxTeamKeys int) (*mapping.Mapping, error) {
	return measured(ctx, s, "rebind", func() (*mapping.Mapping, error) {
		return s.store.Rebind(ctx, subject, old, key, maxTeamKeys)
	})
}

// Touch implements [mapping.Store].
func (s *MeasuredStore) Touch(ctx context.Context, id keys.ID, idleExpiresAt time.Time) error {
	_, err := measured(ctx, s, "touch", func() (struct{}, error) { return struct{}{}, s.store.Touch(ctx, id, idleExpiresAt) })
	return err
}

// TeamByAlias implements [teams.Directory].
func (s *MeasuredStore) TeamByAlias(ctx context.Context, alias string) (*teams.Team, error) {
	return measured(ctx, s, "team_alias", func() (*teams.Team, error) { return s.store.TeamByAlias(ctx, alias) })
}

// OrganizationByAlias implements [teams.Directory].
func (s *MeasuredStore) OrganizationByAlias(ctx context.Context, alias string) (*teams.Organization, error) {
	return measured(ctx, s, "organization_alias", func() (*teams.Organization, error) { return s.store.OrganizationByAlias(ctx, alias) })
}

// Member implements [teams.Directory].
func (s *MeasuredStore) Member(ctx context.Context, team teams.TeamID, user teams.UserID) (bool, error) {
	return measured(ctx, s, "member", func() (bool, error) { return s.store.Member(ctx, team, user) })
}

// Team implements [teams.Directory].
func (s *MeasuredStore) Team(ctx context.Context, id teams.TeamID) (*teams.Team, error) {
	return measured(ctx, s, "team", func() (*teams.Team, error) { return s.store.Team(ctx, id) })
}

// TeamAlong implements [teams.Store].
func (s *MeasuredStore) TeamAlong(ctx context.Context, id teams.TeamID) (team *teams.Team, organization *teams.Organization, err error) {
	team, err = measured(ctx, s, "team", func() (*teams.Team, error) {
		team, organization, err = s.store.TeamAlong(ctx, id)
		return team, err
	})
	return team, organization, err
}

// RegisterTeam implements [teams.Registrar].
func (s *MeasuredStore) RegisterTeam(ctx context.Context, team *teams.Team, maxTeams int) (*teams.Team, error) {
	return measured(ctx, s, "register_team", func() (*teams.Team, error) { return s.store.RegisterTeam(ctx, team, maxTeams) })
}

// Organization implements [teams.Directory].
func (s *MeasuredStore) Organization(ctx context.Context, id teams.OrganizationID) (*teams.Organization, error) {
	return measured(ctx, s, "organization", func() (*teams.Organization, error) { return s.store.Organization(ctx, id) })
}

// User implements [teams.Directory].
func (s *MeasuredStore) User(ctx context.Context, id teams.UserID) (*teams.User, error) {
	return measured(ctx, s, "user", func() (*teams.User, error) { return s.store.User(ctx, id) })
}
