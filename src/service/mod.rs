//! Use cases, one file per noun: what is asked is checked, allowed, done and recorded here, the same for every face.
//!
//! What writes runs in a task of its own (`Service::run`): a client that goes away takes its request's future with
//! it, and a transaction must not go the same way (CATALOGUE 0.1). What is refused there is recorded there.

mod activity;
mod audit;
mod bucket;
mod callers;
mod checks;
mod clock;
mod commit;
mod credentials;
mod directory;
mod edge;
mod error;
pub mod grant;
mod introspect;
mod page;
mod probe;
mod purge;
mod refusals;
mod requests;
pub mod rpcs;
mod shares;
mod transfer;
mod under_way;
pub mod view;
mod watch;

#[cfg(test)]
mod tests;

pub use activity::{Activity, UnderWay, Worth};
pub use callers::{
    CreateCaller, KnownCaller, PresentedCaller, RotateCaller, RotatedCaller, UndoRotationOutcome,
    UpdateCaller,
};
pub use checks::Violations;
pub use clock::StoreClock;
pub use commit::Commits;
pub use credentials::{
    BulkRevoke, BulkRevoked, CreateCredential, Created, CredentialEnd, Expiration, LeakedToken,
    LeakedTokenResult, ListCredentials, NewOwner, RevokeTarget, Revoked, Rotate, Rotated,
    SwitchCredential, UpdateCredential,
};
pub use directory::{PutUser, PutWorkspace};
pub use edge::{Limits, Peer, Readiness};
pub use error::{FieldViolation, Kind, Reason, ServiceError};
pub use introspect::{
    Introspection, IntrospectionRequest, LastUses, UnknownRate, UnreadableAddresses,
};
pub use page::{Page, PageRequest};
pub use probe::Memory;
pub use refusals::{Attempt, Refusals};
pub use requests::{OfCaller, Requests};
pub use rpcs::Rpc;
pub(crate) use transfer::{ChunkEnd, Chunks};
pub use transfer::{
    Column, ColumnOptions, DEPLOYMENT_BEGINS, FoundToken, Import, ImportObserver, ImportOptions,
    ImportPhase, ImportReport, TransferError, TransferFormat, find_token,
};
pub use under_way::Reads;
pub use watch::Heard;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::cache::{Hub, Lookup, Term};
use crate::model::{BootClock, Caller, CallerId, Clock, Permission, Revision, Timestamp};
use crate::policy::Policy;
use crate::token::{Random, random_array};

/// What every use case gives.
pub type Result<T> = std::result::Result<T, ServiceError>;

/// The use cases.
pub struct Service {
    store: Reads,
    commits: Commits,
    lookup: Arc<dyn Lookup>,
    hub: Arc<Hub>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    tasks: TaskTracker,
    unknown_rate: UnknownRate,
    unreadable_addresses: UnreadableAddresses,
    last_uses: LastUses,
    refusals: Refusals,
    options: Options,
}

/// What a [`Service`] is made of.
pub struct Parts {
    /// The store, for reading and writing.
    pub commits: Commits,
    /// Answers the questions of introspection.
    pub lookup: Arc<dyn Lookup>,
    /// The newest changes, for watchers.
    pub hub: Arc<Hub>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The time since boot, for rates.
    pub boot: Arc<dyn BootClock>,
    /// Randomness for tokens and ids.
    pub random: Arc<dyn Random>,
    /// Tracks transactions under way; [`Service::drain`] waits for them.
    pub tasks: TaskTracker,
    /// How many unknown tokens a caller may have looked up per second; 0: any number.
    pub unknown_rate_max: u32,
    /// Choices of the operator.
    pub options: Options,
}

/// Choices of whoever runs the service.
#[derive(Debug, Clone)]
pub struct Options {
    /// Look text of another shape up as the token of an imported credential.
    pub accept_imported_tokens: bool,
    /// The longest that a cache that follows Watch may hold an answer.
    pub cache_ttl: Duration,
    /// How long credentials may live, how many there may be, how long a rotated one lives on.
    pub policy: Policy,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            accept_imported_tokens: false,
            cache_ttl: Duration::from_mins(1),
            policy: Policy::default(),
        }
    }
}

/// Who asks, and from where.
#[derive(Debug, Clone)]
pub struct Context {
    /// Who.
    pub requester: Requester,
    /// The network address, if there is one.
    pub remote_address: Option<String>,
    /// When nobody waits for the answer any longer, if the request says.
    pub deadline: Option<Instant>,
    /// Whether the audit log has heard of its refusal.
    pub recorded: Recorded,
}

/// Whether the audit log has heard of a call's refusal, by whichever of the clones of its [`Context`].
#[derive(Debug, Clone, Default)]
pub struct Recorded(Option<Arc<AtomicBool>>);

impl Recorded {
    /// Not yet, and somebody will ask.
    pub fn watched() -> Self {
        Self(Some(Arc::default()))
    }

    /// Notes that it has; whether it had before.
    pub fn replace(&self) -> bool {
        self.0.as_ref().is_some_and(|recorded| recorded.swap(true, Ordering::Relaxed))
    }
}

/// Who asks.
#[derive(Debug, Clone)]
pub enum Requester {
    /// A service, with the permissions that it has.
    Caller(Arc<Caller>),
    /// A person at the command line, who has the store itself in hand and may do everything.
    Operator(String),
}

impl Context {
    /// A person at the command line.
    pub fn operator(name: &str) -> Self {
        Self {
            requester: Requester::Operator(name.to_owned()),
            remote_address: None,
            deadline: None,
            recorded: Recorded::default(),
        }
    }

    /// Whether the requester has this permission.
    pub fn permits(&self, permission: Permission) -> bool {
        match &self.requester {
            Requester::Caller(caller) => caller.permissions.contains(permission),
            Requester::Operator(_) => true,
        }
    }

    /// The caller, if one asks.
    pub fn caller_id(&self) -> Option<CallerId> {
        match &self.requester {
            Requester::Caller(caller) => Some(caller.id),
            Requester::Operator(_) => None,
        }
    }

    /// The requester's name for the audit log: a caller's own, or `operator:<name>`.
    pub fn requester_name(&self) -> String {
        match &self.requester {
            Requester::Caller(caller) => caller.name.to_string(),
            Requester::Operator(name) => format!("operator:{name}"),
        }
    }
}

impl Service {
    /// Makes the use cases.
    pub fn new(parts: Parts) -> Self {
        let Parts { commits, lookup, hub, clock, boot, random, tasks, unknown_rate_max, options } =
            parts;
        Self {
            store: commits.reads(),
            commits,
            lookup,
            hub,
            clock,
            random,
            tasks,
            unknown_rate: UnknownRate::new(unknown_rate_max, Arc::clone(&boot)),
            unreadable_addresses: UnreadableAddresses::new(boot),
            last_uses: LastUses::default(),
            refusals: Refusals::default(),
            options,
        }
    }

    /// The time by which credentials expire.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The revision of the newest change in the store.
    ///
    /// # Errors
    /// If the store is out of reach.
    pub async fn revision(&self) -> Result<Revision> {
        Ok(self.store.revision().await?)
    }

    /// A mark to take before anything is read from memory: [`Self::may_believe`] tells afterwards whether what was read
    /// may be used.
    pub fn term(&self) -> Term {
        self.lookup.term()
    }

    /// Whether what was read from memory since `term` may be used.
    pub fn may_believe(&self, term: Term) -> bool {
        self.lookup.may_believe(term)
    }

    /// Whether no transaction is under way.
    pub fn is_idle(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Waits until no transaction is under way.
    pub async fn drain(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Ends the background work of the revocation barrier. To be called after [`Self::drain`], and before the replica
    /// stops.
    pub async fn stop(&self) {
        self.commits.stop().await;
    }

    /// Closes the store.
    pub async fn close(&self) {
        self.store.close().await;
    }

    /// The time, and random bytes for an id.
    fn stamp(&self) -> Result<(Timestamp, [u8; 10])> {
        Ok((self.clock.now(), random_array(&*self.random)?))
    }
}
