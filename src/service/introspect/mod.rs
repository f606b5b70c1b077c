//! Introspection: whose token is this, and may it be used here? Looks up the facts and decides. Writes nothing.

mod admission;
mod client_address;
mod explain;
mod last_use;
mod unknown_rate;

pub(super) use admission::LookupOrigin;
pub use client_address::UnreadableAddresses;
pub use explain::{Explain, Explained};
pub use last_use::LastUses;
pub use unknown_rate::UnknownRate;

use std::net::IpAddr;
use std::time::Duration;

use super::{Reason, Result, Service, ServiceError};
use crate::cache::{FactsQuery, LeaseSnapshot};
use crate::decision::{Decision, Denial, Request, decide, www_authenticate};
use crate::model::{
    CallerId, CredentialKind, Digest, Facts, FoundFacts, LastUse, PrincipalFacts, Revision,
    ScopeSet, Timestamp, Workspace, WorkspaceName,
};
use crate::token::digest_of_presented;

/// A request to introspect one token.
#[derive(Debug, Clone, Copy)]
pub struct IntrospectionRequest<'a> {
    /// The presented token, unchanged. Empty if none was presented.
    pub token: &'a str,
    /// The named workspace, as slug or id, unchanged. Empty if none is named.
    pub workspace: &'a str,
    /// The scopes that the request requires. All of them are needed.
    pub required_scopes: ScopeSet,
    /// The client's network address, if known.
    pub client_ip: Option<IpAddr>,
    /// Whether to ask the store even if memory has an answer.
    pub fresh: bool,
    /// Minimum revision of the answer.
    pub at_least_revision: u64,
    /// The caller, whose look-ups of unknown tokens are rate-limited. `None` for a requester without a limit.
    pub caller_id: Option<CallerId>,
}

/// Answer to an introspection.
#[derive(Debug, Clone)]
pub struct Introspection {
    /// The decision.
    pub decision: Decision,
    /// The credential and its owner, if the token is known. Report it only if the decision is active.
    pub found: Option<FoundFacts>,
    /// The `WWW-Authenticate` header. Empty when allowed.
    pub www_authenticate: &'static str,
    /// Time for which a cache that follows Watch may hold this answer.
    pub cache_ttl: Duration,
    /// The answer reflects this revision of the store or a newer one.
    pub revision: u64,
    /// Whether the store was unreachable and this is the last known answer.
    pub stale: bool,
    /// Whether the request required no scope, so that an allowed answer permits nothing.
    pub identity_only: bool,
}

/// Result of an attempt to answer without the store.
enum LocalAnswer {
    /// The complete answer.
    Answer(Introspection),
    /// No answer: the token of this digest has to be looked up.
    Missing(Digest),
}

impl Introspection {
    /// The workspace of the request: the key's workspace, or the named one if the user is a member of it. A
    /// member sees it in a denial too, so that a cache knows that the answer depends on it.
    pub fn workspace(&self) -> Option<&Workspace> {
        let found = self.found.as_ref().filter(|_| self.decision.is_active())?;
        match &found.principal {
            PrincipalFacts::Workspace(workspace) => Some(workspace),
            // The decision has searched for the membership already.
            PrincipalFacts::User(_) if self.decision.role.is_some() => {
                found.named_workspace.as_deref()
            }
            PrincipalFacts::User(_) => found.joined_workspace().map(|(named, _)| named),
        }
    }
}

impl Service {
    /// Introspects a token.
    ///
    /// # Errors
    /// If the store is unreachable or behind `at_least_revision`, or the caller's rate is exceeded. An invalid token
    /// is an answer, not an error.
    pub async fn introspect(&self, request: &IntrospectionRequest<'_>) -> Result<Introspection> {
        let digest = match self.answer_locally(request, self.lookup.lease_snapshot())? {
            LocalAnswer::Answer(answer) => return Ok(answer),
            LocalAnswer::Missing(digest) => digest,
        };
        if !self.admits_workspace(request, &digest) {
            return Err(Reason::UnknownTokensTooMany.into());
        }
        self.admit_token(LookupOrigin::of(request), &digest).await?;
        let facts = self.lookup.look_up(&facts_query(request, &digest)).await?;
        self.count_misses(request, &digest, &facts);
        self.answer(request, facts)
    }

    /// Introspects from memory without waiting. Returns `None` if the store has to be asked, because memory has no
    /// answer or the lease has not held since `snapshot`.
    ///
    /// # Errors
    /// If memory is behind `at_least_revision`.
    pub fn introspect_from_memory(
        &self,
        request: &IntrospectionRequest<'_>,
        snapshot: LeaseSnapshot,
    ) -> Result<Option<Introspection>> {
        match self.answer_locally(request, snapshot)? {
            LocalAnswer::Answer(answer) => Ok(Some(answer)),
            LocalAnswer::Missing(_) => Ok(None),
        }
    }

    /// Answers from the format of the token or from memory, if possible. No rate limit applies.
    fn answer_locally(
        &self,
        request: &IntrospectionRequest<'_>,
        snapshot: LeaseSnapshot,
    ) -> Result<LocalAnswer> {
        let digest = match self.digest_to_look_up(request) {
            Ok(digest) => digest,
            Err(denial) => return Ok(LocalAnswer::Answer(self.without_look_up(request, denial))),
        };
        match self.lookup.cached_facts(&facts_query(request, &digest), snapshot) {
            Some(facts) => self.answer(request, facts).map(LocalAnswer::Answer),
            None => Ok(LocalAnswer::Missing(digest)),
        }
    }

    /// Introspects several tokens independently, with a single read of the store for all that are not in memory. A
    /// token that may not be looked up gets a denial in its place, and the others are answered.
    ///
    /// # Errors
    /// As [`Self::introspect`] for any of them, except for an exceeded rate.
    pub async fn introspect_many(
        &self,
        requests: &[IntrospectionRequest<'_>],
    ) -> Result<Vec<Introspection>> {
        let snapshot = self.lookup.lease_snapshot();
        let known: Result<Vec<_>> =
            requests.iter().map(|request| self.answer_locally(request, snapshot)).collect();
        let mut known = known?;
        self.refuse_too_many(requests, &mut known).await;
        let missing: Vec<_> = requests
            .iter()
            .zip(&known)
            .filter_map(|(request, known)| match known {
                LocalAnswer::Answer(_) => None,
                LocalAnswer::Missing(digest) => Some((request, digest)),
            })
            .collect();
        let mut facts = self.look_up_missing(&missing).await?.into_iter();
        let answers = requests.iter().zip(known).map(|(request, known)| match known {
            LocalAnswer::Answer(answer) => Ok(answer),
            LocalAnswer::Missing(_) => match facts.next() {
                Some(facts) => self.answer(request, facts),
                None => Err(ServiceError::internal(&"fewer facts than queries")),
            },
        });
        answers.collect()
    }

    /// Denies the tokens that may not be looked up.
    async fn refuse_too_many(
        &self,
        requests: &[IntrospectionRequest<'_>],
        known: &mut [LocalAnswer],
    ) {
        let admits = |request: &IntrospectionRequest<'_>, known: &LocalAnswer| match known {
            LocalAnswer::Answer(_) => true,
            LocalAnswer::Missing(digest) => self.admits_token(LookupOrigin::of(request), digest),
        };
        if !requests.iter().zip(&*known).all(|(request, known)| admits(request, known)) {
            self.lookup.catch_up().await;
        }
        for (request, known) in requests.iter().zip(known) {
            if let LocalAnswer::Missing(digest) = known
                && !(self.admits_workspace(request, digest)
                    && self.admits_token(LookupOrigin::of(request), digest))
            {
                let denied = self.without_look_up(request, Denial::UnknownTokensTooMany);
                *known = LocalAnswer::Answer(denied);
            }
        }
    }

    async fn look_up_missing(
        &self,
        missing: &[(&IntrospectionRequest<'_>, &Digest)],
    ) -> Result<Vec<Facts>> {
        if missing.is_empty() {
            return Ok(Vec::new());
        }
        let queries: Vec<_> =
            missing.iter().map(|(request, digest)| facts_query(request, digest)).collect();
        let facts = self.lookup.look_up_many(&queries).await?;
        for ((request, digest), facts) in missing.iter().zip(&facts) {
            self.count_misses(request, digest, facts);
        }
        Ok(facts)
    }

    /// Builds a denial at memory's revision, so that a malformed token looks like an unknown one.
    fn without_look_up(&self, request: &IntrospectionRequest<'_>, denial: Denial) -> Introspection {
        without_credential(request, denial, self.lookup.revision().0)
    }

    /// Rows 1 and 2 of the decision table (docs/decisions.md), for tokens whose text shows that they apply.
    fn digest_to_look_up(
        &self,
        request: &IntrospectionRequest<'_>,
    ) -> std::result::Result<Digest, Denial> {
        if request.token.is_empty() {
            return Err(Denial::TokenMissing);
        }
        let accept_imported = self.options.accept_imported_tokens;
        digest_of_presented(request.token, accept_imported).ok_or(Denial::TokenUnknown)
    }

    fn answer(&self, request: &IntrospectionRequest<'_>, facts: Facts) -> Result<Introspection> {
        let revision = facts.revision.0;
        if revision < request.at_least_revision {
            return Err(Reason::RevisionNotReached.into());
        }
        let Some(found) = facts.found else {
            return Ok(without_credential(request, Denial::TokenUnknown, revision));
        };
        let required = request.required_scopes;
        let asked = Request {
            workspace: named(request),
            required_scopes: required,
            client_ip: request.client_ip,
        };
        let now = self.clock.now();
        let decision = decide(&found, &asked, now);
        if decision.is_active() {
            let workspace = match found.credential.kind {
                CredentialKind::Pat if decision.is_allowed() => found.named_workspace.as_ref(),
                CredentialKind::Pat | CredentialKind::Key => None,
            };
            let last_use = LastUse { time: now, ip: asked.client_ip };
            self.last_uses.note(&found.credential, last_use, workspace);
        }
        Ok(Introspection {
            decision,
            www_authenticate: www_authenticate(&decision, required),
            cache_ttl: self.cache_ttl(found.credential.expire_time, now),
            revision,
            stale: facts.stale,
            identity_only: required.is_empty(),
            found: Some(found),
        })
    }

    /// Returns the time for which the answer may be cached. It ends at the credential's expiry at the latest.
    fn cache_ttl(&self, expire_time: Option<Timestamp>, now: Timestamp) -> Duration {
        let left =
            expire_time.map_or(Duration::MAX, |expire_time| expire_time.saturating_since(now));
        self.options.cache_ttl.min(left)
    }
}

fn without_credential(
    request: &IntrospectionRequest<'_>,
    denial: Denial,
    revision: u64,
) -> Introspection {
    let decision = Decision::refused(denial);
    Introspection {
        decision,
        found: None,
        www_authenticate: www_authenticate(&decision, ScopeSet::NONE),
        cache_ttl: Duration::ZERO,
        revision,
        stale: false,
        identity_only: request.required_scopes.is_empty(),
    }
}

/// Returns the named workspace, valid or not.
fn named<'a>(request: &IntrospectionRequest<'a>) -> Option<&'a str> {
    Some(request.workspace).filter(|name| !name.is_empty())
}

fn facts_query<'a>(request: &IntrospectionRequest<'a>, digest: &'a Digest) -> FactsQuery<'a> {
    FactsQuery {
        digest,
        // A malformed name counts as an unknown workspace, and never reaches the store.
        workspace: named(request).filter(|name| WorkspaceName::is_spelled(name)),
        at_least: Revision(request.at_least_revision),
        fresh: request.fresh,
    }
}
