//! Erasure of a deleted user: their name in the directory, the texts and addresses of their personal access tokens, and
//! what the audit log says of them in free text. Ids, times, roles and scopes stay, so that the log still
//! says what happened. An event keeps its id and its number, so a follower and `restore` know it again.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::audit::Entry;
use super::commit::{Committed, Effect, Transaction};
use super::{Attempt, Context, Reason, Result, Service};
use crate::model::limits::BATCH_PAUSE;
use crate::model::{
    AuditAction, AuditEvent, AuditTarget, CallerName, DisplayName, EventId, TargetKind, User,
    UserId,
};
use crate::store::{AuditFilter, CredentialFilter, CredentialPosition, Lock};
use crate::token::is_hint;

/// Stands for erased text.
const REDACTED: &str = "[redacted]";

/// Number of events that one transaction examines, and of credentials that one changes. Small, so that other writers do
/// not wait long.
const ROWS_PER_TRANSACTION: u32 = 500;

/// Fields of the views in the log that are kept: ids, times, and words that the service has chosen. A field that is not
/// named here, such as one of a newer program, is erased, except for numbers, `true` and `false`. [`is_chosen`] has
/// further conditions.
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
    /// Ids of the personal access tokens that the events name, or the directory has.
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
            // A call for many credentials has no target that would tell of whom it was.
            let bulk = Some(AuditAction::CredentialBulkRevoke.as_str().to_owned());
            let bulk = AuditFilter { action: bulk, ..AuditFilter::default() };
            run.redact_events(&bulk).await?;
            let acting = Some(run.user.clone());
            let acting = AuditFilter { acting_user: acting, ..AuditFilter::default() };
            run.redact_events(&acting).await?;
            // Refused calls on their tokens name only the id.
            run.find_pats().await?;
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

    /// Removes erased texts from the write-ahead log of an SQLite file too. Returns false if another process prevents it
    /// at present.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn forget_erased_texts(&self) -> Result<bool> {
        Ok(self.store.empty_log().await?)
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

    /// Adds the personal access tokens that the directory has. The events that name their owner may be purged.
    async fn find_pats(&mut self) -> Result<()> {
        let user_id = Some(self.user.clone());
        let filter = CredentialFilter { user_id, ..CredentialFilter::default() };
        let (now, mut after) = (self.service.clock.now(), None);
        loop {
            let page = &self.service.store;
            let page = page.list_credentials(&filter, now, after, ROWS_PER_TRANSACTION).await?;
            self.pats.extend(page.credentials.iter().map(|credential| credential.id.to_string()));
            let is_full = page.credentials.len() >= ROWS_PER_TRANSACTION as usize;
            let last = page.credentials.last().filter(|_| is_full);
            let last = last.map(|last| CredentialPosition::of(last, filter.order));
            after = last.or(page.resume);
            if after.is_none() {
                return Ok(());
            }
        }
    }

    /// Whether the event is one to erase texts of. Those of calls for many credentials are if the request names the
    /// user, as owner or as creator.
    fn is_meant(&self, filter: &AuditFilter, event: &AuditEvent) -> bool {
        filter.action.is_none()
            || event.acting_user.as_ref() == Some(&self.user)
            || names_user(event.after.as_deref().unwrap_or_default(), &self.user)
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
            let meant = page.iter().filter(|event| self.is_meant(filter, event));
            let redacted: Vec<_> = meant.filter_map(redacted).collect();
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
    // A request has what somebody asked for, which need not exist.
    let is_request = !fields.contains_key("id");
    let redact = |(name, value): (String, Value)| {
        let kept = KEPT.contains(&name.as_str());
        let value = match value {
            Value::String(text) if kept && is_chosen(&name, &text, is_request) => text.into(),
            Value::Array(items) if kept && items.iter().all(Value::is_string) => items.into(),
            Value::Object(fields) if name == "asked" => Value::Object(redacted_fields(fields)),
            Value::String(_) | Value::Array(_) | Value::Object(_) => REDACTED.into(),
            value @ (Value::Null | Value::Bool(_) | Value::Number(_)) => value,
        };
        (name, value)
    };
    fields.into_iter().map(redact).collect()
}

/// Whether the text of a field that is kept is one that the service chose. A request to revoke names any text as the
/// creator, and an import as creator and as hint.
fn is_chosen(name: &str, text: &str, is_request: bool) -> bool {
    match (name, text.split_once(':')) {
        ("creator", Some(("user", id))) => UserId::parse(id).is_ok(),
        ("creator", Some(("caller", name))) => CallerName::parse(name).is_ok(),
        ("creator", Some(("operator", _))) => !is_request,
        ("creator", _) => text.is_empty(),
        ("hint", _) => text.is_empty() || is_hint(text),
        _ => true,
    }
}

/// Whether a request to revoke selects the credentials that this user owns or has created.
fn names_user(after: &str, user: &UserId) -> bool {
    let Ok(after) = serde_json::from_str::<Value>(after) else { return false };
    let creator = format!("user:{user}");
    [after.get("asked"), Some(&after)].into_iter().flatten().any(|request| {
        request.get("user_id").is_some_and(|id| id == user.as_str())
            || request
                .get("creator")
                .is_some_and(|named| named == &creator || named == user.as_str())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_a_user_as_owner_or_creator() {
        let ada = UserId::parse("ada").expect("an id");
        for (after, names) in [
            (r#"{"user_id":"ada"}"#, true),
            (r#"{"asked":{"creator":"user:ada"}}"#, true),
            // A slip for the form above.
            (r#"{"creator":"ada","workspace":"acme"}"#, true),
            (r#"{"creator":"user:adam"}"#, false),
            (r#"{"workspace":"ada"}"#, false),
        ] {
            assert_eq!(names_user(after, &ada), names, "{after}");
        }
    }

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
        // Fields that are kept, with a text that the service has not chosen.
        for (name, chosen, free) in [
            ("creator", "user:ada", "user:Ada Lovelace"),
            ("creator", "caller:dashboard", "caller:Ada Lovelace"),
            ("creator", "operator:root(bob)", "Ada Lovelace"),
            ("hint", "sophic_pat_...a1B2", "ada@example.com"),
            ("hint", "imported", "sophic_pat_...Ada L"),
        ] {
            let erased = |text: &str| redacted_text(&json!({"id": "c", name: text}).to_string());
            assert_eq!(erased(chosen), json!({"id": "c", name: chosen}).to_string());
            assert_eq!(erased(free), json!({"id": "c", name: REDACTED}).to_string(), "{free}");
        }
        let asked = r#"{"asked":{"creator":"operator:Ada Lovelace","user_id":"ada"}}"#;
        let expected = json!({"asked": {"creator": REDACTED, "user_id": "ada"}});
        assert_eq!(redacted_text(asked), expected.to_string());
        let nested = r#"{"scopes":[{"name":"Ada"}],"state":{"of":"Ada"}}"#;
        let expected = json!({"scopes": REDACTED, "state": REDACTED});
        assert_eq!(redacted_text(nested), expected.to_string());
        for strange in ["", "null", "[1]", "\"text\"", "{"] {
            assert_eq!(redacted_text(strange), "\"[redacted]\"");
            assert_eq!(redacted_text(&redacted_text(strange)), "\"[redacted]\"");
        }
    }
}
