package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/extauthz/extauthz/internal/store/rows"
	"github.com/extauthz/extauthz/pkg/teams"
)

// teamsLock makes bounded registrations of teams wait for each other: "teams" as bytes.
const teamsLock = 0x7465616d73

const (
	selectCensus = `SELECT EXISTS (SELECT 1 FROM teams WHERE id = $1), EXISTS (SELECT 1 FROM teams WHERE alias = $1 AND alias <> ''),
		(SELECT count(*) FROM (SELECT 1 FROM teams LIMIT $2) AS counted)`
	insertTeam = `INSERT INTO teams (id, organization_id, models, allowed_routes, max_budget_micros, rpm_limit, tpm_limit,
			budget_window, budget_reset_at)
		VALUES ($1, NULLIF($2, ''), $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (id) DO NOTHING`
)

// RegisterTeam is documented on [teams.Registrar].
func (s *Store) RegisterTeam(ctx context.Context, team *teams.Team, maxTeams int) (*teams.Team, error) {
	const op = "register team"
	if err := rows.CheckTeam(team); err != nil {
		return nil, fmt.Errorf("postgres: %s: %w", op, err)
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	var stored *teams.Team
	err := s.inTx(ctx, op, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) (err error) {
		if maxTeams > 0 {
			if _, err := tx.Exec(ctx, lockAdvisory, int64(teamsLock)); err != nil {
				return err
			}
		}
		if err := createTeam(ctx, tx, team, maxTeams); err != nil {
			return err
		}
		stored, err = scanTeam(tx.QueryRow(ctx, selectTeam, team.ID))
		if errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("postgres: %s: %w", op, teams.ErrConflict)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return stored, nil
}

// createTeam inserts a team if there is none with its id and it may be written.
func createTeam(ctx context.Context, tx pgx.Tx, t *teams.Team, maxTeams int) error {
	var census rows.Census
	err := tx.QueryRow(ctx, selectCensus, t.ID, maxTeams).Scan(&census.Exists, &census.Aliased, &census.Count)
	if err != nil || census.Exists {
		return err
	}
	if err := census.Admit(maxTeams); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, insertTeam, t.ID, t.OrganizationID, array(t.Models), array(t.AllowedRoutes), t.Budget.Max,
		t.Limits.RPM, t.Limits.TPM, t.Budget.Window.String(), timestamp(t.Budget.ResetAt))
	return err
}
