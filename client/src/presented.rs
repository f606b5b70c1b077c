//! The question of an introspection: a presented token, and what it is presented for.

use std::fmt;
use std::net::IpAddr;

use crate::Scopes;
use crate::pb::IntrospectRequest;

/// A presented token, and what it is presented for. `Debug` leaves out the token.
#[derive(Clone, Copy)]
pub struct Presented<'a> {
    pub(crate) token: &'a str,
    pub(crate) workspace: &'a str,
    pub(crate) required_scopes: Scopes,
    pub(crate) client_ip: Option<IpAddr>,
    pub(crate) fresh: bool,
    pub(crate) at_least_revision: u64,
}

impl<'a> Presented<'a> {
    /// Presents this token, exactly as it followed `Bearer `. An empty text means that no token was presented. Without
    /// [`requiring`](Self::requiring), only the token's identity is asked for, and the answer allows nothing.
    pub const fn new(token: &'a str) -> Self {
        Self {
            token,
            workspace: "",
            required_scopes: Scopes::NONE,
            client_ip: None,
            fresh: false,
            at_least_revision: 0,
        }
    }

    /// Names the workspace, by slug or id: the value of `x-sophic-workspace`.
    #[must_use]
    pub const fn in_workspace(self, workspace: &'a str) -> Self {
        Self { workspace, ..self }
    }

    /// Requires all of these scopes. Requests that require none are never allowed: their answer
    /// [is about the identity only](crate::Introspection::is_identity_only).
    #[must_use]
    pub const fn requiring(self, required_scopes: Scopes) -> Self {
        Self { required_scopes, ..self }
    }

    /// Sets the address of the client, for credentials with an IP allowlist.
    #[must_use]
    pub const fn from_ip(self, client_ip: Option<IpAddr>) -> Self {
        Self { client_ip, ..self }
    }

    /// Bypasses the caches of the client and of the service, so that the store is read.
    #[must_use]
    pub const fn fresh(self) -> Self {
        Self { fresh: true, ..self }
    }

    /// Requires an answer of at least this revision, which an earlier answer or change returned.
    #[must_use]
    pub const fn at_least_revision(self, revision: u64) -> Self {
        Self { at_least_revision: revision, ..self }
    }

    pub(crate) fn to_request(self) -> IntrospectRequest {
        IntrospectRequest {
            token: self.token.to_owned(),
            workspace: self.workspace.to_owned(),
            required_scopes: self.required_scopes.to_proto(),
            client_ip: self.client_ip.map(|ip| ip.to_string()).unwrap_or_default(),
            fresh: self.fresh,
            at_least_revision: self.at_least_revision,
        }
    }
}

impl fmt::Debug for Presented<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presented")
            .field("token", &"redacted")
            .field("workspace", &self.workspace)
            .field("required_scopes", &self.required_scopes)
            .field("client_ip", &self.client_ip)
            .field("fresh", &self.fresh)
            .field("at_least_revision", &self.at_least_revision)
            .finish()
    }
}
