//! Erasure of a deleted user: their name in the directory, the names, annotations and addresses of their personal access
//! tokens, and what the audit log says of them in free text. Ids, times, roles and scopes stay, so that the log still
//! says what happened. An event keeps its id and its number, so a follower and `restore` know it again.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::audit::Entry;
use super::commit::{Committed, Effect, Transaction};
use super::{Attempt, Context, Reason, Result, Service};
use crate::model::limits::BATCH_PAUSE;
use crate::model::{
    AuditAction, AuditEvent, AuditTarget, DisplayName, EventId, TargetKind, User, UserId,
};
use crate::store::{AuditFilter, Lock};

/// Stands for erased text.
const REDACTED: &str = "[redacted]";

/// Number of events that one transaction examines, and of credentials that one changes. Small, so that other writers do
/// not wait long.
const ROWS_PER_TRANSACTION: u32 = 500;

/// Fields of the views in the log that are kept: ids, times, and words that the service has chosen. A field that is not
/// named here, such as one of a newer program, is erased, except for numbers, `true` and `false`.
const KEPT: [&str; 32] = [
    "acting_user",
    "action",
    "barred_workspace_ids",
    "counted_by",
    "create_time",
    "creator",
    "credential_id",
    "cutoff",
    "disable_time",
    "epoch",
    "etag",
    "expire_time",
    "family_id",
    "granted_workspace_ids",
    "hint",
    "id",
    "kind",
    "last_use_time",
    "lines",
    "max_role",
    "overlap",
    "permissions",
    "predecessor_id",
    "revoke_time",
    "role",
    "scopes",
    "slug",
    "state",
    "update_time",
    "user_id",
    "workspace",
    "workspace_id",
];

/// What a redaction has changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RedactedUser {
    /// Number of audit events.
    pub event_count: u64,
    /// Number of personal access tokens.
    pub credential_count: u64,
}

/// One redaction while it runs.
struct Run {
    service: Arc<Service>,
    context: Context,
    user: UserId,
    total: RedactedUser,
    committed: Option<Committed>,
    /// Ids of the personal access tokens that the events name.
    pats: BTreeSet<String>,
    progress: Box<dyn Fn(u64) + Send + Sync>,
}

impl Service {
    /// Erases a deleted user, in batches, each of which is recorded as an event. Changes nothing where nothing is left
    /// to erase. `progress` receives the number of events so far.
    ///
    /// # Errors
    /// [`Reason::UserNotDeleted`] if the user is not deleted, also if they are created again meanwhile.
    pub async fn redact_user(
        self: &Arc<Self>,
        context: Context,
        user: UserId,
        progress: impl Fn(u64) + Send + Sync + 'static,
    ) -> Result<RedactedUser> {
        let target = AuditTarget::User(user.clone());
        let attempt = Attempt::on(&context, AuditAction::UserRedact, &target);
        let mut run = Run {
            service: Arc::clone(self),
            context,
            user,
            total: RedactedUser::default(),
            committed: None,
            pats: BTreeSet::new(),
            progress: Box::new(progress),
        };
        // A revoked token stays revoked, and a deleted user deleted.
        self.run(attempt, Effect::Neutral, async move {
            // Events that are yet to be written have the names that are erased here.
            run.service.finish_pending_ends().await?;
            run.redact_directory().await?;
            let about = Some(run.user.clone());
            let about = AuditFilter { about_user: about, ..AuditFilter::default() };
            run.redact_events(&about).await?;
            let acting = Some(run.user.clone());
            let acting = AuditFilter { acting_user: acting, ..AuditFilter::default() };
            run.redact_events(&acting).await?;
            // Refused calls on their tokens name only the id.
            while let Some(id) = run.pats.pop_first() {
                let target_kind = Some(TargetKind::Credential.as_str().to_owned());
                let target_id = Some(id);
                let filter = AuditFilter { target_kind, target_id, ..AuditFilter::default() };
                run.redact_events(&filter).await?;
            }
            let committed = match run.committed {
                Some(committed) => committed,
                None => run.service.nothing_to_commit().await?,
            };
            Ok(committed.done(run.total))
        })
        .await
    }
}

impl Run {
    /// Begins a transaction and locks the user.
    async fn begin(&self) -> Result<(Transaction, User)> {
        let mut tx = self.service.begin("redact_user").await?;
        let user = tx.find_user_row(&self.user, Lock::Update).await?;
        let user = user.ok_or(Reason::UserNotFound)?;
        if user.delete_time.is_none() {
            return Err(Reason::UserNotDeleted.into());
        }
        Ok((tx, user))
    }

    /// Commits a batch with an event that has its counts.
    async fn commit(&mut self, tx: Transaction, batch: RedactedUser, changed: bool) -> Result<()> {
        let RedactedUser { event_count, credential_count } = batch;
        let entry = Entry {
            action: AuditAction::UserRedact,
            target: AuditTarget::User(self.user.clone()),
            acting_user: None,
            before: None,
            after: Some(json!({"event_count": event_count, "credential_count": credential_count})),
            reason: None,
        };
        let committed = self.service.commit_change(&self.context, tx, changed, entry).await?;
        self.committed = Some(self.committed.map_or(committed, |earlier| earlier.and(committed)));
        self.total.event_count += event_count;
        self.total.credential_count += credential_count;
        (self.progress)(self.total.event_count);
        Ok(())
    }

    /// Erases the user's name, and the texts of their tokens. The first batch is recorded even if nothing is left to
    /// erase, as a trace of the attempt.
    async fn redact_directory(&mut self) -> Result<()> {
        let name = DisplayName::parse(REDACTED).map_err(|_| Reason::Internal)?;
        loop {
            let (mut tx, user) = self.begin().await?;
            let has_name = user.display_name != name;
            if has_name {
                tx.put_user(&User { display_name: name.clone(), ..user }).await?;
            }
            let count = tx.redact_pats(&self.user, REDACTED, ROWS_PER_TRANSACTION).await?;
            let batch = RedactedUser { credential_count: count, event_count: 0 };
            if self.committed.is_none() || has_name || count > 0 {
                self.commit(tx, batch, has_name || count > 0).await?;
            }
            if count < u64::from(ROWS_PER_TRANSACTION) {
                return Ok(());
            }
            tokio::time::sleep(BATCH_PAUSE).await;
        }
    }

    /// Erases the texts of the events that match.
    async fn redact_events(&mut self, filter: &AuditFilter) -> Result<()> {
        let mut after: Option<EventId> = None;
        loop {
            let page =
                self.service.store.list_audit_events(filter, after, ROWS_PER_TRANSACTION).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.id);
            for event in &page {
                if is_of_credential(event) && filter.about_user.is_some() {
                    self.pats.insert(event.target_id.clone());
                }
            }
            let redacted: Vec<_> = page.iter().filter_map(redacted).collect();
            if redacted.is_empty() {
                continue;
            }
            let (mut tx, _) = self.begin().await?;
            let count = tx.redact_audit_events(&redacted).await?;
            let batch = RedactedUser { event_count: count, credential_count: 0 };
            self.commit(tx, batch, count > 0).await?;
            tokio::time::sleep(BATCH_PAUSE).await;
        }
    }
}

fn is_of_credential(event: &AuditEvent) -> bool {
    event.target_kind == TargetKind::Credential.as_str() && !event.target_id.is_empty()
}

/// Returns the event without what it says of people in free text. `None` if it says nothing.
fn redacted(event: &AuditEvent) -> Option<AuditEvent> {
    let erased = |text: &Option<String>| text.as_ref().map(|_| REDACTED.to_owned());
    let redacted = AuditEvent {
        remote_address: erased(&event.remote_address),
        before: event.before.as_deref().map(redacted_text),
        after: event.after.as_deref().map(redacted_text),
        reason: erased(&event.reason),
        ..event.clone()
    };
    (redacted != *event).then_some(redacted)
}

fn redacted_text(text: &str) -> String {
    match serde_json::from_str(text) {
        Ok(Value::Object(fields)) => Value::Object(redacted_fields(fields)).to_string(),
        // Only a shell can have written it.
        Ok(_) | Err(_) => Value::from(REDACTED).to_string(),
    }
}

fn redacted_fields(fields: Map<String, Value>) -> Map<String, Value> {
    let redact = |(name, value): (String, Value)| {
        let value = match value {
            value if KEPT.contains(&name.as_str()) => value,
            Value::Object(fields) if name == "asked" => Value::Object(redacted_fields(fields)),
            Value::String(_) | Value::Array(_) | Value::Object(_) => REDACTED.into(),
            value @ (Value::Null | Value::Bool(_) | Value::Number(_)) => value,
        };
        (name, value)
    };
    fields.into_iter().map(redact).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_about_a_person_is_erased_and_what_the_service_chose_stays() {
        let text = r#"{"annotations":{"user_id":"x"},"id":"c","last_use_ip":"192.0.2.1","name":"Ada's","real":false,
            "revoked_count":3,"scopes":["read"],"user_id":"ada","ip_allowlist":["192.0.2.0/24"],"newer":"text"}"#;
        let redacted = redacted_text(text);
        let expected = json!({
            "annotations": REDACTED, "id": "c", "last_use_ip": REDACTED, "name": REDACTED, "real": false,
            "revoked_count": 3, "scopes": ["read"], "user_id": "ada", "ip_allowlist": REDACTED, "newer": REDACTED,
        });
        assert_eq!(serde_json::from_str::<Value>(&redacted).expect("JSON"), expected);
        assert_eq!(redacted_text(&redacted), redacted, "once is enough");
        for strange in ["", "null", "[1]", "\"text\"", "{"] {
            assert_eq!(redacted_text(strange), "\"[redacted]\"");
            assert_eq!(redacted_text(&redacted_text(strange)), "\"[redacted]\"");
        }
    }
}
