-- Callers are credentials: they can expire, their last use is kept, and an etag protects their changes.

-- First instant at which the caller is refused. NULL: it does not expire.
ALTER TABLE callers ADD COLUMN expire_time INTEGER;
ALTER TABLE callers ADD COLUMN last_use_time INTEGER;
ALTER TABLE callers ADD COLUMN last_use_ip TEXT;
-- The number of changes, from which the etag is made. Last uses do not count.
ALTER TABLE callers ADD COLUMN version INTEGER NOT NULL DEFAULT 1;
-- Who created it: caller:NAME or operator:NAME. Empty: by a program that did not keep it.
ALTER TABLE callers ADD COLUMN creator TEXT NOT NULL DEFAULT '';

-- A retry of a rotation finds its caller by it, even after the caller was renamed.
CREATE INDEX callers_rotation_id ON callers (rotation_id) WHERE rotation_id IS NOT NULL;

DROP TRIGGER callers_update;

CREATE TRIGGER callers_update
AFTER UPDATE ON callers
WHEN (OLD.id, OLD.name, OLD.permissions, OLD.digest, OLD.certificate_san, OLD.revoke_time,
      OLD.previous_digest, OLD.previous_expire_time, OLD.expire_time)
     IS NOT
     (NEW.id, NEW.name, NEW.permissions, NEW.digest, NEW.certificate_san, NEW.revoke_time,
      NEW.previous_digest, NEW.previous_expire_time, NEW.expire_time)
BEGIN
    INSERT INTO change_inbox (entity, entity_id, digest) VALUES ('caller', lower(hex(OLD.id)), NULL);
END;

-- Counts a change by a program of an earlier release, or by hand, so that it changes the etag too.
CREATE TRIGGER callers_count_change
AFTER UPDATE ON callers
WHEN NEW.version = OLD.version
     AND (OLD.name, OLD.permissions, OLD.digest, OLD.certificate_san, OLD.revoke_time,
          OLD.previous_digest, OLD.previous_expire_time, OLD.expire_time)
     IS NOT
         (NEW.name, NEW.permissions, NEW.digest, NEW.certificate_san, NEW.revoke_time,
          NEW.previous_digest, NEW.previous_expire_time, NEW.expire_time)
BEGIN
    UPDATE callers SET version = OLD.version + 1 WHERE id = NEW.id;
END;

-- A server of an earlier release would accept an expired caller. The other conditions are those of migration 0018.
DROP VIEW rules_in_use;

CREATE VIEW rules_in_use (rules) AS
SELECT EXISTS (
        SELECT 1 FROM credentials c WHERE (c.limited OR c.barred_workspaces <> '') AND c.revoke_time IS NULL
            AND NOT EXISTS (
                SELECT 1 FROM users u
                WHERE u.id = c.user_id AND (u.generation > c.generation OR u.delete_time IS NOT NULL)
            )
    )
    OR EXISTS (
        SELECT 1 FROM workspaces WHERE pats_forbidden OR pat_expiry_required OR pat_lifetime_max IS NOT NULL
    )
    OR EXISTS (SELECT 1 FROM callers WHERE expire_time IS NOT NULL AND revoke_time IS NULL);
