//! Whose token is this, and may it do this here? Reads the facts, asks the decision, writes nothing.

mod admission;
mod client_address;
mod last_use;
mod unknown_rate;

pub(super) use admission::Asker;
pub use client_address::UnreadableAddresses;
pub use last_use::LastUses;
pub use unknown_rate::UnknownRate;

use std::net::IpAddr;
use std::time::Duration;

use super::{Reason, Result, Service, ServiceError};
use crate::cache::{Question, Term};
use crate::decision::{Decision, Denial, Request, decide, www_authenticate};
use crate::model::{
    CallerId, Digest, Facts, FoundFacts, LastUse, PrincipalFacts, Revision, ScopeSet, Timestamp,
    Workspace, WorkspaceName,
};
use crate::token::digest_of_presented;

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub struct IntrospectionRequest<'a> {
    /// The presented text, as it came; empty: none.
    pub token: &'a str,
    /// The workspace named, by slug or id, as it came; empty: none.
    pub workspace: &'a str,
    /// All the scopes that are needed.
    pub required_scopes: ScopeSet,
    /// Where the client is.
    pub client_ip: Option<IpAddr>,
    /// Go past memory.
    pub fresh: bool,
    /// Not from a state older than this revision.
    pub at_least_revision: u64,
    /// The caller that asks, who may ask about only so many unknown tokens; nothing: nobody who could flood.
    pub asker: Option<CallerId>,
}

/// The answer.
#[derive(Debug, Clone)]
pub struct Introspection {
    /// The verdict.
    pub decision: Decision,
    /// The credential and its surroundings, if the digest is known. Report it only if the decision is active.
    pub found: Option<FoundFacts>,
    /// The `WWW-Authenticate` header; empty when allowed.
    pub www_authenticate: &'static str,
    /// How long a cache that follows Watch may hold this.
    pub cache_ttl: Duration,
    /// A revision that it is not older than.
    pub revision: u64,
    /// Whether the store was out of reach, and this is what was last known.
    pub stale: bool,
}

/// What can be said of a request without the store.
enum Known {
    /// All.
    Answer(Introspection),
    /// Nothing: this has to be looked up.
    Missing(Digest),
}

impl Introspection {
    /// The workspace acted in: the key's own, or the one named if the user belongs to it.
    pub fn workspace(&self) -> Option<&Workspace> {
        let found = self.found.as_ref().filter(|_| self.decision.is_active())?;
        match &found.principal {
            PrincipalFacts::Workspace(workspace) => Some(workspace),
            PrincipalFacts::User(_) => self.decision.role.and(found.named_workspace.as_deref()),
        }
    }
}

impl Service {
    /// Introspects.
    ///
    /// # Errors
    /// Only if the store is out of reach or behind `at_least_revision`: a bad token is an answer.
    pub async fn introspect(&self, request: &IntrospectionRequest<'_>) -> Result<Introspection> {
        let digest = match self.known(request, self.lookup.term())? {
            Known::Answer(answer) => return Ok(answer),
            Known::Missing(digest) => digest,
        };
        if !self.admits_workspace(request, &digest) {
            return Err(Reason::UnknownTokensTooMany.into());
        }
        self.admit_token(Asker::of(request), &digest).await?;
        let facts = self.lookup.look_up(&question(request, &digest)).await?;
        self.count(request, &digest, &facts);
        self.answer(request, facts)
    }

    /// Introspects from memory alone, without waiting for anything; nothing if the store has to be asked, since memory
    /// cannot answer, or may not be believed since `term`.
    ///
    /// # Errors
    /// If memory is behind what is asked for.
    pub fn introspect_from_memory(
        &self,
        request: &IntrospectionRequest<'_>,
        term: Term,
    ) -> Result<Option<Introspection>> {
        match self.known(request, term)? {
            Known::Answer(answer) => Ok(Some(answer)),
            Known::Missing(_) => Ok(None),
        }
    }

    /// What can be said without the store: of memory, be the asker over its rate or not, and of the text alone.
    fn known(&self, request: &IntrospectionRequest<'_>, term: Term) -> Result<Known> {
        let digest = match self.digest_to_look_up(request) {
            Ok(digest) => digest,
            Err(denial) => return Ok(Known::Answer(self.without_look_up(denial))),
        };
        match self.lookup.recall(&question(request, &digest), term) {
            Some(facts) => self.answer(request, facts).map(Known::Answer),
            None => Ok(Known::Missing(digest)),
        }
    }

    /// Introspects many, each by itself, with one read of the store for all that memory does not have. One that may not be
    /// looked up is answered so in its place, and keeps none of the others from its answer.
    ///
    /// # Errors
    /// As [`Self::introspect`], of any one of them, but for its asker's rate.
    pub async fn introspect_many(
        &self,
        requests: &[IntrospectionRequest<'_>],
    ) -> Result<Vec<Introspection>> {
        let term = self.lookup.term();
        let known: Result<Vec<_>> =
            requests.iter().map(|request| self.known(request, term)).collect();
        let mut known = known?;
        self.refuse_too_many(requests, &mut known).await;
        let missing: Vec<_> = requests
            .iter()
            .zip(&known)
            .filter_map(|(request, known)| match known {
                Known::Answer(_) => None,
                Known::Missing(digest) => Some((request, digest)),
            })
            .collect();
        let mut facts = self.look_up_missing(&missing).await?.into_iter();
        let answers = requests.iter().zip(known).map(|(request, known)| match known {
            Known::Answer(answer) => Ok(answer),
            Known::Missing(_) => match facts.next() {
                Some(facts) => self.answer(request, facts),
                None => Err(ServiceError::internal(&"fewer facts than questions")),
            },
        });
        answers.collect()
    }

    /// Answers those that may not be looked up.
    async fn refuse_too_many(&self, requests: &[IntrospectionRequest<'_>], known: &mut [Known]) {
        let admits = |request: &IntrospectionRequest<'_>, known: &Known| match known {
            Known::Answer(_) => true,
            Known::Missing(digest) => self.admits_token(Asker::of(request), digest),
        };
        if !requests.iter().zip(&*known).all(|(request, known)| admits(request, known)) {
            self.lookup.catch_up().await;
        }
        for (request, known) in requests.iter().zip(known) {
            if let Known::Missing(digest) = known
                && !(self.admits_workspace(request, digest)
                    && self.admits_token(Asker::of(request), digest))
            {
                *known = Known::Answer(self.without_look_up(Denial::UnknownTokensTooMany));
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
        let questions: Vec<_> =
            missing.iter().map(|(request, digest)| question(request, digest)).collect();
        let facts = self.lookup.look_up_many(&questions).await?;
        for ((request, digest), facts) in missing.iter().zip(&facts) {
            self.count(request, digest, facts);
        }
        Ok(facts)
    }

    /// Of the revision that memory is of, so that what is malformed looks like what is unknown.
    fn without_look_up(&self, denial: Denial) -> Introspection {
        without_credential(denial, self.lookup.revision().0)
    }

    /// Rows 1 and 2 of the table, as far as the text alone tells.
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
            return Ok(without_credential(Denial::TokenUnknown, revision));
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
            self.last_uses.note(&found.credential, LastUse { time: now, ip: asked.client_ip });
        }
        Ok(Introspection {
            decision,
            www_authenticate: www_authenticate(&decision, required),
            cache_ttl: self.cache_ttl(found.credential.expire_time, now),
            revision,
            stale: facts.stale,
            found: Some(found),
        })
    }

    /// Never past the expiry.
    fn cache_ttl(&self, expire_time: Option<Timestamp>, now: Timestamp) -> Duration {
        let left =
            expire_time.map_or(Duration::MAX, |expire_time| expire_time.saturating_since(now));
        self.options.cache_ttl.min(left)
    }
}

fn without_credential(denial: Denial, revision: u64) -> Introspection {
    let decision = Decision::refused(denial);
    Introspection {
        decision,
        found: None,
        www_authenticate: www_authenticate(&decision, ScopeSet::NONE),
        cache_ttl: Duration::ZERO,
        revision,
        stale: false,
    }
}

/// The workspace that is named, whatever it is.
fn named<'a>(request: &IntrospectionRequest<'a>) -> Option<&'a str> {
    Some(request.workspace).filter(|name| !name.is_empty())
}

fn question<'a>(request: &IntrospectionRequest<'a>, digest: &'a Digest) -> Question<'a> {
    Question {
        digest,
        // What is spelled as no workspace is looks like any other that is not known, and never reaches the store.
        workspace: named(request).filter(|name| WorkspaceName::is_spelled(name)),
        at_least: Revision(request.at_least_revision),
        fresh: request.fresh,
    }
}
