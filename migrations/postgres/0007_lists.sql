-- An index for each order in which credentials are listed, and for each filter that can be narrow: docs/query-plans.md
-- has the plans. What was never used comes before all that was, hence the time before all times.

CREATE INDEX credentials_kind ON credentials (kind, id);
CREATE INDEX credentials_creator ON credentials (creator, id);
-- Bytes, not letters: a prefix is then a range.
CREATE INDEX credentials_name ON credentials (name COLLATE "C", id);
CREATE INDEX credentials_disabled ON credentials (id) WHERE disable_time IS NOT NULL;

CREATE INDEX credentials_expire ON credentials (expire_time, id) WHERE expire_time IS NOT NULL;
CREATE INDEX credentials_workspace_expire ON credentials (workspace_id, expire_time, id)
    WHERE workspace_id IS NOT NULL AND expire_time IS NOT NULL;
CREATE INDEX credentials_user_expire ON credentials (user_id, expire_time, id)
    WHERE user_id IS NOT NULL AND expire_time IS NOT NULL;

CREATE INDEX credentials_last_use ON credentials (COALESCE(last_use_time, '-infinity'::timestamptz), id);
CREATE INDEX credentials_workspace_last_use
    ON credentials (workspace_id, COALESCE(last_use_time, '-infinity'::timestamptz), id)
    WHERE workspace_id IS NOT NULL;
CREATE INDEX credentials_user_last_use
    ON credentials (user_id, COALESCE(last_use_time, '-infinity'::timestamptz), id)
    WHERE user_id IS NOT NULL;
