//! Whose token is this, and may it do this here? Reads the facts, asks the decision, writes nothing.

use std::net::IpAddr;
use std::time::Duration;

use super::{Reason, Result, Service};
use crate::decision::{Decision, Denial, Principal, Request, Snapshot, decide, www_authenticate};
use crate::model::{Role, ScopeSet, Timestamp, Workspace, WorkspaceName};
use crate::store::{Found, FoundPrincipal};
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
}

/// The answer.
#[derive(Debug, Clone)]
pub struct Introspection {
    /// The verdict.
    pub decision: Decision,
    /// The credential and its surroundings, if the digest is known. Report it only if the decision is active.
    pub found: Option<Found>,
    /// The `WWW-Authenticate` header; empty when allowed.
    pub www_authenticate: &'static str,
    /// How long a cache that follows Watch may hold this.
    pub cache_ttl: Duration,
    /// What revision it is of; 0: it rests on nothing that is stored.
    pub revision: u64,
}

impl Introspection {
    /// The workspace acted in: the key's own, or the one named if the user belongs to it.
    pub fn workspace(&self) -> Option<&Workspace> {
        let found = self.found.as_ref().filter(|_| self.decision.is_active())?;
        match &found.principal {
            FoundPrincipal::Workspace(workspace) => Some(workspace),
            FoundPrincipal::User(..) => self.decision.role.and(found.named_workspace.as_ref()),
        }
    }
}

impl Service {
    /// Introspects.
    ///
    /// # Errors
    /// Only if the store is out of reach or behind `at_least_revision`: a bad token is an answer.
    pub async fn introspect(&self, request: &IntrospectionRequest<'_>) -> Result<Introspection> {
        if request.token.is_empty() {
            return Ok(without_credential(Denial::TokenMissing, 0));
        }
        let accept_imported = self.options.accept_imported_tokens;
        let Some(digest) = digest_of_presented(request.token, accept_imported) else {
            return Ok(without_credential(Denial::TokenUnknown, 0));
        };
        let named = Some(request.workspace).filter(|name| !name.is_empty());
        // What is spelled as no workspace is looks like any other that is not known, and never reaches the store.
        let spelled = named.filter(|name| WorkspaceName::is_spelled(name));
        let looked_up = self.lookup.look_up(&digest, spelled, request.fresh).await?;
        let revision = looked_up.revision.0;
        if revision < request.at_least_revision {
            return Err(Reason::RevisionNotReached.into());
        }
        let Some(found) = looked_up.found else {
            return Ok(without_credential(Denial::TokenUnknown, revision));
        };
        let request = Request {
            workspace: named,
            required_scopes: request.required_scopes,
            client_ip: request.client_ip,
        };
        let now = self.clock.now();
        let decision = decide(&snapshot(&found), &request, now);
        if decision.is_active() {
            self.last_uses.note(found.credential.id, now, request.client_ip);
        }
        let required = request.required_scopes;
        Ok(Introspection {
            decision,
            www_authenticate: decision
                .denial
                .map_or("", |denial| www_authenticate(denial, required)),
            cache_ttl: self.cache_ttl(found.credential.expire_time, now),
            revision,
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
    Introspection {
        decision: Decision::refused(denial),
        found: None,
        www_authenticate: www_authenticate(denial, ScopeSet::EMPTY),
        cache_ttl: Duration::ZERO,
        revision,
    }
}

fn snapshot(found: &Found) -> Snapshot<'_> {
    let named_workspace = found.named_workspace.as_ref();
    let (principal, membership) = match &found.principal {
        FoundPrincipal::Workspace(workspace) => (Principal::Workspace(workspace), None),
        FoundPrincipal::User(user, memberships) => {
            let role_in = |workspace: &Workspace| -> Option<Role> {
                memberships.iter().find(|(id, _)| *id == workspace.id).map(|(_, role)| *role)
            };
            (Principal::User(user), named_workspace.and_then(role_in))
        }
    };
    Snapshot {
        credential: &found.credential,
        principal: Some(principal),
        named_workspace,
        membership,
    }
}
