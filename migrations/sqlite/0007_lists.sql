-- An index for each order in which credentials are listed, and for each filter that can be narrow: docs/query-plans.md
-- has the plans.

-- The last use as a list is ordered by it: what was never used comes before all that was, hence the number below all
-- times. A column, since SQLite compares pairs by an index of columns only.
ALTER TABLE credentials ADD COLUMN last_use_order INTEGER NOT NULL
    GENERATED ALWAYS AS (COALESCE(last_use_time, -9000000000000000000)) VIRTUAL;

CREATE INDEX credentials_kind ON credentials (kind, id);
CREATE INDEX credentials_creator ON credentials (creator, id);
CREATE INDEX credentials_name ON credentials (name, id);
CREATE INDEX credentials_disabled ON credentials (id) WHERE disable_time IS NOT NULL;

CREATE INDEX credentials_expire ON credentials (expire_time, id) WHERE expire_time IS NOT NULL;
CREATE INDEX credentials_workspace_expire ON credentials (workspace_id, expire_time, id)
    WHERE workspace_id IS NOT NULL AND expire_time IS NOT NULL;
CREATE INDEX credentials_user_expire ON credentials (user_id, expire_time, id)
    WHERE user_id IS NOT NULL AND expire_time IS NOT NULL;

CREATE INDEX credentials_last_use ON credentials (last_use_order, id);
CREATE INDEX credentials_workspace_last_use
    ON credentials (workspace_id, last_use_order, id)
    WHERE workspace_id IS NOT NULL;
CREATE INDEX credentials_user_last_use
    ON credentials (user_id, last_use_order, id)
    WHERE user_id IS NOT NULL;
