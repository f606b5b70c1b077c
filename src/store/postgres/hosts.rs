//! Finds the primary among the hosts of the URL.

use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, PgConnection, Row as _};
use tokio::time::Instant;

use super::{Result, StoreError};
use crate::store::{Origin, StaleOrigin, row};

/// Time limit for getting a connection, including opening a new one.
pub(super) const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);
/// Time to wait for the other hosts after one primary has answered: another one may be newer.
const OTHER_PRIMARY_GRACE: Duration = Duration::from_millis(300);

/// The origin of a statement as one text; NULL on a standby. Postgres reads the system identifier from a file, and it
/// never changes. So each connection reads it once and keeps it, except behind a pooler. The timeline comes from the
/// current WAL file, because the last checkpoint lags behind a promotion. A standby writes no WAL.
macro_rules! origin {
    () => {
        origin!(
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

pub(super) use origin;

/// The primary: its index among the hosts, and a connection to it.
pub(super) struct FoundPrimary {
    pub(super) host: usize,
    pub(super) connection: PgConnection,
}

/// Asks all hosts. If two of them are primaries, the one with the higher timeline wins.
pub(super) async fn find(hosts: &[PgConnectOptions]) -> Result<FoundPrimary> {
    let asked = hosts
        .iter()
        .enumerate()
        .map(async |(host, options)| (host, connect_and_read_timeline(options).await));
    let mut asked: FuturesUnordered<_> = asked.collect();
    let mut found: Option<(u32, FoundPrimary)> = None;
    let mut failed = Vec::new();
    let mut deadline = Instant::now() + ACQUIRE_TIMEOUT;
    while let Ok(Some((host, outcome))) = tokio::time::timeout_at(deadline, asked.next()).await {
        match outcome {
            Ok((timeline, connection)) => {
                deadline = deadline.min(Instant::now() + OTHER_PRIMARY_GRACE);
                if found.as_ref().is_none_or(|(newest, _)| *newest < timeline) {
                    found = Some((timeline, FoundPrimary { host, connection }));
                }
            }
            Err(error) => failed.push((host, error)),
        }
    }
    let late = || StoreError::Unavailable("it did not accept a connection in time".to_owned());
    if let Some((_, found)) = found {
        return Ok(found);
    }
    let is_late = |host: &usize| !failed.iter().any(|(other, _)| other == host);
    let silent: Vec<_> = (0..hosts.len()).filter(is_late).collect();
    failed.extend(silent.into_iter().map(|host| (host, late())));
    Err(not_found_error(hosts, failed))
}

/// Explains why no host is the primary.
fn not_found_error(hosts: &[PgConnectOptions], mut failed: Vec<(usize, StoreError)>) -> StoreError {
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
    let is_invalid = |error: &StoreError| matches!(error, StoreError::InvalidLocation(_));
    let is_permanent =
        |error: &StoreError| is_invalid(error) || matches!(error, StoreError::Unusable(_));
    if failed.iter().all(|(_, error)| is_invalid(error)) {
        StoreError::InvalidLocation(text)
    } else if failed.iter().all(|(_, error)| is_permanent(error)) {
        StoreError::Unusable(text)
    } else {
        StoreError::Unavailable(text)
    }
}

/// Connects and returns the timeline, or an error if the host is not a primary.
async fn connect_and_read_timeline(options: &PgConnectOptions) -> Result<(u32, PgConnection)> {
    let mut connection = options.connect().await?;
    // Sent as a simple query. Behind a pooler even an unnamed prepared statement may be gone by the next message.
    let row = sqlx::raw_sql(
        "SELECT CASE WHEN NOT pg_is_in_recovery() \
             THEN substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END",
    )
    .fetch_one(&mut connection)
    .await?;
    let timeline: Option<&str> = row.try_get(0)?;
    let timeline =
        timeline.ok_or_else(|| StoreError::Unavailable(StaleOrigin::Standby.to_string()))?;
    let timeline = u32::from_str_radix(timeline, 16)
        .map_err(|_| StoreError::Corrupt { table: "pg_walfile_name", column: "timeline" })?;
    Ok((timeline, connection))
}

/// Returns the origin of a connection to a migrated database. Without a pooler it also stores the system identifier in
/// the session, where [`origin`] reads it later.
pub(super) async fn origin_of(connection: &mut PgConnection, pooled: bool) -> Result<Origin> {
    // The session setting may not come from this program, so read the identifier itself. A pooler would pass the
    // setting on to its next client.
    let statement = if pooled {
        concat!(
            "SELECT ",
            origin!("(pg_control_system()).system_identifier::text"),
            " FROM counter WHERE id = 1"
        )
    } else {
        concat!(
            "SELECT ",
            origin!("(pg_control_system()).system_identifier::text"),
            ", set_config('sophic_auth.system', (pg_control_system()).system_identifier::text, false) \
             FROM counter WHERE id = 1"
        )
    };
    let row = sqlx::raw_sql(statement).fetch_optional(connection).await?;
    row::origin(&row.ok_or(StoreError::Corrupt { table: "counter", column: "id" })?)
}
