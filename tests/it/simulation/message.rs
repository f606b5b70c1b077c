//! The messages between processes, the store and the clients, and the faults.

use sophic_auth::cache::LeaseSnapshot;
use sophic_auth::model::{Digest, Facts, ReplicaId, Revision};
use sophic_auth::store::{Hint, IncarnationId, Origin, Published, Replicas, Synced};

use super::client::Request;
use super::store::Mutation;

/// A part of a process. Each does one thing at a time and can hang by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Thread {
    /// The thread that follows the change log.
    Follower,
    /// The threads that serve requests and monitor the replicas.
    Work,
}

/// A part of a process, for one start of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) process: usize,
    pub(super) earlier_starts: u32,
    pub(super) thread: Thread,
}

/// A statement that a process sends to the store.
#[derive(Debug, Clone)]
pub(super) enum Statement {
    Connect,
    InsertRow(ReplicaId),
    State,
    Sync(ReplicaId, Published),
    Heartbeat(ReplicaId),
    EndRow(ReplicaId),
    Replicas,
    MarkEnded(ReplicaId, i64),
    LookUp(Digest, Option<String>),
    Commit(Mutation),
    /// The second half of a commit whose revision was drawn earlier.
    CommitAs(Mutation, u64),
}

/// The reply to a statement.
#[derive(Debug, Clone)]
pub(super) enum Reply {
    Done,
    /// The row is marked as ended.
    Ended,
    State(IncarnationId, Revision),
    Synced(Option<Synced>),
    Replicas(Replicas, Vec<(ReplicaId, i64)>),
    MarkedEnded(bool),
    LookedUp(Facts),
    /// The revision to wait for, the current version, and whether the commit changed anything.
    Committed(Revision, i64, bool),
    Failed,
    /// A reply that says where the statement was answered, and at which revision.
    From(Origin, Revision, Box<Reply>),
}

/// The connection pools of a process. Each may lead to another server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pool {
    Read,
    Write,
    Feed,
}

impl Statement {
    pub(super) const fn pool(&self) -> Pool {
        match self {
            Self::LookUp(..) | Self::Replicas => Pool::Read,
            Self::Commit(_) | Self::CommitAs(..) | Self::MarkEnded(..) => Pool::Write,
            Self::Connect
            | Self::InsertRow(_)
            | Self::State
            | Self::Sync(..)
            | Self::Heartbeat(_)
            | Self::EndRow(_) => Pool::Feed,
        }
    }
}

/// A message to a part of a process.
#[derive(Debug, Clone)]
pub(super) enum Message {
    Start,
    Reply(u64, Reply),
    /// A timer has elapsed.
    Time(u64),
    /// This process has committed something.
    SyncRequested,
    /// A notification.
    Notified(Hint),
    /// The heartbeat of [`Omission::Heartbeat`](super::plan::Omission::Heartbeat) is due.
    Heartbeat,
    /// The monitoring task panics.
    MonitorPanics,
    /// The process begins to shut down.
    Stop,
    Exit,
    Introspect(Request),
    /// Facts were read from memory; check whether the lease has held since.
    CheckLease(Request, Facts, LeaseSnapshot),
    Mutate(u64, Mutation),
}

#[derive(Debug)]
pub(super) enum Event {
    At(Address, Message),
    AtStore {
        from: Address,
        call: u64,
        statement: Statement,
        connection: u32,
    },
    Fault(Fault),
    /// The standby has a commit of this incarnation: notify the listeners.
    Notify(IncarnationId, Revision),
    /// A client starts an introspection, or a change.
    Load {
        changes: bool,
    },
    /// The deadline of an attempt.
    Late {
        operation: u64,
        attempt: u64,
    },
    Retry {
        operation: u64,
    },
    /// The faults are over.
    Last,
}

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Pause,
    Stall,
    Restart,
    Start(usize),
    StoreCrash,
    Promotion,
    ClockStep,
    WriteBehind,
    /// A notification of a commit that never happened.
    Forge,
    /// The monitoring task of a process panics.
    MonitorPanics,
    /// A process is killed and none starts in its place.
    Death,
    /// The row of a replica is deleted by hand.
    RowVanishes,
}
