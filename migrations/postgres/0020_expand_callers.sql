-- Callers are credentials: they can expire, their last use is kept, and an etag protects their changes.

-- First instant at which the caller is refused. NULL: it does not expire.
ALTER TABLE callers ADD COLUMN expire_time timestamptz;
ALTER TABLE callers ADD COLUMN last_use_time timestamptz;
ALTER TABLE callers ADD COLUMN last_use_ip text;
-- The number of changes, from which the etag is made. Last uses do not count.
ALTER TABLE callers ADD COLUMN version bigint NOT NULL DEFAULT 1;
-- Who created it: caller:NAME or operator:NAME. Empty: by a program that did not keep it.
ALTER TABLE callers ADD COLUMN creator text NOT NULL DEFAULT '';

-- A retry of a rotation finds its caller by it, even after the caller was renamed.
CREATE INDEX callers_rotation_id ON callers (rotation_id) WHERE rotation_id IS NOT NULL;

DROP TRIGGER callers_update ON callers;

CREATE CONSTRAINT TRIGGER callers_update
AFTER UPDATE ON callers
DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW WHEN (
    (OLD.id, OLD.name, OLD.permissions, OLD.digest, OLD.certificate_san, OLD.revoke_time,
     OLD.previous_digest, OLD.previous_expire_time, OLD.expire_time)
    IS DISTINCT FROM
    (NEW.id, NEW.name, NEW.permissions, NEW.digest, NEW.certificate_san, NEW.revoke_time,
     NEW.previous_digest, NEW.previous_expire_time, NEW.expire_time)
) EXECUTE FUNCTION callers_changed();

ALTER TABLE callers ENABLE ALWAYS TRIGGER callers_update;

-- Counts a change by a program of an earlier release, or by hand, so that it changes the etag too.
CREATE FUNCTION callers_count_change() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    NEW.version := OLD.version + 1;
    RETURN NEW;
END
$$;

CREATE TRIGGER callers_count_change
BEFORE UPDATE ON callers
FOR EACH ROW WHEN (
    NEW.version = OLD.version
    AND (OLD.name, OLD.permissions, OLD.digest, OLD.certificate_san, OLD.revoke_time,
         OLD.previous_digest, OLD.previous_expire_time, OLD.expire_time)
    IS DISTINCT FROM
        (NEW.name, NEW.permissions, NEW.digest, NEW.certificate_san, NEW.revoke_time,
         NEW.previous_digest, NEW.previous_expire_time, NEW.expire_time)
) EXECUTE FUNCTION callers_count_change();

-- A server of an earlier release would accept an expired caller. The other conditions are those of migration 0018, except
-- that a token whose user was deleted does not count: every release refuses it, and it cannot be revoked.
CREATE OR REPLACE FUNCTION rules_in_use() RETURNS integer
LANGUAGE sql STABLE
SET search_path FROM CURRENT
AS $$
    SELECT CASE WHEN
        EXISTS (
            SELECT 1 FROM credentials c WHERE (c.limited OR c.barred_workspaces <> '') AND c.revoke_time IS NULL
                AND NOT EXISTS (
                    SELECT 1 FROM users u
                    WHERE u.id = c.user_id AND (u.generation > c.generation OR u.delete_time IS NOT NULL)
                )
        )
        OR EXISTS (
            SELECT 1 FROM workspaces WHERE pats_forbidden OR pat_expiry_required OR pat_lifetime_max IS NOT NULL
        )
        OR EXISTS (SELECT 1 FROM callers WHERE expire_time IS NOT NULL AND revoke_time IS NULL)
    THEN 1 ELSE 0 END
$$;
