package sqlite

import (
	"context"
	"database/sql"
	"time"

	"github.com/extauthz/extauthz/internal/resource"
	"github.com/extauthz/extauthz/internal/store/rows"
	"github.com/extauthz/extauthz/pkg/keys"
	"github.com/extauthz/extauthz/pkg/teams"
)

// Apply is documented on package store's Store.
func (s *Store) Apply(ctx context.Context, set *resource.Set) error {
	if err := rows.CheckSet(set); err != nil {
		return err
	}
	return inTx(ctx, s.writer, "apply", func(tx *sql.Tx) error {
		return rows.Apply(ctx, applyTx{tx, time.Now(), make(map[string]*sql.Stmt)}, set)
	})
}

// An upsert updates only where something differs, so that applying a file again touches no row. A switch
// that is NULL is left as it is.
const (
	putOrganization = `INSERT INTO organizations AS o (id, alias, blocked, max_budget_micros, spend_micros, budget_window, budget_reset_at)
		VALUES (?1, ?2, COALESCE(?3, false), ?4, ?5, ?7, COALESCE(?8, ?9))
		ON CONFLICT (id) DO UPDATE SET alias = excluded.alias, blocked = COALESCE(?3, o.blocked),
			max_budget_micros = excluded.max_budget_micros,
			spend_micros = CASE WHEN ?6 THEN o.spend_micros ELSE excluded.spend_micros END, budget_window = excluded.budget_window,
			budget_reset_at = CASE WHEN ?8 IS NOT NULL THEN ?8
				WHEN o.budget_window = excluded.budget_window THEN o.budget_reset_at ELSE ?9 END,
			updated_at = ` + now + `
		WHERE (o.alias, o.max_budget_micros)
				IS NOT (excluded.alias, excluded.max_budget_micros)
			OR o.blocked <> COALESCE(?3, o.blocked)
			OR NOT ?6 AND o.spend_micros <> excluded.spend_micros
			OR o.budget_window <> excluded.budget_window
			OR ?8 IS NOT NULL AND o.budget_reset_at IS NOT ?8`
	putTeam = `INSERT INTO teams AS t (id, alias, organization_id, models, allowed_routes, blocked,
			max_budget_micros, spend_micros, rpm_limit, tpm_limit, budget_window, budget_reset_at)
		VALUES (?1, ?2, NULLIF(?3, ''), ?4, ?5, COALESCE(?6, false), ?7, ?8, ?9, ?10, ?12, COALESCE(?13, ?14))
		ON CONFLICT (id) DO UPDATE SET alias = excluded.alias, organization_id = excluded.organization_id,
			models = excluded.models, allowed_routes = excluded.allowed_routes, blocked = COALESCE(?6, t.blocked),
			max_budget_micros = excluded.max_budget_micros, rpm_limit = excluded.rpm_limit, tpm_limit = excluded.tpm_limit,
			spend_micros = CASE WHEN ?11 THEN t.spend_micros ELSE excluded.spend_micros END, budget_window = excluded.budget_window,
			budget_reset_at = CASE WHEN ?13 IS NOT NULL THEN ?13
				WHEN t.budget_window = excluded.budget_window THEN t.budget_reset_at ELSE ?14 END,
			updated_at = ` + now + `
		WHERE (t.alias, t.organization_id, t.models, t.allowed_routes, t.max_budget_micros, t.rpm_limit, t.tpm_limit)
				IS NOT (excluded.alias, excluded.organization_id, excluded.models, excluded.allowed_routes,
					excluded.max_budget_micros, excluded.rpm_limit, excluded.tpm_limit)
			OR t.blocked <> COALESCE(?6, t.blocked)
			OR NOT ?11 AND t.spend_micros <> excluded.spend_micros
			OR t.budget_window <> excluded.budget_window
			OR ?13 IS NOT NULL AND t.budget_reset_at IS NOT ?13`
	putUser = `INSERT INTO users AS u (id, email, blocked, max_budget_micros, spend_micros, budget_window, budget_reset_at)
		VALUES (?1, ?2, COALESCE(?3, false), ?4, ?5, ?7, COALESCE(?8, ?9))
		ON CONFLICT (id) DO UPDATE SET email = excluded.email, blocked = COALESCE(?3, u.blocked),
			max_budget_micros = excluded.max_budget_micros,
			spend_micros = CASE WHEN ?6 THEN u.spend_micros ELSE excluded.spend_micros END, budget_window = excluded.budget_window,
			budget_reset_at = CASE WHEN ?8 IS NOT NULL THEN ?8
				WHEN u.budget_window = excluded.budget_window THEN u.budget_reset_at ELSE ?9 END,
			updated_at = ` + now + `
		WHERE (u.email, u.max_budget_micros)
				IS NOT (excluded.email, excluded.max_budget_micros)
			OR u.blocked <> COALESCE(?3, u.blocked)
			OR NOT ?6 AND u.spend_micros <> excluded.spend_micros
			OR u.budget_window <> excluded.budget_window
			OR ?8 IS NOT NULL AND u.budget_reset_at IS NOT ?8`
	// putKey leaves auto_registered of a stored key alone: a file does not make a key ours or theirs.
	putKey = `INSERT INTO virtual_keys AS k (id, alias, team_id, user_id, organization_id, models, allowed_routes, blocked,
			auto_registered, expires_at, max_budget_micros, spend_micros, rpm_limit, tpm_limit, budget_window, budget_reset_at,
			jwt_only, idle_timeout, idle_expires_at, sealed)
		VALUES (?1, ?2, NULLIF(?3, ''), ?4, NULLIF(?5, ''), ?6, ?7, COALESCE(?8, false), ?9, ?10, ?11, ?12, ?13, ?14, ?16, COALESCE(?17, ?18),
			COALESCE(?19, false), ?20, COALESCE(?21, ?22), ?23)
		ON CONFLICT (id) DO UPDATE SET alias = excluded.alias, team_id = excluded.team_id, user_id = excluded.user_id,
			organization_id = excluded.organization_id, models = excluded.models, allowed_routes = excluded.allowed_routes,
			blocked = COALESCE(?8, k.blocked), expires_at = excluded.expires_at, max_budget_micros = excluded.max_budget_micros,
			rpm_limit = excluded.rpm_limit, tpm_limit = excluded.tpm_limit,
			spend_micros = CASE WHEN ?15 THEN k.spend_micros ELSE excluded.spend_micros END, budget_window = excluded.budget_window,
			jwt_only = COALESCE(?19, k.jwt_only), idle_timeout = excluded.idle_timeout, sealed = COALESCE(excluded.sealed, k.sealed),
			idle_expires_at = CASE WHEN ?21 IS NOT NULL THEN ?21
				WHEN k.idle_timeout = excluded.idle_timeout THEN k.idle_expires_at ELSE ?22 END,
			budget_reset_at = CASE WHEN ?17 IS NOT NULL THEN ?17
				WHEN k.budget_window = excluded.budget_window THEN k.budget_reset_at ELSE ?18 END,
			updated_at = ` + now + `
		WHERE (k.alias, k.team_id, k.user_id, k.organization_id, k.models, k.allowed_routes, k.expires_at,
				k.max_budget_micros, k.rpm_limit, k.tpm_limit)
				IS NOT (excluded.alias, excluded.team_id, excluded.user_id, excluded.organization_id,
					excluded.models, excluded.allowed_routes, excluded.expires_at,
					excluded.max_budget_micros, excluded.rpm_limit, excluded.tpm_limit)
			OR k.blocked <> COALESCE(?8, k.blocked)
			OR NOT ?15 AND k.spend_micros <> excluded.spend_micros
			OR k.jwt_only <> COALESCE(?19, k.jwt_only)
			OR k.idle_timeout <> excluded.idle_timeout
			OR excluded.sealed IS NOT NULL AND k.sealed IS NOT excluded.sealed
			OR ?21 IS NOT NULL AND k.idle_expires_at IS NOT ?21
			OR k.budget_window <> excluded.budget_window
			OR ?17 IS NOT NULL AND k.budget_reset_at IS NOT ?17`
	putMapping = `INSERT INTO jwt_key_mappings AS m (issuer, claim, value, key_id, active, auto_registered)
		VALUES (?1, ?2, ?3, ?4, COALESCE(?5, true), ?6)
		ON CONFLICT (issuer, claim, value) DO UPDATE SET key_id = excluded.key_id, active = COALESCE(?5, m.active),
			auto_registered = excluded.auto_registered, updated_at = ` + now + `
		WHERE (m.key_id, m.auto_registered) IS NOT (excluded.key_id, excluded.auto_registered)
			OR m.active <> COALESCE(?5, m.active)`
	aliasHolders = `SELECT alias, id FROM virtual_keys WHERE alias IN (SELECT value FROM json_each(?1)) AND alias <> ''`
	releaseAlias = `UPDATE virtual_keys SET alias = '', updated_at = ` + now + ` WHERE id = ?1`
)

// applyTx is the [rows.Tx] of SQLite.
type applyTx struct {
	tx       *sql.Tx
	now      time.Time
	prepared map[string]*sql.Stmt // closed when tx ends
}

// exec compiles a statement once for all rows of the set: with the triggers of its table that takes
// longer than running it.
func (a applyTx) exec(ctx context.Context, statement string, args ...any) error {
	prepared := a.prepared[statement]
	if prepared == nil {
		var err error
		if prepared, err = a.tx.PrepareContext(ctx, statement); err != nil {
			return err
		}
		a.prepared[statement] = prepared
	}
	_, err := prepared.ExecContext(ctx, args...)
	return refused(err)
}

func existing(table rows.Table) string {
	switch table {
	case rows.Organizations:
		return `SELECT id FROM organizations WHERE id IN (SELECT value FROM json_each(?1))`
	case rows.Teams:
		return `SELECT id FROM teams WHERE id IN (SELECT value FROM json_each(?1))`
	default:
		return `SELECT id FROM virtual_keys WHERE id IN (SELECT value FROM json_each(?1))`
	}
}

func (a applyTx) Existing(ctx context.Context, table rows.Table, ids []string) (map[string]bool, error) {
	found := make(map[string]bool, len(ids))
	var id string
	err := a.each(ctx, existing(table), ids, []any{&id}, func() { found[id] = true })
	return found, err
}

func (a applyTx) AliasHolders(ctx context.Context, aliases []string) (map[string]keys.ID, error) {
	holders := make(map[string]keys.ID, len(aliases))
	var alias string
	var id keys.ID
	err := a.each(ctx, aliasHolders, aliases, []any{&alias, &id}, func() { holders[alias] = id })
	return holders, err
}

// each scans every row of a query that takes a list, and calls do after each.
func (a applyTx) each(ctx context.Context, query string, listed []string, scan []any, do func()) error {
	result, err := a.tx.QueryContext(ctx, query, array(listed))
	if err != nil {
		return err
	}
	defer func() { _ = result.Close() }()
	for result.Next() {
		if err := result.Scan(scan...); err != nil {
			return err
		}
		do()
	}
	return result.Err()
}

func (a applyTx) ReleaseAlias(ctx context.Context, id keys.ID) error {
	return a.exec(ctx, releaseAlias, id)
}

func (a applyTx) PutOrganization(ctx context.Context, o *resource.Organization) error {
	return a.exec(ctx, putOrganization, o.ID, o.Alias, rows.Switch(o.Blocked, o.KeepBlocked),
		o.Budget.Max, rows.Spend(o.Budget, o.KeepSpend), o.KeepSpend,
		o.Budget.Window.String(), timestamp(o.Budget.ResetAt), timestamp(o.Budget.Window.End(a.now)))
}

func (a applyTx) PutTeam(ctx context.Context, t *resource.Team) error {
	return a.exec(ctx, putTeam, t.ID, t.Alias, t.OrganizationID, array(t.Models), array(t.AllowedRoutes), rows.Switch(t.Blocked, t.KeepBlocked),
		t.Budget.Max, rows.Spend(t.Budget, t.KeepSpend), t.Limits.RPM, t.Limits.TPM, t.KeepSpend,
		t.Budget.Window.String(), timestamp(t.Budget.ResetAt), timestamp(t.Budget.Window.End(a.now)))
}

func (a applyTx) PutUser(ctx context.Context, u *resource.User) error {
	return a.exec(ctx, putUser, u.ID, u.Email, rows.Switch(u.Blocked, u.KeepBlocked),
		u.Budget.Max, rows.Spend(u.Budget, u.KeepSpend), u.KeepSpend,
		u.Budget.Window.String(), timestamp(u.Budget.ResetAt), timestamp(u.Budget.Window.End(a.now)))
}

func (a applyTx) PutKey(ctx context.Context, k *resource.Key) error {
	return a.exec(ctx, putKey, k.ID, k.Alias, k.TeamID, k.UserID, k.OrganizationID, array(k.Models),
		array(k.AllowedRoutes), rows.Switch(k.Blocked, k.KeepBlocked), k.AutoRegistered, timestamp(k.ExpiresAt),
		k.Budget.Max, rows.Spend(k.Budget, k.KeepSpend), k.Limits.RPM, k.Limits.TPM, k.KeepSpend,
		k.Budget.Window.String(), timestamp(k.Budget.ResetAt), timestamp(k.Budget.Window.End(a.now)),
		rows.Switch(k.JWTOnly, k.KeepJWTOnly), k.IdleTimeout.Microseconds(), timestamp(k.IdleExpiresAt), timestamp(rows.IdleEnd(&k.Key, a.now)), k.Sealed)
}

func (a applyTx) PutMapping(ctx context.Context, m *resource.Mapping) error {
	return a.exec(ctx, putMapping, m.Issuer, m.Claim, m.Value, m.KeyID, rows.Switch(m.Active, m.KeepActive), m.AutoRegistered)
}

// dropMembers and addMembers make a team's members those of a list.
const (
	dropMembers = `DELETE FROM team_members WHERE team_id = ?1 AND user_id NOT IN (SELECT value FROM json_each(?2))`
	addMembers  = `INSERT INTO team_members (team_id, user_id) SELECT ?1, value FROM json_each(?2) WHERE true ON CONFLICT DO NOTHING`
)

func (a applyTx) PutMembers(ctx context.Context, team teams.TeamID, members []string) error {
	if err := a.exec(ctx, dropMembers, team, array(members)); err != nil {
		return err
	}
	return a.exec(ctx, addMembers, team, array(members))
}
