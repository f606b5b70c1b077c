//! Management of credentials: one method for each RPC, with its messages.

use crate::call::{Authenticated, Idempotency};
use crate::client::Client;
use crate::error::Error;
use crate::pb::admin_service_client::AdminServiceClient;
use crate::pb::directory_service_client::DirectoryServiceClient;
use crate::pb::{
    BarPatRequest, BarPatResponse, BulkRevokeRequest, BulkRevokeResponse, CreateKeyRequest,
    CreateKeyResponse, CreatePatRequest, CreatePatResponse, DisableRequest, DisableResponse,
    EnableRequest, EnableResponse, GetCredentialRequest, GetCredentialResponse,
    ListCredentialsRequest, ListCredentialsResponse, ListWorkspacePatsRequest,
    ListWorkspacePatsResponse, RevokeLeakedRequest, RevokeLeakedResponse, RevokeRequest,
    RevokeResponse, RotateRequest, RotateResponse, UnbarPatRequest, UnbarPatResponse,
    UpdateCredentialRequest, UpdateCredentialResponse, revoke_request,
};

/// Declares a method for each RPC: its name, its messages, and whether it is idempotent.
macro_rules! calls {
    ($(
        $(#[$doc:meta])*
        $method:ident, $name:literal, $request:ident -> $response:ident, |$given:ident| $idempotency:expr;
    )*) => {
        impl Client {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                /// Fails if the service refuses the call or is unavailable.
                pub async fn $method(&self, request: $request) -> Result<$response, Error> {
                    let link = self.link();
                    let (auth, $given) = (link.auth(), &request);
                    let idempotency = $idempotency;
                    let call = |request| {
                        let mut auth = auth.clone();
                        async move { auth.$method(request).await }
                    };
                    link.calls.make($name, request, idempotency, link.management_timeout, call).await
                }
            )*
        }
    };
}

calls! {
    /// Creates a key of a workspace, and returns its token, which is shown only once. With a `request_id` the call is
    /// retried while the service is unavailable.
    create_key, "CreateKey", CreateKeyRequest -> CreateKeyResponse, |request| Idempotency::by_request_id(&request.request_id);
    /// Creates a personal access token of a user, and returns its token, which is shown only once. Retried as
    /// [`create_key`](Client::create_key).
    create_pat, "CreatePat", CreatePatRequest -> CreatePatResponse, |request| Idempotency::by_request_id(&request.request_id);
    /// Returns one credential.
    get_credential, "GetCredential", GetCredentialRequest -> GetCredentialResponse, |_request| Idempotency::Idempotent;
    /// Returns a page of credentials.
    list_credentials, "ListCredentials", ListCredentialsRequest -> ListCredentialsResponse, |_request| Idempotency::Idempotent;
    /// Updates a credential: name, annotations, IP allowlist. Scopes can only be removed, and the expiry only brought
    /// forward.
    update_credential, "UpdateCredential", UpdateCredentialRequest -> UpdateCredentialResponse, |_request| Idempotency::NotIdempotent;
    /// Creates a successor of a credential, and returns its token, which is shown only once. Retried as
    /// [`create_key`](Client::create_key).
    rotate, "Rotate", RotateRequest -> RotateResponse, |request| Idempotency::by_request_id(&request.request_id);
    /// Disables a credential until it is enabled again. When this returns, every replica refuses it.
    disable, "Disable", DisableRequest -> DisableResponse, |_request| Idempotency::Idempotent;
    /// Enables a disabled credential.
    enable, "Enable", EnableRequest -> EnableResponse, |_request| Idempotency::Idempotent;
    /// Revokes a credential, which is final. When this returns, every replica refuses it, and this client's cache does
    /// within moments.
    revoke, "Revoke", RevokeRequest -> RevokeResponse, |_request| Idempotency::Idempotent;
    /// Revokes all credentials that match a filter, or lists them in a dry run.
    bulk_revoke, "BulkRevoke", BulkRevokeRequest -> BulkRevokeResponse, |_request| Idempotency::Idempotent;
    /// Revokes those of a list of texts that are real tokens.
    revoke_leaked, "RevokeLeaked", RevokeLeakedRequest -> RevokeLeakedResponse, |_request| Idempotency::Idempotent;
    /// Returns a page of the personal access tokens that have acted in a workspace, the most recently used first.
    list_workspace_pats, "ListWorkspacePats", ListWorkspacePatsRequest -> ListWorkspacePatsResponse, |_request| Idempotency::Idempotent;
    /// Bars a personal access token and its family from a workspace. When this returns, every replica denies it there.
    bar_pat, "BarPat", BarPatRequest -> BarPatResponse, |_request| Idempotency::Idempotent;
    /// Removes the bar of a personal access token and its family.
    unbar_pat, "UnbarPat", UnbarPatRequest -> UnbarPatResponse, |_request| Idempotency::Idempotent;
}

impl Client {
    /// Revokes the credential of this token. Succeeds for any token, known or not (RFC 7009 section 2.2).
    ///
    /// # Errors
    /// Fails if the service refuses the call or is unavailable.
    pub async fn revoke_token(&self, token: &str) -> Result<RevokeResponse, Error> {
        let credential = Some(revoke_request::Credential::Token(token.to_owned()));
        self.revoke(RevokeRequest { credential, ..Default::default() }).await
    }

    /// Returns the generated client for workspaces, users and memberships. It has neither this client's deadlines nor
    /// its retries.
    pub fn directory(&self) -> DirectoryServiceClient<Authenticated> {
        let (channel, caller) = self.link().channel();
        DirectoryServiceClient::with_interceptor(channel, caller)
    }

    /// Returns the generated client for callers and the audit log. It has neither this client's deadlines nor its
    /// retries.
    pub fn admin(&self) -> AdminServiceClient<Authenticated> {
        let (channel, caller) = self.link().channel();
        AdminServiceClient::with_interceptor(channel, caller)
    }
}
