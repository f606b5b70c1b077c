//! What parts of a process, the store and the clients say to each other, and what can go wrong.

use sophic_auth::cache::Term;
use sophic_auth::model::{Digest, Facts, ReplicaId, Revision};
use sophic_auth::store::{Hint, IncarnationId, Origin, Published, Replicas, Synced};

use super::client::Request;
use super::store::Wanted;

/// Which part of a process: each does one thing at a time, and can be held up by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Thread {
    /// The one that follows the log.
    Tail,
    /// Those that work: requests, and the task that looks at the replicas.
    Work,
}

/// A part of a process, in one of its lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) process: usize,
    pub(super) life: u32,
    pub(super) thread: Thread,
}

/// What a process asks of the store.
#[derive(Debug, Clone)]
pub(super) enum Query {
    Connect,
    InsertRow(ReplicaId),
    State,
    Sync(ReplicaId, Published),
    Beat(ReplicaId),
    EndRow(ReplicaId),
    Replicas,
    Fence(ReplicaId, i64),
    LookUp(Digest, Option<String>),
    Commit(Wanted),
    /// The second half of a commit whose number was drawn before.
    CommitAs(Wanted, u64),
}

/// What comes back.
#[derive(Debug, Clone)]
pub(super) enum Reply {
    Done,
    /// The row is marked as ended.
    Ended,
    State(IncarnationId, Revision),
    Synced(Option<Synced>),
    Replicas(Replicas, Vec<(ReplicaId, i64)>),
    Fenced(bool),
    LookedUp(Facts),
    /// The revision to wait for, the version that is there, and whether this made it.
    Committed(Revision, i64, bool),
    Failed,
    /// What a statement gave that says where it was answered, and at which revision.
    From(Origin, Revision, Box<Reply>),
}

/// The pools of connections of a process: each may lead to another server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pool {
    Read,
    Write,
    Feed,
}

impl Query {
    pub(super) const fn pool(&self) -> Pool {
        match self {
            Self::LookUp(..) | Self::Replicas => Pool::Read,
            Self::Commit(_) | Self::CommitAs(..) | Self::Fence(..) => Pool::Write,
            Self::Connect
            | Self::InsertRow(_)
            | Self::State
            | Self::Sync(..)
            | Self::Beat(_)
            | Self::EndRow(_) => Pool::Feed,
        }
    }
}

/// What happens to a part of a process.
#[derive(Debug, Clone)]
pub(super) enum Arrival {
    Start,
    Reply(u64, Reply),
    /// A time that was set is over.
    Time(u64),
    /// This process has committed something.
    Prompt,
    /// A notification.
    Heard(Hint),
    /// Time for a heartbeat beside the tail.
    Beat,
    /// The task that looks at the replicas panics.
    Die,
    /// The word to stop.
    Stop,
    Exit,
    Ask(Request),
    /// The facts were read of memory: may they be believed?
    Believe(Request, Facts, Term),
    Operate(u64, Wanted),
}

#[derive(Debug)]
pub(super) enum Event {
    At(Address, Arrival),
    AtStore {
        from: Address,
        call: u64,
        query: Query,
        connection: u32,
    },
    Nature(Fault),
    /// The standby has a commit of this life: those who listen are notified.
    Notify(IncarnationId, Revision),
    /// Somebody asks, or asks for a change.
    Load {
        changes: bool,
    },
    /// A client looks after its operation.
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

/// What goes wrong.
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
    /// Somebody who may connect notifies what never happened.
    Forge,
    /// The task of a process that looks at the replicas panics.
    LookoutDies,
    /// A process is killed, and none starts in its place.
    Death,
    /// The row of a replica is deleted by hand.
    RowVanishes,
}
