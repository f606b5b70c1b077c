-- Who did what, on what, when, from where. Append-only: nothing changes an event, and only retention drops old ones.

CREATE TABLE audit_events (
    id             BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    time           INTEGER NOT NULL,
    action         TEXT    NOT NULL,
    caller         TEXT    NOT NULL,
    acting_user    TEXT,
    target_kind    TEXT    NOT NULL,
    target_id      TEXT    NOT NULL,
    remote_address TEXT,
    -- JSON, as it was written.
    before         TEXT,
    after          TEXT,
    reason         TEXT
) STRICT;

-- Retention sets it to 1, deletes, and sets it back to 0, in one transaction: at rest it is 0.
CREATE TABLE audit_retention (
    id      INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    enabled INTEGER NOT NULL CHECK (enabled IN (0, 1))
) STRICT;

INSERT INTO audit_retention (id, enabled) VALUES (1, 0);

CREATE TRIGGER audit_events_refuse_update
BEFORE UPDATE ON audit_events
BEGIN
    SELECT RAISE(ABORT, 'audit events are append-only');
END;

CREATE TRIGGER audit_events_refuse_delete
BEFORE DELETE ON audit_events
WHEN NOT EXISTS (SELECT 1 FROM audit_retention WHERE enabled = 1)
BEGIN
    SELECT RAISE(ABORT, 'audit events are append-only');
END;

-- INSERT OR REPLACE deletes without the trigger above, so it is refused before it can.
CREATE TRIGGER audit_events_refuse_replace
BEFORE INSERT ON audit_events
WHEN EXISTS (SELECT 1 FROM audit_events WHERE id = NEW.id)
BEGIN
    SELECT RAISE(ABORT, 'audit events are append-only');
END;
