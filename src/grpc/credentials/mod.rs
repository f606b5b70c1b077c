//! The RPCs of `AuthService` that manage credentials, one file for each use case.

pub(super) mod bulk_revoke;
pub(super) mod create;
pub(super) mod explain;
mod fields;
pub(super) mod list;
pub(super) mod revoke;
pub(super) mod revoke_leaked;
pub(super) mod rotate;
pub(super) mod switch;
pub(super) mod update;
pub(super) mod workspace_pats;

use tonic::{Response, Status};

/// Result of an RPC.
pub(super) type RpcResult<T> = Result<Response<T>, Status>;
