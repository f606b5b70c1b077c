//! What permission each RPC needs: one table. An RPC of ours that is not in it is refused.

use crate::model::Permission::{
    self, AuditRead, CallersAdmin, CredentialsAdmin, CredentialsRead, CredentialsWrite,
    DirectoryRead, DirectoryWrite, Introspect,
};

/// Who may call an RPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Anybody: health and reflection.
    Open,
    /// A caller with one of these permissions. What else is needed, as an acting user, `service` asks.
    AnyOf(&'static [Permission]),
    /// Nobody: not one of ours.
    Unknown,
}

const MANAGE: Rule = Rule::AnyOf(&[CredentialsWrite, CredentialsAdmin]);
const READ: Rule = Rule::AnyOf(&[CredentialsRead, CredentialsWrite, CredentialsAdmin]);
const DIRECTORY_READ: Rule = Rule::AnyOf(&[DirectoryRead]);
const DIRECTORY_WRITE: Rule = Rule::AnyOf(&[DirectoryWrite]);
const CALLERS: Rule = Rule::AnyOf(&[CallersAdmin]);

/// The rule of the RPC at this path.
pub fn rule(path: &str) -> Rule {
    match path {
        "/sophic.auth.v1.AuthService/Introspect"
        | "/sophic.auth.v1.AuthService/BatchIntrospect"
        | "/sophic.auth.v1.AuthService/Watch"
        | "/envoy.service.auth.v3.Authorization/Check" => Rule::AnyOf(&[Introspect]),
        "/sophic.auth.v1.AuthService/CreateKey"
        | "/sophic.auth.v1.AuthService/CreatePat"
        | "/sophic.auth.v1.AuthService/UpdateCredential"
        | "/sophic.auth.v1.AuthService/Rotate"
        | "/sophic.auth.v1.AuthService/Disable"
        | "/sophic.auth.v1.AuthService/Enable" => MANAGE,
        "/sophic.auth.v1.AuthService/BulkRevoke" | "/sophic.auth.v1.AuthService/RevokeLeaked" => {
            Rule::AnyOf(&[CredentialsAdmin])
        }
        "/sophic.auth.v1.AuthService/GetCredential"
        | "/sophic.auth.v1.AuthService/ListCredentials" => READ,
        // By token `introspect` suffices; by id `service` asks for one of the others.
        "/sophic.auth.v1.AuthService/Revoke" => {
            Rule::AnyOf(&[Introspect, CredentialsWrite, CredentialsAdmin])
        }
        "/sophic.auth.v1.DirectoryService/PutWorkspace"
        | "/sophic.auth.v1.DirectoryService/DeleteWorkspace"
        | "/sophic.auth.v1.DirectoryService/PutUser"
        | "/sophic.auth.v1.DirectoryService/DeleteUser"
        | "/sophic.auth.v1.DirectoryService/PutMembership"
        | "/sophic.auth.v1.DirectoryService/DeleteMembership" => DIRECTORY_WRITE,
        "/sophic.auth.v1.DirectoryService/GetWorkspace"
        | "/sophic.auth.v1.DirectoryService/ListWorkspaces"
        | "/sophic.auth.v1.DirectoryService/GetUser"
        | "/sophic.auth.v1.DirectoryService/ListUsers"
        | "/sophic.auth.v1.DirectoryService/GetMembership"
        | "/sophic.auth.v1.DirectoryService/ListMemberships" => DIRECTORY_READ,
        "/sophic.auth.v1.AdminService/CreateCaller"
        | "/sophic.auth.v1.AdminService/ListCallers"
        | "/sophic.auth.v1.AdminService/RevokeCaller"
        | "/sophic.auth.v1.AdminService/UpdateCaller"
        | "/sophic.auth.v1.AdminService/RotateCaller" => CALLERS,
        "/sophic.auth.v1.AdminService/ListAuditEvents" => Rule::AnyOf(&[AuditRead]),
        "/grpc.health.v1.Health/Check"
        | "/grpc.health.v1.Health/List"
        | "/grpc.health.v1.Health/Watch"
        | "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
        | "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo" => Rule::Open,
        _ => Rule::Unknown,
    }
}
