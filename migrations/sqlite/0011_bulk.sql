-- Imports write many credentials at once. A change for each would make every cache read as many, to learn what one says:
-- what was unknown may be known. So there is an entity more: 'unknown', which stands for all digests that are not known.

-- The table is made anew, since its CHECK cannot be altered. The old way to rename leaves alone all that names it.
PRAGMA legacy_alter_table = ON;

CREATE TABLE changes_with_unknown (
    revision    INTEGER NOT NULL PRIMARY KEY,
    entity      TEXT    NOT NULL CHECK (entity IN ('credential', 'user', 'workspace', 'caller', 'unknown')),
    -- Of a credential or caller: its UUID, 32 hexadecimal digits. Of 'unknown': empty.
    entity_id   TEXT    NOT NULL,
    -- Of a credential: what caches know it by.
    digest      BLOB    CHECK (length(digest) = 32),
    -- For people.
    commit_time INTEGER NOT NULL,
    CONSTRAINT changes_digest CHECK ((entity = 'credential') = (digest IS NOT NULL))
) STRICT;

INSERT INTO changes_with_unknown (revision, entity, entity_id, digest, commit_time)
SELECT revision, entity, entity_id, digest, commit_time FROM changes;

DROP TABLE changes;

ALTER TABLE changes_with_unknown RENAME TO changes;

PRAGMA legacy_alter_table = OFF;

-- An import opens it, inserts and closes it again, in one transaction. Until it is closed COMMIT is refused: what it
-- refers to while it is open can never be there. So no insert can go unlogged.
CREATE TABLE bulk (
    id   INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    open INTEGER CHECK (open = 0) REFERENCES bulk (id) DEFERRABLE INITIALLY DEFERRED
) STRICT;

INSERT INTO bulk (id, open) VALUES (1, NULL);

CREATE TRIGGER bulk_close
AFTER UPDATE ON bulk
WHEN OLD.open IS NOT NULL AND NEW.open IS NULL
BEGIN
    INSERT INTO change_inbox (entity, entity_id, digest) VALUES ('unknown', '', NULL);
END;

CREATE TRIGGER bulk_refuse_delete
BEFORE DELETE ON bulk
BEGIN
    SELECT RAISE(ABORT, 'the row of bulk is there for good');
END;

DROP TRIGGER credentials_insert;

CREATE TRIGGER credentials_insert
AFTER INSERT ON credentials
WHEN NOT EXISTS (SELECT 1 FROM bulk WHERE open IS NOT NULL)
BEGIN
    INSERT INTO change_inbox (entity, entity_id, digest) VALUES ('credential', lower(hex(NEW.id)), NEW.digest);
END;
