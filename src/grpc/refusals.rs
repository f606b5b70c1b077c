//! Management calls that are refused before a use case runs, by the gate or for what their fields hold, recorded in the
//! audit log all the same. What a use case refuses it has recorded itself, with its target.
//!
//! Calls of nobody that is known are not recorded: there is no who, and anybody could send them.

use http::HeaderMap;
use prost::Message;
use tonic::Status;
use tonic_types::StatusExt as _;

use super::message::Read;
use super::pb;
use crate::service::{Attempt, Reason, Service};

/// Records the refusal that an answer with these headers is, if it is one and nobody has yet.
pub(super) async fn record(service: &Service, attempt: &Attempt, answer: &HeaderMap) {
    let Some(status) = Status::from_header_map(answer) else { return };
    let Some(info) = status.get_details_error_info() else { return };
    let reason = Reason::ALL.iter().find(|reason| reason.code() == info.reason);
    if let Some(reason) = reason {
        service.record_refusal(attempt, *reason).await;
    }
}

/// For whom a call of this path is asked; empty where it does not say, or where what was read is no message of its kind.
pub(super) fn acting_user(path: &str, read: &Read) -> String {
    let Read::Message(message) = read else { return String::new() };
    let message = &message[..];
    match path.rsplit_once('/').map_or("", |(_, rpc)| rpc) {
        "CreateKey" => field(message, |m: pb::CreateKeyRequest| m.acting_user),
        "CreatePat" => field(message, |m: pb::CreatePatRequest| m.acting_user),
        "UpdateCredential" => field(message, |m: pb::UpdateCredentialRequest| m.acting_user),
        "Rotate" => field(message, |m: pb::RotateRequest| m.acting_user),
        "Disable" => field(message, |m: pb::DisableRequest| m.acting_user),
        "Enable" => field(message, |m: pb::EnableRequest| m.acting_user),
        "Revoke" => field(message, |m: pb::RevokeRequest| m.acting_user),
        "BulkRevoke" => field(message, |m: pb::BulkRevokeRequest| m.acting_user),
        _ => String::new(),
    }
}

fn field<M: Message + Default>(message: &[u8], of: impl FnOnce(M) -> String) -> String {
    M::decode(message).map(of).unwrap_or_default()
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
        ("DirectoryService", "PutWorkspace" | "BatchPutWorkspaces") => {
            ("workspace.put", "workspace")
        }
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
