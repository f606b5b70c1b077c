//! `AuthService`: introspection, making and revoking credentials. What else happens to one is in `credentials`.

use std::collections::HashMap;
use std::sync::Arc;

use tonic::{Request, Response, Status};
use zeroize::Zeroizing;

use super::credentials::{bulk_revoke, update};
use super::introspect::decoded;
use super::{convert, pb};
use crate::model::{CredentialId, Role};
use crate::service::{
    CreateCredential, Created, Expiration, NewOwner, Reason, Requester, RevokeTarget, Service,
    ServiceError, Violations,
};

type Answer<T> = Result<Response<T>, Status>;

/// The gRPC face of credentials.
pub(super) struct AuthFace(pub(super) Arc<Service>);

#[tonic::async_trait]
impl pb::auth_service_server::AuthService for AuthFace {
    async fn introspect(
        &self,
        request: Request<pb::IntrospectRequest>,
    ) -> Answer<pb::IntrospectResponse> {
        let asker = convert::asker(&request)?;
        let message = request.into_inner();
        let mut violations = Violations::default();
        let question =
            convert::introspection_request(&self.0, &mut violations, "", &message, asker);
        violations.finish()?;
        Ok(Response::new(convert::introspection(self.0.introspect(&question).await?)))
    }

    async fn batch_introspect(
        &self,
        request: Request<pb::BatchIntrospectRequest>,
    ) -> Answer<pb::BatchIntrospectResponse> {
        decoded::introspect(&self.0, request).await
    }

    async fn create_key(
        &self,
        request: Request<pb::CreateKeyRequest>,
    ) -> Answer<pb::CreateKeyResponse> {
        use pb::create_key_request::Expiration as Choice;
        let context = convert::context(&request)?;
        let message = request.into_inner();
        let mut violations = Violations::default();
        let workspace = convert::workspace_name(&mut violations, "workspace", &message.workspace);
        let scopes = convert::scopes(&mut violations, "scopes", &message.scopes);
        let expiration = match message.expiration {
            None => None,
            Some(Choice::ExpireTime(time)) => convert::at(&mut violations, time),
            Some(Choice::Ttl(ttl)) => convert::after(&mut violations, ttl),
        };
        let Some(workspace) = workspace else { return convert::refuse(violations) };
        violations.finish()?;
        let created = self
            .0
            .create_credential(
                context,
                CreateCredential {
                    owner: NewOwner::Workspace(workspace),
                    name: message.name,
                    scopes,
                    expiration,
                    ip_allowlist: message.ip_allowlist,
                    annotations: message.annotations.into_iter().collect(),
                    acting_user: message.acting_user,
                    request_id: message.request_id,
                },
            )
            .await?;
        let (credential, token) = self.shown(created);
        Ok(Response::new(pb::CreateKeyResponse { credential: Some(credential), token }))
    }

    async fn create_pat(
        &self,
        request: Request<pb::CreatePatRequest>,
    ) -> Answer<pb::CreatePatResponse> {
        use pb::create_pat_request::Expiration as Choice;
        let context = convert::context(&request)?;
        let message = request.into_inner();
        let mut violations = Violations::default();
        let user = convert::user_id(&mut violations, "user", &message.user);
        let scopes = convert::scopes(&mut violations, "scopes", &message.scopes);
        let max_role = convert::role(&mut violations, "max_role", message.max_role);
        let expiration: Option<Expiration> = match message.expiration {
            None => None,
            Some(Choice::ExpireTime(time)) => convert::at(&mut violations, time),
            Some(Choice::Ttl(ttl)) => convert::after(&mut violations, ttl),
        };
        let Some(user) = user else { return convert::refuse(violations) };
        violations.finish()?;
        let annotations: HashMap<String, String> = message.annotations;
        let created = self
            .0
            .create_credential(
                context,
                CreateCredential {
                    owner: NewOwner::User(user, max_role.unwrap_or(Role::Owner)),
                    name: message.name,
                    scopes,
                    expiration,
                    ip_allowlist: message.ip_allowlist,
                    annotations: annotations.into_iter().collect(),
                    acting_user: message.acting_user,
                    request_id: message.request_id,
                },
            )
            .await?;
        let (credential, token) = self.shown(created);
        Ok(Response::new(pb::CreatePatResponse { credential: Some(credential), token }))
    }

    async fn get_credential(
        &self,
        request: Request<pb::GetCredentialRequest>,
    ) -> Answer<pb::GetCredentialResponse> {
        let context = convert::context(&request)?;
        let message = request.into_inner();
        let mut violations = Violations::default();
        let id = violations.check("credential_id", CredentialId::parse(&message.credential_id));
        let Some(id) = id else { return convert::refuse(violations) };
        let credential = self.0.get_credential(&context, id, &message.acting_user).await?;
        let credential = Some(convert::credential(credential, self.0.now()));
        Ok(Response::new(pb::GetCredentialResponse { credential }))
    }

    async fn list_credentials(
        &self,
        request: Request<pb::ListCredentialsRequest>,
    ) -> Answer<pb::ListCredentialsResponse> {
        update::list(self, request).await
    }

    async fn revoke(&self, request: Request<pb::RevokeRequest>) -> Answer<pb::RevokeResponse> {
        use pb::revoke_request::Credential as Choice;
        let context = convert::context(&request)?;
        let message = request.into_inner();
        let mut violations = Violations::default();
        let target = match message.credential {
            Some(Choice::Token(token)) => Some(RevokeTarget::Token(Zeroizing::new(token))),
            Some(Choice::CredentialId(id)) => violations
                .check("credential_id", CredentialId::parse(&id))
                .map(|id| RevokeTarget::Id(id, None)),
            None => {
                violations.add("credential", "credential_id or token is required");
                None
            }
        };
        let Some(target) = target else { return convert::refuse(violations) };
        let revoked = self.0.revoke(context, target, &message.acting_user, &message.reason).await?;
        let effective_time = revoked.credential.and_then(|credential| credential.revoke_time);
        Ok(Response::new(pb::RevokeResponse {
            effective_time: effective_time.map(convert::timestamp),
            revision: revoked.revision.0,
        }))
    }

    async fn update_credential(
        &self,
        request: Request<pb::UpdateCredentialRequest>,
    ) -> Answer<pb::UpdateCredentialResponse> {
        update::update(self, request).await
    }

    async fn rotate(&self, request: Request<pb::RotateRequest>) -> Answer<pb::RotateResponse> {
        update::rotate(self, request).await
    }

    async fn disable(&self, request: Request<pb::DisableRequest>) -> Answer<pb::DisableResponse> {
        update::disable(self, request).await
    }

    async fn enable(&self, request: Request<pb::EnableRequest>) -> Answer<pb::EnableResponse> {
        update::enable(self, request).await
    }

    async fn bulk_revoke(
        &self,
        request: Request<pb::BulkRevokeRequest>,
    ) -> Answer<pb::BulkRevokeResponse> {
        bulk_revoke::revoke(&self.0, request).await
    }

    async fn revoke_leaked(
        &self,
        request: Request<pb::RevokeLeakedRequest>,
    ) -> Answer<pb::RevokeLeakedResponse> {
        bulk_revoke::revoke_leaked(&self.0, request).await
    }

    type WatchStream = super::watch::Responses;

    async fn watch(&self, request: Request<pb::WatchRequest>) -> Answer<Self::WatchStream> {
        let Requester::Caller(caller) = convert::context(&request)?.requester else {
            return Err(ServiceError::from(Reason::CallerMissing).into());
        };
        let heard = self.0.watch(caller, &request.into_inner().cursor).await?;
        Ok(Response::new(super::watch::responses(heard)))
    }
}

impl AuthFace {
    /// The credential, and its token on its only way out.
    fn shown(&self, created: Created) -> (pb::Credential, String) {
        let token = created.token.expose().to_owned();
        (convert::credential(created.credential, self.0.now()), token)
    }
}
