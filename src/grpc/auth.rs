//! `AuthService`: dispatches each RPC to its function.

use std::sync::Arc;

use tonic::{Request, Response};

use super::credentials::{
    RpcResult, bulk_revoke, create, explain, list, revoke, revoke_leaked, rotate, switch, update,
    workspace_pats,
};
use super::introspect::decoded;
use super::{convert, pb, watch};
use crate::service::{Reason, Requester, Service, ServiceError};

/// Implements `AuthService`.
pub(super) struct AuthFace(pub(super) Arc<Service>);

#[tonic::async_trait]
impl pb::auth_service_server::AuthService for AuthFace {
    async fn introspect(
        &self,
        request: Request<pb::IntrospectRequest>,
    ) -> RpcResult<pb::IntrospectResponse> {
        decoded::introspect(&self.0, request).await
    }

    async fn batch_introspect(
        &self,
        request: Request<pb::BatchIntrospectRequest>,
    ) -> RpcResult<pb::BatchIntrospectResponse> {
        decoded::introspect_many(&self.0, request).await
    }

    async fn create_key(
        &self,
        request: Request<pb::CreateKeyRequest>,
    ) -> RpcResult<pb::CreateKeyResponse> {
        create::key(&self.0, request).await
    }

    async fn create_pat(
        &self,
        request: Request<pb::CreatePatRequest>,
    ) -> RpcResult<pb::CreatePatResponse> {
        create::pat(&self.0, request).await
    }

    async fn get_credential(
        &self,
        request: Request<pb::GetCredentialRequest>,
    ) -> RpcResult<pb::GetCredentialResponse> {
        list::get(&self.0, request).await
    }

    async fn explain(
        &self,
        request: Request<pb::ExplainRequest>,
    ) -> RpcResult<pb::ExplainResponse> {
        explain::explain(&self.0, request).await
    }

    async fn list_credentials(
        &self,
        request: Request<pb::ListCredentialsRequest>,
    ) -> RpcResult<pb::ListCredentialsResponse> {
        list::list(&self.0, request).await
    }

    async fn revoke(&self, request: Request<pb::RevokeRequest>) -> RpcResult<pb::RevokeResponse> {
        revoke::revoke(&self.0, request).await
    }

    async fn update_credential(
        &self,
        request: Request<pb::UpdateCredentialRequest>,
    ) -> RpcResult<pb::UpdateCredentialResponse> {
        update::update(&self.0, request).await
    }

    async fn rotate(&self, request: Request<pb::RotateRequest>) -> RpcResult<pb::RotateResponse> {
        rotate::rotate(&self.0, request).await
    }

    async fn disable(
        &self,
        request: Request<pb::DisableRequest>,
    ) -> RpcResult<pb::DisableResponse> {
        switch::disable(&self.0, request).await
    }

    async fn enable(&self, request: Request<pb::EnableRequest>) -> RpcResult<pb::EnableResponse> {
        switch::enable(&self.0, request).await
    }

    async fn bulk_revoke(
        &self,
        request: Request<pb::BulkRevokeRequest>,
    ) -> RpcResult<pb::BulkRevokeResponse> {
        bulk_revoke::revoke(&self.0, request).await
    }

    async fn revoke_leaked(
        &self,
        request: Request<pb::RevokeLeakedRequest>,
    ) -> RpcResult<pb::RevokeLeakedResponse> {
        revoke_leaked::revoke_leaked(&self.0, request).await
    }

    async fn list_workspace_pats(
        &self,
        request: Request<pb::ListWorkspacePatsRequest>,
    ) -> RpcResult<pb::ListWorkspacePatsResponse> {
        workspace_pats::list(&self.0, request).await
    }

    async fn bar_pat(&self, request: Request<pb::BarPatRequest>) -> RpcResult<pb::BarPatResponse> {
        workspace_pats::bar(&self.0, request).await
    }

    async fn unbar_pat(
        &self,
        request: Request<pb::UnbarPatRequest>,
    ) -> RpcResult<pb::UnbarPatResponse> {
        workspace_pats::unbar(&self.0, request).await
    }

    type WatchStream = watch::Responses;

    async fn watch(&self, request: Request<pb::WatchRequest>) -> RpcResult<Self::WatchStream> {
        let context = convert::context(&request)?;
        let address = context.remote_address.as_deref().and_then(|address| address.parse().ok());
        let Requester::Caller(caller) = context.requester else {
            return Err(ServiceError::from(Reason::CallerMissing).into());
        };
        let updates = self.0.watch(caller, address, &request.into_inner().cursor).await?;
        Ok(Response::new(watch::responses(updates)))
    }
}
