-- Texts compare byte for byte (COLLATE "C"), hold at most 1,024 bytes and no control characters.
-- Money is in millionths of the operator's currency unit; a NULL maximum is unlimited, and so is a
-- NULL limit. Durations are in microseconds. Spend starts again at zero at budget_reset_at (NULL is
-- never), which then moves to the end of the next budget_window ('' is none, and the last time).
-- package rows holds the same rules in Go.

-- +goose Up
CREATE TABLE organizations (
    id                text COLLATE "C" PRIMARY KEY
                      CHECK (id <> '' AND octet_length(id) <= 1024 AND id !~ '[\u0001-\u001f\u007f-\u009f]'),
    alias             text COLLATE "C" NOT NULL DEFAULT ''
                      CHECK (octet_length(alias) <= 1024 AND alias !~ '[\u0001-\u001f\u007f-\u009f]'),
    blocked           boolean NOT NULL DEFAULT false,
    max_budget_micros bigint CHECK (max_budget_micros >= 0),
    spend_micros      bigint NOT NULL DEFAULT 0 CHECK (spend_micros >= 0),
    budget_window     text COLLATE "C" NOT NULL DEFAULT ''
                      CHECK (budget_window ~ '^(([1-9][0-9]{0,2}|1000)(s|m|h|d|w|mo))?$'),
    budget_reset_at   timestamptz
                      CHECK (budget_reset_at >= '1970-01-01 00:00:00+00' AND budget_reset_at < '10000-01-01 00:00:00+00'),
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now(),
    CHECK (budget_window = '' OR budget_reset_at IS NOT NULL)
);
CREATE INDEX organizations_alias ON organizations (alias) WHERE alias <> '';
CREATE INDEX organizations_reset ON organizations (budget_reset_at) WHERE budget_reset_at IS NOT NULL;

CREATE TABLE teams (
    id                text COLLATE "C" PRIMARY KEY
                      CHECK (id <> '' AND octet_length(id) <= 1024 AND id !~ '[\u0001-\u001f\u007f-\u009f]'),
    alias             text COLLATE "C" NOT NULL DEFAULT ''
                      CHECK (octet_length(alias) <= 1024 AND alias !~ '[\u0001-\u001f\u007f-\u009f]'),
    organization_id   text COLLATE "C" REFERENCES organizations ON DELETE RESTRICT,
    models            text[] COLLATE "C" NOT NULL DEFAULT '{}'
                      CHECK (array_position(models, NULL) IS NULL AND array_position(models, '') IS NULL
                             AND array_to_string(models, '') !~ '[\u0001-\u001f\u007f-\u009f]'),
    allowed_routes    text[] COLLATE "C" NOT NULL DEFAULT '{}'
                      CHECK (array_position(allowed_routes, NULL) IS NULL AND array_position(allowed_routes, '') IS NULL
                             AND array_to_string(allowed_routes, '') !~ '[\u0001-\u001f\u007f-\u009f]'),
    blocked           boolean NOT NULL DEFAULT false,
    max_budget_micros bigint CHECK (max_budget_micros >= 0),
    spend_micros      bigint NOT NULL DEFAULT 0 CHECK (spend_micros >= 0),
    budget_window     text COLLATE "C" NOT NULL DEFAULT ''
                      CHECK (budget_window ~ '^(([1-9][0-9]{0,2}|1000)(s|m|h|d|w|mo))?$'),
    budget_reset_at   timestamptz
                      CHECK (budget_reset_at >= '1970-01-01 00:00:00+00' AND budget_reset_at < '10000-01-01 00:00:00+00'),
    rpm_limit         bigint CHECK (rpm_limit >= 0),
    tpm_limit         bigint CHECK (tpm_limit >= 0),
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now(),
    CHECK (budget_window = '' OR budget_reset_at IS NOT NULL)
);
CREATE INDEX teams_alias ON teams (alias) WHERE alias <> '';
CREATE INDEX teams_reset ON teams (budget_reset_at) WHERE budget_reset_at IS NOT NULL;
CREATE INDEX teams_organization ON teams (organization_id);

-- user_id is no foreign key: a team may list users who have no row.
CREATE TABLE team_members (
    team_id text COLLATE "C" NOT NULL REFERENCES teams ON DELETE CASCADE,
    user_id text COLLATE "C" NOT NULL
            CHECK (user_id <> '' AND octet_length(user_id) <= 1024 AND user_id !~ '[\u0001-\u001f\u007f-\u009f]'),
    PRIMARY KEY (team_id, user_id)
);

CREATE TABLE users (
    id                text COLLATE "C" PRIMARY KEY
                      CHECK (id <> '' AND octet_length(id) <= 1024 AND id !~ '[\u0001-\u001f\u007f-\u009f]'),
    email             text COLLATE "C" NOT NULL DEFAULT ''
                      CHECK (octet_length(email) <= 1024 AND email !~ '[\u0001-\u001f\u007f-\u009f]'),
    blocked           boolean NOT NULL DEFAULT false,
    max_budget_micros bigint CHECK (max_budget_micros >= 0),
    spend_micros      bigint NOT NULL DEFAULT 0 CHECK (spend_micros >= 0),
    budget_window     text COLLATE "C" NOT NULL DEFAULT ''
                      CHECK (budget_window ~ '^(([1-9][0-9]{0,2}|1000)(s|m|h|d|w|mo))?$'),
    budget_reset_at   timestamptz
                      CHECK (budget_reset_at >= '1970-01-01 00:00:00+00' AND budget_reset_at < '10000-01-01 00:00:00+00'),
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now(),
    CHECK (budget_window = '' OR budget_reset_at IS NOT NULL)
);
CREATE INDEX users_reset ON users (budget_reset_at) WHERE budget_reset_at IS NOT NULL;

-- user_id is no foreign key: a registration creates a key for a user who need not have a row.
CREATE TABLE virtual_keys (
    id                text COLLATE "C" PRIMARY KEY CHECK (id ~ '^[0-9a-f]{64}$'),
    alias             text COLLATE "C" NOT NULL DEFAULT ''
                      CHECK (octet_length(alias) <= 1024 AND alias !~ '[\u0001-\u001f\u007f-\u009f]'),
    team_id           text COLLATE "C" REFERENCES teams ON DELETE RESTRICT,
    user_id           text COLLATE "C" NOT NULL DEFAULT ''
                      CHECK (octet_length(user_id) <= 1024 AND user_id !~ '[\u0001-\u001f\u007f-\u009f]'),
    organization_id   text COLLATE "C" REFERENCES organizations ON DELETE RESTRICT,
    models            text[] COLLATE "C" NOT NULL DEFAULT '{}'
                      CHECK (array_position(models, NULL) IS NULL AND array_position(models, '') IS NULL
                             AND array_to_string(models, '') !~ '[\u0001-\u001f\u007f-\u009f]'),
    allowed_routes    text[] COLLATE "C" NOT NULL DEFAULT '{}'
                      CHECK (array_position(allowed_routes, NULL) IS NULL AND array_position(allowed_routes, '') IS NULL
                             AND array_to_string(allowed_routes, '') !~ '[\u0001-\u001f\u007f-\u009f]'),
    blocked           boolean NOT NULL DEFAULT false,
    auto_registered   boolean NOT NULL DEFAULT false,
    expires_at        timestamptz
                      CHECK (expires_at >= '1970-01-01 00:00:00+00' AND expires_at < '10000-01-01 00:00:00+00'),
    jwt_only          boolean NOT NULL DEFAULT false,
    idle_timeout      bigint NOT NULL DEFAULT 0 CHECK (idle_timeout BETWEEN 0 AND 3153600000000000),
    idle_expires_at   timestamptz
                      CHECK (idle_expires_at >= '1970-01-01 00:00:00+00' AND idle_expires_at < '10000-01-01 00:00:00+00'),
    sealed            bytea CHECK (octet_length(sealed) BETWEEN 1 AND 3072),
    max_budget_micros bigint CHECK (max_budget_micros >= 0),
    spend_micros      bigint NOT NULL DEFAULT 0 CHECK (spend_micros >= 0),
    budget_window     text COLLATE "C" NOT NULL DEFAULT ''
                      CHECK (budget_window ~ '^(([1-9][0-9]{0,2}|1000)(s|m|h|d|w|mo))?$'),
    budget_reset_at   timestamptz
                      CHECK (budget_reset_at >= '1970-01-01 00:00:00+00' AND budget_reset_at < '10000-01-01 00:00:00+00'),
    rpm_limit         bigint CHECK (rpm_limit >= 0),
    tpm_limit         bigint CHECK (tpm_limit >= 0),
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now(),
    CHECK (budget_window = '' OR budget_reset_at IS NOT NULL),
    CHECK (idle_timeout = 0 OR idle_expires_at IS NOT NULL)
);
CREATE INDEX virtual_keys_reset ON virtual_keys (budget_reset_at) WHERE budget_reset_at IS NOT NULL;
CREATE UNIQUE INDEX virtual_keys_alias ON virtual_keys (alias) WHERE alias <> '';
CREATE INDEX virtual_keys_team ON virtual_keys (team_id);
CREATE INDEX virtual_keys_organization ON virtual_keys (organization_id);
-- For the bound on a team's registrations; keys without a team count together.
CREATE INDEX virtual_keys_registered ON virtual_keys ((COALESCE(team_id, ''))) WHERE auto_registered AND NOT blocked;

-- An issuer of '' is any issuer. A key that a mapping names cannot be deleted: its caller would
-- become an unmapped one and meet a policy that may be more generous. The issuer is held to 512
-- bytes because the unique index has 2,704 bytes for an entry.
CREATE TABLE jwt_key_mappings (
    issuer     text COLLATE "C" NOT NULL DEFAULT ''
               CHECK (octet_length(issuer) <= 512 AND issuer !~ '[\u0001-\u001f\u007f-\u009f]'),
    claim      text COLLATE "C" NOT NULL
               CHECK (claim <> '' AND octet_length(claim) <= 1024 AND claim !~ '[\u0001-\u001f\u007f-\u009f]'),
    value      text COLLATE "C" NOT NULL
               CHECK (value <> '' AND octet_length(value) <= 1024 AND value !~ '[\u0001-\u001f\u007f-\u009f]'),
    key_id     text COLLATE "C" NOT NULL REFERENCES virtual_keys ON DELETE RESTRICT,
    active     boolean NOT NULL DEFAULT true,
    -- Written by a registration; an operator's own mapping is never rebound.
    auto_registered boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    -- The value alone tells nearly all rows apart: as the first it keeps the index's upper pages small, and the mapping of
    -- any issuer lies beside an issuer's own.
    PRIMARY KEY (value, claim, issuer)
);
CREATE INDEX jwt_key_mappings_key ON jwt_key_mappings (key_id);
