//! Use cases, one file per noun: what is asked is checked, allowed, done and recorded here, the same for every face.
//!
//! What writes runs in a task of its own (`Service::run`): a client that goes away takes its request's future with
//! it, and a transaction must not go the same way (CATALOGUE 0.1). What is refused there is recorded there.

mod activity;
mod admission;
mod audit;
mod bucket;
mod bulk;
mod caller_rotation;
mod caller_undo;
mod callers;
mod checks;
mod client_address;
mod clock;
mod commit;
mod credentials;
mod directory;
mod edge;
mod ended;
mod error;
pub mod grant;
mod introspect;
mod last_use;
mod leaked;
mod life;
mod listing;
mod owner;
mod page;
mod proxied;
mod purge;
mod refusals;
mod requests;
mod retry;
mod revoke;
mod shares;
mod transfer;
mod under_way;
mod unknown_rate;
mod untold;
mod update;
pub mod view;
mod workspaces;

#[cfg(test)]
mod tests;

pub use activity::{Activity, UnderWay, Worth};
pub use bulk::{BulkRevoke, BulkRevoked};
pub use caller_rotation::{RotateCaller, RotatedCaller};
pub use caller_undo::RotationUndone;
pub use callers::{CreateCaller, PresentedCaller, UpdateCaller};
pub use checks::Violations;
pub use client_address::UnreadableAddresses;
pub use clock::StoreClock;
pub use commit::Commits;
pub use credentials::{CreateCredential, Created, Expiration, NewOwner};
pub use directory::PutUser;
pub use edge::{Limits, Peer, Readiness};
pub use ended::Ended;
pub use error::{FieldViolation, Kind, Reason, ServiceError};
pub use introspect::{Introspection, IntrospectionRequest};
pub use last_use::LastUses;
pub use leaked::{LeakedToken, LeakedTokenResult};
pub use life::{Rotate, Rotated, SwitchCredential};
pub use listing::ListCredentials;
pub use page::{Page, PageRequest};
pub use proxied::{IDENTITY_HEADERS, ProxiedRequest, Refusal, Verdict, WORKSPACE_HEADER};
pub use refusals::{Attempt, Refusals};
pub use requests::{OfCaller, Requests};
pub use revoke::{RevokeTarget, Revoked};
pub use transfer::{
    Column, DEPLOYMENT_BEGINS, FoundToken, Import, ImportOptions, ImportPhase, ImportReport,
    ImportWatch, Reading, TransferError, TransferFormat, find_token,
};
pub(crate) use transfer::{End, Pieces};
pub use under_way::Reads;
pub use unknown_rate::UnknownRate;
pub use update::UpdateCredential;
pub use workspaces::PutWorkspace;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::cache::Lookup;
use crate::model::{Caller, CallerId, Clock, Permission, Timestamp};
use crate::policy::Policy;
use crate::token::{Random, random_array};

/// What every use case gives.
pub type Result<T> = std::result::Result<T, ServiceError>;

/// What the use cases need, and the choices of whoever runs the service.
pub struct Service {
    /// The database, but for writing to it.
    pub store: Reads,
    /// What introspection asks.
    pub lookup: Arc<dyn Lookup>,
    /// How it is written to.
    pub commits: Commits,
    /// How many unknown tokens each caller has had looked up.
    pub unknown_rate: UnknownRate,
    /// Addresses of clients that proxies wrote, and that could not be read.
    pub unreadable_addresses: UnreadableAddresses,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness for tokens and ids.
    pub random: Arc<dyn Random>,
    /// Transactions under way; shutting down waits for them.
    pub tasks: TaskTracker,
    /// Uses of credentials that are not written yet.
    pub last_uses: LastUses,
    /// How many refusals the audit log still takes of whom.
    pub refusals: Refusals,
    /// Choices.
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
    /// The time, and random bytes for an id.
    fn stamp(&self) -> Result<(Timestamp, [u8; 10])> {
        Ok((self.clock.now(), random_array(&*self.random)?))
    }
}
