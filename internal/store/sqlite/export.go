package sqlite

import (
	"context"
	"database/sql"

	"github.com/extauthz/extauthz/internal/resource"
	"github.com/extauthz/extauthz/internal/store/rows"
	"github.com/extauthz/extauthz/pkg/keys"
	"github.com/extauthz/extauthz/pkg/mapping"
	"github.com/extauthz/extauthz/pkg/teams"
)

const (
	allOrganizations = `SELECT ` + organizationColumns + ` FROM organizations ORDER BY id`
	allTeams         = `SELECT ` + teamColumns + `, (SELECT json_group_array(user_id) FROM (SELECT user_id FROM team_members WHERE team_id = teams.id ORDER BY user_id)) FROM teams ORDER BY id`
	allUsers         = `SELECT ` + userColumns + ` FROM users ORDER BY id`
	allKeys          = `SELECT ` + keyColumns + ` FROM virtual_keys ORDER BY id`
	allMappings      = `SELECT ` + mappingColumns + ` FROM jwt_key_mappings ORDER BY issuer, claim, value`
)

// Export is documented on package store's Store.
func (s *Store) Export(ctx context.Context) (*resource.Set, error) {
	set := new(resource.Set)
	err := inTx(ctx, s.readers, "export", func(tx *sql.Tx) error { return export(ctx, tx, set) })
	if err != nil {
		return nil, err
	}
	return set, nil
}

func export(ctx context.Context, tx *sql.Tx, set *resource.Set) (err error) {
	set.Organizations, err = all(ctx, tx, allOrganizations, scanOrganization,
		func(o *teams.Organization) resource.Organization { return resource.Organization{Organization: *o} })
	if err != nil {
		return err
	}
	set.Teams, err = all(ctx, tx, allTeams, scanDeclaredTeam, func(t *resource.Team) resource.Team { return *t })
	if err != nil {
		return err
	}
	set.Users, err = all(ctx, tx, allUsers, scanUser,
		func(u *teams.User) resource.User { return resource.User{User: *u} })
	if err != nil {
		return err
	}
	set.Keys, err = all(ctx, tx, allKeys, scanKey,
		func(k *keys.Key) resource.Key { return resource.Key{Key: *k} })
	if err != nil {
		return err
	}
	set.Mappings, err = all(ctx, tx, allMappings, scanMapping,
		func(m *mapping.Mapping) resource.Mapping { return resource.Mapping{Mapping: *m} })
	return err
}

func all[Row, Resource any](
	ctx context.Context, tx *sql.Tx, query string, scan func(rows.Scanner) (*Row, error), declare func(*Row) Resource,
) ([]Resource, error) {
	result, err := tx.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer func() { _ = result.Close() }()
	var list []Resource
	for result.Next() {
		row, err := scan(result)
		if err != nil {
			return nil, err
		}
		list = append(list, declare(row))
	}
	return list, result.Err()
}

// scanDeclaredTeam scans a team and its members.
func scanDeclaredTeam(row rows.Scanner) (*resource.Team, error) {
	var members []string
	team, err := scanTeam(rows.WithMore{Scanner: row, Last: list{&members}})
	if err != nil {
		return nil, err
	}
	return &resource.Team{Team: *team, Members: rows.Members(members)}, nil
}
