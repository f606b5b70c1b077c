-- Refused calls are recorded too, and the log is read by who, for whom, what and on what: each filter has its index,
-- in the order of ids, which is that of time.

-- NULL: it was done; else the reason code of the refusal, as ROLE_TOO_LOW.
ALTER TABLE audit_events ADD COLUMN refusal text;

CREATE INDEX audit_events_caller ON audit_events (caller, id);
CREATE INDEX audit_events_acting_user ON audit_events (acting_user, id) WHERE acting_user IS NOT NULL;
CREATE INDEX audit_events_action ON audit_events (action, id);
CREATE INDEX audit_events_target_kind ON audit_events (target_kind, id);
-- Where a refusal came before the target was known there is none.
CREATE INDEX audit_events_target ON audit_events (target_id, id) WHERE target_id <> '';
