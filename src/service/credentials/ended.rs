//! How a credential came to its end, for an operator who holds its token and the store. No face asks this: whoever merely
//! holds a dead token learns nothing from it.

use serde_json::Value;

use crate::model::{AuditEvent, Credential, CredentialId, CredentialState, Timestamp};
use crate::service::{Result, Service};
use crate::store::AuditFilter;

/// Events in a page.
const PAGE: u32 = 1_000;

/// What ended a credential.
#[derive(Debug, Clone)]
pub struct Ended {
    /// The credential.
    pub credential: Credential,
    /// What it is: revoked, expired or disabled.
    pub state: CredentialState,
    /// Since when.
    pub time: Timestamp,
    /// The event that says who did it; of an expiry, who set it. Nothing if the audit log no longer has it, or not yet.
    pub event: Option<AuditEvent>,
}

impl Service {
    /// How this credential ended; nothing if it is alive or not there.
    pub async fn end_of(&self, id: CredentialId) -> Result<Option<Ended>> {
        let Some(credential) = self.store.find_credential(id).await? else { return Ok(None) };
        let state = credential.state(self.clock.now());
        let (field, time) = match state {
            CredentialState::Active => return Ok(None),
            CredentialState::Disabled => ("disable_time", credential.disable_time),
            CredentialState::Expired => ("expire_time", credential.expire_time),
            CredentialState::Revoked => ("revoke_time", credential.revoke_time),
        };
        let Some(time) = time else { return Ok(None) };
        let event = self.last_change_of(id, field).await?;
        Ok(Some(Ended { credential, state, time, event }))
    }

    /// The newest event of a credential that changed this field.
    async fn last_change_of(&self, id: CredentialId, field: &str) -> Result<Option<AuditEvent>> {
        let filter = AuditFilter {
            target_kind: Some("credential".to_owned()),
            target_id: Some(id.to_string()),
            ..AuditFilter::default()
        };
        let (mut found, mut after) = (None, None);
        loop {
            let page = self.store.list_audit_events(&filter, after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(found) };
            after = Some(last.id);
            found = page.into_iter().rfind(|event| changed(event, field)).or(found);
        }
    }
}

fn changed(event: &AuditEvent, field: &str) -> bool {
    let value = |text: &Option<String>| {
        let view: Value = serde_json::from_str(text.as_deref()?).ok()?;
        view.get(field).cloned()
    };
    let after = value(&event.after);
    event.refusal.is_none() && after.is_some() && after != value(&event.before)
}
