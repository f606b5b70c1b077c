//! What the audit log keeps of a management call.

use super::{CallerId, CredentialId, EventId, Timestamp, UserId, WorkspaceId};

/// Declares each action once: its name in the audit log, and the kind of its target.
macro_rules! actions {
    ($($name:ident, $text:literal, $kind:ident;)*) => {
        /// What a management call does, as `<noun>.<verb>`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum AuditAction {
            $(#[doc = concat!("`", $text, "`")] $name,)*
        }

        impl AuditAction {
            /// The name in the audit log.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The kind of target, for an event whose target is not known.
            pub const fn target_kind(self) -> TargetKind {
                match self { $(Self::$name => TargetKind::$kind,)* }
            }
        }
    };
}

actions! {
    KeyCreate, "key.create", Credential;
    PatCreate, "pat.create", Credential;
    CredentialUpdate, "credential.update", Credential;
    CredentialRotate, "credential.rotate", Credential;
    CredentialReplay, "credential.replay", Credential;
    CredentialDisable, "credential.disable", Credential;
    CredentialEnable, "credential.enable", Credential;
    CredentialRevoke, "credential.revoke", Credential;
    CredentialBulkRevoke, "credential.bulk_revoke", Credential;
    CredentialRevokeLeaked, "credential.revoke_leaked", Credential;
    CredentialRevokeOwned, "credential.revoke_owned", Credential;
    CredentialPurge, "credential.purge", Credential;
    CredentialImport, "credential.import", Credential;
    CredentialExport, "credential.export", Credential;
    WorkspacePut, "workspace.put", Workspace;
    WorkspaceDelete, "workspace.delete", Workspace;
    UserPut, "user.put", User;
    UserDelete, "user.delete", User;
    MembershipPut, "membership.put", Membership;
    MembershipDelete, "membership.delete", Membership;
    CallerCreate, "caller.create", Caller;
    CallerUpdate, "caller.update", Caller;
    CallerRotate, "caller.rotate", Caller;
    CallerReplay, "caller.replay", Caller;
    CallerEndPreviousToken, "caller.end_previous_token", Caller;
    CallerUndoRotation, "caller.undo_rotation", Caller;
    CallerRevoke, "caller.revoke", Caller;
    CallerList, "caller.list", Caller;
    AuditList, "audit.list", AuditLog;
    AuditPurge, "audit.purge", AuditLog;
    RefusalsSuppress, "refusals.suppress", AuditLog;
    StoreExport, "store.export", Store;
    StoreImport, "store.import", Store;
    StoreNewEpoch, "store.new_epoch", Store;
}

/// The kind of an [`AuditTarget`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetKind {
    /// One credential, or many.
    Credential,
    /// A workspace.
    Workspace,
    /// A user.
    User,
    /// A membership.
    Membership,
    /// A caller.
    Caller,
    /// The audit log itself.
    AuditLog,
    /// The store itself.
    Store,
}

impl TargetKind {
    /// The name in the audit log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Credential => "credential",
            Self::Workspace => "workspace",
            Self::User => "user",
            Self::Membership => "membership",
            Self::Caller => "caller",
            Self::AuditLog => "audit",
            Self::Store => "store",
        }
    }
}

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
        let (kind, id) = match self {
            Self::Credential(id) => (TargetKind::Credential, id.to_string()),
            Self::Workspace(id) => (TargetKind::Workspace, id.to_string()),
            Self::User(id) => (TargetKind::User, id.to_string()),
            Self::Membership(workspace, user) => {
                (TargetKind::Membership, format!("{workspace}/{user}"))
            }
            Self::Caller(id) => (TargetKind::Caller, id.to_string()),
            Self::Credentials => (TargetKind::Credential, String::new()),
            Self::AuditLog => (TargetKind::AuditLog, String::new()),
            Self::Store => (TargetKind::Store, String::new()),
        };
        (kind.as_str(), id)
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
