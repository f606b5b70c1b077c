-- The notification says what was changed, so that whoever hears of it need not ask, and acknowledges by its next sync. It
-- is a hint all the same: readers poll as well. The store's life, as readers name it, since what is notified may be heard when
-- that is over; revision, entity, digest in hexadecimal or nothing, entity's id.
CREATE OR REPLACE FUNCTION append_change(changed text, changed_id text, changed_digest bytea) RETURNS void
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
DECLARE
    next bigint;
    life text;
BEGIN
    UPDATE counter SET revision = revision + 1 WHERE id = 1
    RETURNING revision, epoch::text || '/' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)
    INTO STRICT next, life;
    INSERT INTO changes (revision, entity, entity_id, digest, commit_time)
    VALUES (next, changed, changed_id, changed_digest, clock_timestamp());
    PERFORM pg_notify(
        'sophic_auth_changes',
        concat_ws(' ', life, next, changed, COALESCE(encode(changed_digest, 'hex'), ''), changed_id)
    );
END
$$;
