-- A registration inserts one key and one mapping. To tell of them as generally as migration 0002 does cost more than
-- to write them; what is told stays the same.

-- +goose Up
SET LOCAL lock_timeout = '2s';

-- extauthz_inserted has a statement of its own for each table, which is planned once a session, and uses nothing but
-- the server's own functions: it needs no search_path, and to set one costs as much as the rest.
-- +goose StatementBegin
CREATE FUNCTION extauthz_inserted() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    head text := '1 ' || (extract(epoch FROM clock_timestamp()) * 1000000)::bigint || ' ' || TG_TABLE_NAME || ' ';
BEGIN
    IF TG_TABLE_NAME = 'virtual_keys' THEN
        PERFORM pg_notify('extauthz_changes', head || CASE WHEN max(total) > 4000 THEN '*' ELSE string_agg(digest, '') END)
        FROM (SELECT left(encode(sha256(convert_to(named, 'UTF8')), 'hex'), 16) AS digest,
                row_number() OVER () - 1 AS n, count(*) OVER () AS total
            FROM (SELECT octet_length(id) || ':' || id AS named FROM after_it LIMIT 4001) AS a) AS d
        GROUP BY CASE WHEN total > 4000 THEN 0 ELSE n / 400 END;
    ELSE
        PERFORM pg_notify('extauthz_changes', head || CASE WHEN max(total) > 4000 THEN '*' ELSE string_agg(digest, '') END)
        FROM (SELECT left(encode(sha256(convert_to(named, 'UTF8')), 'hex'), 16) AS digest,
                row_number() OVER () - 1 AS n, count(*) OVER () AS total
            FROM (SELECT octet_length(claim) || ':' || claim || octet_length(value) || ':' || value AS named FROM after_it LIMIT 4001) AS a) AS d
        GROUP BY CASE WHEN total > 4000 THEN 0 ELSE n / 400 END;
    END IF;
    RETURN NULL;
END
$$;
-- +goose StatementEnd

GRANT EXECUTE ON FUNCTION extauthz_inserted TO PUBLIC;

CREATE OR REPLACE TRIGGER extauthz_inserted AFTER INSERT ON virtual_keys REFERENCING NEW TABLE AS after_it
    FOR EACH STATEMENT EXECUTE FUNCTION extauthz_inserted();
CREATE OR REPLACE TRIGGER extauthz_inserted AFTER INSERT ON jwt_key_mappings REFERENCING NEW TABLE AS after_it
    FOR EACH STATEMENT EXECUTE FUNCTION extauthz_inserted();

-- extauthz_schema_window is this schema's version, and the oldest version whose binaries may use this schema too.
-- +goose StatementBegin
CREATE FUNCTION extauthz_schema_window(OUT version bigint, OUT oldest bigint)
LANGUAGE sql IMMUTABLE AS $$ SELECT 3::bigint, 2::bigint $$;
-- +goose StatementEnd

GRANT EXECUTE ON FUNCTION extauthz_schema_window TO PUBLIC;
