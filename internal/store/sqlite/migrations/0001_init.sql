-- Texts compare byte for byte, hold at most 1,024 bytes and no control characters (a NUL is named by
-- itself: GLOB stops at it). Money is in millionths of the operator's currency unit; a NULL maximum
-- is unlimited, and so is a NULL limit. Times are microseconds since 1970 in UTC, durations are
-- microseconds. Spend starts again at zero at budget_reset_at (NULL is never), which then moves to the
-- end of the next budget_window ('' is none, and the last time). Lists are JSON arrays of strings; their
-- elements cannot be checked here, so readers do. package rows holds the same rules in Go.

-- +goose Up
CREATE TABLE organizations (
    id                TEXT NOT NULL PRIMARY KEY
                      CHECK (id <> '' AND octet_length(id) <= 1024 AND instr(id, char(0)) = 0
                             AND id NOT GLOB '*[' || char(1) || '-' || char(31) || char(127) || '-' || char(159) || ']*'),
    alias             TEXT NOT NULL DEFAULT ''
                      CHECK (octet_length(alias) <= 1024 AND instr(alias, char(0)) = 0
                             AND alias NOT GLOB '*[' || char(1) || '-' || char(31) || char(127) || '-' || char(159) || ']*'),
    blocked           INTEGER NOT NULL DEFAULT 0 CHECK (blocked IN (0, 1)),
    max_budget_micros INTEGER CHECK (max_budget_micros >= 0),
    spend_micros      INTEGER NOT NULL DEFAULT 0 CHECK (spend_micros >= 0),
    budget_window     TEXT NOT NULL DEFAULT ''
                      CHECK (budget_window = '' OR instr(budget_window, char(0)) = 0
                             AND substr(budget_window, 1 + length(rtrim(budget_window, 'smhdwo'))) IN ('s', 'm', 'h', 'd', 'w', 'mo')
                             AND rtrim(budget_window, 'smhdwo') GLOB '[1-9]*' AND rtrim(budget_window, 'smhdwo') NOT GLOB '*[^0-9]*'
                             AND CAST(rtrim(budget_window, 'smhdwo') AS INTEGER) <= 1000),
    budget_reset_at   INTEGER CHECK (budget_reset_at BETWEEN 0 AND 253402300799999999),
    created_at        INTEGER NOT NULL DEFAULT (CAST(round(unixepoch('subsec') * 1000) AS INTEGER) * 1000),
    updated_at        INTEGER NOT NULL DEFAULT (CAST(round(unixepoch('subsec') * 1000) AS INTEGER) * 1000),
    CHECK (budget_window = '' OR budget_reset_at IS NOT NULL)
) STRICT;
CREATE INDEX organizations_alias ON organizations (alias) WHERE alias <> '';
CREATE INDEX organizations_reset ON organizations (budget_reset_at) WHERE budget_reset_at IS NOT NULL;

CREATE TABLE teams (
    id                TEXT NOT NULL PRIMARY KEY
                      CHECK (id <> '' AND octet_length(id) <= 1024 AND instr(id, char(0)) = 0
                             AND id NOT GLOB '*[' || char(1) || '-' || char(31) || char(127) || '-' || char(159) || ']*'),
    alias             TEXT NOT NULL DEFAULT ''
                      CHECK (octet_length(alias) <= 1024 AND instr(alias, char(0)) = 0
                             AND alias NOT GLOB '*[' || char(1) || '-' || char(31) || char(127) || '-' || char(159) || ']*'),
    organization_id   TEXT REFERENCES organizations (id) ON DELETE RESTRICT,
    models            TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(models) AND json_type(models) = 'array'),
    allowed_routes    TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(allowed_routes) AND json_type(allowed_routes) = 'array'),
    blocked           INTEGER NOT NULL DEFAULT 0 CHECK (blocked IN (0, 1)),
    max_budget_micros INTEGER CHECK (max_budget_micros >= 0),
    spend_micros      INTEGER NOT NULL DEFAULT 0 CHECK (spend_micros >= 0),
    budget_window     TEXT NOT NULL DEFAULT ''
                      CHECK (budget_window = '' OR instr(budget_window, char(0)) = 0
                             AND substr(budget_window, 1 + length(rtrim(budget_window, 'smhdwo'))) IN ('s', 'm', 'h', 'd', 'w', 'mo')
                             AND rtrim(budget_window, 'smhdwo') GLOB '[1-9]*' AND rtrim(budget_window, 'smhdwo') NOT GLOB '*[^0-9]*'
                             AND CAST(rtrim(budget_window, 'smhdwo') AS INTEGER) <= 1000),
    budget_reset_at   INTEGER CHECK (budget_reset_at BETWEEN 0 AND 253402300799999999),
    rpm_limit         INTEGER CHECK (rpm_limit >= 0),
    tpm_limit         INTEGER CHECK (tpm_limit >= 0),
    created_at        INTEGER NOT NULL DEFAULT (CAST(round(unixepoch('subsec') * 1000) AS INTEGER) * 1000),
    updated_at        INTEGER NOT NULL DEFAULT (CAST(round(unixepoch('subsec') * 1000) AS INTEGER) * 1000),
    CHECK (budget_window = '' OR budget_reset_at IS NOT NULL)
) STRICT;
CREATE INDEX teams_alias ON teams (alias) WHERE alias <> '';
CREATE INDEX teams_reset ON teams (budget_reset_at) WHERE budget_reset_at IS NOT NULL;
CREATE INDEX teams_organization ON teams (organization_id);

-- user_id is no foreign key: a team may list users who have no row.
CREATE TABLE team_members (
    team_id TEXT NOT NULL REFERENCES teams (id) ON DELETE CASCADE,
    user_id TEXT NOT NULL
            CHECK (user_id <> '' AND octet_length(user_id) <= 1024 AND instr(user_id, char(0)) = 0
                   AND user_id NOT GLOB '*[' || char(1) || '-' || char(31) || char(127) || '-' || char(159) || ']*'),
    PRIMARY KEY (team_id, user_id)
) STRICT;

CREATE TABLE users (
    id                TEXT NOT NULL PRIMARY KEY
                      CHECK (id <> '' AND octet_length(id) <= 1024 AND instr(id, char(0)) = 0
                             AND id NOT GLOB '*[' || char(1) || '-' || char(31) || char(127) || '-' || char(159) || ']*'),
    email             TEXT NOT NULL DEFAULT ''
                      CHECK (octet_length(email) <= 1024 AND instr(email, char(0)) = 0
                             AND email NOT GLOB '*[' || char(1) || '-' || char(31) || char(127) || '-' || char(159) || ']*'),
    blocked           INTEGER NOT NULL DEFAULT 0 CHECK (blocked IN (0, 1)),
    max_budget_micros INTEGER CHECK (max_budget_micros >= 0),
    spend_micros      INTEGER NOT NULL DEFAULT 0 CHECK (spend_micros >= 0),
    budget_window     TEXT NOT NULL DEFAULT ''
                      CHECK (budget_window = '' OR instr(budget_window, char(0)) = 0
                             AND substr(budget_window, 1 + length(rtrim(budget_window, 'smhdwo'))) IN ('s', 'm', 'h', 'd', 'w', 'mo')
                             AND rtrim(budget_window, 'smhdwo') GLOB '[1-9]*' AND rtrim(budget_window, 'smhdwo') NOT GLOB '*[^0-9]*'
                             AND CAST(rtrim(budget_window, 'smhdwo') AS INTEGER) <= 1000),
    budget_reset_at   INTEGER CHECK (budget_reset_at BETWEEN 0 AND 253402300799999999),
    created_at        INTEGER NOT NULL DEFAULT (CAST(round(unixepoch('subsec') * 1000) AS INTEGER) * 1000),
    updated_at        INTEGER NOT NULL DEFAULT (CAST(round(unixepoch('subsec') * 1000) AS INTEGER) * 1000),
    CHECK (budget_window = '' OR budget_reset_at IS NOT NULL)
) STRICT;
CREATE INDEX users_reset ON users (budget_reset_at) WHERE budget_reset_at IS NOT NULL;

-- user_id is no foreign key: a registration creates a key for a user who need not have a row.
CREATE TABLE virtual_keys (
    id                TEXT NOT NULL PRIMARY KEY
                      CHECK (octet_length(id) = 64 AND instr(id, char(0)) = 0 AND id NOT GLOB '*[^0-9a-f]*'),
    alias             TEXT NOT NULL DEFAULT ''
                      CHECK (octet_length(alias) <= 1024 AND instr(alias, char(0)) = 0
                             AND alias NOT GLOB '*[' || char(1) || '-' || char(31) || char(127) || '-' || char(159) || ']*'),
    team_id           TEXT REFERENCES teams (id) ON DELETE RESTRICT,
    user_id           TEXT NOT NULL DEFAULT ''
                      CHECK (octet_length(user_id) <= 1024 AND instr(user_id, char(0)) = 0
                             AND user_id NOT GLOB '*[' || char(1) || '-' || char(31) || char(127) || '-' || char(159) || ']*'),
    organization_id   TEXT REFERENCES organizations (id) ON DELETE RESTRICT,
    models            TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(models) AND json_type(models) = 'array'),
    allowed_routes    TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(allowed_routes) AND json_type(allowed_routes) = 'array'),
    blocked           INTEGER NOT NULL DEFAULT 0 CHECK (blocked IN (0, 1)),
    auto_registered   INTEGER NOT NULL DEFAULT 0 CHECK (auto_registered IN (0, 1)),
    expires_at        INTEGER CHECK (expires_at BETWEEN 0 AND 253402300799999999),
    jwt_only          INTEGER NOT NULL DEFAULT 0 CHECK (jwt_only IN (0, 1)),
    idle_timeout      INTEGER NOT NULL DEFAULT 0 CHECK (idle_timeout BETWEEN 0 AND 3153600000000000),
    idle_expires_at   INTEGER CHECK (idle_expires_at BETWEEN 0 AND 253402300799999999),
    sealed            BLOB CHECK (length(sealed) BETWEEN 1 AND 3072),
    max_budget_micros INTEGER CHECK (max_budget_micros >= 0),
    spend_micros      INTEGER NOT NULL DEFAULT 0 CHECK (spend_micros >= 0),
    budget_window     TEXT NOT NULL DEFAULT ''
                      CHECK (budget_window = '' OR instr(budget_window, char(0)) = 0
                             AND substr(budget_window, 1 + length(rtrim(budget_window, 'smhdwo'))) IN ('s', 'm', 'h', 'd', 'w', 'mo')
                             AND rtrim(budget_window, 'smhdwo') GLOB '[1-9]*' AND rtrim(budget_window, 'smhdwo') NOT GLOB '*[^0-9]*'
                             AND CAST(rtrim(budget_window, 'smhdwo') AS INTEGER) <= 1000),
    budget_reset_at   INTEGER CHECK (budget_reset_at BETWEEN 0 AND 253402300799999999),
    rpm_limit         INTEGER CHECK (rpm_limit >= 0),
    tpm_limit         INTEGER CHECK (tpm_limit >= 0),
    created_at        INTEGER NOT NULL DEFAULT (CAST(round(unixepoch('subsec') * 1000) AS INTEGER) * 1000),
    updated_at        INTEGER NOT NULL DEFAULT (CAST(round(unixepoch('subsec') * 1000) AS INTEGER) * 1000),
    CHECK (budget_window = '' OR budget_reset_at IS NOT NULL),
    CHECK (idle_timeout = 0 OR idle_expires_at IS NOT NULL)
) STRICT;
CREATE INDEX virtual_keys_reset ON virtual_keys (budget_reset_at) WHERE budget_reset_at IS NOT NULL;
CREATE UNIQUE INDEX virtual_keys_alias ON virtual_keys (alias) WHERE alias <> '';
CREATE INDEX virtual_keys_team ON virtual_keys (team_id);
CREATE INDEX virtual_keys_organization ON virtual_keys (organization_id);
-- For the bound on a team's registrations; keys without a team count together.
CREATE INDEX virtual_keys_registered ON virtual_keys (COALESCE(team_id, '')) WHERE auto_registered AND NOT blocked;

-- An issuer of '' is any issuer. A key that a mapping names cannot be deleted: its caller would
-- become an unmapped one and meet a policy that may be more generous. The issuer is held to 512
-- bytes as in PostgreSQL, whose unique index has 2,704 bytes for an entry.
CREATE TABLE jwt_key_mappings (
    issuer     TEXT NOT NULL DEFAULT ''
               CHECK (octet_length(issuer) <= 512 AND instr(issuer, char(0)) = 0
                             AND issuer NOT GLOB '*[' || char(1) || '-' || char(31) || char(127) || '-' || char(159) || ']*'),
    claim      TEXT NOT NULL
               CHECK (claim <> '' AND octet_length(claim) <= 1024 AND instr(claim, char(0)) = 0
                             AND claim NOT GLOB '*[' || char(1) || '-' || char(31) || char(127) || '-' || char(159) || ']*'),
    value      TEXT NOT NULL
               CHECK (value <> '' AND octet_length(value) <= 1024 AND instr(value, char(0)) = 0
                             AND value NOT GLOB '*[' || char(1) || '-' || char(31) || char(127) || '-' || char(159) || ']*'),
    key_id     TEXT NOT NULL REFERENCES virtual_keys (id) ON DELETE RESTRICT,
    active     INTEGER NOT NULL DEFAULT 1 CHECK (active IN (0, 1)),
    -- Written by a registration; an operator's own mapping is never rebound.
    auto_registered INTEGER NOT NULL DEFAULT 0 CHECK (auto_registered IN (0, 1)),
    created_at INTEGER NOT NULL DEFAULT (CAST(round(unixepoch('subsec') * 1000) AS INTEGER) * 1000),
    updated_at INTEGER NOT NULL DEFAULT (CAST(round(unixepoch('subsec') * 1000) AS INTEGER) * 1000),
    -- The value alone tells nearly all rows apart: as the first it keeps the index's upper pages small, and the mapping of
    -- any issuer lies beside an issuer's own.
    PRIMARY KEY (value, claim, issuer)
) STRICT;
CREATE INDEX jwt_key_mappings_key ON jwt_key_mappings (key_id);
