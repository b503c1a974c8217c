-- Replicas learn of changes by NOTIFY, hand-written SQL included. What they keep in memory is named by
-- digests: a payload can be read by every role that may connect, so it holds no row's values.
--
-- A statement notifies for each table it changes: '1 MICROSECONDS TABLE DIGESTS', where the time is
-- the statement's and the digests are 16 hexadecimal digits each, or '*' for every row. Spend that
-- grows without reaching its ceiling changes no decision and is not told: NOTIFY makes commits wait for each
-- other, and whoever counts spend may commit often.

-- +goose Up
-- extauthz_digests names a row by the columns in each element of looked_up, which are separated by commas:
-- the first eight bytes of the SHA-256 of their values, each after its length in bytes and a colon.
-- +goose StatementBegin
CREATE FUNCTION extauthz_digests(changed jsonb, looked_up text[]) RETURNS SETOF text
LANGUAGE sql IMMUTABLE AS $$
    SELECT left(encode(sha256(convert_to(string_agg(octet_length(value) || ':' || value, '' ORDER BY place), 'UTF8')), 'hex'), 16)
    FROM unnest(looked_up) WITH ORDINALITY AS k (columns, key),
        unnest(string_to_array(columns, ',')) WITH ORDINALITY AS c (name, place),
        LATERAL (SELECT changed ->> name AS value) AS v
    GROUP BY key
    HAVING bool_and(value <> '')
$$;
-- +goose StatementEnd

-- extauthz_told is what of a row is worth telling.
-- +goose StatementBegin
CREATE FUNCTION extauthz_told(changed jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE AS $$
    SELECT (changed - '{spend_micros,updated_at}'::text[])
        || jsonb_build_object('spent', (changed ->> 'spend_micros')::bigint >= (changed ->> 'max_budget_micros')::bigint)
$$;
-- +goose StatementEnd

-- Whoever may write may run them, whatever a database's default privileges say.
GRANT EXECUTE ON FUNCTION extauthz_digests, extauthz_told TO PUBLIC;

-- A payload must stay below 8,000 bytes: at most 400 digests go into one, and more than 4,000 are told as '*'.
-- The search_path is the migration's own: a session with another one must be able to write.
-- +goose StatementBegin
CREATE FUNCTION extauthz_changed() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    head    text := '1 ' || (extract(epoch FROM clock_timestamp()) * 1000000)::bigint || ' ' || TG_TABLE_NAME || ' ';
    digests text[];
BEGIN
    IF TG_OP = 'INSERT' THEN
        digests := ARRAY(SELECT DISTINCT d FROM after_it AS a, extauthz_digests(to_jsonb(a), TG_ARGV) AS d LIMIT 4001);
    ELSIF TG_OP = 'DELETE' THEN
        digests := ARRAY(SELECT DISTINCT d FROM before_it AS b, extauthz_digests(to_jsonb(b), TG_ARGV) AS d LIMIT 4001);
    ELSIF TG_OP = 'UPDATE' THEN
        digests := ARRAY(
            WITH b AS (SELECT extauthz_told(to_jsonb(b)) FROM before_it AS b), a AS (SELECT extauthz_told(to_jsonb(a)) FROM after_it AS a)
            SELECT DISTINCT d
            FROM ((TABLE b EXCEPT ALL TABLE a) UNION ALL (TABLE a EXCEPT ALL TABLE b)) AS r (changed), extauthz_digests(changed, TG_ARGV) AS d
            LIMIT 4001);
    END IF;
    IF TG_OP = 'TRUNCATE' OR cardinality(digests) > 4000 THEN
        PERFORM pg_notify('extauthz_changes', head || '*');
    ELSE
        PERFORM pg_notify('extauthz_changes', head || array_to_string(digests[n : n + 399], ''))
        FROM generate_series(1, cardinality(digests), 400) AS n;
    END IF;
    RETURN NULL;
END
$$;
-- +goose StatementEnd

-- +goose StatementBegin
DO $$
DECLARE
    target    name;
    looked_up text;
BEGIN
    FOR target, looked_up IN VALUES
        ('organizations', '''id'', ''alias'''), ('teams', '''id'', ''alias'''), ('team_members', '''team_id,user_id'''),
        ('users', '''id'''), ('virtual_keys', '''id'''), ('jwt_key_mappings', '''claim,value''')
    LOOP
        EXECUTE format('CREATE TRIGGER extauthz_inserted AFTER INSERT ON %I REFERENCING NEW TABLE AS after_it
            FOR EACH STATEMENT EXECUTE FUNCTION extauthz_changed(%s)', target, looked_up);
        EXECUTE format('CREATE TRIGGER extauthz_updated AFTER UPDATE ON %I REFERENCING OLD TABLE AS before_it NEW TABLE AS after_it
            FOR EACH STATEMENT EXECUTE FUNCTION extauthz_changed(%s)', target, looked_up);
        EXECUTE format('CREATE TRIGGER extauthz_deleted AFTER DELETE ON %I REFERENCING OLD TABLE AS before_it
            FOR EACH STATEMENT EXECUTE FUNCTION extauthz_changed(%s)', target, looked_up);
        EXECUTE format('CREATE TRIGGER extauthz_truncated AFTER TRUNCATE ON %I
            FOR EACH STATEMENT EXECUTE FUNCTION extauthz_changed()', target);
    END LOOP;
END
$$;
-- +goose StatementEnd
