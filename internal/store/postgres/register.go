package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

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

// registerWidth is the number of columns that registerKeys is given.
const registerWidth = 25

const (
	beginReadCommitted = `BEGIN ISOLATION LEVEL READ COMMITTED`
	// waitBriefly lets a statement fail that waits for a lock for longer than longTurn.
	waitBriefly = `SET LOCAL lock_timeout = '100ms'`
	// waitAgain is for the COMMIT, which waits for the others that notify: a slow disk must not undo what is written.
	waitAgain = `SET LOCAL lock_timeout = DEFAULT`

	lockAdvisory = `SELECT pg_advisory_xact_lock($1)`
	// lockTeams locks teams in the order of the list.
	lockTeams = `SELECT FROM unnest($1::text[]) AS asked (team)
		CROSS JOIN LATERAL (SELECT FROM teams WHERE id = team FOR NO KEY UPDATE) AS locked`
	// countKeys stops at the bound, so that a registration costs no more than it.
	countKeys = `SELECT count(*) FROM (SELECT 1 FROM virtual_keys
		WHERE COALESCE(team_id, '') = $1 AND auto_registered AND NOT blocked LIMIT $2) AS registered`
	newKeyColumns = `id, alias, team_id, user_id, organization_id, models, allowed_routes, blocked,
		auto_registered, expires_at, max_budget_micros, spend_micros, rpm_limit, tpm_limit,
		jwt_only, idle_timeout, idle_expires_at, sealed, budget_window, budget_reset_at`
	insertKey = `INSERT INTO virtual_keys (` + newKeyColumns + `)
		VALUES ($1, $2, NULLIF($3, ''), $4, NULLIF($5, ''), $6, $7, $8, $9, $10, $11, $12, $13, $14,
			$15, $16, $17, $18, $19, $20)`
	// registerKeys writes for each subject the mapping first, and the key only if that was written: a loser leaves no key.
	// It returns whether the subject's team has all its keys, and the subject's mapping: its own if there is one (a
	// concurrent one is not seen), or the one that was written, with the key as it is stored. To a bound count the keys that
	// are there and those of the subjects before: that some of these may lose only refuses what may be asked again.
	// The planner is kept from knowing how many there are: it would plan anew each time, which costs more than the rest.
	registerKeys = `WITH asked AS (
			SELECT a.*, own.key_id AS own_id, own.active AS own_active, own.auto_registered AS own_registered,
				CASE WHEN most > 0 THEN most - (SELECT count(*) FROM (SELECT FROM virtual_keys
					WHERE COALESCE(virtual_keys.team_id, '') = a.team_id AND auto_registered AND NOT blocked LIMIT most) AS registered) END AS room
			FROM unnest((SELECT $1::text[]), $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::text[], $7::text[], $8::text[], $9::text[],
					$10::text[], $11::text[], $12::text[], $13::boolean[], $14::boolean[], $15::timestamptz[], $16::bigint[], $17::bigint[],
					$18::bigint[], $19::bigint[], $20::boolean[], $21::bigint[], $22::timestamptz[], $23::bytea[], $24::text[], $25::timestamptz[])
				WITH ORDINALITY AS a (issuer, claim, value, most, before, ` + newKeyColumns + `, place)
				LEFT JOIN LATERAL (SELECT key_id, active, jwt_key_mappings.auto_registered FROM jwt_key_mappings
					WHERE issuer = a.issuer AND claim = a.claim AND value = a.value LIMIT 1) AS own ON true
		), bound AS (
			INSERT INTO jwt_key_mappings (issuer, claim, value, key_id, active, auto_registered)
			SELECT issuer, claim, value, id, true, true FROM asked WHERE own_id IS NULL AND (room IS NULL OR room > before)
			ON CONFLICT (issuer, claim, value) DO NOTHING RETURNING key_id, active, auto_registered
		), written AS (
			INSERT INTO virtual_keys (` + newKeyColumns + `)
			SELECT id, alias, NULLIF(team_id, ''), user_id, NULLIF(organization_id, ''), models::text[], allowed_routes::text[], blocked,
				asked.auto_registered, expires_at, max_budget_micros, spend_micros, rpm_limit, tpm_limit,
				jwt_only, idle_timeout, idle_expires_at, sealed, budget_window, budget_reset_at
			FROM bound JOIN asked ON id = key_id RETURNING ` + keyColumns + `
		)
		SELECT place, COALESCE(room <= 0, false), m.key_id IS NOT NULL, issuer, claim, value, m.*, k.*
		FROM asked LEFT JOIN LATERAL (
			SELECT own_id AS key_id, own_active, own_registered WHERE own_id IS NOT NULL UNION ALL SELECT * FROM bound WHERE key_id = asked.id
		) AS m ON true LEFT JOIN written AS k ON k.id = m.key_id`
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

// Register is documented on [mapping.Store]. It is one round trip; whoever loses a race needs another one.
// Registrations that come while another one is under way are made together: see [line].
func (s *Store) Register(
	ctx context.Context, subject mapping.Subject, key *keys.Key, maxTeamKeys int,
) (*mapping.Mapping, *keys.Key, error) {
	const op = "register"
	if err := cmp.Or(rows.CheckSubject(subject), rows.CheckKey(key)); err != nil {
		return nil, nil, fmt.Errorf("postgres: %s: %w", op, err)
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	r := &registration{subject: subject, key: key, bound: max(maxTeamKeys, 0), tried: make(chan struct{})}
	r.until, _ = ctx.Deadline()
	found, err := s.registerInTurn(ctx, r)
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

// register makes registrations of different subjects in one round trip: all or none, if it is an error. Those of a bounded team
// wait for others of that team, and see what these wrote, because the lock and the rest are statements of their own.
// If they are together, they wait for no row for long.
func (s *Store) register(ctx context.Context, list []*registration, together bool) (outcomes []outcome, err error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Release()
	columns, err := columnsOf(list, conn.Conn().TypeMap())
	if err != nil {
		return nil, err
	}
	locks := lockBounded(list)
	batch := &pgx.Batch{}
	if together || len(locks) > 0 {
		batch.Queue(beginReadCommitted)
	}
	if together {
		batch.Queue(waitBriefly)
	}
	batch.QueuedQueries = append(batch.QueuedQueries, locks...)
	batch.Queue(registerKeys, columns...).Query(func(result pgx.Rows) (err error) {
		outcomes, err = collect(result, len(list))
		return err
	})
	if together {
		batch.Queue(waitAgain)
	}
	if together || len(locks) > 0 {
		batch.Queue("COMMIT")
	}
	err = conn.SendBatch(ctx, batch).Close()
	if conn.Conn().PgConn().TxStatus() == failedTx {
		_, _ = conn.Exec(ctx, "ROLLBACK") // if it fails, the pool drops the connection, and with it the transaction
	}
	return outcomes, err
}

// lockBounded are the statements that lock what is bounded: the keys without a team, and the teams in their order.
func lockBounded(list []*registration) (statements []*pgx.QueuedQuery) {
	var names []string
	noTeam := false
	for _, r := range list {
		switch {
		case r.bound == 0:
		case r.key.TeamID == "":
			noTeam = true
		default:
			names = append(names, string(r.key.TeamID))
		}
	}
	if noTeam {
		statements = append(statements, &pgx.QueuedQuery{SQL: lockAdvisory, Arguments: []any{int64(noTeamLock)}})
	}
	if len(names) > 0 {
		slices.Sort(names)
		statements = append(statements, &pgx.QueuedQuery{SQL: lockTeams, Arguments: []any{slices.Compact(names)}})
	}
	return statements
}

// columnsOf are the arguments of registerKeys: each a column of all registrations.
func columnsOf(list []*registration, types *pgtype.Map) ([]any, error) {
	columns := make([]any, registerWidth)
	before := map[teams.TeamID]int{}
	for _, r := range list {
		row := append([]any{r.subject.Issuer, r.subject.Claim, r.subject.Value, r.bound, before[r.key.TeamID]}, keyArguments(r.key)...)
		if r.bound > 0 {
			before[r.key.TeamID]++
		}
		for i, value := range row {
			if texts, ok := value.([]string); ok { // an array of lists would be one list
				literal, err := types.Encode(pgtype.TextArrayOID, pgtype.TextFormatCode, texts, nil)
				if err != nil {
					return nil, err
				}
				value = string(literal)
			}
			column, _ := columns[i].([]any)
			columns[i] = append(column, value)
		}
	}
	return columns, nil
}

// collect reads what registerKeys returns of so many registrations.
func collect(result pgx.Rows, registrations int) ([]outcome, error) {
	outcomes := make([]outcome, registrations)
	for result.Next() {
		var place int
		var o outcome
		var exists bool
		err := part{result, 0, mappingWidth + keyWidth}.Scan(&place, &o.full, &exists)
		if err == nil && exists {
			o.mapped, err = scanMapped(result, 3)
		}
		if err != nil {
			return nil, err
		}
		outcomes[place-1] = o
	}
	return outcomes, result.Err()
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
		_, err = tx.Exec(ctx, lockTeams, []teams.TeamID{team})
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
