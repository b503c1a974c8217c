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

// failedTx is the protocol's name for a transaction in which a statement failed.
const failedTx = 'E'

// mappedKeyExists is the constraint that a mapping's key exists.
const mappedKeyExists = "jwt_key_mappings_key_id_fkey"

const (
	beginReadCommitted = `BEGIN ISOLATION LEVEL READ COMMITTED`

	lockTeam     = `SELECT 1 FROM teams WHERE id = $1 FOR NO KEY UPDATE`
	lockAdvisory = `SELECT pg_advisory_xact_lock($1)`
	// countKeys stops at the bound, so that a registration costs no more than it.
	countKeys = `SELECT count(*) FROM (SELECT 1 FROM virtual_keys
		WHERE COALESCE(team_id, '') = $1 AND auto_registered AND NOT blocked LIMIT $2) AS registered`
	newKeyColumns = `id, alias, team_id, user_id, organization_id, models, allowed_routes, blocked,
		auto_registered, expires_at, max_budget_micros, spend_micros, rpm_limit, tpm_limit,
		jwt_only, idle_timeout, idle_expires_at, sealed, budget_window, budget_reset_at`
	insertKey = `INSERT INTO virtual_keys (` + newKeyColumns + `)
		VALUES ($1, $2, NULLIF($3, ''), $4, NULLIF($5, ''), $6, $7, $8, $9, $10, $11, $12, $13, $14,
			$15, $16, $17, $18, $19, $20)`
	// registerOne writes the mapping first, and the key only if that was written: a loser leaves no key. It returns
	// whether the team may have one key more, and the subject's mapping: its own if there is one (a concurrent one is not
	// seen), or the one that was written, with the key as it is stored.
	registerOne = `WITH own AS (
			SELECT ` + mappingColumns + ` FROM jwt_key_mappings WHERE issuer = $1 AND claim = $2 AND value = $3
		), admitted AS (
			SELECT WHERE $4::bigint = 0 OR $4 > (SELECT count(*) FROM (SELECT FROM virtual_keys
				WHERE COALESCE(team_id, '') = $7 AND auto_registered AND NOT blocked LIMIT $4) AS registered)
		), bound AS (
			INSERT INTO jwt_key_mappings (issuer, claim, value, key_id, active, auto_registered)
			SELECT $1, $2, $3, $5, true, true FROM admitted WHERE NOT EXISTS (SELECT FROM own)
			ON CONFLICT (issuer, claim, value) DO NOTHING RETURNING ` + mappingColumns + `
		), written AS (
			INSERT INTO virtual_keys (` + newKeyColumns + `)
			SELECT key_id, $6, NULLIF($7, ''), $8, NULLIF($9, ''), $10::text[], $11::text[], $12::boolean, $13::boolean, $14::timestamptz,
				$15::bigint, $16::bigint, $17::bigint, $18::bigint, $19::boolean, $20::bigint, $21::timestamptz, $22::bytea, $23, $24::timestamptz
			FROM bound RETURNING ` + keyColumns + `
		)
		SELECT EXISTS (SELECT FROM admitted), m.issuer IS NOT NULL, m.*, k.*
		FROM (SELECT) AS once LEFT JOIN (
			SELECT * FROM own UNION ALL SELECT * FROM bound WHERE EXISTS (SELECT FROM written)
		) AS m ON true LEFT JOIN written AS k ON true`
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

// Register is documented on [mapping.Store]. It is one round trip: without a bound one statement, with a bound a
// transaction that is sent whole. Whoever loses a race needs another one.
func (s *Store) Register(
	ctx context.Context, subject mapping.Subject, key *keys.Key, maxTeamKeys int,
) (*mapping.Mapping, *keys.Key, error) {
	const op = "register"
	if err := cmp.Or(rows.CheckSubject(subject), rows.CheckKey(key)); err != nil {
		return nil, nil, fmt.Errorf("postgres: %s: %w", op, err)
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	found, err := s.register(ctx, subject, key, maxTeamKeys)
	if errors.Is(err, mapping.ErrConflict) {
		m, err := s.winner(ctx, subject)
		return m, nil, err
	}
	if err != nil {
		return nil, nil, translate(ctx, op, err)
	}
	return found.mapping, found.key, nil
}

// winner reads the mapping that was in the way of a registration, which has written nothing.
func (s *Store) winner(ctx context.Context, subject mapping.Subject) (*mapping.Mapping, error) {
	m, err := read(ctx, s, "read winner", scanMapping, selectOwnMapping, subject.Issuer, subject.Claim, subject.Value)
	if errors.Is(err, teams.ErrNotFound) {
		return nil, fmt.Errorf("postgres: register: %w", mapping.ErrConflict)
	}
	return m, err
}

func (s *Store) register(ctx context.Context, subject mapping.Subject, key *keys.Key, maxTeamKeys int) (found mapped, err error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return found, err
	}
	defer conn.Release()
	args := append([]any{subject.Issuer, subject.Claim, subject.Value, max(maxTeamKeys, 0)}, keyArguments(key)...)
	if maxTeamKeys <= 0 {
		return registered(conn.Query(ctx, registerOne, args...))
	}
	found, err = registerBounded(ctx, conn.Conn(), key.TeamID, args)
	if conn.Conn().PgConn().TxStatus() == failedTx {
		_, _ = conn.Exec(ctx, "ROLLBACK") // if it fails, the pool drops the connection, and with it the transaction
	}
	return found, err
}

// registerBounded waits for the other registrations of the team. What they wrote is seen, because the lock and the
// rest are statements of their own.
func registerBounded(ctx context.Context, conn *pgx.Conn, team teams.TeamID, args []any) (found mapped, err error) {
	batch := &pgx.Batch{}
	batch.Queue(beginReadCommitted)
	if team == "" {
		batch.Queue(lockAdvisory, int64(noTeamLock))
	} else {
		batch.Queue(lockTeam, team)
	}
	batch.Queue(registerOne, args...)
	batch.Queue("COMMIT")
	results := conn.SendBatch(ctx, batch)
	defer func() { err = cmp.Or(err, results.Close()) }() // Close reads what the COMMIT says
	for range 2 {
		if _, err := results.Exec(); err != nil {
			return found, err
		}
	}
	return registered(results.Query())
}

// registered is what registerOne found or wrote.
func registered(result pgx.Rows, err error) (found mapped, _ error) {
	if err != nil {
		return found, err
	}
	var admitted, exists bool
	found, err = pgx.CollectExactlyOneRow(result, func(row pgx.CollectableRow) (mapped, error) {
		err := part{row, 0, mappingWidth + keyWidth}.Scan(&admitted, &exists)
		if err != nil || !exists {
			return mapped{}, err
		}
		return scanMapped(row, 2)
	})
	switch {
	case hasCode(err, uniqueViolation):
		return found, fmt.Errorf("postgres: create key: id or alias is taken: %w", mapping.ErrConflict)
	case hasCode(err, serializationFailure), violates(err, mappedKeyExists):
		return found, fmt.Errorf("postgres: register: %w", mapping.ErrConflict)
	case err != nil || found.mapping != nil:
		return found, err
	case !admitted:
		return found, fmt.Errorf("postgres: register: %w", mapping.ErrLimited)
	}
	return found, fmt.Errorf("postgres: register: %w", mapping.ErrConflict)
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
	return newMapping(subject, key.ID), nil
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
	err := changeOne(ctx, tx, insertKey, keyArguments(k)...)
	if hasCode(err, uniqueViolation) {
		return fmt.Errorf("postgres: create key: id or alias is taken: %w", mapping.ErrConflict)
	}
	return err
}

// keyArguments are a key's columns in the order of newKeyColumns.
func keyArguments(k *keys.Key) []any {
	return []any{
		k.ID, k.Alias, k.TeamID, k.UserID, k.OrganizationID, array(k.Models), array(k.AllowedRoutes), k.Blocked,
		k.AutoRegistered, timestamp(k.ExpiresAt), k.Budget.Max, k.Budget.Spend, k.Limits.RPM, k.Limits.TPM,
		k.JWTOnly, k.IdleTimeout.Microseconds(), timestamp(k.IdleExpiresAt), k.Sealed,
		k.Budget.Window.String(), timestamp(k.Budget.ResetAt),
	}
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

func newMapping(subject mapping.Subject, id keys.ID) *mapping.Mapping {
	return &mapping.Mapping{
		Issuer: subject.Issuer, Claim: subject.Claim, Value: subject.Value, KeyID: id, Active: true, AutoRegistered: true,
	}
}
