//! The nouns of the domain and the rules for their spelling (`docs/words.md`). No I/O; the clock is a trait.
//!
//! A value of these types has been validated. The code below this room does not validate it again.

mod audit;
mod caller;
mod credential;
mod credential_facts;
mod digest;
mod facts;
mod ids;
mod ip_allowlist;
pub mod limits;
mod text;
mod time;
mod user;
mod workspace;
mod workspace_set;
mod workspace_use;

#[cfg(test)]
pub(crate) mod tests;

pub use audit::{AuditAction, AuditEvent, AuditTarget, TargetKind};
pub use caller::{
    Caller, CallerIdentity, CallerName, CertificateSan, Permission, PermissionSet, PreviousToken,
};
pub use credential::{Credential, CredentialKind, CredentialState, LastUse, Owner, OwnerKind};
pub use credential_facts::CredentialFacts;
pub use digest::Digest;
pub use facts::{Facts, FoundFacts, PrincipalFacts, UserFacts};
pub use ids::{
    CallerId, CredentialId, EventId, ReplicaId, RequestId, RotationId, Slug, UserId, WorkspaceId,
    WorkspaceName,
};
pub use ip_allowlist::{IpAllowlist, parse_client_ip};
pub use sophic_auth_protocol::{Invalid, Role, Scope, ScopeSet, join_names};
pub use text::{Annotations, DisplayName, ReasonText};
pub use time::{BootClock, Clock, Lately, StoreTime, SystemClock, Timestamp};
pub use user::{Membership, User};
pub use workspace::{PatPolicy, PatPolicyChange, PolicyChange, Workspace, WorkspacePolicy};
pub use workspace_set::{WorkspaceEntry, WorkspaceSet};
pub use workspace_use::{NOTED_WORKSPACES_MAX, NotedUse, WorkspaceUse};

/// A number in the store's change log. Revisions have no gaps and follow the order of commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision(pub u64);
