//! Audit events: what the audit log records of a management call.

use super::{CallerId, CredentialId, EventId, Timestamp, UserId, WorkspaceId};

/// Declares each action once: its variant, its name in the audit log, the kind of its target, and whether it may take
/// access away.
macro_rules! actions {
    ($($name:ident, $text:literal, $kind:ident, $narrows:literal;)*) => {
        /// The action of a management call, as `<noun>.<verb>`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum AuditAction {
            $(#[doc = concat!("`", $text, "`")] $name,)*
        }

        impl AuditAction {
            /// Every action.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The name in the audit log.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// Returns whether events with this action may have taken access away. Restoring an older backup undoes
            /// them. So may an action that only a newer program knows.
            pub fn may_narrow(action: &str) -> bool {
                match Self::from_name(action) { $(Some(Self::$name) => $narrows,)* None => true }
            }

            /// Returns the kind of its target, for events whose target is unknown.
            pub const fn target_kind(self) -> TargetKind {
                match self { $(Self::$name => TargetKind::$kind,)* }
            }
        }
    };
}

actions! {
    KeyCreate, "key.create", Credential, false;
    PatCreate, "pat.create", Credential, false;
    PatBar, "pat.bar", Credential, true;
    PatUnbar, "pat.unbar", Credential, false;
    CredentialUpdate, "credential.update", Credential, true;
    CredentialRotate, "credential.rotate", Credential, true;
    CredentialReplay, "credential.replay", Credential, true;
    CredentialDisable, "credential.disable", Credential, true;
    CredentialEnable, "credential.enable", Credential, false;
    CredentialRevoke, "credential.revoke", Credential, true;
    CredentialBulkRevoke, "credential.bulk_revoke", Credential, true;
    CredentialRevokeLeaked, "credential.revoke_leaked", Credential, true;
    CredentialRevokeOwned, "credential.revoke_owned", Credential, true;
    CredentialPurge, "credential.purge", Credential, false;
    CredentialImport, "credential.import", Credential, true;
    CredentialExport, "credential.export", Credential, false;
    WorkspacePut, "workspace.put", Workspace, true;
    WorkspaceDelete, "workspace.delete", Workspace, true;
    UserPut, "user.put", User, true;
    UserDelete, "user.delete", User, true;
    UserRedact, "user.redact", User, false;
    MembershipPut, "membership.put", Membership, true;
    MembershipDelete, "membership.delete", Membership, true;
    CallerCreate, "caller.create", Caller, false;
    CallerUpdate, "caller.update", Caller, true;
    CallerRotate, "caller.rotate", Caller, true;
    CallerReplay, "caller.replay", Caller, true;
    CallerEndPreviousToken, "caller.end_previous_token", Caller, true;
    CallerUndoRotation, "caller.undo_rotation", Caller, true;
    CallerRevoke, "caller.revoke", Caller, true;
    CallerList, "caller.list", Caller, false;
    AuditList, "audit.list", AuditLog, false;
    AuditPurge, "audit.purge", AuditLog, false;
    RefusalsSuppress, "refusal.suppress", AuditLog, false;
    StoreExport, "store.export", Store, false;
    StoreImport, "store.import", Store, true;
    StoreNewEpoch, "store.renew_epoch", Store, false;
}

impl AuditAction {
    /// The name that older programs gave the action, which events in the log keep.
    pub const fn former_name(self) -> Option<&'static str> {
        match self {
            Self::RefusalsSuppress => Some("refusals.suppress"),
            Self::StoreNewEpoch => Some("store.new_epoch"),
            _ => None,
        }
    }

    /// Returns the action of this name, present or former. `None` if only a newer program knows it.
    pub fn from_name(name: &str) -> Option<Self> {
        let of_name = |action: &Self| action.as_str() == name || action.former_name() == Some(name);
        Self::ALL.iter().copied().find(of_name)
    }

    /// Returns every name under which the log has events of the action with this name, present or former. An action
    /// that only a newer program knows has the one name.
    pub fn names_of(name: &str) -> Vec<String> {
        let Some(action) = Self::from_name(name) else { return vec![name.to_owned()] };
        let names = std::iter::once(action.as_str()).chain(action.former_name());
        names.map(str::to_owned).collect()
    }
}

/// The kind of an [`AuditTarget`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetKind {
    /// One or more credentials.
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
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::Credential,
        Self::Workspace,
        Self::User,
        Self::Membership,
        Self::Caller,
        Self::AuditLog,
        Self::Store,
    ];

    /// Returns the kind of this name. `None` if only a newer program knows it.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

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

/// The target of a management call.
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
    /// Several credentials. Each also has its own event.
    Credentials,
    /// The audit log itself.
    AuditLog,
    /// The store itself.
    Store,
}

impl AuditTarget {
    /// Returns the kind and the id as the store keeps them. The id of a membership is `<workspace>/<user>`.
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

/// A management call that was carried out or refused. It contains neither a token nor a digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEvent {
    /// UUIDv7.
    pub id: EventId,
    /// Time of the call.
    pub time: Timestamp,
    /// The action, as `<noun>.<verb>`, such as `key.create`.
    pub action: String,
    /// Name of the caller, or `operator:<name>` for the command line.
    pub caller: String,
    /// The user on whose behalf the caller acted, if any.
    pub acting_user: Option<UserId>,
    /// Kind of the target: `credential`, `workspace`, `user`, `membership`, `caller`, `audit` or `store`.
    pub target_kind: String,
    /// Id of the target. Empty if there is none, if there are several, or if the call was refused before the target was
    /// known.
    pub target_id: String,
    /// The caller's network address, if there is one.
    pub remote_address: Option<String>,
    /// The target before the call, as JSON. `None` if it did not exist.
    pub before: Option<String>,
    /// The target after the call, as JSON. For a deletion this is `None`, or the number of credentials that were
    /// revoked with the target. For a refusal, and for a call that changed nothing, it holds the parts of the request
    /// that were read, and the conflicting state.
    pub after: Option<String>,
    /// Reason that the requester gave.
    pub reason: Option<String>,
    /// Reason code of the refusal, such as `ROLE_TOO_LOW`. `None` if the call was carried out.
    pub refusal: Option<String>,
}
