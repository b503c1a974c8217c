-- Texts compare byte for byte (COLLATE "C"), hold at most 1,024 bytes and no control characters.
-- Money is in millionths of the operator's currency unit; a NULL maximum is unlimited, and so is a
-- NULL limit. package rows holds the same rules in Go.

-- +goose Up
CREATE TABLE organizations (
    id                text COLLATE "C" PRIMARY KEY
                      CHECK (id <> '' AND octet_length(id) <= 1024 AND id !~ '[\u0001-\u001f\u007f-\u009f]'),
    alias             text COLLATE "C" NOT NULL DEFAULT ''
                      CHECK (octet_length(alias) <= 1024 AND alias !~ '[\u0001-\u001f\u007f-\u009f]'),
    blocked           boolean NOT NULL DEFAULT false,
    max_budget_micros bigint CHECK (max_budget_micros >= 0),
    spend_micros      bigint NOT NULL DEFAULT 0 CHECK (spend_micros >= 0),
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now()
);

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
    rpm_limit         bigint CHECK (rpm_limit >= 0),
    tpm_limit         bigint CHECK (tpm_limit >= 0),
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX teams_organization ON teams (organization_id);

CREATE TABLE users (
    id                text COLLATE "C" PRIMARY KEY
                      CHECK (id <> '' AND octet_length(id) <= 1024 AND id !~ '[\u0001-\u001f\u007f-\u009f]'),
    email             text COLLATE "C" NOT NULL DEFAULT ''
                      CHECK (octet_length(email) <= 1024 AND email !~ '[\u0001-\u001f\u007f-\u009f]'),
    blocked           boolean NOT NULL DEFAULT false,
    max_budget_micros bigint CHECK (max_budget_micros >= 0),
    spend_micros      bigint NOT NULL DEFAULT 0 CHECK (spend_micros >= 0),
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now()
);

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
    max_budget_micros bigint CHECK (max_budget_micros >= 0),
    spend_micros      bigint NOT NULL DEFAULT 0 CHECK (spend_micros >= 0),
    rpm_limit         bigint CHECK (rpm_limit >= 0),
    tpm_limit         bigint CHECK (tpm_limit >= 0),
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now()
);
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
    PRIMARY KEY (issuer, claim, value)
);
CREATE INDEX jwt_key_mappings_key ON jwt_key_mappings (key_id);
