//! The answer: whose token it is, and the verdict.

use std::sync::{Arc, LazyLock};

use crate::Scopes;
use crate::pb::{
    Denial, IntrospectResponse, IntrospectedCredential, IntrospectedWorkspace, Role,
    introspect_response::Principal,
};

/// Whose token it is, and whether it may do what was asked. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Introspection {
    response: Arc<IntrospectResponse>,
    bridged: bool,
}

impl Introspection {
    pub(crate) fn new(response: IntrospectResponse) -> Self {
        Self { response: Arc::new(response), bridged: false }
    }

    /// No token was presented.
    pub(crate) fn missing() -> Self {
        static ANSWER: LazyLock<Introspection> =
            LazyLock::new(|| Introspection::refused(sophic_auth_protocol::Denial::TokenMissing));
        ANSWER.clone()
    }

    /// The text cannot be a token: what the service says of tokens that it does not know.
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

    /// The same, known to be old.
    pub(crate) fn bridging(self) -> Self {
        Self { bridged: true, ..self }
    }

    /// Whether what was asked may be done. Anything that does not fit this is a refusal.
    pub fn is_allowed(&self) -> bool {
        let response = &self.response;
        response.active && response.allowed && response.denial == Denial::Unspecified as i32
    }

    /// Whether the token is that of a live credential with a live owner, allowed or not.
    pub fn is_active(&self) -> bool {
        self.response.active
    }

    /// Why not; `None` if allowed. A reason that this version does not know of is [`Denial::Unspecified`].
    pub fn denial(&self) -> Option<Denial> {
        (!self.is_allowed()).then(|| self.response.denial())
    }

    /// The HTTP status to answer the client with: 200, 400, 401 or 403; of a batch 429 too, for what was not looked up.
    pub fn http_status(&self) -> u16 {
        match (self.is_allowed(), self.response.http_status) {
            (true, _) => 200,
            (false, 400) => 400,
            (false, 401) => 401,
            (false, 429) => 429,
            (false, _) => 403,
        }
    }

    /// The `WWW-Authenticate` header to answer the client with; empty when allowed.
    pub fn www_authenticate(&self) -> &str {
        &self.response.www_authenticate
    }

    /// Who is asking: a workspace by its key, or a user by their personal access token. There whenever active.
    pub fn principal(&self) -> Option<&Principal> {
        self.response.principal.as_ref()
    }

    /// The user's id, if a user is asking.
    pub fn user_id(&self) -> Option<&str> {
        match self.principal()? {
            Principal::User(user) => Some(&user.id),
            Principal::WorkspaceKey(_) => None,
        }
    }

    /// The workspace acted in.
    pub fn workspace(&self) -> Option<&IntrospectedWorkspace> {
        self.response.workspace.as_ref()
    }

    /// The effective role of a personal access token in that workspace.
    pub fn role(&self) -> Option<Role> {
        Some(self.response.role()).filter(|role| *role != Role::Unspecified)
    }

    /// The effective scopes.
    pub fn scopes(&self) -> Scopes {
        Scopes::from_proto(&self.response.scopes)
    }

    /// The required scopes that are not in effect.
    pub fn missing_scopes(&self) -> Scopes {
        Scopes::from_proto(&self.response.missing_scopes)
    }

    /// The credential; there whenever active.
    pub fn credential(&self) -> Option<&IntrospectedCredential> {
        self.response.credential.as_ref()
    }

    /// The store's revision that the answer is of.
    pub fn revision(&self) -> u64 {
        self.response.revision
    }

    /// Whether this is what was last known, because the service or its store is out of reach. Never true unless the
    /// client was built with [`bridge_outage`](crate::Builder::bridge_outage) or the service runs with an outage grace.
    pub fn is_stale(&self) -> bool {
        self.bridged || self.response.stale
    }

    /// All of it, as it came.
    pub fn response(&self) -> &IntrospectResponse {
        &self.response
    }
}
