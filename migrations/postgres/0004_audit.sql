-- Who did what, on what, when, from where. Append-only: nothing changes an event, and only retention drops old ones.

CREATE TABLE audit_events (
    id             uuid        NOT NULL PRIMARY KEY,
    time           timestamptz NOT NULL,
    action         text        NOT NULL,
    caller         text        NOT NULL,
    acting_user    text,
    target_kind    text        NOT NULL,
    target_id      text        NOT NULL,
    remote_address text,
    -- JSON, as it was written.
    before         text,
    after          text,
    reason         text
);

-- Retention says SET LOCAL sophic_auth.audit_retention = 'on' in its transaction, and deletes.
CREATE FUNCTION refuse_audit_change() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    IF TG_OP = 'DELETE' AND current_setting('sophic_auth.audit_retention', true) = 'on' THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'audit events are append-only' USING ERRCODE = 'restrict_violation';
END
$$;

CREATE TRIGGER audit_events_refuse_update
BEFORE UPDATE OR DELETE ON audit_events
FOR EACH ROW EXECUTE FUNCTION refuse_audit_change();

CREATE TRIGGER audit_events_refuse_truncate
BEFORE TRUNCATE ON audit_events
FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change();

-- Also where session_replication_role says that triggers rest.
ALTER TABLE audit_events ENABLE ALWAYS TRIGGER audit_events_refuse_update;
ALTER TABLE audit_events ENABLE ALWAYS TRIGGER audit_events_refuse_truncate;
