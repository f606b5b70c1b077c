//! Disables and enables a credential.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{RpcResult, fields};
use crate::grpc::{convert, pb};
use crate::service::{Service, SwitchCredential, Violations};

pub(in crate::grpc) async fn disable(
    service: &Arc<Service>,
    request: Request<pb::DisableRequest>,
) -> RpcResult<pb::DisableResponse> {
    let context = convert::context(&request)?;
    let message = request.into_inner();
    let switch = switch(&message.credential_id, message.acting_user, message.reason)?;
    let credential = service.disable(context, switch).await?;
    let credential = Some(fields::credential(credential, service.now()));
    Ok(Response::new(pb::DisableResponse { credential }))
}

pub(in crate::grpc) async fn enable(
    service: &Arc<Service>,
    request: Request<pb::EnableRequest>,
) -> RpcResult<pb::EnableResponse> {
    let context = convert::context(&request)?;
    let message = request.into_inner();
    let switch = switch(&message.credential_id, message.acting_user, message.reason)?;
    let credential = service.enable(context, switch).await?;
    let credential = Some(fields::credential(credential, service.now()));
    Ok(Response::new(pb::EnableResponse { credential }))
}

fn switch(id: &str, acting_user: String, reason: String) -> Result<SwitchCredential, Status> {
    let mut violations = Violations::default();
    let id = fields::credential_id(&mut violations, "credential_id", id);
    let Some(id) = id else { return convert::refuse(violations) };
    Ok(SwitchCredential { id, kind: None, acting_user, reason })
}
