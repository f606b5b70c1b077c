//! Management calls that are refused before a use case runs, by the gate or for what their fields hold, recorded in the
//! audit log all the same. What a use case refuses it has recorded itself, with its target.
//!
//! Calls of nobody that is known are not recorded: there is no who, and anybody could send them.

use http::HeaderMap;
use tonic::Status;
use tonic_types::StatusExt as _;

use crate::service::{Attempt, Context, Reason, Service};

/// Records the refusal that an answer with these headers is, if it is one and nobody has yet.
pub(super) async fn record(
    service: &Service,
    context: &Context,
    (action, target_kind): Managed,
    answer: &HeaderMap,
) {
    let Some(status) = Status::from_header_map(answer) else { return };
    let Some(info) = status.get_details_error_info() else { return };
    let reason = Reason::ALL.iter().find(|reason| reason.code() == info.reason);
    if let Some(reason) = reason {
        service.record_refusal(&Attempt::new(context, action, target_kind), *reason).await;
    }
}

/// An action, and the kind of its target.
pub(super) type Managed = (&'static str, &'static str);

/// What the audit log calls an RPC that manages something, and the kind of what it manages.
pub(super) fn action(path: &str) -> Option<Managed> {
    let (service, rpc) = path.strip_prefix("/sophic.auth.v1.")?.split_once('/')?;
    Some(match (service, rpc) {
        ("AuthService", "CreateKey") => ("key.create", "credential"),
        ("AuthService", "CreatePat") => ("pat.create", "credential"),
        ("AuthService", "UpdateCredential") => ("credential.update", "credential"),
        ("AuthService", "Rotate") => ("credential.rotate", "credential"),
        ("AuthService", "Disable") => ("credential.disable", "credential"),
        ("AuthService", "Enable") => ("credential.enable", "credential"),
        ("AuthService", "Revoke") => ("credential.revoke", "credential"),
        ("AuthService", "BulkRevoke") => ("credential.bulk_revoke", "credential"),
        ("AuthService", "RevokeLeaked") => ("credential.revoke_leaked", "credential"),
        ("DirectoryService", "PutWorkspace") => ("workspace.put", "workspace"),
        ("DirectoryService", "DeleteWorkspace") => ("workspace.delete", "workspace"),
        ("DirectoryService", "PutUser") => ("user.put", "user"),
        ("DirectoryService", "DeleteUser") => ("user.delete", "user"),
        ("DirectoryService", "PutMembership") => ("membership.put", "membership"),
        ("DirectoryService", "DeleteMembership") => ("membership.delete", "membership"),
        ("AdminService", "CreateCaller") => ("caller.create", "caller"),
        ("AdminService", "UpdateCaller") => ("caller.update", "caller"),
        ("AdminService", "RotateCaller") => ("caller.rotate", "caller"),
        ("AdminService", "RevokeCaller") => ("caller.revoke", "caller"),
        ("AdminService", "ListCallers") => ("caller.list", "caller"),
        ("AdminService", "ListAuditEvents") => ("audit.list", "audit"),
        _ => return None,
    })
}
