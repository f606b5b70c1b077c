//! The audit event of an attempted management call, whatever became of it. Every call of a face that changes something
//! runs through [`Service::run`], which takes an [`Attempt`] and records a refusal by it, so no use case can forget to.
//!
//! A refusal changes nothing, so its event is committed in a separate transaction, within the requester's quota
//! (`refusal_quota.rs`). Further refusals are counted, and the count is recorded once a minute in one event
//! (`refusal.suppress`). Calls that were allowed but changed nothing use the same quota: they commit only through
//! [`Service::commit_change`] and [`Service::commit_unchanged`]. They wait for replicas like any other call.

use serde_json::{Value, json};

use super::audit::Entry;
use super::commit::{Committed, Effect, Transaction};
use super::{Context, Reason, Result, Service};
use crate::model::{AuditAction, AuditEvent, AuditTarget, EventId, UserId};
use crate::token::redact_tokens;

/// Description of a management call for the audit log, in case it is refused or changes nothing.
#[derive(Debug, Clone)]
pub struct Attempt {
    context: Context,
    action: AuditAction,
    target_kind: &'static str,
    target_id: String,
    acting_user: Option<UserId>,
    asked: Option<Value>,
}

impl Attempt {
    /// The context of the call.
    pub(super) const fn context(&self) -> &Context {
        &self.context
    }

    /// An attempt at `action` whose target is not known yet.
    pub fn new(context: &Context, action: AuditAction) -> Self {
        Self {
            context: context.clone(),
            action,
            target_kind: action.target_kind().as_str(),
            target_id: String::new(),
            acting_user: None,
            asked: None,
        }
    }

    /// An attempt at `action` on `target`.
    pub(super) fn on(context: &Context, action: AuditAction, target: &AuditTarget) -> Self {
        let (target_kind, target_id) = target.kind_and_id();
        Self { target_kind, target_id, ..Self::new(context, action) }
    }

    /// Sets the acting user. Text that is not a valid user id, or looks like a token, is left out.
    #[must_use]
    pub fn acting_for(self, acting_user: &str) -> Self {
        let user = UserId::parse(acting_user).ok();
        Self {
            acting_user: user.filter(|user| redact_tokens(user.as_str()) == user.as_str()),
            ..self
        }
    }

    /// Sets the requested change, for calls whose target does not show it.
    pub(super) fn asking(self, asked: Value) -> Self {
        Self { asked: Some(asked), ..self }
    }
}

impl Service {
    /// Records the refusal of a call. Does nothing if it is already recorded, or if the error is not a refusal.
    pub async fn record_refusal(&self, attempt: &Attempt, reason: Reason) {
        if !reason.kind().is_refusal() || attempt.context.recorded.replace() {
            return;
        }
        if reason == Reason::ClocksDisagree {
            // An event with a wrong time would make the wrong clock look right at the next start. Logged instead.
            tracing::warn!(
                action = attempt.action.as_str(),
                "refused: this machine's clock and the store disagree"
            );
            return;
        }
        if !self.admits(&attempt.context) {
            return;
        }
        let event = self.event_of(attempt, attempt.asked.as_ref());
        let refusal = Some(reason.code().to_owned());
        self.append(event.map(|event| AuditEvent { refusal, ..event })).await;
    }

    /// Commits a call that may have changed nothing. If it changed nothing, an event is recorded only within the
    /// requester's quota.
    pub(super) async fn commit_change(
        &self,
        context: &Context,
        tx: Transaction,
        changed: bool,
        entry: Entry<'_>,
    ) -> Result<Committed> {
        if !changed && !self.admits(context) {
            drop(tx);
            return self.nothing_to_commit().await;
        }
        let event = self.audit_event(context, entry)?;
        if changed { self.commit(tx, &event).await } else { self.commit_event(tx, &event).await }
    }

    /// Records a call that had nothing to change, within the requester's quota. The event holds the requested change
    /// and the state that was `found`. Commits `tx` if there is one, otherwise a new transaction.
    pub(super) async fn commit_unchanged(
        &self,
        tx: Option<Transaction>,
        attempt: &Attempt,
        found: Value,
        reason: Option<&str>,
    ) -> Result<Committed> {
        if !self.admits(&attempt.context) {
            drop(tx);
            return self.nothing_to_commit().await;
        }
        let tx = match tx {
            Some(tx) => tx,
            None => self.begin("record_unchanged").await?,
        };
        let after = match (attempt.asked.clone(), found) {
            (Some(Value::Object(mut asked)), Value::Object(found)) => {
                asked.extend(found);
                Value::Object(asked)
            }
            (_, found) => found,
        };
        let reason = reason.map(|reason| redact_tokens(reason).into_owned());
        let event = AuditEvent { reason, ..self.event_of(attempt, Some(&after))? };
        self.commit_event(tx, &event).await
    }

    /// Whether the requester's quota allows one more event for a call without a change. Otherwise counts it as
    /// suppressed.
    pub(super) fn admits(&self, context: &Context) -> bool {
        self.refusal_quota.admit(&context.requester_name(), self.clock.now())
    }

    fn event_of(&self, attempt: &Attempt, after: Option<&Value>) -> Result<AuditEvent> {
        let (time, random) = self.time_and_random()?;
        Ok(AuditEvent {
            id: EventId::in_order(time, random),
            time,
            action: attempt.action.as_str().to_owned(),
            caller: attempt.context.requester_name(),
            acting_user: attempt.acting_user.clone(),
            target_kind: attempt.target_kind.to_owned(),
            target_id: redact_tokens(&attempt.target_id).into_owned(),
            remote_address: attempt.context.remote_address.clone(),
            before: None,
            after: after.map(|after| redact_tokens(&after.to_string()).into_owned()),
            reason: None,
            refusal: None,
        })
    }

    /// Records the number of suppressed refusals. Call it about once a minute, and at shutdown.
    pub async fn record_suppressed_refusals(&self) {
        for (requester, count) in self.refusal_quota.take_suppressed(self.clock.now()) {
            let context = Context::operator("");
            let entry = Entry {
                action: AuditAction::RefusalsSuppress,
                target: AuditTarget::AuditLog,
                acting_user: None,
                before: None,
                after: Some(json!({"unrecorded_refusals": count})),
                reason: None,
            };
            let event = self.audit_event(&context, entry);
            self.append(event.map(|event| AuditEvent { caller: requester, ..event })).await;
        }
    }

    /// Commits an event in a separate transaction. If that fails, logs the failure: the refusal is returned in any
    /// case.
    async fn append(&self, event: Result<AuditEvent>) {
        let appended = async {
            let event = event?;
            let tx = self.begin("record_refusal").await?;
            let committed = self.commit_event(tx, &event).await?;
            self.settle(&Context::operator(""), Effect::Neutral, committed.done(())).await
        };
        if let Err(error) = appended.await {
            tracing::warn!(%error, "a refusal could not be recorded");
        }
    }
}
