package postgres

import (
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/extauthz/extauthz/internal/store/rows"
	"github.com/extauthz/extauthz/pkg/keys"
	"github.com/extauthz/extauthz/pkg/mapping"
	"github.com/extauthz/extauthz/pkg/teams"
)

// The columns of each row type, in the order of its scan function.
const (
	organizationColumns = `id, alias, blocked, max_budget_micros, spend_micros, budget_window, budget_reset_at`
	teamColumns         = `id, alias, COALESCE(organization_id, ''), models, allowed_routes, blocked,
		max_budget_micros, spend_micros, budget_window, budget_reset_at, rpm_limit, tpm_limit`
	userColumns = `id, email, blocked, max_budget_micros, spend_micros, budget_window, budget_reset_at`
	keyColumns  = `id, alias, COALESCE(team_id, ''), user_id, COALESCE(organization_id, ''), models, allowed_routes,
		blocked, auto_registered, jwt_only, expires_at, idle_timeout, idle_expires_at, sealed, max_budget_micros, spend_micros, budget_window, budget_reset_at, rpm_limit, tpm_limit`
	mappingColumns = `issuer, claim, value, key_id, active, auto_registered`

	mappingWidth, keyWidth, teamWidth, organizationWidth = 6, 20, 12, 7 // in columns
)

func scanOrganization(row rows.Scanner) (*teams.Organization, error) {
	var o teams.Organization
	var b budget
	err := row.Scan(&o.ID, &o.Alias, &o.Blocked, &b.max, &b.spend, &b.window, &b.resetAt)
	return &o, b.into(&o.Budget, err)
}

func scanTeam(row rows.Scanner) (*teams.Team, error) {
	var t teams.Team
	var b budget
	err := row.Scan(&t.ID, &t.Alias, &t.OrganizationID, &t.Models, &t.AllowedRoutes, &t.Blocked,
		&b.max, &b.spend, &b.window, &b.resetAt, &t.Limits.RPM, &t.Limits.TPM)
	t.Models, t.AllowedRoutes = orNil(t.Models), orNil(t.AllowedRoutes)
	return &t, b.into(&t.Budget, err)
}

func scanUser(row rows.Scanner) (*teams.User, error) {
	var u teams.User
	var b budget
	err := row.Scan(&u.ID, &u.Email, &u.Blocked, &b.max, &b.spend, &b.window, &b.resetAt)
	return &u, b.into(&u.Budget, err)
}

func scanKey(row rows.Scanner) (*keys.Key, error) {
	var k keys.Key
	var b budget
	var expires, idleExpires *time.Time
	var idle int64
	err := row.Scan(&k.ID, &k.Alias, &k.TeamID, &k.UserID, &k.OrganizationID, &k.Models, &k.AllowedRoutes,
		&k.Blocked, &k.AutoRegistered, &k.JWTOnly, &expires, &idle, &idleExpires, &k.Sealed, &b.max, &b.spend, &b.window, &b.resetAt, &k.Limits.RPM, &k.Limits.TPM)
	k.ExpiresAt, k.IdleExpiresAt = instant(expires), instant(idleExpires)
	k.IdleTimeout = time.Duration(idle) * time.Microsecond
	k.Models, k.AllowedRoutes = orNil(k.Models), orNil(k.AllowedRoutes)
	return &k, b.into(&k.Budget, err)
}

func scanMapping(row rows.Scanner) (*mapping.Mapping, error) {
	var m mapping.Mapping
	err := row.Scan(&m.Issuer, &m.Claim, &m.Value, &m.KeyID, &m.Active, &m.AutoRegistered)
	return &m, err
}

// mapped is a mapping and the key that it names, which may be nil.
type mapped struct {
	mapping *mapping.Mapping
	key     *keys.Key
}

// scanMapped scans a mapping and its key, which follow so many other columns. A mapping whose key is gone still denies: it
// must not look like an absence.
func scanMapped(row rows.Scanner, before int) (mapped, error) {
	var id *keys.ID
	m, err := scanMapping(part{row, before, keyWidth})
	if err != nil {
		return mapped{}, err
	}
	before += mappingWidth
	if err := (part{row, before, keyWidth - 1}).Scan(&id); err != nil || id == nil {
		return mapped{mapping: m}, err
	}
	key, err := scanKey(part{row, before, 0})
	return mapped{m, key}, err
}

// owned is a team and its organization, which may be nil.
type owned struct {
	team         *teams.Team
	organization *teams.Organization
}

// scanOwned scans a team and its organization. One whose row is gone must be asked for, so that it denies.
func scanOwned(row pgx.CollectableRow) (owned, error) {
	var id *teams.OrganizationID
	team, err := scanTeam(part{row, 0, organizationWidth})
	if err != nil {
		return owned{}, err
	}
	if err := (part{row, teamWidth, organizationWidth - 1}).Scan(&id); err != nil || id == nil {
		return owned{team: team}, err
	}
	organization, err := scanOrganization(part{row, teamWidth, 0})
	return owned{team, organization}, err
}

// part is a row without columns at its two ends: the driver skips a column that has no destination.
type part struct {
	row           rows.Scanner
	before, after int
}

// Scan implements [rows.Scanner].
func (p part) Scan(destinations ...any) error {
	return p.row.Scan(slices.Concat(make([]any, p.before), destinations, make([]any, p.after))...)
}

// budget is a budget as its columns hold it.
type budget struct {
	max     *teams.Micros
	spend   teams.Micros
	window  string
	resetAt *time.Time
}

// into sets a row's budget, unless the row could not be scanned.
func (b budget) into(to *teams.Budget, err error) error {
	if err != nil {
		return err
	}
	*to, err = rows.Budget(b.max, b.spend, b.window, instant(b.resetAt))
	return err
}

// instant is a column's time, the zero time for NULL.
func instant(at *time.Time) time.Time {
	if at == nil {
		return time.Time{}
	}
	return at.UTC()
}

// scanFlag scans a single truth value.
func scanFlag(row rows.Scanner) (*bool, error) {
	var flag bool
	err := row.Scan(&flag)
	return &flag, err
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
