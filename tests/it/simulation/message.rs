//! What parts of a process, the store and the clients say to each other, and what can go wrong.

use sophic_auth::cache::{Facts, Term};
use sophic_auth::model::{Digest, ReplicaId, Revision};
use sophic_auth::store::{Change, Incarnation, LookedUp, Published, Replicas, Synced};

use super::client::Request;
use super::store::Wanted;

/// Which part of a process: each does one thing at a time, and can be held up by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Thread {
    /// `cache::replica`.
    Tail,
    /// Requests, and `cache::barrier`.
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
    DeleteRow(ReplicaId),
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
    State(Incarnation, Revision),
    Synced(Option<Synced>),
    Replicas(Replicas, Vec<(ReplicaId, i64)>),
    Fenced(bool),
    LookedUp(Box<LookedUp>),
    /// The revision to wait for, the version that is there, and whether this made it.
    Committed(Revision, i64, bool),
    Failed,
}

/// What happens to a part of a process.
#[derive(Debug, Clone)]
pub(super) enum Arrival {
    Start,
    Reply(u64, Reply),
    /// A time that was set is over.
    Time(u64),
    /// A notification.
    Hint,
    /// What a notification says.
    Heard(Incarnation, Change),
    /// Time for a heartbeat beside the tail.
    Beat,
    /// The word to stop.
    Stop,
    Exit,
    Ask(Request),
    /// The facts were read of memory: may they be believed?
    Believe(Request, Facts, Term),
    Operate(u64, Wanted, bool),
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
    /// The standby has a commit: those who listen are notified.
    Notify(Incarnation, Change),
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
}
