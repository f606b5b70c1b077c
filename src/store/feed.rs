//! How a process that answers from memory follows the change log, and how others see how far it has got.

use std::time::Duration;

use async_trait::async_trait;

use super::{Change, Result};
use crate::model::{ReplicaId, Revision};

/// One life of a store: another after a restore, a promotion, or whatever else made its log no continuation of what a
/// replica has seen. Opaque.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incarnation(pub String);

/// What a replica publishes with a sync.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The store's life that it speaks of: in another, its revision would mean something else, and is not taken.
    pub incarnation: Option<Incarnation>,
    /// Everything that it answers from is as of this, or newer.
    pub applied: Revision,
    /// Its own number of this sync. Were the store to count, a count that it lost in a crash could come again, and the
    /// row would seem to have stood still.
    pub seq: i64,
    /// Whether a crash of the store must not lose it.
    pub durable: bool,
}

/// What one sync gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synced {
    /// The store's life.
    pub incarnation: Incarnation,
    /// The newest revision, in the same snapshot as the changes.
    pub revision: Revision,
    /// What comes after the revision that was published, in order; at most as many as were asked for.
    pub changes: Vec<Change>,
}

/// A process that answers from memory, as its row has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    /// Made anew at each start.
    pub id: ReplicaId,
    /// Everything that it answers from is as of this, or newer.
    pub applied: Revision,
    /// The number of its last sync: one that stands still has stopped.
    pub seq: i64,
    /// How long it may answer after a sync.
    pub lease: Duration,
}

/// All of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replicas {
    /// The store's life.
    pub incarnation: Incarnation,
    /// The newest revision.
    pub revision: Revision,
    /// Those that may answer from memory.
    pub replicas: Vec<Replica>,
    /// Those that have left or were given up, as far as their rows are still there. A replica that is in neither list, and
    /// once was in the first, has vanished: nobody can tell what it answers.
    pub ended: Vec<ReplicaId>,
}

/// How this process is named in its row: for people who look for it.
pub(super) fn process_name() -> String {
    let system = rustix::system::uname();
    format!("{} pid {}", system.nodename().to_string_lossy(), std::process::id())
}

/// A reason to sync, and no more than that: anybody who may connect to the database can have sent it. It may come late,
/// twice, or not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hint {
    /// There may be changes.
    Look,
    /// There may be changes up to this revision.
    Revision(Revision),
}

/// The connections of a process that answers from memory: nothing else waits for them.
#[async_trait]
pub trait ChangeFeed: Send {
    /// Adds the replica's row, and commits that, before anything is read; then the store's life and newest revision.
    async fn register(&mut self, id: ReplicaId, lease: Duration)
    -> Result<(Incarnation, Revision)>;

    /// One statement on the primary: publishes, and gives what comes after what is applied. `None` if the replica's row
    /// is gone: it was given up.
    async fn sync(
        &mut self,
        id: ReplicaId,
        published: &Published,
        limit: u32,
    ) -> Result<Option<Synced>>;

    /// Waits until there may be changes, at the longest until `longest` is over.
    async fn wait(&mut self, longest: Duration) -> Result<Hint>;

    /// Marks the replica's row as ended, so that nobody waits for it.
    async fn deregister(&mut self, id: ReplicaId) -> Result<()>;
}

/// Opens change feeds, and reads and fences the replicas that follow them.
#[async_trait]
pub trait FeedStore: Send + Sync {
    /// Connections of their own for a process that answers from memory. They belong to the runtime this is called in.
    async fn open_feed(&self) -> Result<Box<dyn ChangeFeed>>;
    /// The processes that answer from memory, and the newest revision, as the primary has them.
    async fn list_replicas(&self) -> Result<Replicas>;
    /// The host and the process of a replica, as it named itself; nothing if its row is gone.
    async fn find_replica_host(&self, id: ReplicaId) -> Result<Option<String>>;
    /// Marks a replica's row as ended if it still stands at `seq`: when it syncs next, it learns that it was given up.
    async fn fence_replica(&self, id: ReplicaId, seq: i64) -> Result<bool>;
}
