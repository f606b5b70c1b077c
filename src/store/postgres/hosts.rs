//! Asking hosts which of them is the primary.

use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, PgConnection, Row as _};
use tokio::time::Instant;

use super::{Result, StoreError};
use crate::store::{Place, Refused, row};

/// How long a connection is waited for, made anew if need be.
pub(super) const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);
/// With a primary found, how long the other hosts are waited for: one of them may be a newer one.
const GRACE: Duration = Duration::from_millis(300);

/// Where a statement is answered, in one text; NULL on a standby. The system's identifier is read from a file, and stays
/// what it is: each connection asks once and keeps it, but for those that a pooler stands before. The timeline is that of
/// the log that is being written, since what the last checkpoint says lags behind a promotion; a standby writes none.
macro_rules! place {
    () => {
        place!(
            "COALESCE(NULLIF(current_setting('sophic_auth.system', true), ''), \
             (pg_control_system()).system_identifier::text)"
        )
    };
    ($system:literal) => {
        concat!(
            "counter.epoch::text || '/' || ",
            $system,
            " || '/' || CASE WHEN NOT pg_is_in_recovery() \
             THEN substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END"
        )
    };
}

pub(super) use place;

/// The primary, by its place among the hosts, and a connection to it.
pub(super) struct Found {
    pub(super) host: usize,
    pub(super) connection: PgConnection,
}

/// Asks all hosts. If two say that they are the primary, it is the one of the highest timeline.
pub(super) async fn find(hosts: &[PgConnectOptions]) -> Result<Found> {
    let asked = hosts.iter().enumerate().map(async |(host, options)| (host, ask(options).await));
    let mut asked: FuturesUnordered<_> = asked.collect();
    let mut found: Option<(u32, Found)> = None;
    let mut failed = Vec::new();
    let mut deadline = Instant::now() + ACQUIRE_TIMEOUT;
    while let Ok(Some((host, outcome))) = tokio::time::timeout_at(deadline, asked.next()).await {
        match outcome {
            Ok((timeline, connection)) => {
                deadline = deadline.min(Instant::now() + GRACE);
                if found.as_ref().is_none_or(|(newest, _)| *newest < timeline) {
                    found = Some((timeline, Found { host, connection }));
                }
            }
            Err(error) => failed.push((host, error)),
        }
    }
    let late = || StoreError::Unavailable("it did not take a connection in time".to_owned());
    if let Some((_, found)) = found {
        return Ok(found);
    }
    let is_late = |host: &usize| !failed.iter().any(|(other, _)| other == host);
    let silent: Vec<_> = (0..hosts.len()).filter(is_late).collect();
    failed.extend(silent.into_iter().map(|host| (host, late())));
    Err(none_of(hosts, failed))
}

/// What to say where none of them is the primary.
fn none_of(hosts: &[PgConnectOptions], mut failed: Vec<(usize, StoreError)>) -> StoreError {
    failed.sort_by_key(|(host, _)| *host);
    if hosts.len() == 1
        && let Some((_, error)) = failed.pop()
    {
        return error;
    }
    let text = failed.iter().map(|(host, error)| {
        let options = &hosts[*host];
        format!("{}:{}: {}", options.get_host(), options.get_port(), error.cause())
    });
    let text = text.collect::<Vec<_>>().join("; ");
    let text = format!("none of its hosts is the primary: {text}");
    if let Some((_, pooler)) = failed.iter().find(|(_, error)| error.is_pooler()) {
        return pooler.clone();
    }
    let misnamed = |error: &StoreError| matches!(error, StoreError::Misnamed(_));
    let hopeless = |error: &StoreError| misnamed(error) || matches!(error, StoreError::Unusable(_));
    if failed.iter().all(|(_, error)| misnamed(error)) {
        StoreError::Misnamed(text)
    } else if failed.iter().all(|(_, error)| hopeless(error)) {
        StoreError::Unusable(text)
    } else {
        StoreError::Unavailable(text)
    }
}

/// Connects; the timeline, if it is a primary.
async fn ask(options: &PgConnectOptions) -> Result<(u32, PgConnection)> {
    let mut connection = options.connect().await?;
    // In one message: behind a pooler what is prepared, even without a name, may be gone by the next.
    let row = sqlx::raw_sql(
        "SELECT CASE WHEN NOT pg_is_in_recovery() \
             THEN substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END",
    )
    .fetch_one(&mut connection)
    .await?;
    let timeline: Option<&str> = row.try_get(0)?;
    let timeline = timeline.ok_or_else(|| StoreError::Unavailable(Refused::Standby.to_string()))?;
    let timeline = u32::from_str_radix(timeline, 16)
        .map_err(|_| StoreError::Corrupt { table: "pg_walfile_name", column: "timeline" })?;
    Ok((timeline, connection))
}

/// Where a connection leads, whose database has our schema; it keeps what [`place`] would read from a file.
pub(super) async fn place_of(connection: &mut PgConnection, pooled: bool) -> Result<Place> {
    // The setting may come from elsewhere, so this does not believe it. A pooler would give what is set to its next client.
    let statement = if pooled {
        concat!(
            "SELECT ",
            place!("(pg_control_system()).system_identifier::text"),
            " FROM counter WHERE id = 1"
        )
    } else {
        concat!(
            "SELECT ",
            place!("(pg_control_system()).system_identifier::text"),
            ", set_config('sophic_auth.system', (pg_control_system()).system_identifier::text, false) \
             FROM counter WHERE id = 1"
        )
    };
    let row = sqlx::raw_sql(statement).fetch_optional(connection).await?;
    row::place(&row.ok_or(StoreError::Corrupt { table: "counter", column: "id" })?)
}
