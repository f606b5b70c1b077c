-- A rotated caller's token from before lives on for a while beside the new one, so that it can be replaced wherever it is
-- used, and so that a rotation whose answer was lost locks nobody out.

-- The SHA-256 of that token, and the first instant at which it is dead.
ALTER TABLE callers ADD COLUMN previous_digest bytea CHECK (octet_length(previous_digest) = 32);
ALTER TABLE callers ADD COLUMN previous_expire_time timestamptz
    CHECK ((previous_expire_time IS NULL) = (previous_digest IS NULL));
-- The latest rotation: what a retry of it is known by.
ALTER TABLE callers ADD COLUMN rotation_id uuid;

CREATE UNIQUE INDEX callers_previous_digest ON callers (previous_digest) WHERE previous_digest IS NOT NULL;

DROP TRIGGER callers_update ON callers;

CREATE CONSTRAINT TRIGGER callers_update
AFTER UPDATE ON callers
DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW WHEN (
    (OLD.id, OLD.name, OLD.permissions, OLD.digest, OLD.certificate_san, OLD.revoke_time,
     OLD.previous_digest, OLD.previous_expire_time)
    IS DISTINCT FROM
    (NEW.id, NEW.name, NEW.permissions, NEW.digest, NEW.certificate_san, NEW.revoke_time,
     NEW.previous_digest, NEW.previous_expire_time)
) EXECUTE FUNCTION callers_changed();

ALTER TABLE callers ENABLE ALWAYS TRIGGER callers_update;
