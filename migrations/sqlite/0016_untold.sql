-- Credentials that died with their owner, by its watermark, and of which the audit log has yet to tell, each by itself. A
-- server works a row off in batches, each of which says how far it has come.
CREATE TABLE untold (
    id             BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    -- Whose they were: one of the two.
    workspace_id   TEXT,
    user_id        TEXT,
    -- The generation that they are of, which ended with the owner.
    generation     INTEGER NOT NULL,
    revoke_time    INTEGER NOT NULL,
    -- Who did it, from where, and why, as the log has it.
    caller         TEXT    NOT NULL,
    remote_address TEXT,
    reason         TEXT    NOT NULL,
    -- Those up to this one are told, so many.
    told_id        BLOB    NOT NULL CHECK (length(told_id) = 16),
    told_count     INTEGER NOT NULL,
    CHECK ((workspace_id IS NULL) <> (user_id IS NULL))
) STRICT;
