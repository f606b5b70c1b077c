//! The state of the service, for people: its replicas, and how many entities the store has. Nothing is decided by it.

use std::time::Duration;

use async_trait::async_trait;

use super::column_reader::{ColumnReader, Columns};
use super::{Result, StoreError};
use crate::model::{CredentialKind, CredentialState, ReplicaId, Revision, Timestamp};

/// Kind of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    /// An SQLite file.
    Sqlite,
    /// A Postgres database.
    Postgres,
}

impl StoreKind {
    /// Returns its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        }
    }
}

/// The row of a replica, live or ended, as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaDetails {
    /// Its id.
    pub id: ReplicaId,
    /// Host name of its machine.
    pub host: String,
    /// Its process id.
    pub process_id: Option<i64>,
    /// Its release. `None` for 0.1.
    pub version: Option<String>,
    /// When its process first registered. `None` for 0.1.
    pub start_time: Option<Timestamp>,
    /// Revision up to which it has applied the change log.
    pub applied: Revision,
    /// How long it may answer from memory after a sync.
    pub lease: Duration,
    /// Time of its last sync.
    pub sync_time: Timestamp,
    /// When a call last waited for it for long.
    pub waited_time: Option<Timestamp>,
    /// Number of such waits.
    pub waited_count: i64,
    /// When it was marked as ended.
    pub end_time: Option<Timestamp>,
    /// The newest revision, and the time of the store, when the row was read.
    pub read: (Revision, Timestamp),
}

impl ReplicaDetails {
    /// Returns whether it has synced within its lease, by the clock of the store.
    pub fn is_in_time(&self) -> bool {
        self.sync_time.checked_add(self.lease).is_none_or(|until| self.read.1 <= until)
    }

    /// Returns the number of revisions by which it is behind. `None` if it has ended: it follows nothing any more.
    pub fn lag(&self) -> Option<u64> {
        self.end_time.is_none().then(|| self.read.0.0.saturating_sub(self.applied.0))
    }
}

/// Numbers of entities. One that reaches the limit of the count may be larger.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EntityCounts {
    /// Credentials by kind and state, without those of which there is none.
    pub credentials: Vec<(CredentialKind, CredentialState, u64)>,
    /// Workspaces that are not deleted.
    pub workspaces: u64,
    /// Users that are not deleted.
    pub users: u64,
    /// Callers that are not revoked.
    pub callers: u64,
}

/// Reads the state of the service.
#[async_trait]
pub trait StatusStore: Send + Sync {
    /// Returns the kind of this store.
    fn kind(&self) -> StoreKind;
    /// Lists the replicas that follow `after`, by id, including ended ones.
    async fn list_replica_details(
        &self,
        after: Option<ReplicaId>,
        limit: u32,
    ) -> Result<Vec<ReplicaDetails>>;
    /// Records that a call waited long for this replica.
    async fn note_replica_wait(&self, id: ReplicaId) -> Result<()>;
    /// Counts entities, with the states of credentials at `now`. Reads at most `limit` rows of each table.
    async fn count_entities(&self, now: Timestamp, limit: u32) -> Result<EntityCounts>;
    /// Counts the credentials that expire after `now` and before `until` and are not revoked. Reads at most `limit` that
    /// expire then, and returns how many it read too.
    async fn count_expiring(
        &self,
        now: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> Result<ExpiringCount>;
}

/// Number of credentials that expire within a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpiringCount {
    /// Those that are not revoked.
    pub count: u64,
    /// Those that were read, including revoked ones. At the limit there may be more.
    pub read: u64,
}

/// Counts the entities. `$1` is the time, `$2` the limit. The same for both databases. The numbers of the states are
/// those that [`entity_counts`] reads.
macro_rules! count_entities {
    () => {
        "SELECT counted.kind, counted.state, count(*) \
         FROM (SELECT c.kind, \
                   CASE WHEN c.revoke_time IS NOT NULL OR c.generation < COALESCE(w.generation, u.generation) \
                            THEN 4 \
                        WHEN c.expire_time <= $1 THEN 3 \
                        WHEN c.disable_time IS NOT NULL THEN 2 \
                        ELSE 1 END AS state \
               FROM credentials AS c \
               LEFT JOIN workspaces AS w ON w.id = c.workspace_id \
               LEFT JOIN users AS u ON u.id = c.user_id \
               LIMIT $2) AS counted \
         GROUP BY counted.kind, counted.state \
         UNION ALL SELECT -1, 0, count(*) \
         FROM (SELECT id FROM workspaces WHERE delete_time IS NULL LIMIT $2) AS counted \
         UNION ALL SELECT -2, 0, count(*) \
         FROM (SELECT id FROM users WHERE delete_time IS NULL LIMIT $2) AS counted \
         UNION ALL SELECT -3, 0, count(*) \
         FROM (SELECT id FROM callers WHERE revoke_time IS NULL LIMIT $2) AS counted"
    };
}

/// Counts the credentials that expire after `$1` and before `$2`, of which it reads `$3`. The same for both databases.
macro_rules! count_expiring {
    () => {
        "SELECT count(*) FILTER ( \
                    WHERE c.revoke_time IS NULL AND c.generation >= COALESCE(w.generation, u.generation)), \
                count(*) \
         FROM (SELECT revoke_time, generation, workspace_id, user_id FROM credentials \
               WHERE expire_time IS NOT NULL AND expire_time > $1 AND expire_time < $2 \
               ORDER BY expire_time, id LIMIT $3) AS c \
         LEFT JOIN workspaces AS w ON w.id = c.workspace_id \
         LEFT JOIN users AS u ON u.id = c.user_id"
    };
}

/// The columns of a replica for [`replica_details`], from the table `r`.
macro_rules! replica_columns {
    () => {
        "r.replica_id, r.host, r.process_id, r.version, r.start_time, r.applied, r.lease, r.heartbeat, \
         r.waited_time, r.waited_count, r.end_time"
    };
}

pub(super) use {count_entities, count_expiring, replica_columns};

/// Reads the newest revision, the time of the store, and `replica_columns`.
pub(super) fn replica_details(row: &impl Columns) -> Result<ReplicaDetails> {
    let mut columns = ColumnReader::new(row, "replicas");
    let unsigned = |number| u64::try_from(number).ok();
    let read = (Revision(columns.number("revision", unsigned)?), columns.time("now")?);
    let id = ReplicaId(columns.uuid("replica_id")?);
    let process = columns.text("host")?;
    let (host, process_id) = match process.split_once(" pid ") {
        Some((host, id)) => (host.to_owned(), id.parse().ok()),
        None => (process, None),
    };
    Ok(ReplicaDetails {
        id,
        host,
        process_id: columns.maybe("process_id", Columns::int, Some)?.or(process_id),
        version: columns.maybe_text("version")?,
        start_time: columns.maybe_time("start_time")?,
        applied: Revision(columns.number("applied", unsigned)?),
        lease: columns.number("lease", |micros| unsigned(micros).map(Duration::from_micros))?,
        sync_time: columns.time("heartbeat")?,
        waited_time: columns.maybe_time("waited_time")?,
        waited_count: columns.int("waited_count")?,
        end_time: columns.maybe_time("end_time")?,
        read,
    })
}

/// Reads the rows of `count_entities`.
pub(super) fn entity_counts(rows: &[impl Columns]) -> Result<EntityCounts> {
    let mut counts = EntityCounts::default();
    for row in rows {
        let mut columns = ColumnReader::new(row, "credentials");
        let (kind, state) = (columns.int("kind")?, columns.int("state")?);
        let count = columns.number("count", |number| u64::try_from(number).ok())?;
        match kind {
            -1 => counts.workspaces = count,
            -2 => counts.users = count,
            -3 => counts.callers = count,
            kind => {
                let kind = CredentialKind::from_number(kind);
                let state = match state {
                    1 => Some(CredentialState::Active),
                    2 => Some(CredentialState::Disabled),
                    3 => Some(CredentialState::Expired),
                    4 => Some(CredentialState::Revoked),
                    _ => None,
                };
                let corrupt = StoreError::Corrupt { table: "credentials", column: "kind" };
                let (kind, state) = kind.zip(state).ok_or(corrupt)?;
                counts.credentials.push((kind, state, count));
            }
        }
    }
    Ok(counts)
}

/// Reads the row of `count_expiring`.
pub(super) fn expiring_count(row: &impl Columns) -> Result<ExpiringCount> {
    let mut columns = ColumnReader::new(row, "credentials");
    let unsigned = |number| u64::try_from(number).ok();
    Ok(ExpiringCount {
        count: columns.number("count", unsigned)?,
        read: columns.number("read", unsigned)?,
    })
}
