package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/extauthz/extauthz/internal/store/rows"
	"github.com/extauthz/extauthz/pkg/keys"
	"github.com/extauthz/extauthz/pkg/mapping"
	"github.com/extauthz/extauthz/pkg/teams"
)

const (
	// selectMapped is the issuer's own mapping and that of any issuer, each with the key that it names. To choose one here
	// would take a sort.
	selectMapped = `SELECT m.*, k.*
		FROM (SELECT ` + mappingColumns + ` FROM jwt_key_mappings WHERE issuer IN ($1, '') AND claim = $2 AND value = $3) AS m
			LEFT JOIN LATERAL (SELECT ` + keyColumns + ` FROM virtual_keys WHERE id = key_id) AS k ON true`
	selectOwnMapping = `SELECT ` + mappingColumns + ` FROM jwt_key_mappings
		WHERE issuer = $1 AND claim = $2 AND value = $3`
	selectKey  = `SELECT ` + keyColumns + ` FROM virtual_keys WHERE id = $1`
	selectTeam = `SELECT ` + teamColumns + ` FROM teams WHERE id = $1`
	// selectTeamAlong is a team and its organization.
	selectTeamAlong = `SELECT t.*, o.*
		FROM (SELECT ` + teamColumns + ` FROM teams WHERE id = $1) AS t (team, team_alias, organization)
			LEFT JOIN LATERAL (SELECT ` + organizationColumns + ` FROM organizations WHERE id = organization) AS o ON true`
	selectOrganization = `SELECT ` + organizationColumns + ` FROM organizations WHERE id = $1`
	selectUser         = `SELECT ` + userColumns + ` FROM users WHERE id = $1`
	// The rows of an alias, counted to two: see [rows.Only].
	selectTeamByAlias = `SELECT ` + teamColumns + `, count(*) OVER ()
		FROM (SELECT * FROM teams WHERE alias = $1 AND alias <> '' LIMIT 2) AS teams LIMIT 1`
	selectOrganizationByAlias = `SELECT ` + organizationColumns + `, count(*) OVER ()
		FROM (SELECT * FROM organizations WHERE alias = $1 AND alias <> '' LIMIT 2) AS organizations LIMIT 1`
	selectMember = `SELECT EXISTS (SELECT 1 FROM team_members WHERE team_id = $1 AND user_id = $2)`
)

// Lookup is documented on [mapping.Store].
func (s *Store) Lookup(ctx context.Context, subject mapping.Subject) (*mapping.Mapping, *keys.Key, error) {
	if !rows.StorableSubject(subject) {
		return nil, nil, teams.ErrNotFound
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	result, err := s.pool.Query(ctx, selectMapped, subject.Issuer, subject.Claim, subject.Value)
	if err != nil {
		return nil, nil, translate(ctx, "read mapping", err)
	}
	found, err := pgx.CollectRows(result, func(row pgx.CollectableRow) (mapped, error) { return scanMapped(row, 0) })
	switch {
	case err != nil:
		return nil, nil, translate(ctx, "read mapping", err)
	case len(found) == 0:
		return nil, nil, teams.ErrNotFound
	case len(found) > 1 && found[0].mapping.Issuer == "":
		return found[1].mapping, found[1].key, nil
	}
	return found[0].mapping, found[0].key, nil
}

// Key is documented on [mapping.Store].
func (s *Store) Key(ctx context.Context, id keys.ID) (*keys.Key, error) {
	if !id.Valid() {
		return nil, teams.ErrNotFound
	}
	return read(ctx, s, "read key", scanKey, selectKey, id)
}

// Team is documented on [teams.Directory].
func (s *Store) Team(ctx context.Context, id teams.TeamID) (*teams.Team, error) {
	if !rows.Storable(id) {
		return nil, teams.ErrNotFound
	}
	return read(ctx, s, "read team", scanTeam, selectTeam, id)
}

// TeamAlong is documented on [teams.Store].
func (s *Store) TeamAlong(ctx context.Context, id teams.TeamID) (*teams.Team, *teams.Organization, error) {
	if !rows.Storable(id) {
		return nil, nil, teams.ErrNotFound
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	result, err := s.pool.Query(ctx, selectTeamAlong, id)
	if err != nil {
		return nil, nil, translate(ctx, "read team", err)
	}
	found, err := pgx.CollectExactlyOneRow(result, scanOwned)
	return found.team, found.organization, translate(ctx, "read team", err)
}

// Organization is documented on [teams.Directory].
func (s *Store) Organization(ctx context.Context, id teams.OrganizationID) (*teams.Organization, error) {
	if !rows.Storable(id) {
		return nil, teams.ErrNotFound
	}
	return read(ctx, s, "read organization", scanOrganization, selectOrganization, id)
}

// User is documented on [teams.Directory].
func (s *Store) User(ctx context.Context, id teams.UserID) (*teams.User, error) {
	if !rows.Storable(id) {
		return nil, teams.ErrNotFound
	}
	return read(ctx, s, "read user", scanUser, selectUser, id)
}

// TeamByAlias is documented on [teams.Directory].
func (s *Store) TeamByAlias(ctx context.Context, alias string) (*teams.Team, error) {
	if !rows.Storable(alias) {
		return nil, teams.ErrNotFound
	}
	return read(ctx, s, "read team by alias", rows.Only(scanTeam), selectTeamByAlias, alias)
}

// OrganizationByAlias is documented on [teams.Directory].
func (s *Store) OrganizationByAlias(ctx context.Context, alias string) (*teams.Organization, error) {
	if !rows.Storable(alias) {
		return nil, teams.ErrNotFound
	}
	return read(ctx, s, "read organization by alias", rows.Only(scanOrganization), selectOrganizationByAlias, alias)
}

// Member is documented on [teams.Directory].
func (s *Store) Member(ctx context.Context, team teams.TeamID, user teams.UserID) (bool, error) {
	if !rows.Storable(team) || !rows.Storable(user) {
		return false, nil
	}
	member, err := read(ctx, s, "read member", scanFlag, selectMember, team, user)
	if err != nil {
		return false, err
	}
	return *member, nil
}

// read returns one row or [teams.ErrNotFound], within the store's timeout.
func read[T any](
	ctx context.Context, s *Store, op string, scan func(rows.Scanner) (*T, error), query string, args ...any,
) (*T, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	row, err := scan(s.pool.QueryRow(ctx, query, args...))
	if err != nil {
		return nil, translate(ctx, op, err)
	}
	return row, nil
}
