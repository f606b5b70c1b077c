//! The change feed: how a replica follows the change log and publishes how far it has read.

use std::sync::OnceLock;
use std::time::Duration;

use async_trait::async_trait;

use super::column_reader::{ColumnReader, Columns};
use super::{Change, Result, StoreError, row};
use crate::model::{ReplicaId, Revision};

/// Text form of an [`Incarnation`](super::Incarnation), as replicas publish it. Opaque to its readers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IncarnationId(pub String);

/// The state that a replica publishes with each sync.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Incarnation of the store to which `applied` belongs. In another incarnation the revision would have another
    /// meaning, so the store ignores it.
    pub incarnation: Option<IncarnationId>,
    /// Revision up to which the replica has applied the change log.
    pub applied: Revision,
    /// Number of this sync, counted by the replica. The store cannot count: if a crash lost its count, a number could
    /// repeat, and the row would look as if the replica had stopped.
    pub seq: i64,
    /// Whether the published state must survive a crash of the store.
    pub durable: bool,
}

/// Result of a sync.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synced {
    /// Current incarnation of the store.
    pub incarnation: IncarnationId,
    /// Newest revision, read in the same snapshot as the changes.
    pub revision: Revision,
    /// Changes after the published revision, in order, at most as many as requested.
    pub changes: Vec<Change>,
}

/// A replica, as its row in the store describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    /// Id of the replica, new at each start.
    pub id: ReplicaId,
    /// Revision up to which the replica has applied the change log.
    pub applied: Revision,
    /// Number of the replica's last sync. A number that no longer changes means that the replica has stopped.
    pub seq: i64,
    /// Time for which the replica may answer from memory after a sync.
    pub lease: Duration,
    /// The rules that it knows; see [`RULES`](super::RULES).
    pub rules: i32,
}

/// All replicas and the state of the store, from one snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replicas {
    /// Current incarnation of the store.
    pub incarnation: IncarnationId,
    /// Newest revision.
    pub revision: Revision,
    /// Replicas that may answer from memory.
    pub replicas: Vec<Replica>,
    /// Replicas whose rows are marked as ended, while the rows still exist. A replica that once was in `replicas` and is
    /// now in neither list has vanished, and nothing is known about its answers.
    pub ended: Vec<ReplicaId>,
}

/// Returns the host name of this machine.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Returns the host name and process id of this process, which its row shows to operators.
pub(super) fn process_name() -> String {
    format!("{} pid {}", host_name(), std::process::id())
}

/// Returns how long ago this process first registered a replica, which its row shows as the time of its start.
pub(super) fn process_age() -> Duration {
    static START: OnceLock<tokio::time::Instant> = OnceLock::new();
    START.get_or_init(tokio::time::Instant::now).elapsed()
}

/// A reason to sync, and nothing more: everyone who may connect to the database can send one. It may arrive late,
/// twice, or not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hint {
    /// There may be new changes.
    Look,
    /// There may be new changes up to this revision.
    Revision(Revision),
}

/// The connections of one replica to the change log. No other request waits for them.
#[async_trait]
pub trait ChangeFeed: Send {
    /// Inserts and commits the replica's row, then reads the store's incarnation and newest revision. The row must be
    /// visible first: a revocation does not wait for a replica whose row it cannot see.
    async fn register(
        &mut self,
        id: ReplicaId,
        lease: Duration,
    ) -> Result<(IncarnationId, Revision)>;

    /// Publishes the replica's state and fetches the changes after it, in one statement on the primary. Returns `None`
    /// if the replica's row is gone or marked as ended.
    async fn sync(
        &mut self,
        id: ReplicaId,
        published: &Published,
        limit: u32,
    ) -> Result<Option<Synced>>;

    /// Waits until there may be new changes, but at most for `longest`.
    async fn wait(&mut self, longest: Duration) -> Result<Hint>;

    /// Marks the replica's row as ended, so that no revocation waits for it.
    async fn deregister(&mut self, id: ReplicaId) -> Result<()>;
}

/// Opens change feeds, lists replicas, and marks stalled ones as ended.
#[async_trait]
pub trait FeedStore: Send + Sync {
    /// Opens the connections of a replica. They belong to the runtime in which this is called.
    async fn open_feed(&self) -> Result<Box<dyn ChangeFeed>>;
    /// Lists the replicas, and reads the newest revision, on the primary.
    async fn list_replicas(&self) -> Result<Replicas>;
    /// Returns the host and process with which the replica registered, or `None` if its row is gone.
    async fn find_replica_host(&self, id: ReplicaId) -> Result<Option<String>>;
    /// Marks the replica's row as ended if it is still at `seq`, and returns whether it was. The replica finds out at
    /// its next sync.
    async fn mark_replica_ended(&self, id: ReplicaId, seq: i64) -> Result<bool>;
}

/// Reads the rows of `list_replicas`: the store's incarnation and newest revision, then a replica and whether it has
/// ended. A row without a replica id has no replica.
pub(super) fn replicas(rows: &[impl Columns]) -> Result<Replicas> {
    let first = rows.first().ok_or(StoreError::Corrupt { table: "counter", column: "id" })?;
    let (incarnation, revision) = row::incarnation_and_revision(first)?;
    let (mut replicas, mut ended) = (Vec::with_capacity(rows.len()), Vec::new());
    for row in rows {
        let mut columns = ColumnReader { row, table: "replicas", next: 2 };
        let Some(id) = columns.maybe_uuid("replica_id")?.map(ReplicaId) else { continue };
        if columns.int("end_time")? != 0 {
            ended.push(id);
            continue;
        }
        replicas.push(Replica {
            id,
            applied: Revision(columns.number("applied", |number| u64::try_from(number).ok())?),
            seq: columns.int("seq")?,
            lease: columns
                .number("lease", |micros| u64::try_from(micros).ok().map(Duration::from_micros))?,
            rules: columns.number("rules", |number| i32::try_from(number).ok())?,
        });
    }
    Ok(Replicas { incarnation, revision, replicas, ended })
}
