-- Rules about where a personal access token may act: its own limit to some workspaces, and what a workspace demands of
-- the tokens that act in it. A program of 0.1 does not know these columns and would ignore them, so they are set only
-- while no replica of such a program is registered (rules_in_use).

-- Whether the token may act only in `granted_workspaces`. A flag of its own, so that a limited token with an empty list
-- may act nowhere.
ALTER TABLE credentials ADD COLUMN limited INTEGER NOT NULL DEFAULT 0
    CHECK (limited IN (0, 1) AND (kind = 2 OR NOT limited));
-- `<workspace id>=<generation>`, separated by commas. The generation is that of the workspace when it was granted. A
-- workspace that was deleted and created again has another one, and is not the workspace that was granted.
ALTER TABLE credentials ADD COLUMN granted_workspaces TEXT NOT NULL DEFAULT ''
    CHECK (limited OR granted_workspaces = '');
-- Workspaces whose owners have barred the token, in the same form.
ALTER TABLE credentials ADD COLUMN barred_workspaces TEXT NOT NULL DEFAULT ''
    CHECK (kind = 2 OR barred_workspaces = '');

-- Whether the rotation that made the successor is to revoke this credential at once, which is the second step of that
-- rotation.
ALTER TABLE credentials ADD COLUMN end_at_once INTEGER NOT NULL DEFAULT 0 CHECK (end_at_once IN (0, 1));

CREATE INDEX credentials_restricted ON credentials (id) WHERE limited OR barred_workspaces <> '';

ALTER TABLE workspaces ADD COLUMN pats_forbidden INTEGER NOT NULL DEFAULT 0 CHECK (pats_forbidden IN (0, 1));
ALTER TABLE workspaces ADD COLUMN pat_expiry_required INTEGER NOT NULL DEFAULT 0
    CHECK (pat_expiry_required IN (0, 1));
-- Microseconds. NULL does not restrict.
ALTER TABLE workspaces ADD COLUMN pat_lifetime_max INTEGER CHECK (pat_lifetime_max > 0);

CREATE INDEX workspaces_pat_policy ON workspaces (id)
    WHERE pats_forbidden OR pat_expiry_required OR pat_lifetime_max IS NOT NULL;

DROP TRIGGER credentials_update;

CREATE TRIGGER credentials_update
AFTER UPDATE ON credentials
WHEN (OLD.id, OLD.kind, OLD.workspace_id, OLD.user_id, OLD.max_role, OLD.generation, OLD.name,
      OLD.hint, OLD.digest, OLD.scopes, OLD.ip_allowlist, OLD.annotations, OLD.create_time,
      OLD.expire_time, OLD.disable_time, OLD.revoke_time, OLD.creator, OLD.predecessor_id,
      OLD.family_id, OLD.version, OLD.limited, OLD.granted_workspaces, OLD.barred_workspaces)
     IS NOT
     (NEW.id, NEW.kind, NEW.workspace_id, NEW.user_id, NEW.max_role, NEW.generation, NEW.name,
      NEW.hint, NEW.digest, NEW.scopes, NEW.ip_allowlist, NEW.annotations, NEW.create_time,
      NEW.expire_time, NEW.disable_time, NEW.revoke_time, NEW.creator, NEW.predecessor_id,
      NEW.family_id, NEW.version, NEW.limited, NEW.granted_workspaces, NEW.barred_workspaces)
BEGIN
    INSERT INTO change_inbox (entity, entity_id, digest) VALUES ('credential', lower(hex(OLD.id)), OLD.digest);
END;

DROP TRIGGER workspaces_update;

CREATE TRIGGER workspaces_update
AFTER UPDATE ON workspaces
WHEN (OLD.id, OLD.slug, OLD.display_name, OLD.disabled, OLD.generation, OLD.generation_time,
      OLD.delete_time, OLD.pats_forbidden, OLD.pat_expiry_required, OLD.pat_lifetime_max)
     IS NOT
     (NEW.id, NEW.slug, NEW.display_name, NEW.disabled, NEW.generation, NEW.generation_time,
      NEW.delete_time, NEW.pats_forbidden, NEW.pat_expiry_required, NEW.pat_lifetime_max)
BEGIN
    INSERT INTO change_inbox (entity, entity_id, digest) VALUES ('workspace', OLD.id, NULL);
END;

-- A program of 0.1 that rotates a restricted token would make a successor without the restriction.
-- An import (0011_bulk) takes the credentials as they are in the file: a predecessor may have been restricted after its
-- rotation. A program of 0.1 refuses a file with restrictions.
CREATE TRIGGER credentials_keep_restrictions
BEFORE INSERT ON credentials
WHEN NOT EXISTS (SELECT 1 FROM bulk WHERE open IS NOT NULL) AND EXISTS (
    SELECT 1 FROM credentials AS before
    WHERE before.id = NEW.predecessor_id
      AND ((before.limited AND NOT NEW.limited)
           OR (before.barred_workspaces <> '' AND NEW.barred_workspaces = ''))
)
BEGIN
    SELECT RAISE(ABORT, 'the successor of a credential must keep its restrictions to workspaces: rotate it with a program of 0.2 or later');
END;

-- Where each personal access token was last used, so that the owners of a workspace can see which tokens have acted
-- there. Written with the last uses of credentials.
CREATE TABLE workspace_uses (
    workspace_id  TEXT    NOT NULL REFERENCES workspaces (id),
    -- The generation of the workspace, as of `granted_workspaces`.
    generation    INTEGER NOT NULL,
    credential_id BLOB    NOT NULL REFERENCES credentials (id) ON DELETE CASCADE,
    last_use_time INTEGER NOT NULL,
    PRIMARY KEY (workspace_id, credential_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX workspace_uses_credential ON workspace_uses (credential_id);
-- The list of a workspace walks it from its end: the tokens that were used there last come first.
CREATE INDEX workspace_uses_last_use ON workspace_uses (workspace_id, generation, last_use_time, credential_id);

DROP VIEW rules_in_use;

CREATE VIEW rules_in_use (rules) AS
SELECT EXISTS (SELECT 1 FROM credentials WHERE (limited OR barred_workspaces <> '') AND revoke_time IS NULL)
    OR EXISTS (
        SELECT 1 FROM workspaces WHERE pats_forbidden OR pat_expiry_required OR pat_lifetime_max IS NOT NULL
    );
