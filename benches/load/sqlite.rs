//! SQLite in this process: writing the population into a file, and measuring the file without a server.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::{Value, json};
use sophic_auth::model::Digest;
use sophic_auth::store::{CredentialStore as _, ReadStore as _, SqliteStore};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};
use tokio::task::JoinSet;

use crate::rows::{name, user_id, workspace_id};
use crate::tally::Tally;
use crate::tokens::{self, OWNERS};

/// 2026-01-01 in microseconds.
const TIME: i64 = 1_767_225_600_000_000;

/// The file, and the number of credentials.
#[derive(Debug, clap::Args)]
pub(crate) struct RowsArgs {
    /// Path of the file. It is created if it does not exist.
    #[arg(long)]
    path: PathBuf,
    /// Number of live credentials.
    #[arg(long)]
    live: u64,
}

/// Fills the file.
pub(crate) async fn rows(args: RowsArgs) -> anyhow::Result<Value> {
    SqliteStore::open(&args.path).await?.close().await;
    let mut db = connect(&args.path).await?;
    let mut tx = db.begin().await?;
    for owner in 0..OWNERS {
        directory(&mut tx, owner).await?;
    }
    for owner in 0..OWNERS {
        for workspace in [owner, (owner + 1) % OWNERS] {
            let statement = "INSERT INTO memberships VALUES ($1, $2, 2, $3, $3)";
            let member = sqlx::query(statement).bind(user_id(owner)).bind(workspace_id(workspace));
            member.bind(TIME).execute(&mut *tx).await?;
        }
    }
    for index in 0..args.live {
        credential(&mut tx, index).await?;
    }
    tx.commit().await?;
    db.close().await?;
    Ok(json!({"bytes": std::fs::metadata(&args.path)?.len()}))
}

async fn directory(db: &mut SqliteConnection, owner: u64) -> anyhow::Result<()> {
    sqlx::query(
        "INSERT INTO workspaces (id, slug, display_name, disabled, create_time, update_time) \
         VALUES ($1, $2, $3, 0, $4, $4)",
    )
    .bind(workspace_id(owner))
    .bind(tokens::slug(owner))
    .bind(format!("Bench workspace {owner:04}"))
    .bind(TIME)
    .execute(&mut *db)
    .await?;
    sqlx::query(
        "INSERT INTO users (id, display_name, disabled, create_time, update_time) \
         VALUES ($1, $2, 0, $3, $3)",
    )
    .bind(user_id(owner))
    .bind(format!("Bench user {owner:04}"))
    .bind(TIME)
    .execute(db)
    .await?;
    Ok(())
}

async fn credential(db: &mut SqliteConnection, index: u64) -> anyhow::Result<()> {
    let owner = tokens::owner(index);
    let key = tokens::is_key(index);
    sqlx::query(
        "INSERT INTO credentials (id, kind, workspace_id, user_id, max_role, generation, name, hint, digest, \
             scopes, ip_allowlist, annotations, create_time, creator, family_id, version) \
         VALUES ($1, $2, $3, $4, $5, 0, $6, $7, $8, 3, '', '{}', $9, 'operator:bench', $1, 1)",
    )
    .bind(tokens::id(index).to_vec())
    .bind(if key { 1 } else { 2 })
    .bind(key.then(|| workspace_id(owner)))
    .bind((!key).then(|| user_id(owner)))
    .bind((!key).then_some(4))
    .bind(name(index))
    .bind(tokens::hint(index))
    .bind(tokens::digest(index).to_vec())
    .bind(TIME)
    .execute(db)
    .await?;
    Ok(())
}

/// What to measure on which file.
#[derive(Debug, clap::Args)]
pub(crate) struct AloneArgs {
    /// Path of a file with the population.
    #[arg(long)]
    path: PathBuf,
    #[arg(long)]
    live: u64,
    /// Number of look-ups in flight.
    #[arg(long, default_value_t = 50)]
    concurrency: u64,
    /// Duration of each of the three measurements in seconds.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
}

/// Measures the look-up by the store's statement, and transactions of one insert and one update in a file beside it.
pub(crate) async fn alone(args: AloneArgs) -> anyhow::Result<Value> {
    let longest = Duration::from_secs_f64(args.seconds);
    let look_up = look_ups(&args, longest).await?;
    let beside = args.path.with_extension("bare");
    let mut db = connect(&beside).await?;
    sqlx::query(
        "CREATE TABLE IF NOT EXISTS bare (id BLOB NOT NULL PRIMARY KEY, workspace_id TEXT, name TEXT, hint TEXT, \
             digest BLOB NOT NULL UNIQUE, create_time INTEGER, revoke_time INTEGER) STRICT",
    )
    .execute(&mut db)
    .await?;
    // Rows of earlier rounds.
    let used: i64 = sqlx::query_scalar("SELECT count(*) FROM bare").fetch_one(&mut db).await?;
    let first = u64::try_from(used)?;
    let (insert, inserted) = inserts(&mut db, first, longest).await?;
    let update = updates(&mut db, first..first + inserted, longest).await?;
    db.close().await?;
    Ok(json!({"look_up": look_up, "insert": insert, "update": update}))
}

/// Connects with the settings of the store: a commit is on the disk when it returns.
async fn connect(path: &Path) -> anyhow::Result<SqliteConnection> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    Ok(options.connect().await?)
}

async fn look_ups(args: &AloneArgs, longest: Duration) -> anyhow::Result<Value> {
    let store = Arc::new(SqliteStore::open(&args.path).await?);
    let tally = Arc::new(Mutex::new(Tally::new()?));
    let begin = Instant::now();
    let mut tasks = JoinSet::new();
    for place in 0..args.concurrency {
        let (store, tally, live) = (Arc::clone(&store), Arc::clone(&tally), args.live);
        tasks.spawn(async move {
            let mut seed = place * 7_919;
            while begin.elapsed() < longest {
                let index = tokens::mixed(&mut seed) % live;
                let text = String::from_utf8(tokens::token(index).to_vec())?;
                let slug = tokens::slug(tokens::owner(index));
                let sent = Instant::now();
                let found = store.look_up(&Digest::of(&text), Some(&slug)).await?.found;
                let took = sent.elapsed();
                let mut tally = tally.lock();
                tally.record(took);
                tally.mismatches += u64::from(found.is_none());
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    store.close().await;
    let report = tally.lock().report(begin.elapsed());
    Ok(report)
}

async fn inserts(
    db: &mut SqliteConnection,
    first: u64,
    longest: Duration,
) -> anyhow::Result<(Value, u64)> {
    let mut tally = Tally::new()?;
    let begin = Instant::now();
    while begin.elapsed() < longest {
        let index = first + tally.len();
        let sent = Instant::now();
        sqlx::query("INSERT INTO bare VALUES ($1, $2, $3, $4, $5, $6, NULL)")
            .bind(tokens::id(index).to_vec())
            .bind(workspace_id(tokens::owner(index)))
            .bind(name(index))
            .bind(tokens::hint(index))
            .bind(tokens::digest(index).to_vec())
            .bind(TIME)
            .execute(&mut *db)
            .await?;
        tally.record(sent.elapsed());
    }
    Ok((tally.report(begin.elapsed()), tally.len()))
}

async fn updates(
    db: &mut SqliteConnection,
    indexes: std::ops::Range<u64>,
    longest: Duration,
) -> anyhow::Result<Value> {
    let mut tally = Tally::new()?;
    let begin = Instant::now();
    for index in indexes {
        if begin.elapsed() >= longest {
            break;
        }
        let sent = Instant::now();
        sqlx::query("UPDATE bare SET revoke_time = $2 WHERE id = $1")
            .bind(tokens::id(index).to_vec())
            .bind(TIME)
            .execute(&mut *db)
            .await?;
        tally.record(sent.elapsed());
    }
    Ok(tally.report(begin.elapsed()))
}
