-- The change log: what may have turned an answer around, numbered without gaps in the order of commits. Triggers write
-- it, so that a change made with psql is in it too.

CREATE TABLE counter (
    id       integer NOT NULL PRIMARY KEY CHECK (id = 1),
    -- Changes when the log is no continuation of what a replica has seen: a restore. Replicas then start afresh.
    epoch    uuid    NOT NULL,
    revision bigint  NOT NULL
) WITH (fillfactor = 50);

INSERT INTO counter (id, epoch, revision) VALUES (1, gen_random_uuid(), 0);

CREATE TABLE changes (
    revision    bigint      NOT NULL PRIMARY KEY,
    entity      text        NOT NULL CHECK (entity IN ('credential', 'user', 'workspace', 'caller')),
    -- Of a credential or caller: its UUID.
    entity_id   text        NOT NULL,
    -- Of a credential: what caches know it by.
    digest      bytea       CHECK (octet_length(digest) = 32),
    -- For people.
    commit_time timestamptz NOT NULL,
    CONSTRAINT changes_digest CHECK ((entity = 'credential') = (digest IS NOT NULL))
);

-- Processes that answer from memory, and how far each has read the log.
CREATE TABLE replicas (
    replica_id uuid        NOT NULL PRIMARY KEY,
    applied    bigint      NOT NULL,
    -- Counts its syncs: one that stands still is one that has stopped.
    seq        bigint      NOT NULL,
    seen_epoch uuid        NOT NULL,
    -- For people: no clock of the wall decides anything.
    heartbeat  timestamptz NOT NULL,
    host       text        NOT NULL
) WITH (fillfactor = 50);

-- Numbers a change and appends it. The counter's row stays locked from here to the end of the transaction, so that
-- numbers follow the order of commits; a sequence would not. NOTIFY is only a hint: readers poll as well.
-- The search path is that of today, since replication and maintenance run with an empty one.
CREATE FUNCTION append_change(changed text, changed_id text, changed_digest bytea) RETURNS void
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

-- Dropping all rows at once would tell no cache.
CREATE FUNCTION refuse_truncate() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    RAISE EXCEPTION 'TRUNCATE would go past the change log: DELETE instead' USING ERRCODE = 'restrict_violation';
END
$$;

CREATE TRIGGER counter_refuse_truncate
BEFORE TRUNCATE ON counter
FOR EACH STATEMENT EXECUTE FUNCTION refuse_truncate();

CREATE TRIGGER changes_refuse_truncate
BEFORE TRUNCATE ON changes
FOR EACH STATEMENT EXECUTE FUNCTION refuse_truncate();

ALTER TABLE counter ENABLE ALWAYS TRIGGER counter_refuse_truncate;
ALTER TABLE changes ENABLE ALWAYS TRIGGER changes_refuse_truncate;

-- The triggers below are deferred, so that the counter's row is locked at the very end of a transaction, and always on,
-- also where session_replication_role says that triggers rest. A statement by itself fires them as it commits.

CREATE FUNCTION workspaces_changed() RETURNS trigger
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        PERFORM append_change('workspace', OLD.id, NULL);
    END IF;
    IF TG_OP = 'INSERT' OR (TG_OP = 'UPDATE' AND OLD.id <> NEW.id) THEN
        PERFORM append_change('workspace', NEW.id, NULL);
    END IF;
    RETURN NULL;
END
$$;

CREATE CONSTRAINT TRIGGER workspaces_insert
AFTER INSERT OR DELETE ON workspaces
DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION workspaces_changed();

CREATE CONSTRAINT TRIGGER workspaces_update
AFTER UPDATE ON workspaces
DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW WHEN (
    (OLD.id, OLD.slug, OLD.display_name, OLD.disabled, OLD.generation, OLD.generation_time,
     OLD.delete_time)
    IS DISTINCT FROM
    (NEW.id, NEW.slug, NEW.display_name, NEW.disabled, NEW.generation, NEW.generation_time,
     NEW.delete_time)
) EXECUTE FUNCTION workspaces_changed();

CREATE TRIGGER workspaces_refuse_truncate
BEFORE TRUNCATE ON workspaces
FOR EACH STATEMENT EXECUTE FUNCTION refuse_truncate();

ALTER TABLE workspaces ENABLE ALWAYS TRIGGER workspaces_insert;
ALTER TABLE workspaces ENABLE ALWAYS TRIGGER workspaces_update;
ALTER TABLE workspaces ENABLE ALWAYS TRIGGER workspaces_refuse_truncate;

CREATE FUNCTION users_changed() RETURNS trigger
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        PERFORM append_change('user', OLD.id, NULL);
    END IF;
    IF TG_OP = 'INSERT' OR (TG_OP = 'UPDATE' AND OLD.id <> NEW.id) THEN
        PERFORM append_change('user', NEW.id, NULL);
    END IF;
    RETURN NULL;
END
$$;

CREATE CONSTRAINT TRIGGER users_insert
AFTER INSERT OR DELETE ON users
DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION users_changed();

CREATE CONSTRAINT TRIGGER users_update
AFTER UPDATE ON users
DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW WHEN (
    (OLD.id, OLD.display_name, OLD.disabled, OLD.generation, OLD.generation_time, OLD.delete_time)
    IS DISTINCT FROM
    (NEW.id, NEW.display_name, NEW.disabled, NEW.generation, NEW.generation_time, NEW.delete_time)
) EXECUTE FUNCTION users_changed();

CREATE TRIGGER users_refuse_truncate
BEFORE TRUNCATE ON users
FOR EACH STATEMENT EXECUTE FUNCTION refuse_truncate();

ALTER TABLE users ENABLE ALWAYS TRIGGER users_insert;
ALTER TABLE users ENABLE ALWAYS TRIGGER users_update;
ALTER TABLE users ENABLE ALWAYS TRIGGER users_refuse_truncate;

-- A membership is its user's.
CREATE FUNCTION memberships_changed() RETURNS trigger
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        PERFORM append_change('user', OLD.user_id, NULL);
    END IF;
    IF TG_OP = 'INSERT' OR (TG_OP = 'UPDATE' AND OLD.user_id <> NEW.user_id) THEN
        PERFORM append_change('user', NEW.user_id, NULL);
    END IF;
    RETURN NULL;
END
$$;

CREATE CONSTRAINT TRIGGER memberships_insert
AFTER INSERT OR DELETE ON memberships
DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION memberships_changed();

CREATE CONSTRAINT TRIGGER memberships_update
AFTER UPDATE ON memberships
DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW WHEN (
    (OLD.user_id, OLD.workspace_id, OLD.role)
    IS DISTINCT FROM
    (NEW.user_id, NEW.workspace_id, NEW.role)
) EXECUTE FUNCTION memberships_changed();

CREATE TRIGGER memberships_refuse_truncate
BEFORE TRUNCATE ON memberships
FOR EACH STATEMENT EXECUTE FUNCTION refuse_truncate();

ALTER TABLE memberships ENABLE ALWAYS TRIGGER memberships_insert;
ALTER TABLE memberships ENABLE ALWAYS TRIGGER memberships_update;
ALTER TABLE memberships ENABLE ALWAYS TRIGGER memberships_refuse_truncate;

-- Not at the last use. Where the digest changes, what was known by the old one is dead, and the new one is known.
CREATE FUNCTION credentials_changed() RETURNS trigger
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        PERFORM append_change('credential', OLD.id::text, OLD.digest);
    END IF;
    IF TG_OP = 'INSERT' OR (TG_OP = 'UPDATE' AND OLD.digest <> NEW.digest) THEN
        PERFORM append_change('credential', NEW.id::text, NEW.digest);
    END IF;
    RETURN NULL;
END
$$;

CREATE CONSTRAINT TRIGGER credentials_insert
AFTER INSERT OR DELETE ON credentials
DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION credentials_changed();

CREATE CONSTRAINT TRIGGER credentials_update
AFTER UPDATE ON credentials
DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW WHEN (
    (OLD.id, OLD.kind, OLD.workspace_id, OLD.user_id, OLD.max_role, OLD.generation, OLD.name,
     OLD.hint, OLD.digest, OLD.scopes, OLD.ip_allowlist, OLD.annotations, OLD.create_time,
     OLD.expire_time, OLD.disable_time, OLD.revoke_time, OLD.creator, OLD.predecessor_id,
     OLD.family_id, OLD.version)
    IS DISTINCT FROM
    (NEW.id, NEW.kind, NEW.workspace_id, NEW.user_id, NEW.max_role, NEW.generation, NEW.name,
     NEW.hint, NEW.digest, NEW.scopes, NEW.ip_allowlist, NEW.annotations, NEW.create_time,
     NEW.expire_time, NEW.disable_time, NEW.revoke_time, NEW.creator, NEW.predecessor_id,
     NEW.family_id, NEW.version)
) EXECUTE FUNCTION credentials_changed();

CREATE TRIGGER credentials_refuse_truncate
BEFORE TRUNCATE ON credentials
FOR EACH STATEMENT EXECUTE FUNCTION refuse_truncate();

ALTER TABLE credentials ENABLE ALWAYS TRIGGER credentials_insert;
ALTER TABLE credentials ENABLE ALWAYS TRIGGER credentials_update;
ALTER TABLE credentials ENABLE ALWAYS TRIGGER credentials_refuse_truncate;

CREATE FUNCTION callers_changed() RETURNS trigger
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        PERFORM append_change('caller', OLD.id::text, NULL);
    END IF;
    IF TG_OP = 'INSERT' OR (TG_OP = 'UPDATE' AND OLD.id <> NEW.id) THEN
        PERFORM append_change('caller', NEW.id::text, NULL);
    END IF;
    RETURN NULL;
END
$$;

CREATE CONSTRAINT TRIGGER callers_insert
AFTER INSERT OR DELETE ON callers
DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION callers_changed();

CREATE CONSTRAINT TRIGGER callers_update
AFTER UPDATE ON callers
DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW WHEN (
    (OLD.id, OLD.name, OLD.permissions, OLD.digest, OLD.certificate_san, OLD.revoke_time)
    IS DISTINCT FROM
    (NEW.id, NEW.name, NEW.permissions, NEW.digest, NEW.certificate_san, NEW.revoke_time)
) EXECUTE FUNCTION callers_changed();

CREATE TRIGGER callers_refuse_truncate
BEFORE TRUNCATE ON callers
FOR EACH STATEMENT EXECUTE FUNCTION refuse_truncate();

ALTER TABLE callers ENABLE ALWAYS TRIGGER callers_insert;
ALTER TABLE callers ENABLE ALWAYS TRIGGER callers_update;
ALTER TABLE callers ENABLE ALWAYS TRIGGER callers_refuse_truncate;
