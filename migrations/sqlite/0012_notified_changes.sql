-- Nothing to do here: the twin of this migration changes what Postgres notifies. SQLite notifies nobody; who follows the log
-- asks for `data_version`.
SELECT 1;
