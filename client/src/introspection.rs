//! The answer of an introspection: whose token it is, and the decision.

use std::sync::{Arc, LazyLock};

use crate::Scopes;
use crate::pb::{
    Denial, IntrospectResponse, IntrospectedCredential, IntrospectedWorkspace, Role,
    introspect_response::Principal,
};

/// The answer of an introspection: whose token it is, and whether the request is allowed. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Introspection {
    response: Arc<IntrospectResponse>,
    bridged: bool,
}

impl Introspection {
    pub(crate) fn new(response: IntrospectResponse) -> Self {
        Self { response: Arc::new(response), bridged: false }
    }

    /// The answer if no token was presented.
    pub(crate) fn missing() -> Self {
        static ANSWER: LazyLock<Introspection> =
            LazyLock::new(|| Introspection::refused(sophic_auth_protocol::Denial::TokenMissing));
        ANSWER.clone()
    }

    /// The answer if the text cannot be a token. It is the same as the service's answer for an unknown token.
    pub(crate) fn unknown() -> Self {
        static ANSWER: LazyLock<Introspection> =
            LazyLock::new(|| Introspection::refused(sophic_auth_protocol::Denial::TokenUnknown));
        ANSWER.clone()
    }

    fn refused(denial: sophic_auth_protocol::Denial) -> Self {
        Self::new(IntrospectResponse {
            denial: denial.to_proto().into(),
            http_status: denial.http_status().into(),
            www_authenticate: denial.challenge(None, Scopes::NONE).to_owned(),
            ..Default::default()
        })
    }

    /// Marks the answer as stale.
    pub(crate) fn into_stale(self) -> Self {
        Self { bridged: true, ..self }
    }

    /// Whether the request is allowed. An answer that contradicts itself counts as a refusal.
    pub fn is_allowed(&self) -> bool {
        let response = &self.response;
        response.active && response.allowed && response.denial == Denial::Unspecified as i32
    }

    /// Whether the token belongs to an active credential with an active owner, allowed or not.
    pub fn is_active(&self) -> bool {
        self.response.active
    }

    /// Returns the reason for the refusal. `None` if allowed. A reason that this version does not know is
    /// [`Denial::Unspecified`].
    pub fn denial(&self) -> Option<Denial> {
        (!self.is_allowed()).then(|| self.response.denial())
    }

    /// Returns the HTTP status to answer the client with: 200, 400, 401 or 403. In a batch also 429, for a token that
    /// was not looked up.
    pub fn http_status(&self) -> u16 {
        match (self.is_allowed(), self.response.http_status) {
            (true, _) => 200,
            (false, 400) => 400,
            (false, 401) => 401,
            (false, 429) => 429,
            (false, _) => 403,
        }
    }

    /// Returns the `WWW-Authenticate` header to answer the client with. Empty if allowed.
    pub fn www_authenticate(&self) -> &str {
        &self.response.www_authenticate
    }

    /// Returns the principal: a workspace, by its key, or a user, by their personal access token. `None` unless active.
    pub fn principal(&self) -> Option<&Principal> {
        self.response.principal.as_ref()
    }

    /// Returns the user's id, if the principal is a user.
    pub fn user_id(&self) -> Option<&str> {
        match self.principal()? {
            Principal::User(user) => Some(&user.id),
            Principal::WorkspaceKey(_) => None,
        }
    }

    /// Returns the workspace that the token acts in.
    pub fn workspace(&self) -> Option<&IntrospectedWorkspace> {
        self.response.workspace.as_ref()
    }

    /// Returns the effective role of a personal access token in that workspace.
    pub fn role(&self) -> Option<Role> {
        Some(self.response.role()).filter(|role| *role != Role::Unspecified)
    }

    /// Returns the effective scopes.
    pub fn scopes(&self) -> Scopes {
        Scopes::from_proto(&self.response.scopes)
    }

    /// Returns the required scopes that are not in effect.
    pub fn missing_scopes(&self) -> Scopes {
        Scopes::from_proto(&self.response.missing_scopes)
    }

    /// Returns the credential. `None` unless active.
    pub fn credential(&self) -> Option<&IntrospectedCredential> {
        self.response.credential.as_ref()
    }

    /// Returns the revision of the store that the answer reflects.
    pub fn revision(&self) -> u64 {
        self.response.revision
    }

    /// Whether the answer is the last known one, because the service or its store is unavailable. Only possible if the
    /// client was built with [`bridge_outage`](crate::Builder::bridge_outage) or the service runs with an outage grace
    /// period.
    pub fn is_stale(&self) -> bool {
        self.bridged || self.response.stale
    }

    /// Returns the complete response.
    pub fn response(&self) -> &IntrospectResponse {
        &self.response
    }
}
