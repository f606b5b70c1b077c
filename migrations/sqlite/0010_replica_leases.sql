-- How long a replica may answer after a sync, in microseconds: whoever waits for it counts on it.
ALTER TABLE replicas ADD COLUMN lease INTEGER NOT NULL DEFAULT 10000000;
