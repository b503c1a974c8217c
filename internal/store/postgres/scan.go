package postgres

import (
	"time"

	"github.com/extauthz/extauthz/pkg/keys"
	"github.com/extauthz/extauthz/pkg/mapping"
	"github.com/extauthz/extauthz/pkg/teams"
)

// The columns of each row type, in the order of its scan function.
const (
	organizationColumns = `id, alias, blocked, max_budget_micros, spend_micros`
	teamColumns         = `id, alias, COALESCE(organization_id, ''), models, allowed_routes, blocked,
		max_budget_micros, spend_micros, rpm_limit, tpm_limit`
	userColumns = `id, email, blocked, max_budget_micros, spend_micros`
	keyColumns  = `id, alias, COALESCE(team_id, ''), user_id, COALESCE(organization_id, ''), models, allowed_routes,
		blocked, auto_registered, expires_at, max_budget_micros, spend_micros, rpm_limit, tpm_limit`
	mappingColumns = `issuer, claim, value, key_id, active, auto_registered`
)

type scanner interface {
	Scan(destinations ...any) error
}

func scanOrganization(row scanner) (*teams.Organization, error) {
	var o teams.Organization
	err := row.Scan(&o.ID, &o.Alias, &o.Blocked, &o.Budget.Max, &o.Budget.Spend)
	return &o, err
}

func scanTeam(row scanner) (*teams.Team, error) {
	var t teams.Team
	err := row.Scan(&t.ID, &t.Alias, &t.OrganizationID, &t.Models, &t.AllowedRoutes, &t.Blocked,
		&t.Budget.Max, &t.Budget.Spend, &t.Limits.RPM, &t.Limits.TPM)
	t.Models, t.AllowedRoutes = orNil(t.Models), orNil(t.AllowedRoutes)
	return &t, err
}

func scanUser(row scanner) (*teams.User, error) {
	var u teams.User
	err := row.Scan(&u.ID, &u.Email, &u.Blocked, &u.Budget.Max, &u.Budget.Spend)
	return &u, err
}

func scanKey(row scanner) (*keys.Key, error) {
	var k keys.Key
	var expires *time.Time
	err := row.Scan(&k.ID, &k.Alias, &k.TeamID, &k.UserID, &k.OrganizationID, &k.Models, &k.AllowedRoutes,
		&k.Blocked, &k.AutoRegistered, &expires, &k.Budget.Max, &k.Budget.Spend, &k.Limits.RPM, &k.Limits.TPM)
	if expires != nil {
		k.ExpiresAt = expires.UTC()
	}
	k.Models, k.AllowedRoutes = orNil(k.Models), orNil(k.AllowedRoutes)
	return &k, err
}

func scanMapping(row scanner) (*mapping.Mapping, error) {
	var m mapping.Mapping
	err := row.Scan(&m.Issuer, &m.Claim, &m.Value, &m.KeyID, &m.Active, &m.AutoRegistered)
	return &m, err
}

// orNil gives an empty list its one form.
func orNil(list []string) []string {
	if len(list) == 0 {
		return nil
	}
	return list
}

// array is the list as a parameter: to the driver a nil slice is NULL.
func array(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

// timestamp is the time as a parameter, NULL for never.
func timestamp(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC().Truncate(time.Microsecond)
	return &t
}
