//! What permission each RPC needs: one table. An RPC of ours that is not in it is refused.

use crate::model::Permission::{
    self, AuditRead, CallersAdmin, CredentialsAdmin, DirectoryRead, DirectoryWrite, Introspect,
};
use crate::model::PermissionSet;
use crate::service::grant::{self, Grant};

/// Who may call an RPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Anybody: health and reflection.
    Open,
    /// A caller with one of these permissions, whatever its message says.
    AnyOf(&'static [Permission]),
    /// A caller with one of these permissions, that holds besides what the call would give away: the permissions that
    /// its message names, or those of the caller whose token it is to be shown.
    AnyOfAndHeld(&'static [Permission]),
    /// It depends on the message. A caller that could not call it with any message is refused before its message is
    /// read; of the others the use case asks the grant of the case.
    ByMessage(&'static [Case]),
    /// Nobody: not one of ours.
    Unknown,
}

/// Messages of one kind, and who may send them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    /// What such a message names.
    pub names: &'static str,
    /// Who may send it.
    pub grant: Grant,
}

impl Rule {
    /// The permissions of which a caller must have one to be let in at all.
    pub fn any_of(self) -> PermissionSet {
        match self {
            Self::Open | Self::Unknown => PermissionSet::default(),
            Self::AnyOf(any) | Self::AnyOfAndHeld(any) => any.iter().copied().collect(),
            Self::ByMessage(cases) => {
                let grants = cases.iter().map(|case| case.grant);
                grants.flat_map(|grant| grant.alone.iter().chain(grant.acting)).copied().collect()
            }
        }
    }
}

const MANAGE: Rule = Rule::ByMessage(&[Case { names: "", grant: grant::MANAGE }]);
const READ: Rule = Rule::ByMessage(&[Case { names: "", grant: grant::READ }]);
const REVOKE: Rule = Rule::ByMessage(&[
    Case { names: "token", grant: grant::REVOKE_BY_TOKEN },
    Case { names: "credential_id", grant: grant::MANAGE },
]);
const DIRECTORY_READ: Rule = Rule::AnyOf(&[DirectoryRead]);
const DIRECTORY_WRITE: Rule = Rule::AnyOf(&[DirectoryWrite]);
const CALLERS: Rule = Rule::AnyOf(&[CallersAdmin]);
const CALLERS_AND_HELD: Rule = Rule::AnyOfAndHeld(&[CallersAdmin]);

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
        "/sophic.auth.v1.AuthService/Revoke" => REVOKE,
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
        "/sophic.auth.v1.AdminService/ListCallers"
        | "/sophic.auth.v1.AdminService/RevokeCaller" => CALLERS,
        "/sophic.auth.v1.AdminService/CreateCaller"
        | "/sophic.auth.v1.AdminService/UpdateCaller"
        | "/sophic.auth.v1.AdminService/RotateCaller" => CALLERS_AND_HELD,
        "/sophic.auth.v1.AdminService/ListAuditEvents" => Rule::AnyOf(&[AuditRead]),
        "/grpc.health.v1.Health/Check"
        | "/grpc.health.v1.Health/List"
        | "/grpc.health.v1.Health/Watch"
        | "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
        | "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo" => Rule::Open,
        _ => Rule::Unknown,
    }
}
