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
    /// The scopes that the request required. An older service does not say whether there were any.
    required_scopes: Scopes,
    bridged: bool,
}

impl Introspection {
    /// Creates the answer to a request that required these scopes.
    pub(crate) fn new(response: IntrospectResponse, required_scopes: Scopes) -> Self {
        Self { response: Arc::new(response), required_scopes, bridged: false }
    }

    /// Returns the same answer, for a request that required these scopes.
    pub(crate) fn for_scopes(self, required_scopes: Scopes) -> Self {
        Self { required_scopes, ..self }
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
        let response = IntrospectResponse {
            denial: denial.to_proto().into(),
            http_status: denial.http_status().into(),
            www_authenticate: denial.challenge(None, Scopes::NONE).to_owned(),
            ..Default::default()
        };
        Self::new(response, Scopes::NONE)
    }

    /// Marks the answer as stale.
    pub(crate) fn into_stale(self) -> Self {
        Self { bridged: true, ..self }
    }

    /// Whether the request may proceed: it required at least one scope, and the service allows it. Check this before you
    /// serve data.
    ///
    /// It is false for an answer that [is about the identity only](Self::is_identity_only), and for an answer that
    /// contradicts itself.
    pub fn is_allowed(&self) -> bool {
        !self.is_identity_only() && self.denial().is_none()
    }

    /// Whether the request required no scope. Then the answer says at most whose token it is, and permits nothing: if
    /// [`denial`](Self::denial) is `None`, the token is valid and may act in the workspace, but
    /// [`is_allowed`](Self::is_allowed) is false.
    pub fn is_identity_only(&self) -> bool {
        self.required_scopes.is_empty()
    }

    /// Whether the token belongs to an active credential with an active owner, allowed or not.
    pub fn is_active(&self) -> bool {
        self.response.active
    }

    /// Returns the reason for the refusal. `None` if nothing is refused: `None` alone permits nothing, since it is also
    /// the answer if only the identity was asked for. A reason that this version does not know is
    /// [`Denial::Unspecified`].
    pub fn denial(&self) -> Option<Denial> {
        let response = &self.response;
        // A service that takes the request for one without scopes has decided another request.
        let other_request = response.identity_only && !self.required_scopes.is_empty();
        let granted = response.active
            && response.allowed
            && response.denial == Denial::Unspecified as i32
            && !other_request;
        (!granted).then(|| response.denial())
    }

    /// Returns the HTTP status to answer the client with: 200, 400, 401 or 403. In a batch also 429, for a token that
    /// was not looked up.
    pub fn http_status(&self) -> u16 {
        match (self.denial().is_none(), self.response.http_status) {
            (true, _) => 200,
            (false, 400) => 400,
            (false, 401) => 401,
            (false, 429) => 429,
            (false, _) => 403,
        }
    }

    /// Returns the `WWW-Authenticate` header to answer the client with. Empty if nothing is refused.
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
