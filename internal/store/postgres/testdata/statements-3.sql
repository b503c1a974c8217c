-- What the binaries of schema version 3 ask the database for.

-- name: lockTeams
SELECT FROM unnest($1::text[]) AS asked (team)
		CROSS JOIN LATERAL (SELECT FROM teams WHERE id = team FOR NO KEY UPDATE) AS locked

-- name: lockAdvisory
SELECT pg_advisory_xact_lock($1)

-- name: registerKeys
WITH asked AS (
			SELECT a.*, own.key_id AS own_id, own.active AS own_active, own.auto_registered AS own_registered,
				CASE WHEN most > 0 THEN most - (SELECT count(*) FROM (SELECT FROM virtual_keys
					WHERE COALESCE(virtual_keys.team_id, '') = a.team_id AND auto_registered AND NOT blocked LIMIT most) AS registered) END AS room
			FROM unnest((SELECT $1::text[]), $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::text[], $7::text[], $8::text[], $9::text[],
					$10::text[], $11::text[], $12::text[], $13::boolean[], $14::boolean[], $15::timestamptz[], $16::bigint[], $17::bigint[],
					$18::bigint[], $19::bigint[], $20::boolean[], $21::bigint[], $22::timestamptz[], $23::bytea[], $24::text[], $25::timestamptz[])
				WITH ORDINALITY AS a (issuer, claim, value, most, before, id, alias, team_id, user_id, organization_id, models, allowed_routes, blocked,
		auto_registered, expires_at, max_budget_micros, spend_micros, rpm_limit, tpm_limit,
		jwt_only, idle_timeout, idle_expires_at, sealed, budget_window, budget_reset_at, place)
				LEFT JOIN LATERAL (SELECT key_id, active, jwt_key_mappings.auto_registered FROM jwt_key_mappings
					WHERE issuer = a.issuer AND claim = a.claim AND value = a.value LIMIT 1) AS own ON true
		), bound AS (
			INSERT INTO jwt_key_mappings (issuer, claim, value, key_id, active, auto_registered)
			SELECT issuer, claim, value, id, true, true FROM asked WHERE own_id IS NULL AND (room IS NULL OR room > before)
			ON CONFLICT (issuer, claim, value) DO NOTHING RETURNING key_id, active, auto_registered
		), written AS (
			INSERT INTO virtual_keys (id, alias, team_id, user_id, organization_id, models, allowed_routes, blocked,
		auto_registered, expires_at, max_budget_micros, spend_micros, rpm_limit, tpm_limit,
		jwt_only, idle_timeout, idle_expires_at, sealed, budget_window, budget_reset_at)
			SELECT id, alias, NULLIF(team_id, ''), user_id, NULLIF(organization_id, ''), models::text[], allowed_routes::text[], blocked,
				asked.auto_registered, expires_at, max_budget_micros, spend_micros, rpm_limit, tpm_limit,
				jwt_only, idle_timeout, idle_expires_at, sealed, budget_window, budget_reset_at
			FROM bound JOIN asked ON id = key_id RETURNING id, alias, COALESCE(team_id, ''), user_id, COALESCE(organization_id, ''), models, allowed_routes,
		blocked, auto_registered, jwt_only, expires_at, idle_timeout, idle_expires_at, sealed, max_budget_micros, spend_micros, budget_window, budget_reset_at, rpm_limit, tpm_limit
		)
		SELECT place, COALESCE(room <= 0, false), m.key_id IS NOT NULL, issuer, claim, value, m.*, k.*
		FROM asked LEFT JOIN LATERAL (
			SELECT own_id AS key_id, own_active, own_registered WHERE own_id IS NOT NULL UNION ALL SELECT * FROM bound WHERE key_id = asked.id
		) AS m ON true LEFT JOIN written AS k ON k.id = m.key_id

-- name: countKeys
SELECT count(*) FROM (SELECT 1 FROM virtual_keys
		WHERE COALESCE(team_id, '') = $1 AND auto_registered AND NOT blocked LIMIT $2) AS registered

-- name: insertKey
INSERT INTO virtual_keys (id, alias, team_id, user_id, organization_id, models, allowed_routes, blocked,
		auto_registered, expires_at, max_budget_micros, spend_micros, rpm_limit, tpm_limit,
		jwt_only, idle_timeout, idle_expires_at, sealed, budget_window, budget_reset_at)
		VALUES ($1, $2, NULLIF($3, ''), $4, NULLIF($5, ''), $6, $7, $8, $9, $10, $11, $12, $13, $14,
			$15, $16, $17, $18, $19, $20)

-- name: lockKey
SELECT auto_registered AND NOT blocked AND (expires_at IS NULL OR expires_at > clock_timestamp())
			AND (idle_expires_at IS NULL OR idle_expires_at > clock_timestamp())
		FROM virtual_keys WHERE id = $1 FOR NO KEY UPDATE

-- name: pointMapping
UPDATE jwt_key_mappings SET key_id = $5, updated_at = now()
		WHERE issuer = $1 AND claim = $2 AND value = $3 AND key_id = $4 AND active AND auto_registered

-- name: takeSpend
UPDATE virtual_keys SET spend_micros = (SELECT o.spend_micros FROM virtual_keys AS o WHERE o.id = $2) WHERE id = $1

-- name: blockKey
UPDATE virtual_keys SET blocked = true, updated_at = now() WHERE id = $1

-- name: selectMapped
SELECT m.*, k.*
		FROM (SELECT issuer, claim, value, key_id, active, auto_registered FROM jwt_key_mappings WHERE issuer IN ($1, '') AND claim = $2 AND value = $3) AS m
			LEFT JOIN LATERAL (SELECT id, alias, COALESCE(team_id, ''), user_id, COALESCE(organization_id, ''), models, allowed_routes,
		blocked, auto_registered, jwt_only, expires_at, idle_timeout, idle_expires_at, sealed, max_budget_micros, spend_micros, budget_window, budget_reset_at, rpm_limit, tpm_limit FROM virtual_keys WHERE id = key_id) AS k ON true

-- name: selectOwnMapping
SELECT issuer, claim, value, key_id, active, auto_registered FROM jwt_key_mappings
		WHERE issuer = $1 AND claim = $2 AND value = $3

-- name: selectKey
SELECT id, alias, COALESCE(team_id, ''), user_id, COALESCE(organization_id, ''), models, allowed_routes,
		blocked, auto_registered, jwt_only, expires_at, idle_timeout, idle_expires_at, sealed, max_budget_micros, spend_micros, budget_window, budget_reset_at, rpm_limit, tpm_limit FROM virtual_keys WHERE id = $1

-- name: selectTeam
SELECT id, alias, COALESCE(organization_id, ''), models, allowed_routes, blocked,
		max_budget_micros, spend_micros, budget_window, budget_reset_at, rpm_limit, tpm_limit FROM teams WHERE id = $1

-- name: selectTeamAlong
SELECT t.*, o.*
		FROM (SELECT id, alias, COALESCE(organization_id, ''), models, allowed_routes, blocked,
		max_budget_micros, spend_micros, budget_window, budget_reset_at, rpm_limit, tpm_limit FROM teams WHERE id = $1) AS t (team, team_alias, organization)
			LEFT JOIN LATERAL (SELECT id, alias, blocked, max_budget_micros, spend_micros, budget_window, budget_reset_at FROM organizations WHERE id = organization) AS o ON true

-- name: selectOrganization
SELECT id, alias, blocked, max_budget_micros, spend_micros, budget_window, budget_reset_at FROM organizations WHERE id = $1

-- name: selectUser
SELECT id, email, blocked, max_budget_micros, spend_micros, budget_window, budget_reset_at FROM users WHERE id = $1

-- name: selectTeamByAlias
SELECT id, alias, COALESCE(organization_id, ''), models, allowed_routes, blocked,
		max_budget_micros, spend_micros, budget_window, budget_reset_at, rpm_limit, tpm_limit, count(*) OVER ()
		FROM (SELECT * FROM teams WHERE alias = $1 AND alias <> '' LIMIT 2) AS teams LIMIT 1

-- name: selectOrganizationByAlias
SELECT id, alias, blocked, max_budget_micros, spend_micros, budget_window, budget_reset_at, count(*) OVER ()
		FROM (SELECT * FROM organizations WHERE alias = $1 AND alias <> '' LIMIT 2) AS organizations LIMIT 1

-- name: selectMember
SELECT EXISTS (SELECT 1 FROM team_members WHERE team_id = $1 AND user_id = $2)

-- name: touchKey
UPDATE virtual_keys SET idle_expires_at = $2
	WHERE id = $1 AND NOT blocked AND (expires_at IS NULL OR expires_at > clock_timestamp())
		AND idle_expires_at > clock_timestamp() AND idle_expires_at < $2

-- name: selectCensus
SELECT EXISTS (SELECT 1 FROM teams WHERE id = $1), EXISTS (SELECT 1 FROM teams WHERE alias = $1 AND alias <> ''),
		(SELECT count(*) FROM (SELECT 1 FROM teams LIMIT $2) AS counted)

-- name: insertTeam
INSERT INTO teams (id, organization_id, models, allowed_routes, max_budget_micros, rpm_limit, tpm_limit,
			budget_window, budget_reset_at)
		VALUES ($1, NULLIF($2, ''), $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (id) DO NOTHING

-- name: putOrganization
INSERT INTO organizations AS o (id, alias, blocked, max_budget_micros, spend_micros, budget_window, budget_reset_at)
		VALUES ($1, $2, COALESCE($3::boolean, false), $4, $5, $7, COALESCE($8::timestamptz, $9::timestamptz))
		ON CONFLICT (id) DO UPDATE SET alias = excluded.alias, blocked = COALESCE($3::boolean, o.blocked),
			max_budget_micros = excluded.max_budget_micros,
			spend_micros = CASE WHEN $6 THEN o.spend_micros ELSE excluded.spend_micros END, budget_window = excluded.budget_window,
			budget_reset_at = CASE WHEN $8::timestamptz IS NOT NULL THEN $8::timestamptz
				WHEN o.budget_window = excluded.budget_window THEN o.budget_reset_at ELSE $9::timestamptz END,
			updated_at = now()
		WHERE (o.alias, o.max_budget_micros)
				IS DISTINCT FROM (excluded.alias, excluded.max_budget_micros)
			OR o.blocked <> COALESCE($3::boolean, o.blocked)
			OR NOT $6 AND o.spend_micros <> excluded.spend_micros
			OR o.budget_window <> excluded.budget_window
			OR $8::timestamptz IS NOT NULL AND o.budget_reset_at IS DISTINCT FROM $8::timestamptz

-- name: putTeam
INSERT INTO teams AS t (id, alias, organization_id, models, allowed_routes, blocked,
			max_budget_micros, spend_micros, rpm_limit, tpm_limit, budget_window, budget_reset_at)
		VALUES ($1, $2, NULLIF($3, ''), $4, $5, COALESCE($6::boolean, false), $7, $8, $9, $10, $12, COALESCE($13::timestamptz, $14::timestamptz))
		ON CONFLICT (id) DO UPDATE SET alias = excluded.alias, organization_id = excluded.organization_id,
			models = excluded.models, allowed_routes = excluded.allowed_routes, blocked = COALESCE($6::boolean, t.blocked),
			max_budget_micros = excluded.max_budget_micros, rpm_limit = excluded.rpm_limit, tpm_limit = excluded.tpm_limit,
			spend_micros = CASE WHEN $11 THEN t.spend_micros ELSE excluded.spend_micros END, budget_window = excluded.budget_window,
			budget_reset_at = CASE WHEN $13::timestamptz IS NOT NULL THEN $13::timestamptz
				WHEN t.budget_window = excluded.budget_window THEN t.budget_reset_at ELSE $14::timestamptz END,
			updated_at = now()
		WHERE (t.alias, t.organization_id, t.models, t.allowed_routes, t.max_budget_micros, t.rpm_limit, t.tpm_limit)
				IS DISTINCT FROM (excluded.alias, excluded.organization_id, excluded.models, excluded.allowed_routes,
					excluded.max_budget_micros, excluded.rpm_limit, excluded.tpm_limit)
			OR t.blocked <> COALESCE($6::boolean, t.blocked)
			OR NOT $11 AND t.spend_micros <> excluded.spend_micros
			OR t.budget_window <> excluded.budget_window
			OR $13::timestamptz IS NOT NULL AND t.budget_reset_at IS DISTINCT FROM $13::timestamptz

-- name: putUser
INSERT INTO users AS u (id, email, blocked, max_budget_micros, spend_micros, budget_window, budget_reset_at)
		VALUES ($1, $2, COALESCE($3::boolean, false), $4, $5, $7, COALESCE($8::timestamptz, $9::timestamptz))
		ON CONFLICT (id) DO UPDATE SET email = excluded.email, blocked = COALESCE($3::boolean, u.blocked),
			max_budget_micros = excluded.max_budget_micros,
			spend_micros = CASE WHEN $6 THEN u.spend_micros ELSE excluded.spend_micros END, budget_window = excluded.budget_window,
			budget_reset_at = CASE WHEN $8::timestamptz IS NOT NULL THEN $8::timestamptz
				WHEN u.budget_window = excluded.budget_window THEN u.budget_reset_at ELSE $9::timestamptz END,
			updated_at = now()
		WHERE (u.email, u.max_budget_micros)
				IS DISTINCT FROM (excluded.email, excluded.max_budget_micros)
			OR u.blocked <> COALESCE($3::boolean, u.blocked)
			OR NOT $6 AND u.spend_micros <> excluded.spend_micros
			OR u.budget_window <> excluded.budget_window
			OR $8::timestamptz IS NOT NULL AND u.budget_reset_at IS DISTINCT FROM $8::timestamptz

-- name: putKey
INSERT INTO virtual_keys AS k (id, alias, team_id, user_id, organization_id, models, allowed_routes, blocked,
			auto_registered, expires_at, max_budget_micros, spend_micros, rpm_limit, tpm_limit, budget_window, budget_reset_at,
			jwt_only, idle_timeout, idle_expires_at, sealed)
		VALUES ($1, $2, NULLIF($3, ''), $4, NULLIF($5, ''), $6, $7, COALESCE($8::boolean, false), $9, $10, $11, $12, $13, $14, $16, COALESCE($17::timestamptz, $18::timestamptz),
			COALESCE($19::boolean, false), $20, COALESCE($21::timestamptz, $22::timestamptz), $23)
		ON CONFLICT (id) DO UPDATE SET alias = excluded.alias, team_id = excluded.team_id, user_id = excluded.user_id,
			organization_id = excluded.organization_id, models = excluded.models, allowed_routes = excluded.allowed_routes,
			blocked = COALESCE($8::boolean, k.blocked), expires_at = excluded.expires_at, max_budget_micros = excluded.max_budget_micros,
			rpm_limit = excluded.rpm_limit, tpm_limit = excluded.tpm_limit,
			spend_micros = CASE WHEN $15 THEN k.spend_micros ELSE excluded.spend_micros END, budget_window = excluded.budget_window,
			jwt_only = COALESCE($19::boolean, k.jwt_only), idle_timeout = excluded.idle_timeout, sealed = COALESCE(excluded.sealed, k.sealed),
			idle_expires_at = CASE WHEN $21::timestamptz IS NOT NULL THEN $21::timestamptz
				WHEN k.idle_timeout = excluded.idle_timeout THEN k.idle_expires_at ELSE $22::timestamptz END,
			budget_reset_at = CASE WHEN $17::timestamptz IS NOT NULL THEN $17::timestamptz
				WHEN k.budget_window = excluded.budget_window THEN k.budget_reset_at ELSE $18::timestamptz END,
			updated_at = now()
		WHERE (k.alias, k.team_id, k.user_id, k.organization_id, k.models, k.allowed_routes, k.expires_at,
				k.max_budget_micros, k.rpm_limit, k.tpm_limit)
				IS DISTINCT FROM (excluded.alias, excluded.team_id, excluded.user_id, excluded.organization_id,
					excluded.models, excluded.allowed_routes, excluded.expires_at,
					excluded.max_budget_micros, excluded.rpm_limit, excluded.tpm_limit)
			OR k.blocked <> COALESCE($8::boolean, k.blocked)
			OR NOT $15 AND k.spend_micros <> excluded.spend_micros
			OR k.jwt_only <> COALESCE($19::boolean, k.jwt_only)
			OR k.idle_timeout <> excluded.idle_timeout
			OR excluded.sealed IS NOT NULL AND k.sealed IS DISTINCT FROM excluded.sealed
			OR $21::timestamptz IS NOT NULL AND k.idle_expires_at IS DISTINCT FROM $21::timestamptz
			OR k.budget_window <> excluded.budget_window
			OR $17::timestamptz IS NOT NULL AND k.budget_reset_at IS DISTINCT FROM $17::timestamptz

-- name: putMapping
INSERT INTO jwt_key_mappings AS m (issuer, claim, value, key_id, active, auto_registered)
		VALUES ($1, $2, $3, $4, COALESCE($5::boolean, true), $6)
		ON CONFLICT (issuer, claim, value) DO UPDATE SET key_id = excluded.key_id, active = COALESCE($5::boolean, m.active),
			auto_registered = excluded.auto_registered, updated_at = now()
		WHERE (m.key_id, m.auto_registered) IS DISTINCT FROM (excluded.key_id, excluded.auto_registered)
			OR m.active <> COALESCE($5::boolean, m.active)

-- name: aliasHolders
SELECT alias, id FROM virtual_keys WHERE alias = ANY ($1) AND alias <> ''

-- name: releaseAlias
UPDATE virtual_keys SET alias = '', updated_at = now() WHERE id = $1

-- name: dropMembers
DELETE FROM team_members WHERE team_id = $1 AND user_id <> ALL ($2)

-- name: addMembers
INSERT INTO team_members (team_id, user_id) SELECT $1, unnest($2::text[]) ON CONFLICT DO NOTHING

-- name: allOrganizations
SELECT id, alias, blocked, max_budget_micros, spend_micros, budget_window, budget_reset_at FROM organizations ORDER BY id

-- name: allTeams
SELECT id, alias, COALESCE(organization_id, ''), models, allowed_routes, blocked,
		max_budget_micros, spend_micros, budget_window, budget_reset_at, rpm_limit, tpm_limit, ARRAY(SELECT user_id FROM team_members WHERE team_id = teams.id ORDER BY user_id) FROM teams ORDER BY id

-- name: allUsers
SELECT id, email, blocked, max_budget_micros, spend_micros, budget_window, budget_reset_at FROM users ORDER BY id

-- name: allKeys
SELECT id, alias, COALESCE(team_id, ''), user_id, COALESCE(organization_id, ''), models, allowed_routes,
		blocked, auto_registered, jwt_only, expires_at, idle_timeout, idle_expires_at, sealed, max_budget_micros, spend_micros, budget_window, budget_reset_at, rpm_limit, tpm_limit FROM virtual_keys ORDER BY id

-- name: allMappings
SELECT issuer, claim, value, key_id, active, auto_registered FROM jwt_key_mappings ORDER BY issuer, claim, value
