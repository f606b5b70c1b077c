//! Use cases, one file per noun. They validate, authorize, execute and record each call, in the same way for every
//! face.
//!
//! A call that writes runs in a separate task (`Service::run`). When a client disconnects, the future of its request is
//! dropped, and that must not interrupt a transaction. The task also records refusals.

mod audit;
mod audit_attempts;
mod audit_read;
mod bucket;
mod call_context;
mod callers;
mod checks;
mod clock;
mod commit;
mod connection_activity;
mod credentials;
mod directory;
mod error;
pub mod grant;
mod introspect;
mod page;
mod page_item;
mod peer;
mod probe;
mod purge;
mod readiness;
mod redact_user;
mod refusal_quota;
mod request_limits;
mod requests_in_flight;
pub mod rpcs;
mod rules;
mod shared_quota;
mod status;
mod transfer;
pub mod view;
mod watch;

#[cfg(test)]
mod tests;

pub use audit_attempts::Attempt;
pub use audit_read::{AuditPage, ListAuditEvents};
pub use call_context::Reads;
pub use callers::{
    AuthenticatedCaller, CreateCaller, ExpiryChange, PresentedCaller, RotateCaller, RotatedCaller,
    UndoRotationOutcome, UpdateCaller,
};
pub use checks::Violations;
pub use clock::StoreClock;
pub use commit::{Commits, ReplicaWait, WaitCause};
pub use connection_activity::{Activity, ConnectionRank, InFlightGuard};
pub use credentials::{
    BarPat, BulkRevoke, BulkRevoked, CreateCredential, Created, CredentialChoice, CredentialEnd,
    Expiration, LeakedToken, LeakedTokenResult, ListCredentials, ListWorkspacePats, NewOwner,
    RevokeTarget, Revoked, Rotate, Rotated, SwitchCredential, UpdateCredential, WorkspacePat,
};
pub use directory::{PutUser, PutWorkspace};
pub use error::{FieldViolation, Kind, RETRY_DELAY, Reason, ServiceError};
pub use introspect::{
    Explain, Explained, Introspection, IntrospectionRequest, LastUses, UnknownRate,
    UnreadableAddresses,
};
pub use page::{Page, PageRequest};
pub use peer::Peer;
pub use probe::MemoryState;
pub use readiness::Readiness;
pub use redact_user::RedactedUser;
pub use request_limits::RequestLimits;
pub use requests_in_flight::{CallPermits, CallerPermit, RequestsInFlight};
pub use rpcs::Rpc;
pub use status::{Count, Counts, EXPIRING_WITHIN_DEFAULT, ReplicaState, Status};
pub(crate) use transfer::{ChunkEnd, Chunks};
pub use transfer::{
    Column, ColumnOptions, DEPLOYMENT_BEGINS, FoundToken, Import, ImportObserver, ImportOptions,
    ImportPhase, ImportReport, TransferError, TransferFormat, find_token,
};
pub use watch::WatchUpdate;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use callers::{CallerUses, UsedTokens};

use crate::cache::{ChangeBuffer, LeaseSnapshot, Lookup, RequestTasks};
use crate::model::{BootClock, Caller, CallerId, Clock, Permission, Revision, Timestamp};
use crate::policy::Policy;
use crate::token::{Random, random_array};
use refusal_quota::RefusalQuota;
use status::LastCounts;

/// Result of a use case.
pub type Result<T> = std::result::Result<T, ServiceError>;

/// The use cases.
pub struct Service {
    store: Reads,
    commits: Commits,
    lookup: Arc<dyn Lookup>,
    change_buffer: Arc<ChangeBuffer>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    tasks: RequestTasks,
    unknown_rate: UnknownRate,
    unreadable_addresses: UnreadableAddresses,
    last_uses: LastUses,
    used_tokens: UsedTokens,
    caller_uses: CallerUses,
    refusal_quota: RefusalQuota,
    last_counts: LastCounts,
    options: Options,
}

/// The dependencies of a [`Service`].
pub struct Parts {
    /// The store, for reading and writing.
    pub commits: Commits,
    /// Looks up tokens for introspection.
    pub lookup: Arc<dyn Lookup>,
    /// Publishes the newest changes to watchers.
    pub change_buffer: Arc<ChangeBuffer>,
    /// The clock for expiry.
    pub clock: Arc<dyn Clock>,
    /// The time since boot, for rate limits.
    pub boot: Arc<dyn BootClock>,
    /// Source of randomness for tokens and ids.
    pub random: Arc<dyn Random>,
    /// Tracks the tasks of calls that write. [`Service::drain`] waits for them.
    pub tasks: TaskTracker,
    /// Maximum number of unknown tokens that a caller may have looked up per second. 0 means no limit.
    pub unknown_rate_max: u32,
    /// Options of the operator.
    pub options: Options,
}

/// Options of the operator.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whether text that is not in the service's token format is looked up as the token of an imported credential.
    pub accept_imported_tokens: bool,
    /// Longest time for which a cache that follows Watch may hold an answer.
    pub cache_ttl: Duration,
    /// Limits on the lifetime, the number and the rotation overlap of credentials.
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

/// The requester of a call, and the circumstances of the request.
#[derive(Debug, Clone)]
pub struct Context {
    /// The requester.
    pub requester: Requester,
    /// The requester's network address. `None` on the command line.
    pub remote_address: Option<String>,
    /// The request's deadline, if it has one.
    pub deadline: Option<Instant>,
    /// Whether the refusal of this call is in the audit log.
    pub recorded: Recorded,
}

/// Whether a call's refusal is in the audit log. Shared by all clones of the call's [`Context`].
#[derive(Debug, Clone, Default)]
pub struct Recorded(Option<Arc<AtomicBool>>);

impl Recorded {
    /// Not recorded yet. Tracks later records, unlike the default.
    pub fn watched() -> Self {
        Self(Some(Arc::default()))
    }

    /// Marks the refusal as recorded. Returns whether it was recorded before.
    pub fn replace(&self) -> bool {
        self.0.as_ref().is_some_and(|recorded| recorded.swap(true, Ordering::Relaxed))
    }
}

/// The requester of a call.
#[derive(Debug, Clone)]
pub enum Requester {
    /// A service with its permissions.
    Caller(Arc<Caller>),
    /// A person at the command line. They have access to the store itself, and therefore every permission.
    Operator(String),
}

impl Context {
    /// The context of a person at the command line.
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

    /// The caller's id. `None` for an operator.
    pub fn caller_id(&self) -> Option<CallerId> {
        match &self.requester {
            Requester::Caller(caller) => Some(caller.id),
            Requester::Operator(_) => None,
        }
    }

    /// The requester's name for the audit log: the caller's name, or `operator:<name>`.
    pub fn requester_name(&self) -> String {
        match &self.requester {
            Requester::Caller(caller) => caller.name.to_string(),
            Requester::Operator(name) => format!("operator:{name}"),
        }
    }
}

impl Service {
    /// Creates the use cases.
    pub fn new(parts: Parts) -> Self {
        let Parts {
            commits,
            lookup,
            change_buffer,
            clock,
            boot,
            random,
            tasks,
            unknown_rate_max,
            options,
        } = parts;
        Self {
            store: commits.reads(),
            commits,
            lookup,
            change_buffer,
            clock,
            random,
            tasks: RequestTasks { tracker: tasks },
            unknown_rate: UnknownRate::new(unknown_rate_max, Arc::clone(&boot)),
            unreadable_addresses: UnreadableAddresses::new(boot),
            last_uses: LastUses::default(),
            used_tokens: UsedTokens::default(),
            caller_uses: CallerUses::default(),
            refusal_quota: RefusalQuota::default(),
            last_counts: LastCounts::default(),
            options,
        }
    }

    /// The current time, by which credentials expire.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The revision of the newest change in the store.
    ///
    /// # Errors
    /// If the store is unreachable.
    pub async fn revision(&self) -> Result<Revision> {
        Ok(self.store.revision().await?)
    }

    /// Returns a mark to take before reading from memory. [`Self::lease_held_since`] then decides whether the result may be
    /// used.
    pub fn lease_snapshot(&self) -> LeaseSnapshot {
        self.lookup.lease_snapshot()
    }

    /// Whether data read from memory since `snapshot` may be used.
    pub fn lease_held_since(&self, snapshot: LeaseSnapshot) -> bool {
        self.lookup.lease_held_since(snapshot)
    }

    /// Whether no call that writes is in flight.
    pub fn is_idle(&self) -> bool {
        self.tasks.tracker.is_empty()
    }

    /// Waits until no call that writes is in flight. A purge ends after its current batch.
    pub async fn drain(&self) {
        self.tasks.tracker.close();
        self.tasks.tracker.wait().await;
    }

    /// Stops the background work of the revocation barrier. Call it after [`Self::drain`] and before the replica stops.
    pub async fn stop(&self) {
        self.commits.stop().await;
    }

    /// Closes the store.
    pub async fn close(&self) {
        self.store.close().await;
    }

    /// Returns the time and random bytes for an id.
    fn time_and_random(&self) -> Result<(Timestamp, [u8; 10])> {
        Ok((self.clock.now(), random_array(&*self.random)?))
    }
}
