//! Explanation of a decision, row by row. It reads the store, and notes no use of the credential.

use std::net::IpAddr;
use std::time::Duration;

use super::Introspection;
use crate::decision::{
    ExplainedRow, Explanation, PresentedText, Request, explain, www_authenticate,
};
use crate::model::{Credential, CredentialId, Facts, Permission, ScopeSet, WorkspaceName};
use crate::service::{Context, CredentialChoice, Reason, Result, Service};
use crate::token::{digest_of_presented, redact_tokens};

/// Reads of a credential whose token is being replaced. A retried creation replaces it.
const READS_MAX: u32 = 3;

/// A credential, and the request to explain the decision about.
pub struct Explain<'a> {
    /// The credential.
    pub credential: CredentialChoice,
    /// The named workspace, as slug or id, unchanged. Empty if none is named.
    pub workspace: &'a str,
    /// The scopes that the request requires.
    pub required_scopes: ScopeSet,
    /// The client's network address, if known.
    pub client_ip: Option<IpAddr>,
    /// User on whose behalf the caller acts. Empty for the system itself.
    pub acting_user: &'a str,
}

/// An explained decision.
#[derive(Debug, Clone)]
pub struct Explained {
    /// The credential.
    pub credential: Credential,
    /// The answer that an introspection would have.
    pub introspection: Introspection,
    /// Every row of the table, in its order.
    pub rows: Vec<ExplainedRow>,
}

impl Service {
    /// Explains how a request with this credential would be decided.
    ///
    /// # Errors
    /// Those of [`Self::get_credential`].
    pub async fn explain(&self, context: &Context, request: Explain<'_>) -> Result<Explained> {
        let Explain { credential: choice, acting_user, .. } = &request;
        let credential = self.get_credential(context, choice, None, acting_user).await?;
        let asked = Request {
            workspace: Some(request.workspace).filter(|name| !name.is_empty()),
            required_scopes: request.required_scopes,
            client_ip: request.client_ip,
        };
        let facts = self.facts_of(credential.id, asked.workspace).await?;
        let found = facts.found.ok_or(Reason::CredentialNotFound)?;
        let presented = match choice {
            CredentialChoice::Id(_) => PresentedText::NotGiven,
            CredentialChoice::Token(text) => {
                match digest_of_presented(text, self.options.accept_imported_tokens) {
                    Some(_) => PresentedText::Accepted,
                    None => PresentedText::NotAccepted,
                }
            }
        };
        // The decision does not tell whether a workspace exists, nor who its members are.
        let tells_workspace = acting_user.is_empty() && context.permits(Permission::DirectoryRead);
        let now = self.clock.now();
        let Explanation { decision, mut rows } =
            explain(presented, &found, &asked, now, tells_workspace);
        for fact in rows.iter_mut().flat_map(|row| &mut row.facts) {
            // A token may have been sent in the wrong field.
            fact.value = redact_tokens(&fact.value).into_owned();
        }
        // Introspection looks nothing up for text that it does not accept.
        let found = Some(found).filter(|_| presented != PresentedText::NotAccepted);
        let expire_time = found.as_ref().map(|found| found.credential.expire_time);
        let introspection = Introspection {
            decision,
            www_authenticate: www_authenticate(&decision, asked.required_scopes),
            cache_ttl: expire_time.map_or(Duration::ZERO, |time| self.cache_ttl(time, now)),
            revision: facts.revision.0,
            stale: false,
            identity_only: asked.required_scopes.is_empty(),
            found,
        };
        Ok(Explained { credential, introspection, rows })
    }

    /// Reads from the store what decides an introspection of this credential.
    async fn facts_of(&self, id: CredentialId, workspace: Option<&str>) -> Result<Facts> {
        let workspace = workspace.filter(|name| WorkspaceName::is_spelled(name));
        for _ in 0..READS_MAX {
            let Some(digest) = self.store.find_digest(id).await? else { break };
            let facts = self.store.look_up(&digest, workspace).await?;
            if facts.found.is_some() {
                return Ok(facts);
            }
        }
        Err(Reason::CredentialNotFound.into())
    }
}
