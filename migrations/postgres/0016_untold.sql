-- Credentials that died with their owner, by its watermark, and of which the audit log has yet to tell, each by itself. A
-- server works a row off in batches, each of which says how far it has come.
CREATE TABLE untold (
    id             UUID        NOT NULL PRIMARY KEY,
    -- Whose they were: one of the two.
    workspace_id   TEXT,
    user_id        TEXT,
    -- The generation that they are of, which ended with the owner.
    generation     BIGINT      NOT NULL,
    revoke_time    TIMESTAMPTZ NOT NULL,
    -- Who did it, from where, and why, as the log has it.
    caller         TEXT        NOT NULL,
    remote_address TEXT,
    reason         TEXT        NOT NULL,
    -- Those up to this one are told, so many.
    told_id        UUID        NOT NULL,
    told_count     BIGINT      NOT NULL,
    CHECK ((workspace_id IS NULL) <> (user_id IS NULL))
);
