-- Rules about where a personal access token may act: its own limit to some workspaces, and what a workspace demands of
-- the tokens that act in it. A program of 0.1 does not know these columns and would ignore them, so they are set only
-- while no replica of such a program is registered (rules_in_use).

-- Whether the token may act only in `granted_workspaces`. A flag of its own, so that a limited token with an empty list
-- may act nowhere.
ALTER TABLE credentials ADD COLUMN limited boolean NOT NULL DEFAULT false CHECK (kind = 2 OR NOT limited);
-- `<workspace id>=<generation>`, separated by commas. The generation is that of the workspace when it was granted. A
-- workspace that was deleted and created again has another one, and is not the workspace that was granted.
ALTER TABLE credentials ADD COLUMN granted_workspaces text NOT NULL DEFAULT ''
    CHECK (limited OR granted_workspaces = '');
-- Workspaces whose owners have barred the token, in the same form.
ALTER TABLE credentials ADD COLUMN barred_workspaces text NOT NULL DEFAULT '' CHECK (kind = 2 OR barred_workspaces = '');

-- Whether the rotation that made the successor is to revoke this credential at once, which is the second step of that
-- rotation.
ALTER TABLE credentials ADD COLUMN end_at_once boolean NOT NULL DEFAULT false;

CREATE INDEX credentials_restricted ON credentials (id) WHERE limited OR barred_workspaces <> '';

ALTER TABLE workspaces ADD COLUMN pats_forbidden boolean NOT NULL DEFAULT false;
ALTER TABLE workspaces ADD COLUMN pat_expiry_required boolean NOT NULL DEFAULT false;
-- Microseconds. NULL does not restrict.
ALTER TABLE workspaces ADD COLUMN pat_lifetime_max bigint CHECK (pat_lifetime_max > 0);

CREATE INDEX workspaces_pat_policy ON workspaces (id)
    WHERE pats_forbidden OR pat_expiry_required OR pat_lifetime_max IS NOT NULL;

DROP TRIGGER credentials_update ON credentials;

CREATE CONSTRAINT TRIGGER credentials_update
AFTER UPDATE ON credentials
DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW WHEN (
    (OLD.id, OLD.kind, OLD.workspace_id, OLD.user_id, OLD.max_role, OLD.generation, OLD.name,
     OLD.hint, OLD.digest, OLD.scopes, OLD.ip_allowlist, OLD.annotations, OLD.create_time,
     OLD.expire_time, OLD.disable_time, OLD.revoke_time, OLD.creator, OLD.predecessor_id,
     OLD.family_id, OLD.version, OLD.limited, OLD.granted_workspaces, OLD.barred_workspaces)
    IS DISTINCT FROM
    (NEW.id, NEW.kind, NEW.workspace_id, NEW.user_id, NEW.max_role, NEW.generation, NEW.name,
     NEW.hint, NEW.digest, NEW.scopes, NEW.ip_allowlist, NEW.annotations, NEW.create_time,
     NEW.expire_time, NEW.disable_time, NEW.revoke_time, NEW.creator, NEW.predecessor_id,
     NEW.family_id, NEW.version, NEW.limited, NEW.granted_workspaces, NEW.barred_workspaces)
) EXECUTE FUNCTION credentials_changed();

ALTER TABLE credentials ENABLE ALWAYS TRIGGER credentials_update;

DROP TRIGGER workspaces_update ON workspaces;

CREATE CONSTRAINT TRIGGER workspaces_update
AFTER UPDATE ON workspaces
DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW WHEN (
    (OLD.id, OLD.slug, OLD.display_name, OLD.disabled, OLD.generation, OLD.generation_time,
     OLD.delete_time, OLD.pats_forbidden, OLD.pat_expiry_required, OLD.pat_lifetime_max)
    IS DISTINCT FROM
    (NEW.id, NEW.slug, NEW.display_name, NEW.disabled, NEW.generation, NEW.generation_time,
     NEW.delete_time, NEW.pats_forbidden, NEW.pat_expiry_required, NEW.pat_lifetime_max)
) EXECUTE FUNCTION workspaces_changed();

ALTER TABLE workspaces ENABLE ALWAYS TRIGGER workspaces_update;

-- A program of 0.1 that rotates a restricted token would make a successor without the restriction.
-- An import (0011_bulk) takes the credentials as they are in the file: a predecessor may have been restricted after its
-- rotation. A program of 0.1 refuses a file with restrictions.
CREATE FUNCTION credentials_keep_restrictions() RETURNS trigger
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
BEGIN
    IF current_setting('sophic_auth.bulk', true) IS DISTINCT FROM 'on' AND EXISTS (
        SELECT 1 FROM credentials AS before
        WHERE before.id = NEW.predecessor_id
          AND ((before.limited AND NOT NEW.limited)
               OR (before.barred_workspaces <> '' AND NEW.barred_workspaces = ''))
    ) THEN
        RAISE EXCEPTION 'the successor of the credential % must keep its restrictions to workspaces: rotate it with a '
            'program of 0.2 or later', NEW.predecessor_id
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER credentials_keep_restrictions
BEFORE INSERT ON credentials
FOR EACH ROW WHEN (NEW.predecessor_id IS NOT NULL) EXECUTE FUNCTION credentials_keep_restrictions();

-- Where each personal access token was last used, so that the owners of a workspace can see which tokens have acted
-- there. Written with the last uses of credentials.
CREATE TABLE workspace_uses (
    workspace_id text COLLATE "C" NOT NULL REFERENCES workspaces (id),
    -- The generation of the workspace, as of `granted_workspaces`.
    generation   bigint      NOT NULL,
    credential_id uuid       NOT NULL REFERENCES credentials (id) ON DELETE CASCADE,
    last_use_time timestamptz NOT NULL,
    PRIMARY KEY (workspace_id, credential_id)
);

CREATE INDEX workspace_uses_credential ON workspace_uses (credential_id);
-- The list of a workspace walks it from its end: the tokens that were used there last come first.
CREATE INDEX workspace_uses_last_use ON workspace_uses (workspace_id, generation, last_use_time, credential_id);

CREATE OR REPLACE FUNCTION rules_in_use() RETURNS integer
LANGUAGE sql STABLE
SET search_path FROM CURRENT
AS $$
    SELECT CASE WHEN
        EXISTS (SELECT 1 FROM credentials WHERE (limited OR barred_workspaces <> '') AND revoke_time IS NULL)
        OR EXISTS (
            SELECT 1 FROM workspaces WHERE pats_forbidden OR pat_expiry_required OR pat_lifetime_max IS NOT NULL
        )
    THEN 1 ELSE 0 END
$$;
