-- A replica's row that disappears unseen would void the barrier: nobody would wait for a server that still answers from
-- memory. So the row of a replica that leaves, or that is given up, is marked, and only a marked row can be deleted.

-- NULL: the replica may answer from memory. For people and for cleaning up; no clock of the wall decides anything.
ALTER TABLE replicas ADD COLUMN end_time INTEGER;

CREATE TRIGGER replicas_refuse_delete
BEFORE DELETE ON replicas
FOR EACH ROW WHEN OLD.end_time IS NULL
BEGIN
    SELECT RAISE(ABORT, 'the replica has not left: its server marks the row when it stops, and others that of one that died');
END;

-- Others count on the lease, and on the mark being for good.
CREATE TRIGGER replicas_refuse_update
BEFORE UPDATE ON replicas
FOR EACH ROW WHEN OLD.replica_id <> NEW.replica_id OR OLD.lease <> NEW.lease
    OR (OLD.end_time IS NOT NULL AND NEW.end_time IS NULL)
BEGIN
    SELECT RAISE(ABORT, 'the id and the lease of a replica stay as they are, and so does its end');
END;
