//! Raw SQL, as a person types it into `psql` or `sqlite3`, without the rules of the store.

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, Row as _};

use crate::stores::Database;

/// Runs one or more statements. Returns the message of the database if it refuses.
pub(crate) async fn try_run(database: &Database, text: &str) -> Result<(), String> {
    let statement = sqlx::AssertSqlSafe(text.to_owned());
    let outcome = match database.file() {
        Some(file) => {
            let options = SqliteConnectOptions::new().filename(file).create_if_missing(true);
            let mut connection = options.connect().await.expect("the file opens");
            sqlx::raw_sql(statement).execute(&mut connection).await.map(drop)
        }
        None => {
            let connecting = PgConnection::connect(&database.url());
            let mut connection = connecting.await.expect("the database answers");
            sqlx::raw_sql(statement).execute(&mut connection).await.map(drop)
        }
    };
    outcome.map_err(|error| error.to_string())
}

/// Runs one or more statements.
pub(crate) async fn run(database: &Database, text: &str) {
    try_run(database, text).await.unwrap_or_else(|error| panic!("{text}: {error}"));
}

/// Returns the query plan of a statement, with sequential scans disabled.
pub(super) async fn explain(database: &Database, statement: &str) -> String {
    let text = match database.file() {
        Some(_) => format!("EXPLAIN QUERY PLAN {statement}"),
        // Postgres prefers to scan a small table as a whole.
        None => format!("SET enable_seqscan = off; EXPLAIN {statement}"),
    };
    let text = sqlx::AssertSqlSafe(text);
    let mut lines = Vec::new();
    if let Some(file) = database.file() {
        let options = SqliteConnectOptions::new().filename(file);
        let mut connection = options.connect().await.expect("the file opens");
        for row in sqlx::raw_sql(text).fetch_all(&mut connection).await.expect("a plan") {
            lines.push(row.get::<String, _>("detail"));
        }
    } else {
        let connecting = PgConnection::connect(&database.url());
        let mut connection = connecting.await.expect("the database answers");
        for row in sqlx::raw_sql(text).fetch_all(&mut connection).await.expect("a plan") {
            lines.push(row.get::<String, _>(0));
        }
    }
    lines.join("\n")
}
