-- Followers of the audit log read it in an order in which nothing appears behind them, by numbers. Owners and users
-- read the events about what is theirs. A deleted user is erased from it.

-- Ids are made before their transaction commits, so an event can appear before one that was read already. Numbers are
-- given after the commit, by number_audit_events, which runs when somebody follows the log. NULL: not numbered yet.
ALTER TABLE audit_events ADD COLUMN seq bigint CHECK (seq > 0);

CREATE UNIQUE INDEX audit_events_seq ON audit_events (seq) WHERE seq IS NOT NULL;
CREATE INDEX audit_events_unnumbered ON audit_events (id) WHERE seq IS NULL;

CREATE TABLE audit_counter (
    id     integer NOT NULL PRIMARY KEY CHECK (id = 1),
    -- By which a follower's position is known as one in this log, and not in that of another store.
    log_id uuid    NOT NULL,
    -- The last number given. It outlives the events, so that no number is given twice.
    last   bigint  NOT NULL CHECK (last >= 0)
);

INSERT INTO audit_counter (id, log_id, last) VALUES (1, gen_random_uuid(), 0);

CREATE FUNCTION refuse_audit_counter_change() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF NEW.id = OLD.id AND NEW.log_id = OLD.log_id AND NEW.last >= OLD.last THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE EXCEPTION 'the counter of audit events only rises' USING ERRCODE = 'restrict_violation';
END
$$;

CREATE TRIGGER audit_counter_refuse_change
BEFORE UPDATE OR DELETE ON audit_counter
FOR EACH ROW EXECUTE FUNCTION refuse_audit_counter_change();

CREATE TRIGGER audit_counter_refuse_truncate
BEFORE TRUNCATE ON audit_counter
FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_counter_change();

ALTER TABLE audit_counter ENABLE ALWAYS TRIGGER audit_counter_refuse_change;
ALTER TABLE audit_counter ENABLE ALWAYS TRIGGER audit_counter_refuse_truncate;

-- Numbers at most so many committed events, in the order of their ids, and returns how many it found. It has the rights
-- of its owner, since servers may only append to the log.
CREATE FUNCTION number_audit_events(most integer) RETURNS bigint
LANGUAGE plpgsql
SECURITY DEFINER
AS $$
DECLARE
    given bigint;
    found_count bigint;
    newest bigint;
BEGIN
    -- A statement of its own: the next one then sees what the last holder of the lock has committed.
    SELECT audit_counter.last INTO STRICT given FROM audit_counter WHERE audit_counter.id = 1 FOR UPDATE;
    WITH unnumbered AS (
        SELECT first.id, row_number() OVER (ORDER BY first.id) AS place
        FROM (SELECT audit_events.id FROM audit_events WHERE audit_events.seq IS NULL
              ORDER BY audit_events.id LIMIT LEAST(most, 10000)) AS first
    ), numbered AS (
        UPDATE audit_events SET seq = given + unnumbered.place
        FROM unnumbered WHERE audit_events.id = unnumbered.id
        RETURNING audit_events.seq
    )
    SELECT (SELECT count(*) FROM unnumbered), (SELECT max(numbered.seq) FROM numbered) INTO found_count, newest;
    IF newest IS NOT NULL THEN
        UPDATE audit_counter SET last = newest WHERE audit_counter.id = 1;
    END IF;
    RETURN found_count;
END
$$;

-- Of its schema only, and of temporary tables last: a caller could otherwise put a table of theirs before ours.
DO $$
DECLARE
    place text;
BEGIN
    SELECT nspname INTO STRICT place
    FROM pg_class JOIN pg_namespace ON pg_namespace.oid = pg_class.relnamespace
    WHERE pg_class.oid = 'audit_counter'::regclass;
    EXECUTE format('ALTER FUNCTION number_audit_events(integer) SET search_path = %I, pg_temp', place);
END
$$;

-- What an event is about, by what it holds. Functions and not columns, so that events of before and those of older
-- programs have it too, and no table is rewritten. NULL: nothing of the kind.
CREATE FUNCTION audit_event_field(document text, field text) RETURNS text
LANGUAGE plpgsql
IMMUTABLE
AS $$
BEGIN
    RETURN document::json ->> field;
EXCEPTION WHEN OTHERS THEN
    -- Text that is not JSON, and JSON that is no object.
    RETURN NULL;
END
$$;

-- The search path is that of today, since maintenance builds indexes with an empty one.
-- The workspace: itself, the one that an event about a credential names, and that of all whose id is `<workspace>/<something>`, as memberships are.
CREATE FUNCTION audit_event_workspace(target_kind text, target_id text, before text, after text) RETURNS text
LANGUAGE plpgsql
IMMUTABLE
SET search_path FROM CURRENT
AS $$
BEGIN
    IF target_id = '' THEN
        RETURN NULL;
    ELSIF target_kind = 'workspace' THEN
        RETURN target_id;
    ELSIF target_kind = 'credential' THEN
        RETURN audit_event_field(COALESCE(after, before), 'workspace_id');
    ELSIF position('/' IN target_id) > 0 THEN
        RETURN split_part(target_id, '/', 1);
    END IF;
    RETURN NULL;
END
$$;

-- The user: themselves, that of a personal access token, and that of a membership.
CREATE FUNCTION audit_event_user(target_kind text, target_id text, before text, after text) RETURNS text
LANGUAGE plpgsql
IMMUTABLE
SET search_path FROM CURRENT
AS $$
BEGIN
    IF target_id = '' THEN
        RETURN NULL;
    ELSIF target_kind = 'user' THEN
        RETURN target_id;
    ELSIF target_kind = 'credential' THEN
        RETURN audit_event_field(COALESCE(after, before), 'user_id');
    ELSIF target_kind = 'membership' AND position('/' IN target_id) > 0 THEN
        RETURN split_part(target_id, '/', 2);
    END IF;
    RETURN NULL;
END
$$;

-- Also where new functions are for nobody by default: whoever appends an event calls these two for the indexes, and
-- numbering events tells nothing and takes nothing.
GRANT EXECUTE ON FUNCTION number_audit_events(integer) TO PUBLIC;
GRANT EXECUTE ON FUNCTION audit_event_field(text, text) TO PUBLIC;
GRANT EXECUTE ON FUNCTION audit_event_workspace(text, text, text, text) TO PUBLIC;
GRANT EXECUTE ON FUNCTION audit_event_user(text, text, text, text) TO PUBLIC;

CREATE INDEX audit_events_workspace
    ON audit_events (audit_event_workspace(target_kind, target_id, before, after), id);
CREATE INDEX audit_events_user
    ON audit_events (audit_event_user(target_kind, target_id, before, after), id);

-- Append-only as before, but for three things: retention deletes; an event without a number gets one; and redaction,
-- which says SET LOCAL sophic_auth.audit_redaction = 'on' in its transaction, replaces text that is there by other text.
CREATE OR REPLACE FUNCTION refuse_audit_change() RETURNS trigger
LANGUAGE plpgsql
AS $$
DECLARE
    number bigint;
BEGIN
    IF TG_OP = 'DELETE' AND current_setting('sophic_auth.audit_retention', true) = 'on' THEN
        RETURN OLD;
    END IF;
    IF TG_OP = 'UPDATE' THEN
        number := NEW.seq;
        NEW.seq := OLD.seq;
        IF OLD.seq IS NULL AND number IS NOT NULL AND NEW IS NOT DISTINCT FROM OLD THEN
            NEW.seq := number;
            RETURN NEW;
        END IF;
        IF current_setting('sophic_auth.audit_redaction', true) = 'on'
            AND number IS NOT DISTINCT FROM OLD.seq
            AND (NEW.id, NEW.time, NEW.action, NEW.caller, NEW.acting_user, NEW.target_kind, NEW.target_id, NEW.refusal)
                IS NOT DISTINCT FROM
                (OLD.id, OLD.time, OLD.action, OLD.caller, OLD.acting_user, OLD.target_kind, OLD.target_id, OLD.refusal)
            AND (NEW.remote_address IS NULL) = (OLD.remote_address IS NULL)
            AND (NEW.before IS NULL) = (OLD.before IS NULL)
            AND (NEW.after IS NULL) = (OLD.after IS NULL)
            AND (NEW.reason IS NULL) = (OLD.reason IS NULL)
        THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE EXCEPTION 'audit events are append-only' USING ERRCODE = 'restrict_violation';
END
$$;
