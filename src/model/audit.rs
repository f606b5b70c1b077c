//! What the audit log keeps of a management call.

use super::{CallerId, CredentialId, EventId, Timestamp, UserId, WorkspaceId};

/// What a management call was about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditTarget {
    /// A credential.
    Credential(CredentialId),
    /// A workspace.
    Workspace(WorkspaceId),
    /// A user.
    User(UserId),
    /// A user's membership of a workspace.
    Membership(WorkspaceId, UserId),
    /// A caller.
    Caller(CallerId),
    /// Credentials, many at once: each has an event of its own beside this one.
    Credentials,
    /// The audit log itself.
    AuditLog,
    /// The store itself.
    Store,
}

impl AuditTarget {
    /// The kind and the id, as the store keeps them; of a membership `<workspace>/<user>`.
    pub fn kind_and_id(&self) -> (&'static str, String) {
        match self {
            Self::Credential(id) => ("credential", id.to_string()),
            Self::Workspace(id) => ("workspace", id.to_string()),
            Self::User(id) => ("user", id.to_string()),
            Self::Membership(workspace, user) => ("membership", format!("{workspace}/{user}")),
            Self::Caller(id) => ("caller", id.to_string()),
            Self::Credentials => ("credential", String::new()),
            Self::AuditLog => ("audit", String::new()),
            Self::Store => ("store", String::new()),
        }
    }
}

/// Who did what, or was refused it, on what, when, from where. Holds no token and no digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEvent {
    /// UUIDv7.
    pub id: EventId,
    /// When.
    pub time: Timestamp,
    /// What was done: `<noun>.<verb>`, as `key.create`.
    pub action: String,
    /// The caller's name; `operator:<name>` for the command line.
    pub caller: String,
    /// On whose behalf, if on anybody's.
    pub acting_user: Option<UserId>,
    /// The kind of what it was done to: `credential`, `workspace`, `user`, `membership`, `caller`, `audit` or `store`.
    pub target_kind: String,
    /// The id of what it was done to; empty if that is many, or none, or where a refusal came before it was known.
    pub target_id: String,
    /// The caller's network address, if there is one.
    pub remote_address: Option<String>,
    /// What the target was before, as JSON; nothing if it was not there.
    pub before: Option<String>,
    /// What the target is after, as JSON; if it is gone: nothing, or how many credentials went with it. Of a refusal, and of
    /// what changed nothing: what was asked for, as far as it was read, and what was found instead.
    pub after: Option<String>,
    /// Why, in the words of who asked.
    pub reason: Option<String>,
    /// Nothing if it was done; else the reason code of the refusal, as `ROLE_TOO_LOW`.
    pub refusal: Option<String>,
}
