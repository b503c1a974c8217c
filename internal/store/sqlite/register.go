package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/extauthz/extauthz/internal/store/rows"
	"github.com/extauthz/extauthz/pkg/keys"
	"github.com/extauthz/extauthz/pkg/mapping"
	"github.com/extauthz/extauthz/pkg/teams"
)

const (
	// now is the time as the tables hold it.
	now = `CAST(round(unixepoch('subsec') * 1000) AS INTEGER) * 1000`
	// countKeys stops at the bound, so that a registration costs no more than it.
	countKeys = `SELECT count(*) FROM (SELECT 1 FROM virtual_keys
		WHERE COALESCE(team_id, '') = ?1 AND auto_registered AND NOT blocked LIMIT ?2) AS registered`
	insertKey = `INSERT INTO virtual_keys (id, alias, team_id, user_id, organization_id, models, allowed_routes, blocked,
			auto_registered, expires_at, max_budget_micros, spend_micros, rpm_limit, tpm_limit,
			jwt_only, idle_timeout, idle_expires_at, sealed, budget_window, budget_reset_at)
		VALUES (?1, ?2, NULLIF(?3, ''), ?4, NULLIF(?5, ''), ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14,
			?15, ?16, ?17, ?18, ?19, ?20)`
	insertMapping = `INSERT INTO jwt_key_mappings (issuer, claim, value, key_id, active, auto_registered)
		VALUES (?1, ?2, ?3, ?4, true, true) ON CONFLICT (issuer, claim, value) DO NOTHING`
	selectRebindable = `SELECT auto_registered AND NOT blocked AND (expires_at IS NULL OR expires_at > ` + now + `)
			AND (idle_expires_at IS NULL OR idle_expires_at > ` + now + `)
		FROM virtual_keys WHERE id = ?1`
	pointMapping = `UPDATE jwt_key_mappings SET key_id = ?5, updated_at = ` + now + `
		WHERE issuer = ?1 AND claim = ?2 AND value = ?3 AND key_id = ?4 AND active AND auto_registered`
	// takeSpend gives a key the spend of another.
	takeSpend = `UPDATE virtual_keys SET spend_micros = (SELECT o.spend_micros FROM virtual_keys AS o WHERE o.id = ?2) WHERE id = ?1`
	blockKey  = `UPDATE virtual_keys SET blocked = true, updated_at = ` + now + ` WHERE id = ?1`
)

// Register is documented on [mapping.Store].
func (s *Store) Register(
	ctx context.Context, subject mapping.Subject, key *keys.Key, maxTeamKeys int,
) (*mapping.Mapping, *keys.Key, error) {
	const op = "register"
	if err := cmp.Or(rows.CheckSubject(subject), rows.CheckKey(key)); err != nil {
		return nil, nil, fmt.Errorf("sqlite: %s: %w", op, err)
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	var m *mapping.Mapping
	err := inTx(ctx, s.writer, op, func(tx *sql.Tx) (err error) {
		m, err = register(ctx, tx, subject, key, maxTeamKeys)
		return err
	})
	if errors.Is(err, mapping.ErrConflict) {
		m, err = s.winner(ctx, subject)
	}
	if err != nil {
		return nil, nil, err
	}
	return m, nil, nil
}

// winner reads the mapping that was in the way of a registration. Our own transaction is rolled back:
// its key is gone.
func (s *Store) winner(ctx context.Context, subject mapping.Subject) (*mapping.Mapping, error) {
	m, err := read(ctx, s, "read winner", scanMapping, selectOwnMapping, subject.Issuer, subject.Claim, subject.Value)
	if errors.Is(err, teams.ErrNotFound) {
		return nil, fmt.Errorf("sqlite: register: %w", mapping.ErrConflict)
	}
	return m, err
}

func register(
	ctx context.Context, tx *sql.Tx, subject mapping.Subject, key *keys.Key, maxTeamKeys int,
) (*mapping.Mapping, error) {
	m, err := ownMapping(ctx, tx, subject)
	if !errors.Is(err, sql.ErrNoRows) {
		return m, err
	}
	if maxTeamKeys > 0 {
		if err := checkCount(ctx, tx, key.TeamID, maxTeamKeys); err != nil {
			return nil, err
		}
	}
	if err := createKey(ctx, tx, key); err != nil {
		return nil, err
	}
	err = changeOne(ctx, tx, insertMapping, subject.Issuer, subject.Claim, subject.Value, key.ID)
	return mapped(subject, key.ID), err
}

// Rebind is documented on [mapping.Store].
func (s *Store) Rebind(
	ctx context.Context, subject mapping.Subject, old keys.ID, key *keys.Key, maxTeamKeys int,
) (*mapping.Mapping, error) {
	const op = "rebind"
	if err := cmp.Or(rows.CheckSubject(subject), rows.CheckKey(key)); err != nil {
		return nil, fmt.Errorf("sqlite: %s: %w", op, err)
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	err := inTx(ctx, s.writer, op, func(tx *sql.Tx) error {
		if err := checkRebindable(ctx, tx, old); err != nil {
			return err
		}
		if maxTeamKeys > 0 {
			if err := checkCount(ctx, tx, key.TeamID, maxTeamKeys); err != nil {
				return err
			}
		}
		if err := createKey(ctx, tx, key); err != nil {
			return err
		}
		if err := changeOne(ctx, tx, takeSpend, key.ID, old); err != nil {
			return err
		}
		err := changeOne(ctx, tx, pointMapping, subject.Issuer, subject.Claim, subject.Value, old, key.ID)
		if err != nil {
			return err
		}
		return changeOne(ctx, tx, blockKey, old)
	})
	if err != nil {
		return nil, err
	}
	return mapped(subject, key.ID), nil
}

func checkCount(ctx context.Context, tx *sql.Tx, team teams.TeamID, bound int) error {
	var count int
	if err := tx.QueryRowContext(ctx, countKeys, team, bound).Scan(&count); err != nil {
		return err
	}
	if count >= bound {
		return fmt.Errorf("sqlite: register: %w", mapping.ErrLimited)
	}
	return nil
}

// checkRebindable checks that a rebind may replace it.
func checkRebindable(ctx context.Context, tx *sql.Tx, id keys.ID) error {
	var rebindable bool
	err := tx.QueryRowContext(ctx, selectRebindable, id).Scan(&rebindable)
	if errors.Is(err, sql.ErrNoRows) || err == nil && !rebindable {
		return fmt.Errorf("sqlite: rebind: %w", mapping.ErrConflict)
	}
	return err
}

// createKey inserts a key. An id or alias that another key has is a conflict, as in PostgreSQL.
func createKey(ctx context.Context, tx *sql.Tx, k *keys.Key) error {
	err := changeOne(ctx, tx, insertKey, k.ID, k.Alias, k.TeamID, k.UserID, k.OrganizationID, array(k.Models),
		array(k.AllowedRoutes), k.Blocked, k.AutoRegistered, timestamp(k.ExpiresAt),
		k.Budget.Max, k.Budget.Spend, k.Limits.RPM, k.Limits.TPM,
		k.JWTOnly, k.IdleTimeout.Microseconds(), timestamp(k.IdleExpiresAt), k.Sealed,
		k.Budget.Window.String(), timestamp(k.Budget.ResetAt))
	if isUnique(err) {
		return fmt.Errorf("sqlite: create key: id or alias is taken: %w", mapping.ErrConflict)
	}
	return err
}

// changeOne runs a statement that must change exactly one row. If it changes none, another writer was
// there first, or a trigger suppressed the row; either way nothing may be committed.
func changeOne(ctx context.Context, tx *sql.Tx, statement string, args ...any) error {
	result, err := tx.ExecContext(ctx, statement, args...)
	if err != nil {
		return err
	}
	changed, err := result.RowsAffected()
	if err == nil && changed != 1 {
		return fmt.Errorf("sqlite: %w", mapping.ErrConflict)
	}
	return err
}

func mapped(subject mapping.Subject, id keys.ID) *mapping.Mapping {
	return &mapping.Mapping{
		Issuer: subject.Issuer, Claim: subject.Claim, Value: subject.Value, KeyID: id, Active: true, AutoRegistered: true,
	}
}
