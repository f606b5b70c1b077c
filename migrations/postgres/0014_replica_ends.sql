-- A replica's row that disappears unseen would void the barrier: nobody would wait for a server that still answers from
-- memory. So the row of a replica that leaves, or that is given up, is marked, and only a marked row can be deleted.

-- NULL: the replica may answer from memory. For people and for cleaning up; no clock of the wall decides anything.
ALTER TABLE replicas ADD COLUMN end_time timestamptz;

CREATE FUNCTION replicas_refuse_delete() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    RAISE EXCEPTION 'the replica % has not left: its server marks the row when it stops, and others that of one that died', OLD.replica_id
        USING ERRCODE = 'restrict_violation';
END
$$;

CREATE TRIGGER replicas_refuse_delete
BEFORE DELETE ON replicas
FOR EACH ROW WHEN (OLD.end_time IS NULL) EXECUTE FUNCTION replicas_refuse_delete();

-- Others count on the lease, and on the mark being for good.
CREATE FUNCTION replicas_refuse_update() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    RAISE EXCEPTION 'the id and the lease of the replica % stay as they are, and so does its end', OLD.replica_id
        USING ERRCODE = 'restrict_violation';
END
$$;

CREATE TRIGGER replicas_refuse_update
BEFORE UPDATE ON replicas
FOR EACH ROW WHEN (
    OLD.replica_id <> NEW.replica_id OR OLD.lease <> NEW.lease
    OR (OLD.end_time IS NOT NULL AND NEW.end_time IS NULL)
) EXECUTE FUNCTION replicas_refuse_update();

CREATE TRIGGER replicas_refuse_truncate
BEFORE TRUNCATE ON replicas
FOR EACH STATEMENT EXECUTE FUNCTION refuse_truncate();

ALTER TABLE replicas ENABLE ALWAYS TRIGGER replicas_refuse_delete;
ALTER TABLE replicas ENABLE ALWAYS TRIGGER replicas_refuse_update;
ALTER TABLE replicas ENABLE ALWAYS TRIGGER replicas_refuse_truncate;

-- The notification is a revision and nothing else. Every role that may connect can listen, so it names no entity and no
-- digest; and every such role can notify, so readers take it as a reason to look and apply nothing of it.
CREATE OR REPLACE FUNCTION append_change(changed text, changed_id text, changed_digest bytea) RETURNS void
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
DECLARE
    next bigint;
BEGIN
    UPDATE counter SET revision = revision + 1 WHERE id = 1 RETURNING revision INTO STRICT next;
    INSERT INTO changes (revision, entity, entity_id, digest, commit_time)
    VALUES (next, changed, changed_id, changed_digest, clock_timestamp());
    PERFORM pg_notify('sophic_auth_changes', next::text);
END
$$;
