-- The change log: what may have turned an answer around, numbered without gaps in the order of commits. Triggers write
-- it, so that a change made with the sqlite3 shell is in it too. (Shell users: INSERT OR REPLACE hides the row that it
-- replaces from the triggers; use UPDATE.)

CREATE TABLE counter (
    id       INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    -- Changes when the log is no continuation of what a replica has seen: a restore. Replicas then start afresh.
    epoch    BLOB    NOT NULL CHECK (length(epoch) = 16),
    revision INTEGER NOT NULL
) STRICT;

INSERT INTO counter (id, epoch, revision) VALUES (1, randomblob(16), 0);

CREATE TABLE changes (
    revision    INTEGER NOT NULL PRIMARY KEY,
    entity      TEXT    NOT NULL CHECK (entity IN ('credential', 'user', 'workspace', 'caller')),
    -- Of a credential or caller: its UUID, 32 hexadecimal digits.
    entity_id   TEXT    NOT NULL,
    -- Of a credential: what caches know it by.
    digest      BLOB    CHECK (length(digest) = 32),
    -- For people.
    commit_time INTEGER NOT NULL,
    CONSTRAINT changes_digest CHECK ((entity = 'credential') = (digest IS NOT NULL))
) STRICT;

-- Processes that answer from memory, and how far each has read the log.
CREATE TABLE replicas (
    replica_id BLOB    NOT NULL PRIMARY KEY CHECK (length(replica_id) = 16),
    applied    INTEGER NOT NULL,
    -- Counts its syncs: one that stands still is one that has stopped.
    seq        INTEGER NOT NULL,
    seen_epoch BLOB    NOT NULL CHECK (length(seen_epoch) = 16),
    -- For people: no clock of the wall decides anything.
    heartbeat  INTEGER NOT NULL,
    host       TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

-- What every trigger below appends through: a row inserted here is numbered and lands in changes.
CREATE VIEW change_inbox AS SELECT entity, entity_id, digest FROM changes;

CREATE TRIGGER change_inbox_insert
INSTEAD OF INSERT ON change_inbox
BEGIN
    UPDATE counter SET revision = revision + 1;
    INSERT INTO changes (revision, entity, entity_id, digest, commit_time)
    SELECT revision, NEW.entity, NEW.entity_id, NEW.digest, CAST(unixepoch('subsec') * 1000000 AS INTEGER)
    FROM counter;
END;

CREATE TRIGGER workspaces_insert
AFTER INSERT ON workspaces
BEGIN
    INSERT INTO change_inbox (entity, entity_id, digest) VALUES ('workspace', NEW.id, NULL);
END;

CREATE TRIGGER workspaces_update
AFTER UPDATE ON workspaces
WHEN (OLD.id, OLD.slug, OLD.display_name, OLD.disabled, OLD.generation, OLD.generation_time,
      OLD.delete_time)
     IS NOT
     (NEW.id, NEW.slug, NEW.display_name, NEW.disabled, NEW.generation, NEW.generation_time,
      NEW.delete_time)
BEGIN
    INSERT INTO change_inbox (entity, entity_id, digest) VALUES ('workspace', OLD.id, NULL);
END;

CREATE TRIGGER workspaces_update_key
AFTER UPDATE ON workspaces
WHEN OLD.id <> NEW.id
BEGIN
    INSERT INTO change_inbox (entity, entity_id, digest) VALUES ('workspace', NEW.id, NULL);
END;

CREATE TRIGGER workspaces_delete
AFTER DELETE ON workspaces
BEGIN
    INSERT INTO change_inbox (entity, entity_id, digest) VALUES ('workspace', OLD.id, NULL);
END;

CREATE TRIGGER users_insert
AFTER INSERT ON users
BEGIN
    INSERT INTO change_inbox (entity, entity_id, digest) VALUES ('user', NEW.id, NULL);
END;

CREATE TRIGGER users_update
AFTER UPDATE ON users
WHEN (OLD.id, OLD.display_name, OLD.disabled, OLD.generation, OLD.generation_time, OLD.delete_time)
     IS NOT
     (NEW.id, NEW.display_name, NEW.disabled, NEW.generation, NEW.generation_time, NEW.delete_time)
BEGIN
    INSERT INTO change_inbox (entity, entity_id, digest) VALUES ('user', OLD.id, NULL);
END;

CREATE TRIGGER users_update_key
AFTER UPDATE ON users
WHEN OLD.id <> NEW.id
BEGIN
    INSERT INTO change_inbox (entity, entity_id, digest) VALUES ('user', NEW.id, NULL);
END;

CREATE TRIGGER users_delete
AFTER DELETE ON users
BEGIN
    INSERT INTO change_inbox (entity, entity_id, digest) VALUES ('user', OLD.id, NULL);
END;

-- A membership is its user's.
CREATE TRIGGER memberships_insert
AFTER INSERT ON memberships
BEGIN
    INSERT INTO change_inbox (entity, entity_id, digest) VALUES ('user', NEW.user_id, NULL);
END;

CREATE TRIGGER memberships_update
AFTER UPDATE ON memberships
WHEN (OLD.user_id, OLD.workspace_id, OLD.role)
     IS NOT
     (NEW.user_id, NEW.workspace_id, NEW.role)
BEGIN
    INSERT INTO change_inbox (entity, entity_id, digest) VALUES ('user', OLD.user_id, NULL);
END;

CREATE TRIGGER memberships_update_key
AFTER UPDATE ON memberships
WHEN OLD.user_id <> NEW.user_id
BEGIN
    INSERT INTO change_inbox (entity, entity_id, digest) VALUES ('user', NEW.user_id, NULL);
END;

CREATE TRIGGER memberships_delete
AFTER DELETE ON memberships
BEGIN
    INSERT INTO change_inbox (entity, entity_id, digest) VALUES ('user', OLD.user_id, NULL);
END;

-- Not at the last use. Where the digest changes, what was known by the old one is dead, and the new one is known.
CREATE TRIGGER credentials_insert
AFTER INSERT ON credentials
BEGIN
    INSERT INTO change_inbox (entity, entity_id, digest) VALUES ('credential', lower(hex(NEW.id)), NEW.digest);
END;

CREATE TRIGGER credentials_update
AFTER UPDATE ON credentials
WHEN (OLD.id, OLD.kind, OLD.workspace_id, OLD.user_id, OLD.max_role, OLD.generation, OLD.name,
      OLD.hint, OLD.digest, OLD.scopes, OLD.ip_allowlist, OLD.annotations, OLD.create_time,
      OLD.expire_time, OLD.disable_time, OLD.revoke_time, OLD.creator, OLD.predecessor_id,
      OLD.family_id, OLD.version)
     IS NOT
     (NEW.id, NEW.kind, NEW.workspace_id, NEW.user_id, NEW.max_role, NEW.generation, NEW.name,
      NEW.hint, NEW.digest, NEW.scopes, NEW.ip_allowlist, NEW.annotations, NEW.create_time,
      NEW.expire_time, NEW.disable_time, NEW.revoke_time, NEW.creator, NEW.predecessor_id,
      NEW.family_id, NEW.version)
BEGIN
    INSERT INTO change_inbox (entity, entity_id, digest) VALUES ('credential', lower(hex(OLD.id)), OLD.digest);
END;

CREATE TRIGGER credentials_update_key
AFTER UPDATE ON credentials
WHEN OLD.digest <> NEW.digest
BEGIN
    INSERT INTO change_inbox (entity, entity_id, digest) VALUES ('credential', lower(hex(NEW.id)), NEW.digest);
END;

CREATE TRIGGER credentials_delete
AFTER DELETE ON credentials
BEGIN
    INSERT INTO change_inbox (entity, entity_id, digest) VALUES ('credential', lower(hex(OLD.id)), OLD.digest);
END;

CREATE TRIGGER callers_insert
AFTER INSERT ON callers
BEGIN
    INSERT INTO change_inbox (entity, entity_id, digest) VALUES ('caller', lower(hex(NEW.id)), NULL);
END;

CREATE TRIGGER callers_update
AFTER UPDATE ON callers
WHEN (OLD.id, OLD.name, OLD.permissions, OLD.digest, OLD.certificate_san, OLD.revoke_time)
     IS NOT
     (NEW.id, NEW.name, NEW.permissions, NEW.digest, NEW.certificate_san, NEW.revoke_time)
BEGIN
    INSERT INTO change_inbox (entity, entity_id, digest) VALUES ('caller', lower(hex(OLD.id)), NULL);
END;

CREATE TRIGGER callers_update_key
AFTER UPDATE ON callers
WHEN OLD.id <> NEW.id
BEGIN
    INSERT INTO change_inbox (entity, entity_id, digest) VALUES ('caller', lower(hex(NEW.id)), NULL);
END;

CREATE TRIGGER callers_delete
AFTER DELETE ON callers
BEGIN
    INSERT INTO change_inbox (entity, entity_id, digest) VALUES ('caller', lower(hex(OLD.id)), NULL);
END;
