//! Table of RPCs: the properties of an RPC that follow from its path. A path that is not in the table is refused.
//!
//! The gate of the gRPC face reads it, and so does the HTTP face for the RPCs that its endpoints correspond to.

use super::grant::{self, Case, Rule, permission_missing};
use super::{Context, Result};
use crate::model::{AuditAction, Permission};

/// Properties of an RPC.
#[derive(Debug)]
pub struct Row {
    /// `/<package>.<service>/<method>`.
    pub path: &'static str,
    /// The callers that may call it.
    pub rule: Rule,
    /// Maximum size of the request message in bytes.
    pub request_bytes_max: usize,
    /// Whether the RPC is unary or streaming.
    pub call_type: CallType,
    /// Its action in the audit log. `None` if its refusals are not recorded.
    pub action: Option<AuditAction>,
    /// Number of the request's field `acting_user`, from which the audit event of a refusal takes it.
    pub acting_user_field: Option<u32>,
}

/// Which messages of an RPC come one by one, and which as a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallType {
    /// One request, one response.
    Unary,
    /// One request, and a stream of responses without a time limit.
    ServerStreaming,
    /// A stream of requests, and a stream of responses.
    BidiStreaming,
}

/// Declares each RPC once. `src/grpc/tests.rs` compares the table with the proto.
macro_rules! rpcs {
    ($(
        $name:ident = $path:literal:
            $rule:expr, $bytes:expr, $call_type:ident, $action:expr, $acting_user_field:expr;
    )*) => {
        /// An RPC of the server.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Rpc {
            $(#[doc = concat!("`", $path, "`")] $name,)*
        }

        impl Rpc {
            /// Every RPC.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Returns the RPC of this path, if there is one.
            pub fn from_path(path: &str) -> Option<Self> {
                match path {
                    $($path => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// Returns the properties of the RPC.
            pub const fn row(self) -> &'static Row {
                match self {
                    $(Self::$name => const {
                        &Row {
                            path: $path,
                            rule: $rule,
                            request_bytes_max: $bytes,
                            call_type: CallType::$call_type,
                            action: $action,
                            acting_user_field: $acting_user_field,
                        }
                    },)*
                }
            }
        }
    };
}

const KIB: usize = 1_024;
/// A batch of a thousand tokens, or of leak candidates with their URLs.
const BATCH_BYTES_MAX: usize = 1_024 * KIB;
/// The headers of the request that Envoy asks about. Envoy accepts 60 KiB of them by default.
const HEADERS: usize = 128 * KIB;

const INTROSPECT: Rule = Rule::AnyOf(&[Permission::Introspect]);
const MANAGE: Rule = Rule::ByMessage(&[Case { names: "", grant: grant::MANAGE }]);
const READ: Rule = Rule::ByMessage(&[Case { names: "", grant: grant::READ }]);
const REVOKE: Rule = Rule::ByMessage(&[
    Case { names: "token", grant: grant::REVOKE_BY_TOKEN },
    Case { names: "credential_id", grant: grant::MANAGE },
]);
const CREDENTIALS_ADMIN: Rule = Rule::AnyOf(&[Permission::CredentialsAdmin]);
const DIRECTORY_READ: Rule = Rule::AnyOf(&[Permission::DirectoryRead]);
const DIRECTORY_WRITE: Rule = Rule::AnyOf(&[Permission::DirectoryWrite]);
const CALLERS: Rule = Rule::AnyOf(&[Permission::CallersAdmin]);
const CALLERS_AND_HELD: Rule = Rule::AnyOfAndHeld(&[Permission::CallersAdmin]);
const READ_AUDIT: Rule = Rule::ByMessage(&[Case { names: "", grant: grant::READ_AUDIT }]);
const STATUS_READ: Rule = Rule::AnyOf(&[Permission::StatusRead]);

// Name = path:
//     rule, largest request, call type, action in the audit log, field `acting_user`;
rpcs! {
    Introspect = "/sophic.auth.v1.AuthService/Introspect":
        INTROSPECT, 16 * KIB, Unary, None, None;
    BatchIntrospect = "/sophic.auth.v1.AuthService/BatchIntrospect":
        INTROSPECT, BATCH_BYTES_MAX, Unary, None, None;
    Watch = "/sophic.auth.v1.AuthService/Watch":
        INTROSPECT, 64 * KIB, ServerStreaming, None, None;
    CreateKey = "/sophic.auth.v1.AuthService/CreateKey":
        MANAGE, 64 * KIB, Unary, Some(AuditAction::KeyCreate), Some(8);
    CreatePat = "/sophic.auth.v1.AuthService/CreatePat":
        MANAGE, 64 * KIB, Unary, Some(AuditAction::PatCreate), Some(8);
    GetCredential = "/sophic.auth.v1.AuthService/GetCredential":
        READ, 64 * KIB, Unary, None, None;
    Explain = "/sophic.auth.v1.AuthService/Explain":
        READ, 64 * KIB, Unary, None, None;
    ListCredentials = "/sophic.auth.v1.AuthService/ListCredentials":
        READ, 64 * KIB, Unary, None, None;
    UpdateCredential = "/sophic.auth.v1.AuthService/UpdateCredential":
        MANAGE, 64 * KIB, Unary, Some(AuditAction::CredentialUpdate), Some(3);
    Rotate = "/sophic.auth.v1.AuthService/Rotate":
        MANAGE, 64 * KIB, Unary, Some(AuditAction::CredentialRotate), Some(5);
    Disable = "/sophic.auth.v1.AuthService/Disable":
        MANAGE, 64 * KIB, Unary, Some(AuditAction::CredentialDisable), Some(2);
    Enable = "/sophic.auth.v1.AuthService/Enable":
        MANAGE, 64 * KIB, Unary, Some(AuditAction::CredentialEnable), Some(2);
    Revoke = "/sophic.auth.v1.AuthService/Revoke":
        REVOKE, 64 * KIB, Unary, Some(AuditAction::CredentialRevoke), Some(3);
    BulkRevoke = "/sophic.auth.v1.AuthService/BulkRevoke":
        MANAGE, 64 * KIB, Unary, Some(AuditAction::CredentialBulkRevoke), Some(9);
    ListWorkspacePats = "/sophic.auth.v1.AuthService/ListWorkspacePats":
        READ, 64 * KIB, Unary, None, None;
    BarPat = "/sophic.auth.v1.AuthService/BarPat":
        MANAGE, 64 * KIB, Unary, Some(AuditAction::PatBar), Some(3);
    UnbarPat = "/sophic.auth.v1.AuthService/UnbarPat":
        MANAGE, 64 * KIB, Unary, Some(AuditAction::PatUnbar), Some(3);
    RevokeLeaked = "/sophic.auth.v1.AuthService/RevokeLeaked":
        CREDENTIALS_ADMIN, BATCH_BYTES_MAX, Unary, Some(AuditAction::CredentialRevokeLeaked), None;

    GetWorkspace = "/sophic.auth.v1.DirectoryService/GetWorkspace":
        DIRECTORY_READ, 64 * KIB, Unary, None, None;
    ListWorkspaces = "/sophic.auth.v1.DirectoryService/ListWorkspaces":
        DIRECTORY_READ, 64 * KIB, Unary, None, None;
    PutWorkspace = "/sophic.auth.v1.DirectoryService/PutWorkspace":
        DIRECTORY_WRITE, 64 * KIB, Unary, Some(AuditAction::WorkspacePut), None;
    BatchPutWorkspaces = "/sophic.auth.v1.DirectoryService/BatchPutWorkspaces":
        DIRECTORY_WRITE, 64 * KIB, Unary, Some(AuditAction::WorkspacePut), None;
    DeleteWorkspace = "/sophic.auth.v1.DirectoryService/DeleteWorkspace":
        DIRECTORY_WRITE, 64 * KIB, Unary, Some(AuditAction::WorkspaceDelete), None;
    GetUser = "/sophic.auth.v1.DirectoryService/GetUser":
        DIRECTORY_READ, 64 * KIB, Unary, None, None;
    ListUsers = "/sophic.auth.v1.DirectoryService/ListUsers":
        DIRECTORY_READ, 64 * KIB, Unary, None, None;
    PutUser = "/sophic.auth.v1.DirectoryService/PutUser":
        DIRECTORY_WRITE, 64 * KIB, Unary, Some(AuditAction::UserPut), None;
    DeleteUser = "/sophic.auth.v1.DirectoryService/DeleteUser":
        DIRECTORY_WRITE, 64 * KIB, Unary, Some(AuditAction::UserDelete), None;
    GetMembership = "/sophic.auth.v1.DirectoryService/GetMembership":
        DIRECTORY_READ, 64 * KIB, Unary, None, None;
    ListMemberships = "/sophic.auth.v1.DirectoryService/ListMemberships":
        DIRECTORY_READ, 64 * KIB, Unary, None, None;
    PutMembership = "/sophic.auth.v1.DirectoryService/PutMembership":
        DIRECTORY_WRITE, 64 * KIB, Unary, Some(AuditAction::MembershipPut), None;
    DeleteMembership = "/sophic.auth.v1.DirectoryService/DeleteMembership":
        DIRECTORY_WRITE, 64 * KIB, Unary, Some(AuditAction::MembershipDelete), None;

    CreateCaller = "/sophic.auth.v1.AdminService/CreateCaller":
        CALLERS_AND_HELD, 16 * KIB, Unary, Some(AuditAction::CallerCreate), None;
    UpdateCaller = "/sophic.auth.v1.AdminService/UpdateCaller":
        CALLERS_AND_HELD, 16 * KIB, Unary, Some(AuditAction::CallerUpdate), None;
    RotateCaller = "/sophic.auth.v1.AdminService/RotateCaller":
        CALLERS_AND_HELD, 16 * KIB, Unary, Some(AuditAction::CallerRotate), None;
    RevokeCaller = "/sophic.auth.v1.AdminService/RevokeCaller":
        CALLERS, 16 * KIB, Unary, Some(AuditAction::CallerRevoke), None;
    ListCallers = "/sophic.auth.v1.AdminService/ListCallers":
        CALLERS, 16 * KIB, Unary, Some(AuditAction::CallerList), None;
    ListAuditEvents = "/sophic.auth.v1.AdminService/ListAuditEvents":
        READ_AUDIT, 16 * KIB, Unary, Some(AuditAction::AuditList), Some(10);
    ListReplicas = "/sophic.auth.v1.AdminService/ListReplicas":
        STATUS_READ, 16 * KIB, Unary, None, None;
    GetStatus = "/sophic.auth.v1.AdminService/GetStatus":
        STATUS_READ, 16 * KIB, Unary, None, None;

    Check = "/envoy.service.auth.v3.Authorization/Check":
        INTROSPECT, HEADERS, Unary, None, None;

    HealthCheck = "/grpc.health.v1.Health/Check":
        Rule::Open, KIB, Unary, None, None;
    HealthList = "/grpc.health.v1.Health/List":
        Rule::Open, KIB, Unary, None, None;
    HealthWatch = "/grpc.health.v1.Health/Watch":
        Rule::Open, KIB, ServerStreaming, None, None;
    Reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo":
        Rule::Open, 16 * KIB, BidiStreaming, None, None;
    ReflectionAlpha = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo":
        Rule::Open, 16 * KIB, BidiStreaming, None, None;
}

impl Rpc {
    /// Refuses a requester that may not call the RPC with any message.
    ///
    /// # Errors
    /// [`Reason::PermissionMissing`](super::Reason::PermissionMissing).
    pub fn require(self, context: &Context) -> Result<()> {
        let any_of = self.row().rule.any_of();
        if any_of.iter().any(|permission| context.permits(permission)) {
            return Ok(());
        }
        Err(permission_missing(any_of))
    }
}

/// Returns the maximum request size in bytes over all RPCs of the gRPC service `service`.
pub fn request_bytes_max(service: &str) -> usize {
    let rows = Rpc::ALL.iter().map(|rpc| rpc.row());
    let of_service = rows.filter(|row| {
        row.path.rsplit_once('/').is_some_and(|(of, _)| of.strip_prefix('/') == Some(service))
    });
    of_service.map(|row| row.request_bytes_max).max().unwrap_or_default()
}
