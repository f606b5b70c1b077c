//! How a credential ended, from the audit log. For an operator with access to the store, and for callers that may read
//! the credential. Introspection does not report it, so that a stolen token reveals nothing about its credential.

use serde_json::Value;

use crate::model::{AuditEvent, Credential, CredentialId, CredentialState, TargetKind, Timestamp};
use crate::service::{Result, Service};
use crate::store::{AuditFilter, AuditOrder};

/// Number of events in a page. They may be large, and the first is usually the one.
const EVENTS_PER_PAGE: u32 = 20;
/// Number of pages at most. A credential rarely changes after its end.
const PAGES_MAX: u32 = 50;

/// How a credential ended.
#[derive(Debug, Clone)]
pub struct CredentialEnd {
    /// The credential.
    pub credential: Credential,
    /// Revoked, expired or disabled.
    pub state: CredentialState,
    /// When it ended.
    pub time: Timestamp,
    /// Event that ended the credential, or for an expiry the event that set it. `None` if the audit log does not have
    /// it, because it was purged or is not yet written, or has it before the newest 1,000 of the credential.
    pub event: Option<AuditEvent>,
}

impl Service {
    /// Returns how this credential ended. `None` if it is active or does not exist.
    pub async fn find_end(&self, id: CredentialId) -> Result<Option<CredentialEnd>> {
        match self.store.find_credential(id).await? {
            Some(credential) => self.find_end_of(&credential).await,
            None => Ok(None),
        }
    }

    /// Returns how this credential ended. `None` if it is active.
    pub(super) async fn find_end_of(
        &self,
        credential: &Credential,
    ) -> Result<Option<CredentialEnd>> {
        let state = credential.state(self.clock.now());
        let (field, time) = match state {
            CredentialState::Active => return Ok(None),
            CredentialState::Disabled => ("disable_time", credential.disable_time),
            CredentialState::Expired => ("expire_time", credential.expire_time),
            CredentialState::Revoked => ("revoke_time", credential.revoke_time),
        };
        let Some(time) = time else { return Ok(None) };
        let event = self.find_last_change(credential.id, field).await?;
        Ok(Some(CredentialEnd { credential: credential.clone(), state, time, event }))
    }

    /// Returns the newest event that changed this field of the credential.
    async fn find_last_change(&self, id: CredentialId, field: &str) -> Result<Option<AuditEvent>> {
        let filter = AuditFilter {
            target_kind: Some(TargetKind::Credential.as_str().to_owned()),
            target_id: Some(id.to_string()),
            without_refusals: true,
            order: AuditOrder::NewestFirst,
            ..AuditFilter::default()
        };
        let mut after = None;
        for _ in 0..PAGES_MAX {
            let page = self.store.list_audit_events(&filter, after, EVENTS_PER_PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.id);
            if let Some(found) = page.into_iter().find(|event| changes_field(event, field)) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

fn changes_field(event: &AuditEvent, field: &str) -> bool {
    let value = |text: &Option<String>| {
        let view: Value = serde_json::from_str(text.as_deref()?).ok()?;
        view.get(field).cloned()
    };
    let after = value(&event.after);
    after.is_some() && after != value(&event.before)
}
