//! Managing credentials: one method for each call of the service, with its own messages.

use crate::call::{Again, Authenticated};
use crate::client::Client;
use crate::error::Error;
use crate::pb::admin_service_client::AdminServiceClient;
use crate::pb::directory_service_client::DirectoryServiceClient;
use crate::pb::{
    BulkRevokeRequest, BulkRevokeResponse, CreateKeyRequest, CreateKeyResponse, CreatePatRequest,
    CreatePatResponse, DisableRequest, DisableResponse, EnableRequest, EnableResponse,
    GetCredentialRequest, GetCredentialResponse, ListCredentialsRequest, ListCredentialsResponse,
    RevokeLeakedRequest, RevokeLeakedResponse, RevokeRequest, RevokeResponse, RotateRequest,
    RotateResponse, UpdateCredentialRequest, UpdateCredentialResponse, revoke_request,
};

/// Declares a method for each call: what it says, and whether it may be made again.
macro_rules! calls {
    ($(
        $(#[$doc:meta])*
        $method:ident, $name:literal, $request:ident -> $response:ident, |$given:ident| $again:expr;
    )*) => {
        impl Client {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                /// What the service says to it.
                pub async fn $method(&self, request: $request) -> Result<$response, Error> {
                    let link = self.link();
                    let (auth, $given) = (link.auth(), &request);
                    let again = $again;
                    let call = |request| {
                        let mut auth = auth.clone();
                        async move { auth.$method(request).await }
                    };
                    link.calls.make($name, request, again, link.management_timeout, call).await
                }
            )*
        }
    };
}

calls! {
    /// Makes a key of a workspace, and brings its token this once. With a `request_id` the call is made again if the
    /// service is out of reach for a moment.
    create_key, "CreateKey", CreateKeyRequest -> CreateKeyResponse, |request| Again::with(&request.request_id);
    /// Makes a personal access token of a user, and brings its token this once. As [`create_key`](Client::create_key).
    create_pat, "CreatePat", CreatePatRequest -> CreatePatResponse, |request| Again::with(&request.request_id);
    /// Gets one credential.
    get_credential, "GetCredential", GetCredentialRequest -> GetCredentialResponse, |_request| Again::Safe;
    /// Gets a page of credentials.
    list_credentials, "ListCredentials", ListCredentialsRequest -> ListCredentialsResponse, |_request| Again::Safe;
    /// Changes a credential: name, annotations, IP allowlist; scopes taken away; the expiry brought forward.
    update_credential, "UpdateCredential", UpdateCredentialRequest -> UpdateCredentialResponse, |_request| Again::Never;
    /// Makes a successor of a credential, and brings its token this once. As [`create_key`](Client::create_key).
    rotate, "Rotate", RotateRequest -> RotateResponse, |request| Again::with(&request.request_id);
    /// Switches a credential off until it is enabled again. When this returns it is refused everywhere.
    disable, "Disable", DisableRequest -> DisableResponse, |_request| Again::Safe;
    /// Switches a disabled credential on again.
    enable, "Enable", EnableRequest -> EnableResponse, |_request| Again::Safe;
    /// Ends a credential for good. When this returns it is dead everywhere, and in this client's memory within
    /// moments.
    revoke, "Revoke", RevokeRequest -> RevokeResponse, |_request| Again::Safe;
    /// Ends all credentials that a filter names, or tells which they are.
    bulk_revoke, "BulkRevoke", BulkRevokeRequest -> BulkRevokeResponse, |_request| Again::Safe;
    /// Ends those of a list of texts that are real tokens.
    revoke_leaked, "RevokeLeaked", RevokeLeakedRequest -> RevokeLeakedResponse, |_request| Again::Safe;
}

impl Client {
    /// Ends the credential whose token this is. Succeeds whatever the token is (RFC 7009 section 2.2).
    ///
    /// # Errors
    /// What the service says to it.
    pub async fn revoke_token(&self, token: &str) -> Result<RevokeResponse, Error> {
        let credential = Some(revoke_request::Credential::Token(token.to_owned()));
        self.revoke(RevokeRequest { credential, ..Default::default() }).await
    }

    /// Workspaces, users and memberships, as the service has it: without this client's deadlines and second tries.
    pub fn directory(&self) -> DirectoryServiceClient<Authenticated> {
        let (channel, caller) = self.link().channel();
        DirectoryServiceClient::with_interceptor(channel, caller)
    }

    /// Callers and the audit log, as the service has it: without this client's deadlines and second tries.
    pub fn admin(&self) -> AdminServiceClient<Authenticated> {
        let (channel, caller) = self.link().channel();
        AdminServiceClient::with_interceptor(channel, caller)
    }
}
