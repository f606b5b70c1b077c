-- Rules of the decision that a program of an earlier release does not know, and the replicas that know them. A server of an
-- earlier release would ignore such a rule. So a rule is set only while every live replica knows it, and while one is
-- set, no replica registers that does not, and no program of an earlier release opens the store.

-- The release of the program. NULL: of 0.1, which does not name it.
ALTER TABLE replicas ADD COLUMN version text;
-- Which rules the program knows: 0 are those of 0.1, and a new rule raises the number.
ALTER TABLE replicas ADD COLUMN rules integer NOT NULL DEFAULT 0;
-- For people.
ALTER TABLE replicas ADD COLUMN process_id bigint;
ALTER TABLE replicas ADD COLUMN start_time timestamptz;
-- When a change last waited for this replica for longer than a second, and how often one has.
ALTER TABLE replicas ADD COLUMN waited_time timestamptz;
ALTER TABLE replicas ADD COLUMN waited_count bigint NOT NULL DEFAULT 0;

-- One row. Whoever sets a rule shares its lock; a replica of an earlier release registers with the lock alone.
CREATE TABLE rules_lock (
    id     integer NOT NULL PRIMARY KEY CHECK (id = 1),
    -- Whether a rule was set, and nothing has shown since that none is in use any more.
    in_use boolean NOT NULL
);
INSERT INTO rules_lock (id, in_use) VALUES (1, false);

-- A program opens a store with newer migrations only if their names say that they expand the schema. While a rule is in
-- use, this migration has another name. A program that knows the migration does not care.
CREATE FUNCTION rules_lock_changed() RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
BEGIN
    UPDATE _sqlx_migrations SET description = CASE WHEN NEW.in_use THEN 'rules_in_use' ELSE 'expand_replicas' END
    WHERE version = 17;
    RETURN NULL;
END
$$;

CREATE TRIGGER rules_lock_changed
AFTER UPDATE ON rules_lock
FOR EACH ROW WHEN (OLD.in_use <> NEW.in_use) EXECUTE FUNCTION rules_lock_changed();

ALTER TABLE rules_lock ENABLE ALWAYS TRIGGER rules_lock_changed;

-- The number of rules that something in the store needs. A migration that adds such a rule replaces the function.
CREATE FUNCTION rules_in_use() RETURNS integer
LANGUAGE sql STABLE
SET search_path FROM CURRENT
AS $$ SELECT 0 $$;

-- With the rights of the owner: a role of an earlier release may lack those on what is new.
CREATE FUNCTION replicas_refuse_old_rules() RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path FROM CURRENT
AS $$
BEGIN
    -- Only there does the statement after the lock see what was committed before the lock was granted.
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'a server of an earlier release registers only with default_transaction_isolation = ''read committed'''
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    PERFORM 1 FROM rules_lock WHERE id = 1 FOR UPDATE;
    IF NEW.rules < rules_in_use() THEN
        -- This code, because servers of earlier releases write the message of few others to their logs.
        RAISE EXCEPTION 'this server is of an earlier release and would ignore rules that are in use: stop it, and start a newer one'
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER replicas_refuse_old_rules
BEFORE INSERT ON replicas
FOR EACH ROW WHEN (NEW.rules < 1) EXECUTE FUNCTION replicas_refuse_old_rules();

ALTER TABLE replicas ENABLE ALWAYS TRIGGER replicas_refuse_old_rules;
