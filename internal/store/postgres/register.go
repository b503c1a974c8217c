package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/extauthz/extauthz/internal/store/rows"
	"github.com/extauthz/extauthz/pkg/keys"
	"github.com/extauthz/extauthz/pkg/mapping"
	"github.com/extauthz/extauthz/pkg/teams"
)

// noTeamLock is the advisory lock for counting the keys that have no team: "no team" as bytes.
const noTeamLock = 0x6e6f207465616d

const (
	lockTeam     = `SELECT 1 FROM teams WHERE id = $1 FOR NO KEY UPDATE`
	lockAdvisory = `SELECT pg_advisory_xact_lock($1)`
	// countKeys stops at the bound, so that a registration costs no more than it.
	countKeys = `SELECT count(*) FROM (SELECT 1 FROM virtual_keys
		WHERE COALESCE(team_id, '') = $1 AND auto_registered AND NOT blocked LIMIT $2) AS registered`
	insertKey = `INSERT INTO virtual_keys (id, alias, team_id, user_id, organization_id, models, allowed_routes, blocked,
			auto_registered, expires_at, max_budget_micros, spend_micros, rpm_limit, tpm_limit,
			jwt_only, idle_timeout, idle_expires_at, sealed, budget_window, budget_reset_at)
		VALUES ($1, $2, NULLIF($3, ''), $4, NULLIF($5, ''), $6, $7, $8, $9, $10, $11, $12, $13, $14,
			$15, $16, $17, $18, $19, $20)`
	insertMapping = `INSERT INTO jwt_key_mappings (issuer, claim, value, key_id, active, auto_registered)
		VALUES ($1, $2, $3, $4, true, true) ON CONFLICT (issuer, claim, value) DO NOTHING`
	// lockKey does not keep others from referring to the key, only from changing it.
	lockKey = `SELECT auto_registered AND NOT blocked AND (expires_at IS NULL OR expires_at > clock_timestamp())
			AND (idle_expires_at IS NULL OR idle_expires_at > clock_timestamp())
		FROM virtual_keys WHERE id = $1 FOR NO KEY UPDATE`
	pointMapping = `UPDATE jwt_key_mappings SET key_id = $5, updated_at = now()
		WHERE issuer = $1 AND claim = $2 AND value = $3 AND key_id = $4 AND active AND auto_registered`
	// takeSpend gives a key the spend of another.
	takeSpend = `UPDATE virtual_keys SET spend_micros = (SELECT o.spend_micros FROM virtual_keys AS o WHERE o.id = $2) WHERE id = $1`
	blockKey  = `UPDATE virtual_keys SET blocked = true, updated_at = now() WHERE id = $1`
)

// Register is documented on [mapping.Store].
func (s *Store) Register(
	ctx context.Context, subject mapping.Subject, key *keys.Key, maxTeamKeys int,
) (*mapping.Mapping, error) {
	const op = "register"
	if err := cmp.Or(rows.CheckSubject(subject), rows.CheckKey(key)); err != nil {
		return nil, fmt.Errorf("postgres: %s: %w", op, err)
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	var m *mapping.Mapping
	err := s.inTx(ctx, op, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) (err error) {
		m, err = register(ctx, tx, subject, key, maxTeamKeys)
		return err
	})
	if errors.Is(err, mapping.ErrConflict) {
		return s.winner(ctx, subject)
	}
	if err != nil {
		return nil, err
	}
	return m, nil
}

// winner reads the mapping that was in the way of a registration. Our own transaction is rolled back:
// its key is gone.
func (s *Store) winner(ctx context.Context, subject mapping.Subject) (*mapping.Mapping, error) {
	m, err := read(ctx, s, "read winner", scanMapping, selectOwnMapping, subject.Issuer, subject.Claim, subject.Value)
	if errors.Is(err, teams.ErrNotFound) {
		return nil, fmt.Errorf("postgres: register: %w", mapping.ErrConflict)
	}
	return m, err
}

func register(
	ctx context.Context, tx pgx.Tx, subject mapping.Subject, key *keys.Key, maxTeamKeys int,
) (*mapping.Mapping, error) {
	if maxTeamKeys > 0 {
		if err := lockCount(ctx, tx, key.TeamID); err != nil {
			return nil, err
		}
	}
	m, err := ownMapping(ctx, tx, subject)
	if !errors.Is(err, pgx.ErrNoRows) {
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

// Rebind is documented on [mapping.Store]. The old key's lock comes first, as in Apply: keys before
// mappings, so that the two cannot wait for each other.
func (s *Store) Rebind(
	ctx context.Context, subject mapping.Subject, old keys.ID, key *keys.Key, maxTeamKeys int,
) (*mapping.Mapping, error) {
	const op = "rebind"
	if err := cmp.Or(rows.CheckSubject(subject), rows.CheckKey(key)); err != nil {
		return nil, fmt.Errorf("postgres: %s: %w", op, err)
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	err := s.inTx(ctx, op, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		if err := lockRebindable(ctx, tx, old); err != nil {
			return err
		}
		if maxTeamKeys > 0 {
			if err := lockCount(ctx, tx, key.TeamID); err != nil {
				return err
			}
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

// lockCount makes the bounded registrations of one team wait for each other.
func lockCount(ctx context.Context, tx pgx.Tx, team teams.TeamID) (err error) {
	if team == "" {
		_, err = tx.Exec(ctx, lockAdvisory, int64(noTeamLock))
	} else {
		_, err = tx.Exec(ctx, lockTeam, team)
	}
	return err
}

func checkCount(ctx context.Context, tx pgx.Tx, team teams.TeamID, bound int) error {
	var count int
	if err := tx.QueryRow(ctx, countKeys, team, bound).Scan(&count); err != nil {
		return err
	}
	if count >= bound {
		return fmt.Errorf("postgres: register: %w", mapping.ErrLimited)
	}
	return nil
}

// lockRebindable locks a key against change and checks that a rebind may replace it.
func lockRebindable(ctx context.Context, tx pgx.Tx, id keys.ID) error {
	var rebindable bool
	err := tx.QueryRow(ctx, lockKey, id).Scan(&rebindable)
	if errors.Is(err, pgx.ErrNoRows) || err == nil && !rebindable {
		return fmt.Errorf("postgres: rebind: %w", mapping.ErrConflict)
	}
	return err
}

// createKey inserts a key. An id or alias that another key has is a conflict: of two registrations of
// one subject, the second may choose the alias that the first just took.
func createKey(ctx context.Context, tx pgx.Tx, k *keys.Key) error {
	err := changeOne(ctx, tx, insertKey, k.ID, k.Alias, k.TeamID, k.UserID, k.OrganizationID, array(k.Models),
		array(k.AllowedRoutes), k.Blocked, k.AutoRegistered, timestamp(k.ExpiresAt),
		k.Budget.Max, k.Budget.Spend, k.Limits.RPM, k.Limits.TPM,
		k.JWTOnly, k.IdleTimeout.Microseconds(), timestamp(k.IdleExpiresAt), k.Sealed,
		k.Budget.Window.String(), timestamp(k.Budget.ResetAt))
	if hasCode(err, uniqueViolation) {
		return fmt.Errorf("postgres: create key: id or alias is taken: %w", mapping.ErrConflict)
	}
	return err
}

// changeOne runs a statement that must change exactly one row. If it changes none, another writer was
// there first, or a trigger suppressed the row; either way nothing may be committed.
func changeOne(ctx context.Context, tx pgx.Tx, statement string, args ...any) error {
	tag, err := tx.Exec(ctx, statement, args...)
	if err == nil && tag.RowsAffected() != 1 {
		return fmt.Errorf("postgres: %w", mapping.ErrConflict)
	}
	return err
}

func mapped(subject mapping.Subject, id keys.ID) *mapping.Mapping {
	return &mapping.Mapping{
		Issuer: subject.Issuer, Claim: subject.Claim, Value: subject.Value, KeyID: id, Active: true, AutoRegistered: true,
	}
}
