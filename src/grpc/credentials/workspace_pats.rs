//! The personal access tokens that have acted in a workspace.

use std::sync::Arc;

use tonic::Request;

use super::RpcResult;
use crate::grpc::pb;
use crate::service::{Service, ServiceError};

pub(in crate::grpc) async fn list(
    _service: &Arc<Service>,
    _request: Request<pb::ListWorkspacePatsRequest>,
) -> RpcResult<pb::ListWorkspacePatsResponse> {
    Err(ServiceError::internal(&"not yet").into())
}

pub(in crate::grpc) async fn bar(
    _service: &Arc<Service>,
    _request: Request<pb::BarPatRequest>,
) -> RpcResult<pb::BarPatResponse> {
    Err(ServiceError::internal(&"not yet").into())
}

pub(in crate::grpc) async fn unbar(
    _service: &Arc<Service>,
    _request: Request<pb::UnbarPatRequest>,
) -> RpcResult<pb::UnbarPatResponse> {
    Err(ServiceError::internal(&"not yet").into())
}
