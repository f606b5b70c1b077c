//! Admission of look-ups in the store. Look-ups of unknown tokens are rate-limited per origin (`unknown_rate.rs`).
//! Look-ups of existing tokens are not.
//!
//! A token that is missing from the filter of all digests may have been created by another replica a moment ago. So
//! before a look-up is refused, this replica catches up with the change log and checks the filter again.

use std::net::IpAddr;

use crate::model::{CallerId, Digest, Facts, FoundFacts, PrincipalFacts};
use crate::service::{IntrospectionRequest, Reason, Result, Service};

/// Origin of a look-up, by which it is rate-limited.
#[derive(Debug, Clone, Copy)]
pub(in crate::service) struct LookupOrigin {
    /// The caller. `None` for a requester without a rate limit.
    pub(in crate::service) caller: Option<CallerId>,
    /// The network address of the client that presented the token, if known.
    pub(in crate::service) client_ip: Option<IpAddr>,
}

impl Service {
    /// Admits a look-up, unless the token is unknown and its origin has had too many unknown tokens looked up.
    ///
    /// # Errors
    /// [`Reason::UnknownTokensTooMany`].
    pub(in crate::service) async fn admit_token(
        &self,
        origin: LookupOrigin,
        digest: &Digest,
    ) -> Result<()> {
        if self.admits_token(origin, digest) {
            return Ok(());
        }
        self.lookup.catch_up().await;
        if self.admits_token(origin, digest) {
            return Ok(());
        }
        Err(Reason::UnknownTokensTooMany.into())
    }

    /// Whether a token with this digest may exist, by the filter in memory.
    pub fn may_exist(&self, digest: &Digest) -> bool {
        self.lookup.may_exist(digest)
    }

    /// Whether a look-up is admitted. A token that may exist is always looked up: a flood of made-up tokens must not
    /// shut out real ones that are not in memory.
    pub(in crate::service) fn admits_token(&self, origin: LookupOrigin, digest: &Digest) -> bool {
        let admits = |caller| self.unknown_rate.admits(caller, origin.client_ip);
        origin.caller.is_none_or(admits) || self.may_exist(digest)
    }

    /// Counts a look-up that found no token.
    pub(in crate::service) fn count_unknown_token(&self, origin: LookupOrigin, digest: &Digest) {
        if let Some(caller) = origin.caller
            && !self.lookup.may_exist(digest)
        {
            self.unknown_rate.count(caller, origin.client_ip);
        }
    }

    /// Counts a look-up whose token the requester may not know of, like one that found no token.
    ///
    /// # Errors
    /// [`Reason::UnknownTokensTooMany`] where an unknown token would have been refused, after the same wait.
    pub(in crate::service) async fn refuse_hidden_token(&self, origin: LookupOrigin) -> Result<()> {
        let Some(caller) = origin.caller else { return Ok(()) };
        let admits = || self.unknown_rate.admits(caller, origin.client_ip);
        if !admits() {
            self.lookup.catch_up().await;
            if !admits() {
                return Err(Reason::UnknownTokensTooMany.into());
            }
        }
        self.unknown_rate.count(caller, origin.client_ip);
        Ok(())
    }

    /// Whether the named workspace may be looked up. Rate-limited per token, since the holder of a valid token could
    /// name any number of workspaces.
    pub(in crate::service) fn admits_workspace(
        &self,
        request: &IntrospectionRequest<'_>,
        digest: &Digest,
    ) -> bool {
        request.caller_id.is_none()
            || request.workspace.is_empty()
            || self.unknown_rate.admits_workspace(digest)
    }

    /// Counts a look-up of an unknown token, or of a workspace in which the token has no role.
    pub(in crate::service) fn count_misses(
        &self,
        request: &IntrospectionRequest<'_>,
        digest: &Digest,
        facts: &Facts,
    ) {
        match &facts.found {
            None => self.count_unknown_token(LookupOrigin::of(request), digest),
            Some(found)
                if request.caller_id.is_some() && names_workspace_without_role(request, found) =>
            {
                self.unknown_rate.count_workspace(digest);
            }
            Some(_) => {}
        }
    }
}

impl LookupOrigin {
    /// The origin of an introspection.
    pub(in crate::service) const fn of(request: &IntrospectionRequest<'_>) -> Self {
        Self { caller: request.caller_id, client_ip: request.client_ip }
    }
}

/// Whether the request names a workspace in which the user has no role, or which does not exist. Always false for keys,
/// for which no workspace is looked up.
fn names_workspace_without_role(request: &IntrospectionRequest<'_>, found: &FoundFacts) -> bool {
    let PrincipalFacts::User(user) = &found.principal else { return false };
    let named = found.named_workspace.as_ref();
    !request.workspace.is_empty() && named.and_then(|named| user.role_in(&named.id)).is_none()
}
