//! Every management call runs through [`Service::run`]: to its end, and, if it is refused, with a record of that in the
//! audit log. A use case cannot be run without saying what it is, so none can forget to.
//!
//! A refusal has no change to go with, so its event has a transaction of its own. How many are recorded is bounded for
//! each requester: a hundred at once, and after that one a minute. What goes beyond is counted, and the count is recorded
//! once a minute in one event (`refusals.suppress`): a caller that floods is seen, and fills no disk. Calls that were allowed
//! and changed nothing are bounded with them, whatever they are: [`Service::commit_change`] and [`Service::commit_unchanged`]
//! are the only ways to commit one. They wait for replicas all the same.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};

use super::audit::Entry;
use super::bucket::{Bucket, Rate};
use super::commit::{Committed, Effect, Transaction};
use super::{Context, Reason, Result, Service};
use crate::model::{AuditAction, AuditEvent, AuditTarget, EventId, Timestamp, UserId};
use crate::token::redact_tokens;

/// Of one requester: a hundred that are recorded at once, and one more each minute.
const RATE: Rate = Rate { interval: Duration::from_mins(1), burst: Duration::from_mins(99) };

/// A management call, as the audit log is told of it should it be refused, or find nothing to change.
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
    /// Who attempts it.
    pub(super) const fn context(&self) -> &Context {
        &self.context
    }

    /// Of doing this to something that is not known yet.
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

    /// Of doing this to that.
    pub(super) fn on(context: &Context, action: AuditAction, target: &AuditTarget) -> Self {
        let (target_kind, target_id) = target.kind_and_id();
        Self { target_kind, target_id, ..Self::new(context, action) }
    }

    /// On behalf of this user; what is not spelled as a user is, or looks like a token, is left out.
    #[must_use]
    pub fn acting_for(self, acting_user: &str) -> Self {
        let user = UserId::parse(acting_user).ok();
        Self {
            acting_user: user.filter(|user| redact_tokens(user.as_str()) == user.as_str()),
            ..self
        }
    }

    /// What is asked for, where the target alone does not say it.
    pub(super) fn asking(self, asked: Value) -> Self {
        Self { asked: Some(asked), ..self }
    }
}

/// How much of its room for refusals each requester has used up.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<HashMap<String, Used>>);

#[derive(Debug, Default)]
struct Used {
    bucket: Bucket,
    suppressed: u64,
}

impl Refusals {
    /// Whether one more of this requester is recorded; it is counted otherwise.
    fn admit(&self, requester: &str, now: Timestamp) -> bool {
        let (mut used, now) = (self.0.lock(), since_epoch(now));
        if !used.contains_key(requester) {
            used.insert(requester.to_owned(), Used::default());
        }
        let Some(used) = used.get_mut(requester) else { return true };
        let admitted = used.bucket.has_room(now, RATE);
        if admitted {
            used.bucket.take(now, RATE);
        } else {
            used.suppressed += 1;
        }
        admitted
    }

    /// The requesters of whom refusals were counted but not recorded since this was asked last, and how many.
    fn take_suppressed(&self, now: Timestamp) -> Vec<(String, u64)> {
        let (mut used, now) = (self.0.lock(), since_epoch(now));
        let mut taken = Vec::new();
        used.retain(|requester, used| {
            if used.suppressed > 0 {
                taken.push((requester.clone(), std::mem::take(&mut used.suppressed)));
            }
            !used.bucket.is_full(now)
        });
        taken
    }
}

fn since_epoch(now: Timestamp) -> Duration {
    Duration::from_micros(u64::try_from(now.unix_micros()).unwrap_or_default())
}

impl Service {
    /// Records that this was refused, unless it has been already, or is no refusal but a failure.
    pub async fn record_refusal(&self, attempt: &Attempt, reason: Reason) {
        if !reason.kind().is_refusal() || attempt.context.recorded.replace() {
            return;
        }
        if reason == Reason::ClocksDisagree {
            // An event by a clock that is not believed would speak for that clock at the next start. The log has it.
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

    /// Commits what a call found that may have changed nothing, since all was as asked already: then only if the log has
    /// room for one more such call.
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
        self.commit(tx, &event).await
    }

    /// The same of a call that had nothing to change, with what was asked for, and what was `found` instead; in the
    /// transaction in which that was found, if it was in one.
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
        self.commit(tx, &event).await
    }

    /// Whether the log has room for one more call of this requester that came to nothing; it is counted otherwise.
    pub(super) fn admits(&self, context: &Context) -> bool {
        self.refusals.admit(&context.requester_name(), self.clock.now())
    }

    fn event_of(&self, attempt: &Attempt, after: Option<&Value>) -> Result<AuditEvent> {
        let (time, random) = self.stamp()?;
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

    /// Records how many refusals went unrecorded. To be called about once a minute, and at the end.
    pub async fn record_suppressed_refusals(&self) {
        for (requester, count) in self.refusals.take_suppressed(self.clock.now()) {
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

    /// In a transaction of its own. What cannot be recorded is logged: the refusal itself stands.
    async fn append(&self, event: Result<AuditEvent>) {
        let appended = async {
            let event = event?;
            let tx = self.begin("record_refusal").await?;
            let committed = self.commit(tx, &event).await?;
            self.settle(&Context::operator(""), Effect::Neutral, committed.done(())).await
        };
        if let Err(error) = appended.await {
            tracing::warn!(%error, "a refusal could not be recorded");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_micros(seconds * 1_000_000).expect("a time")
    }

    #[test]
    fn a_flood_of_refusals_is_counted_and_not_recorded_one_by_one() {
        let refusals = Refusals::default();
        let admitted = (0..1_000).filter(|_| refusals.admit("gateway", at(0))).count();
        assert_eq!(admitted, 100);
        assert!(refusals.admit("dashboard", at(0)), "each requester has room of its own");
        assert_eq!(refusals.take_suppressed(at(1)), [("gateway".to_owned(), 900)]);
        assert_eq!(refusals.take_suppressed(at(1)), []);
    }

    #[test]
    fn a_minute_makes_up_for_one_refusal_and_a_long_quiet_for_all() {
        let refusals = Refusals::default();
        for _ in 0..200 {
            refusals.admit("gateway", at(0));
        }
        assert!(refusals.admit("gateway", at(61)));
        assert!(!refusals.admit("gateway", at(62)));
        assert_eq!(refusals.take_suppressed(at(100 * 61)).len(), 1);
        assert!(refusals.0.lock().is_empty(), "nothing is kept of those who are quiet");
    }

    #[test]
    fn a_clock_that_goes_back_makes_up_for_nothing() {
        let refusals = Refusals::default();
        for _ in 0..100 {
            refusals.admit("gateway", at(1_000));
        }
        assert!(!refusals.admit("gateway", at(0)));
    }
}
