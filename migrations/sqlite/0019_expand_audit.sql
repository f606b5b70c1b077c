-- Followers of the audit log read it in an order in which nothing appears behind them, by numbers. Owners and users
-- read the events about what is theirs. A deleted user is erased from it.

-- Ids are made before their transaction commits, so an event can appear before one that was read already. Numbers are
-- given after the commit, when somebody follows the log. NULL: not numbered yet.
ALTER TABLE audit_events ADD COLUMN seq INTEGER CHECK (seq > 0);

CREATE UNIQUE INDEX audit_events_seq ON audit_events (seq) WHERE seq IS NOT NULL;
CREATE INDEX audit_events_unnumbered ON audit_events (id) WHERE seq IS NULL;

CREATE TABLE audit_counter (
    id     INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    -- By which a follower's position is known as one in this log, and not in that of another store.
    log_id BLOB    NOT NULL CHECK (length(log_id) = 16),
    -- The last number given. It outlives the events, so that no number is given twice.
    last   INTEGER NOT NULL CHECK (last >= 0)
) STRICT;

INSERT INTO audit_counter (id, log_id, last) VALUES (1, randomblob(16), 0);

CREATE TRIGGER audit_counter_refuse_update
BEFORE UPDATE ON audit_counter
WHEN NEW.id <> OLD.id OR NEW.log_id <> OLD.log_id OR NEW.last < OLD.last
BEGIN
    SELECT RAISE(ABORT, 'the counter of audit events only rises');
END;

CREATE TRIGGER audit_counter_refuse_delete
BEFORE DELETE ON audit_counter
BEGIN
    SELECT RAISE(ABORT, 'the counter of audit events only rises');
END;

CREATE TRIGGER audit_counter_refuse_replace
BEFORE INSERT ON audit_counter
BEGIN
    SELECT RAISE(ABORT, 'the counter of audit events only rises');
END;

-- What an event is about, by what it holds: src/store/sql.rs has the same expressions. Not columns, so that events of
-- before and those of older programs have it too.
-- The workspace: itself, the one that an event about a credential names, and that of all whose id is `<workspace>/<something>`, as memberships are.
CREATE INDEX audit_events_workspace ON audit_events (
    CASE WHEN target_id = '' THEN NULL
         WHEN target_kind = 'workspace' THEN target_id
         WHEN target_kind = 'credential' THEN
             CASE WHEN json_valid(COALESCE(after, before)) THEN COALESCE(after, before) ->> '$.workspace_id' END
         WHEN instr(target_id, '/') > 0 THEN substr(target_id, 1, instr(target_id, '/') - 1) END,
    id);
-- The user: themselves, that of a personal access token, and that of a membership.
CREATE INDEX audit_events_user ON audit_events (
    CASE WHEN target_id = '' THEN NULL
         WHEN target_kind = 'user' THEN target_id
         WHEN target_kind = 'credential' THEN
             CASE WHEN json_valid(COALESCE(after, before)) THEN COALESCE(after, before) ->> '$.user_id' END
         WHEN target_kind = 'membership' AND instr(target_id, '/') > 0
         THEN substr(target_id, instr(target_id, '/') + 1) END,
    id);

-- Redaction sets it to 1, updates, and sets it back to 0, in one transaction: at rest it is 0.
CREATE TABLE audit_redaction (
    id      INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    enabled INTEGER NOT NULL CHECK (enabled IN (0, 1))
) STRICT;

INSERT INTO audit_redaction (id, enabled) VALUES (1, 0);

-- Append-only as before, but for three things: retention deletes; an event without a number gets one; and redaction
-- replaces text that is there by other text.
DROP TRIGGER audit_events_refuse_update;

CREATE TRIGGER audit_events_refuse_update
BEFORE UPDATE ON audit_events
WHEN NOT (
    (NEW.id, NEW.time, NEW.action, NEW.caller, NEW.acting_user, NEW.target_kind, NEW.target_id, NEW.refusal)
    IS (OLD.id, OLD.time, OLD.action, OLD.caller, OLD.acting_user, OLD.target_kind, OLD.target_id, OLD.refusal)
    AND (
        (OLD.seq IS NULL AND NEW.seq IS NOT NULL
         AND (NEW.remote_address, NEW.before, NEW.after, NEW.reason)
             IS (OLD.remote_address, OLD.before, OLD.after, OLD.reason))
        OR (EXISTS (SELECT 1 FROM audit_redaction WHERE enabled = 1)
            AND NEW.seq IS OLD.seq
            AND (NEW.remote_address IS NULL, NEW.before IS NULL, NEW.after IS NULL, NEW.reason IS NULL)
                IS (OLD.remote_address IS NULL, OLD.before IS NULL, OLD.after IS NULL, OLD.reason IS NULL))
    )
)
BEGIN
    SELECT RAISE(ABORT, 'audit events are append-only');
END;
