//! Gets one credential, and lists credentials.

use std::sync::Arc;

use tonic::{Request, Response};
use zeroize::Zeroizing;

use super::{RpcResult, fields};
use crate::grpc::{convert, pb};
use crate::service::{CredentialChoice, ListCredentials, Service, Violations};

pub(in crate::grpc) async fn get(
    service: &Arc<Service>,
    request: Request<pb::GetCredentialRequest>,
) -> RpcResult<pb::GetCredentialResponse> {
    let context = convert::context(&request)?;
    let message = request.into_inner();
    let mut violations = Violations::default();
    let id = convert::optional(&message.credential_id);
    let choice = match (id, message.token.is_empty()) {
        (Some(id), true) => {
            fields::credential_id(&mut violations, "credential_id", id).map(CredentialChoice::Id)
        }
        (None, false) => Some(CredentialChoice::Token(Zeroizing::new(message.token))),
        (None, true) | (Some(_), false) => {
            violations.add("credential_id", "exactly one of credential_id and token is required");
            None
        }
    };
    let Some(choice) = choice else { return convert::refuse(violations) };
    let acting_user = &message.acting_user;
    let found = service.get_credential_and_end(&context, &choice, None, acting_user).await?;
    let (credential, end) = found;
    let credential = Some(fields::credential(credential, service.now()));
    Ok(Response::new(pb::GetCredentialResponse { credential, end: end.map(fields::end) }))
}

pub(in crate::grpc) async fn list(
    service: &Arc<Service>,
    request: Request<pb::ListCredentialsRequest>,
) -> RpcResult<pb::ListCredentialsResponse> {
    let context = convert::context(&request)?;
    let message = request.into_inner();
    let mut violations = Violations::default();
    let v = &mut violations;
    let workspace = convert::optional(&message.workspace)
        .and_then(|text| convert::workspace_name(v, "workspace", text));
    let user = convert::optional(&message.user).and_then(|text| convert::user_id(v, "user", text));
    let family_id = convert::optional(&message.family_id)
        .and_then(|text| fields::credential_id(v, "family_id", text));
    let request = ListCredentials {
        workspace,
        user,
        kind: fields::kind(v, message.kind),
        state: fields::state(v, message.state),
        creator: convert::optional(&message.creator).map(str::to_owned),
        scope: fields::scope(v, "scope", message.scope),
        expires_before: message
            .expires_before
            .and_then(|time| convert::time(v, "expires_before", time)),
        expiring_within: message
            .expiring_within
            .and_then(|within| convert::non_negative_duration(v, "expiring_within", within)),
        unused_since: message.unused_since.and_then(|time| convert::time(v, "unused_since", time)),
        name_prefix: convert::optional(&message.name_prefix).map(str::to_owned),
        family_id,
        order: fields::order(v, message.order),
        acting_user: message.acting_user,
        page: convert::page_request(message.page_size, message.page_token),
    };
    violations.finish()?;
    let page = service.list_credentials(&context, &request).await?;
    let now = service.now();
    let credentials =
        page.items.into_iter().map(|credential| fields::credential(credential, now)).collect();
    let next_page_token = page.next_token;
    Ok(Response::new(pb::ListCredentialsResponse { credentials, next_page_token }))
}
