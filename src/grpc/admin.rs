//! `AdminService`: callers, the audit log, and the state of the service.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{audit, convert, pb, service_status};
use crate::model::Caller;
use crate::service::{CreateCaller, ExpiryChange, RotateCaller, Service, UpdateCaller, Violations};

type RpcResult<T> = Result<Response<T>, Status>;

/// Implements `AdminService`.
pub(super) struct AdminFace(pub(super) Arc<Service>);

impl AdminFace {
    fn caller(&self, caller: Caller) -> pb::Caller {
        convert::caller(caller, self.0.now())
    }
}

/// Reads the change of the expiry of a caller.
fn expiry_change(
    violations: &mut Violations,
    change: pb::update_caller_request::Expiration,
) -> Option<ExpiryChange> {
    use pb::update_caller_request::Expiration as Choice;
    match change {
        Choice::ExpireTime(time) => convert::expire_at(violations, time).map(ExpiryChange::Set),
        Choice::Ttl(ttl) => convert::expire_after(violations, ttl).map(ExpiryChange::Set),
        Choice::RemoveExpiry(true) => Some(ExpiryChange::Remove),
        Choice::RemoveExpiry(false) => {
            violations.add("remove_expiry", "must be true, or unset to keep the expiry");
            None
        }
    }
}

#[tonic::async_trait]
impl pb::admin_service_server::AdminService for AdminFace {
    async fn create_caller(
        &self,
        request: Request<pb::CreateCallerRequest>,
    ) -> RpcResult<pb::CreateCallerResponse> {
        use pb::create_caller_request::Expiration as Choice;
        let context = convert::context(&request)?;
        let message = request.into_inner();
        let mut violations = Violations::default();
        let expiration = match message.expiration {
            None => None,
            Some(Choice::ExpireTime(time)) => convert::expire_at(&mut violations, time),
            Some(Choice::Ttl(ttl)) => convert::expire_after(&mut violations, ttl),
        };
        violations.finish()?;
        let request = CreateCaller {
            name: message.name,
            permissions: message.permissions,
            certificate_san: message.certificate_san,
            expiration,
        };
        let (caller, token) = self.0.create_caller(context, request).await?;
        Ok(Response::new(pb::CreateCallerResponse {
            caller: Some(self.caller(caller)),
            token: token.map(|token| token.expose().to_owned()).unwrap_or_default(),
        }))
    }

    async fn list_callers(
        &self,
        request: Request<pb::ListCallersRequest>,
    ) -> RpcResult<pb::ListCallersResponse> {
        let message = request.into_inner();
        let page = convert::page_request(message.page_size, message.page_token);
        let page = self.0.list_callers(&page).await?;
        Ok(Response::new(pb::ListCallersResponse {
            callers: page.items.into_iter().map(|caller| self.caller(caller)).collect(),
            next_page_token: page.next_token,
        }))
    }

    async fn revoke_caller(
        &self,
        request: Request<pb::RevokeCallerRequest>,
    ) -> RpcResult<pb::RevokeCallerResponse> {
        let context = convert::context(&request)?;
        let caller = self.0.revoke_caller(context, request.into_inner().caller).await?;
        Ok(Response::new(pb::RevokeCallerResponse { caller: Some(self.caller(caller)) }))
    }

    async fn update_caller(
        &self,
        request: Request<pb::UpdateCallerRequest>,
    ) -> RpcResult<pb::UpdateCallerResponse> {
        let context = convert::context(&request)?;
        let message = request.into_inner();
        let mut violations = Violations::default();
        let expiry = message.expiration.and_then(|change| expiry_change(&mut violations, change));
        violations.finish()?;
        let request = UpdateCaller {
            caller: message.caller,
            name: message.name,
            permissions: message.permissions,
            certificate_san: message.certificate_san,
            expiry,
            etag: message.etag,
        };
        let caller = self.0.update_caller(context, request).await?;
        Ok(Response::new(pb::UpdateCallerResponse { caller: Some(self.caller(caller)) }))
    }

    async fn rotate_caller(
        &self,
        request: Request<pb::RotateCallerRequest>,
    ) -> RpcResult<pb::RotateCallerResponse> {
        let context = convert::context(&request)?;
        let message = request.into_inner();
        let mut violations = Violations::default();
        let overlap = message.overlap.and_then(|overlap| {
            convert::non_negative_duration(&mut violations, "overlap", overlap)
        });
        violations.finish()?;
        let pb::RotateCallerRequest { caller, request_id, etag, .. } = message;
        let request = RotateCaller { caller, overlap, request_id, etag };
        let rotated = self.0.rotate_caller(context, request).await?;
        Ok(Response::new(pb::RotateCallerResponse {
            caller: Some(self.caller(rotated.caller)),
            token: rotated.token.expose().to_owned(),
            end_pending: rotated.end_pending,
        }))
    }

    async fn list_audit_events(
        &self,
        request: Request<pb::ListAuditEventsRequest>,
    ) -> RpcResult<pb::ListAuditEventsResponse> {
        let context = convert::context(&request)?;
        let request = audit::request(request.into_inner())?;
        let page = self.0.list_audit_events(&context, &request).await?;
        Ok(Response::new(pb::ListAuditEventsResponse {
            events: page.events.into_iter().map(audit::event).collect(),
            next_page_token: page.next_token,
            resume_token: page.resume_token,
        }))
    }

    async fn list_replicas(
        &self,
        request: Request<pb::ListReplicasRequest>,
    ) -> RpcResult<pb::ListReplicasResponse> {
        let message = request.into_inner();
        let page = convert::page_request(message.page_size, message.page_token);
        let page = self.0.list_replicas(&page).await?;
        Ok(Response::new(pb::ListReplicasResponse {
            replicas: page.items.into_iter().map(service_status::replica).collect(),
            next_page_token: page.next_token,
        }))
    }

    async fn get_status(
        &self,
        request: Request<pb::GetStatusRequest>,
    ) -> RpcResult<pb::GetStatusResponse> {
        let mut violations = Violations::default();
        let within = request.into_inner().expiring_within.and_then(|within| {
            convert::non_negative_duration(&mut violations, "expiring_within", within)
        });
        violations.finish()?;
        let status = self.0.status(within).await?;
        Ok(Response::new(service_status::status(status)))
    }
}
