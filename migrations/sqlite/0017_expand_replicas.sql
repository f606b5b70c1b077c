-- Rules of the decision that a program of an earlier release does not know, and the replicas that know them. A server of an
-- earlier release would ignore such a rule. So a rule is set only while every live replica knows it, and while one is
-- set, no replica registers that does not, and no program of an earlier release opens the store.

-- The release of the program. NULL: of 0.1, which does not name it.
ALTER TABLE replicas ADD COLUMN version TEXT;
-- Which rules the program knows: 0 are those of 0.1, and a new rule raises the number.
ALTER TABLE replicas ADD COLUMN rules INTEGER NOT NULL DEFAULT 0;
-- For people.
ALTER TABLE replicas ADD COLUMN process_id INTEGER;
ALTER TABLE replicas ADD COLUMN start_time INTEGER;
-- When a change last waited for this replica for longer than a second, and how often one has.
ALTER TABLE replicas ADD COLUMN waited_time INTEGER;
ALTER TABLE replicas ADD COLUMN waited_count INTEGER NOT NULL DEFAULT 0;

-- One row. Its lock is not needed here, because SQLite has one writer at a time.
CREATE TABLE rules_lock (
    id     INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    -- Whether a rule was set, and nothing has shown since that none is in use any more.
    in_use INTEGER NOT NULL CHECK (in_use IN (0, 1))
) STRICT;
INSERT INTO rules_lock (id, in_use) VALUES (1, 0);

-- A program opens a store with newer migrations only if their names say that they expand the schema. While a rule is in
-- use, this migration has another name. A program that knows the migration does not care.
CREATE TRIGGER rules_lock_changed
AFTER UPDATE ON rules_lock
FOR EACH ROW WHEN OLD.in_use <> NEW.in_use
BEGIN
    UPDATE _sqlx_migrations SET description = CASE WHEN NEW.in_use THEN 'rules_in_use' ELSE 'expand_replicas' END
    WHERE version = 17;
END;

-- The number of rules that something in the store needs. A migration that adds such a rule replaces the view.
CREATE VIEW rules_in_use (rules) AS SELECT 0;

CREATE TRIGGER replicas_refuse_old_rules
BEFORE INSERT ON replicas
FOR EACH ROW WHEN NEW.rules < 1
BEGIN
    SELECT RAISE(ABORT, 'this server is of an earlier release and would ignore rules that are in use: stop it, and start a newer one')
    WHERE NEW.rules < (SELECT rules FROM rules_in_use);
END;
