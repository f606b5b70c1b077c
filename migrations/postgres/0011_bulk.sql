-- Imports write many credentials at once. A change for each would make every cache read as many, to learn what one says:
-- what was unknown may be known. So there is an entity more: 'unknown', which stands for all digests that are not known.

ALTER TABLE changes DROP CONSTRAINT changes_entity_check;
-- Of 'unknown' the entity_id is empty.
ALTER TABLE changes ADD CONSTRAINT changes_entity_check
    CHECK (entity IN ('credential', 'user', 'workspace', 'caller', 'unknown'));

-- In a transaction with `SET LOCAL sophic_auth.bulk = 'on'` the first inserted credential appends the one change, and
-- the others find it there: by the transaction's own number, since a session may set what it likes. A savepoint that is
-- rolled back takes the change and the note of it with it. So no insert can go unlogged.
CREATE OR REPLACE FUNCTION credentials_changed() RETURNS trigger
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
BEGIN
    IF TG_OP = 'INSERT' AND current_setting('sophic_auth.bulk', true) = 'on' THEN
        IF current_setting('sophic_auth.bulk_logged', true) IS DISTINCT FROM pg_current_xact_id()::text THEN
            PERFORM append_change('unknown', '', NULL);
            PERFORM set_config('sophic_auth.bulk_logged', pg_current_xact_id()::text, true);
        END IF;
        RETURN NULL;
    END IF;
    IF TG_OP <> 'INSERT' THEN
        PERFORM append_change('credential', OLD.id::text, OLD.digest);
    END IF;
    IF TG_OP = 'INSERT' OR (TG_OP = 'UPDATE' AND OLD.digest <> NEW.digest) THEN
        PERFORM append_change('credential', NEW.id::text, NEW.digest);
    END IF;
    RETURN NULL;
END
$$;
