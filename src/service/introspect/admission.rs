//! Who may have something looked up that memory does not have: what is nobody's is bounded, by whoever asks for it
//! (`unknown_rate.rs`), and what is somebody's never is.
//!
//! What the filter of all digests does not have may have been made elsewhere a moment ago. So before anything is refused for
//! its asker's rate, the log is caught up with, and the filter is asked again.

use std::net::IpAddr;

use crate::model::{CallerId, Digest, Facts, FoundFacts, PrincipalFacts};
use crate::service::{IntrospectionRequest, Reason, Result, Service};

/// Whoever asks about a token.
#[derive(Debug, Clone, Copy)]
pub(in crate::service) struct Asker {
    /// Nobody: one who could not flood.
    pub(in crate::service) caller: Option<CallerId>,
    /// Of the client that presented it, where that is known.
    pub(in crate::service) client_ip: Option<IpAddr>,
}

impl Service {
    /// Lets a token be looked up, unless it is nobody's and there were too many of those.
    ///
    /// # Errors
    /// [`Reason::UnknownTokensTooMany`].
    pub(in crate::service) async fn admit_token(
        &self,
        asker: Asker,
        digest: &Digest,
    ) -> Result<()> {
        if self.admits_token(asker, digest) {
            return Ok(());
        }
        self.lookup.catch_up().await;
        if self.admits_token(asker, digest) {
            return Ok(());
        }
        Err(Reason::UnknownTokensTooMany.into())
    }

    /// Whether this may be somebody's token, as far as memory tells.
    pub fn may_know(&self, digest: &Digest) -> bool {
        self.lookup.may_know(digest)
    }

    /// What may be somebody's is looked up whatever the caller has asked about before: a flood of made-up tokens must not
    /// keep out those whose credentials are not in memory.
    pub(in crate::service) fn admits_token(&self, asker: Asker, digest: &Digest) -> bool {
        let admits = |caller| self.unknown_rate.admits(caller, asker.client_ip);
        asker.caller.is_none_or(admits) || self.may_know(digest)
    }

    /// What was looked up is nobody's.
    pub(in crate::service) fn count_unknown_token(&self, asker: Asker, digest: &Digest) {
        if let Some(caller) = asker.caller
            && !self.lookup.may_know(digest)
        {
            self.unknown_rate.count(caller, asker.client_ip);
        }
    }

    /// Whether the workspace that is named may be looked up: the holder of one good token may name as many as they like.
    pub(in crate::service) fn admits_workspace(
        &self,
        request: &IntrospectionRequest<'_>,
        digest: &Digest,
    ) -> bool {
        request.asker.is_none()
            || request.workspace.is_empty()
            || self.unknown_rate.admits_workspace(digest)
    }

    /// Counts what was looked up and led to nothing.
    pub(in crate::service) fn count(
        &self,
        request: &IntrospectionRequest<'_>,
        digest: &Digest,
        facts: &Facts,
    ) {
        match &facts.found {
            None => self.count_unknown_token(Asker::of(request), digest),
            Some(found) if request.asker.is_some() && names_in_vain(request, found) => {
                self.unknown_rate.count_workspace(digest);
            }
            Some(_) => {}
        }
    }
}

impl Asker {
    /// Of an introspection.
    pub(in crate::service) const fn of(request: &IntrospectionRequest<'_>) -> Self {
        Self { caller: request.asker, client_ip: request.client_ip }
    }
}

/// Whether a workspace is named where the user has no role, be there such a workspace or not. Those of keys are not looked up.
fn names_in_vain(request: &IntrospectionRequest<'_>, found: &FoundFacts) -> bool {
    let PrincipalFacts::User(user) = &found.principal else { return false };
    let named = found.named_workspace.as_ref();
    !request.workspace.is_empty() && named.and_then(|named| user.role_in(&named.id)).is_none()
}
