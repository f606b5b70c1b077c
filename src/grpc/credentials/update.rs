//! The part of `AuthService` that lists credentials and changes them after they were made.

use tonic::{Request, Response, Status};

use crate::grpc::auth::AuthFace;
use crate::grpc::{convert, pb};
use crate::service::{ListCredentials, Rotate, SwitchCredential, UpdateCredential, Violations};

type Answer<T> = Result<Response<T>, Status>;

/// What an update mask may name.
const UPDATABLE: &str =
    "must name one or more of name, annotations, ip_allowlist, scopes and expire_time";

pub(in crate::grpc) async fn list(
    face: &AuthFace,
    request: Request<pb::ListCredentialsRequest>,
) -> Answer<pb::ListCredentialsResponse> {
    let context = convert::context(&request)?;
    let message = request.into_inner();
    let mut violations = Violations::default();
    let v = &mut violations;
    let workspace = convert::optional(&message.workspace)
        .and_then(|text| convert::workspace_name(v, "workspace", text));
    let user = convert::optional(&message.user).and_then(|text| convert::user_id(v, "user", text));
    let family_id = convert::optional(&message.family_id)
        .and_then(|text| convert::credential_id(v, "family_id", text));
    let request = ListCredentials {
        workspace,
        user,
        kind: convert::kind(v, message.kind),
        state: convert::state(v, message.state),
        creator: convert::optional(&message.creator).map(str::to_owned),
        scope: convert::scope(v, "scope", message.scope),
        expires_before: message
            .expires_before
            .and_then(|time| convert::time(v, "expires_before", time)),
        expiring_within: message
            .expiring_within
            .and_then(|within| convert::positive_or_zero(v, "expiring_within", within)),
        unused_since: message.unused_since.and_then(|time| convert::time(v, "unused_since", time)),
        name_prefix: convert::optional(&message.name_prefix).map(str::to_owned),
        family_id,
        order: convert::order(v, message.order),
        acting_user: message.acting_user,
        page: convert::page(message.page_size, message.page_token),
    };
    violations.finish()?;
    let page = face.0.list_credentials(&context, &request).await?;
    let now = face.0.now();
    let credentials =
        page.items.into_iter().map(|credential| convert::credential(credential, now)).collect();
    let next_page_token = page.next_token;
    Ok(Response::new(pb::ListCredentialsResponse { credentials, next_page_token }))
}

pub(in crate::grpc) async fn update(
    face: &AuthFace,
    request: Request<pb::UpdateCredentialRequest>,
) -> Answer<pb::UpdateCredentialResponse> {
    let context = convert::context(&request)?;
    let message = request.into_inner();
    let new = message.credential.unwrap_or_default();
    let mut violations = Violations::default();
    let id = convert::credential_id(&mut violations, "credential.id", &new.id);
    let paths = message.update_mask.map(|mask| mask.paths).unwrap_or_default();
    if paths.is_empty() {
        violations.add("update_mask", UPDATABLE);
    }
    let Some(id) = id else { return convert::refuse(violations) };
    let mut update = UpdateCredential {
        id,
        kind: None,
        name: None,
        annotations: None,
        ip_allowlist: None,
        scopes: None,
        expire_time: None,
        etag: new.etag,
        acting_user: message.acting_user,
    };
    for path in &paths {
        match path.as_str() {
            "name" => update.name = Some(new.name.clone()),
            "annotations" => {
                update.annotations = Some(new.annotations.clone().into_iter().collect());
            }
            "ip_allowlist" => update.ip_allowlist = Some(new.ip_allowlist.clone()),
            "scopes" => {
                let scopes = convert::scopes(&mut violations, "credential.scopes", &new.scopes);
                update.scopes = Some(scopes);
            }
            "expire_time" => match new.expire_time {
                Some(time) => {
                    update.expire_time =
                        convert::time(&mut violations, "credential.expire_time", time);
                }
                None => violations
                    .add("credential.expire_time", "may only be brought forward, not taken away"),
            },
            _ => violations.add("update_mask", UPDATABLE),
        }
    }
    violations.finish()?;
    let credential = face.0.update_credential(context, update).await?;
    let credential = Some(convert::credential(credential, face.0.now()));
    Ok(Response::new(pb::UpdateCredentialResponse { credential }))
}

pub(in crate::grpc) async fn rotate(
    face: &AuthFace,
    request: Request<pb::RotateRequest>,
) -> Answer<pb::RotateResponse> {
    use pb::rotate_request::Expiration as Choice;
    let context = convert::context(&request)?;
    let message = request.into_inner();
    let mut violations = Violations::default();
    let id = convert::credential_id(&mut violations, "credential_id", &message.credential_id);
    let overlap = message
        .overlap
        .and_then(|overlap| convert::positive_or_zero(&mut violations, "overlap", overlap));
    let expiration = match message.expiration {
        None => None,
        Some(Choice::ExpireTime(time)) => convert::at(&mut violations, time),
        Some(Choice::Ttl(ttl)) => convert::after(&mut violations, ttl),
    };
    let Some(id) = id else { return convert::refuse(violations) };
    violations.finish()?;
    let request = Rotate {
        id,
        kind: None,
        overlap,
        expiration,
        acting_user: message.acting_user,
        request_id: message.request_id,
        etag: message.etag,
    };
    let rotated = face.0.rotate(context, request).await?;
    let now = face.0.now();
    Ok(Response::new(pb::RotateResponse {
        credential: Some(convert::credential(rotated.credential, now)),
        token: rotated.token.expose().to_owned(),
        predecessor: Some(convert::credential(rotated.predecessor, now)),
        end_pending: rotated.end_pending,
    }))
}

pub(in crate::grpc) async fn disable(
    face: &AuthFace,
    request: Request<pb::DisableRequest>,
) -> Answer<pb::DisableResponse> {
    let context = convert::context(&request)?;
    let message = request.into_inner();
    let switch = switch(&message.credential_id, message.acting_user, message.reason)?;
    let credential = face.0.disable(context, switch).await?;
    let credential = Some(convert::credential(credential, face.0.now()));
    Ok(Response::new(pb::DisableResponse { credential }))
}

pub(in crate::grpc) async fn enable(
    face: &AuthFace,
    request: Request<pb::EnableRequest>,
) -> Answer<pb::EnableResponse> {
    let context = convert::context(&request)?;
    let message = request.into_inner();
    let switch = switch(&message.credential_id, message.acting_user, message.reason)?;
    let credential = face.0.enable(context, switch).await?;
    let credential = Some(convert::credential(credential, face.0.now()));
    Ok(Response::new(pb::EnableResponse { credential }))
}

fn switch(id: &str, acting_user: String, reason: String) -> Result<SwitchCredential, Status> {
    let mut violations = Violations::default();
    let id = convert::credential_id(&mut violations, "credential_id", id);
    let Some(id) = id else { return convert::refuse(violations) };
    Ok(SwitchCredential { id, kind: None, acting_user, reason })
}
