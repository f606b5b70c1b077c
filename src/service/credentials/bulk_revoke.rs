//! Ending many credentials: all that a filter names, in batches, each a transaction of its own, so that none holds a lock
//! for long. A batch is all there or not at all; a second run finds what the first, killed, has left.
//!
//! Each credential has an event of its own, as if it had been revoked by itself, so that its story is told by asking for
//! it alone; each batch has one more (`credential.bulk_revoke`), with the filter and the number.
//! Those that die with their owner have too, though their rows stay as they are: `untold.rs`.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::model::limits::{BATCH_PAUSE, CREATOR_BYTES_MAX};
use crate::model::{
    AuditAction, AuditTarget, Credential, CredentialId, ReasonText, Revision, Timestamp, UserId,
    WorkspaceName,
};
use crate::service::audit::Entry;
use crate::service::commit::{Committed, Done, Effect};
use crate::service::page::{Cursor, PageRequest};
use crate::service::{Attempt, Context, Reason, Result, Service, Violations, view};
use crate::store::RevokeFilter;

/// Credentials that one transaction ends: few, for others who write wait for it.
const BATCH: u32 = 50;
/// Credentials that a dry run shows.
const SAMPLE: u32 = 10;

/// Which credentials to end: those that every set field names, and that are not revoked yet. Expired ones count.
#[derive(Debug, Clone, Default)]
pub struct BulkRevoke {
    /// Keys of this workspace, by slug or id.
    pub workspace: Option<WorkspaceName>,
    /// Personal access tokens of this user.
    pub user: Option<UserId>,
    /// Of this family.
    pub family_id: Option<CredentialId>,
    /// That this creator made, as [`Credential::creator`] has it; empty: any.
    pub creator: String,
    /// Made before this.
    pub created_before: Option<Timestamp>,
    /// Not used since this, or never.
    pub last_used_before: Option<Timestamp>,
    /// Tell how many, and show a sample, and end none.
    pub dry_run: bool,
    /// Why, for the audit log.
    pub reason: String,
    /// On whose behalf, for the audit log; empty: the system's.
    pub acting_user: String,
    /// Go on where a call of the same filter stopped, as its [`BulkRevoked::next_token`] has it; empty: begin.
    pub page_token: String,
}

/// What it came to.
#[derive(Debug, Clone)]
pub struct BulkRevoked {
    /// How many were ended, or would be.
    pub count: u64,
    /// Of a dry run: the first of them.
    pub sample: Vec<Credential>,
    /// The store's revision that contains all of it.
    pub revision: Revision,
    /// The time was not enough for all: goes on there. Empty: all is done.
    pub next_token: String,
}

/// Where a call begins.
struct Place {
    cursor: Cursor,
    /// What is made from then on was made by somebody who could not know of the first call: it stays, and the walk ends.
    begun: Timestamp,
    after: Option<CredentialId>,
}

impl Place {
    /// The token that goes on after this credential.
    fn token(&self, after: CredentialId) -> String {
        self.cursor.token(&format!("{} {after}", self.begun.unix_micros()))
    }
}

impl Service {
    /// Ends all that the request names; `progress` hears after each batch how many it were so far. What half of the request's
    /// time is not enough for is left to the next call: the other half is for the replicas to hear. What is made while it
    /// runs is not in it.
    ///
    /// # Errors
    /// [`Reason::WorkspaceNotFound`], [`Reason::UserNotFound`], [`Reason::ActingUserNotActive`].
    pub async fn bulk_revoke(
        self: &Arc<Self>,
        context: Context,
        request: BulkRevoke,
        progress: impl Fn(u64) + Send + Sync + 'static,
    ) -> Result<BulkRevoked> {
        let this = Arc::clone(self);
        let attempt = Attempt::new(&context, AuditAction::CredentialBulkRevoke)
            .acting_for(&request.acting_user)
            .asking(described(&request));
        let unchanged = attempt.clone();
        let effect = if request.dry_run { Effect::Neutral } else { Effect::Narrows };
        self.run(attempt, effect, async move {
            let (why, acting_user) = this.check_bulk(&request).await?;
            let place = this.place(&request)?;
            let filter = this.revoke_filter(&request, place.begun).await?;
            let stop = context.deadline.map(|deadline| {
                let now = Instant::now();
                now + deadline.saturating_duration_since(now) / 2
            });
            if request.dry_run {
                return this.dry_run(&unchanged, &filter, why.as_deref()).await;
            }
            let (mut count, mut after, mut next_token) = (0, place.after, String::new());
            let mut committed: Option<Committed> = None;
            let committed = loop {
                let batch = this.store.list_revocable(&filter, after, BATCH).await?;
                let ids: Vec<_> = batch.iter().map(|credential| credential.id).collect();
                after = ids.last().copied();
                let last = ids.len() < BATCH as usize;
                if let Some(committed) = committed.filter(|_| ids.is_empty()) {
                    break committed;
                }
                let many = Many {
                    action: AuditAction::CredentialBulkRevoke,
                    asked: described(&request),
                    acting_user: acting_user.as_ref(),
                    ids: &ids,
                    also_revoked: false,
                };
                let (batch, revoked) = this.revoke_many(&context, many, |_| why.clone()).await?;
                let all = committed.map_or(batch, |committed| committed.and(batch));
                committed = Some(all);
                count += revoked.values().filter(|(_, now)| *now).count() as u64;
                progress(count);
                if last {
                    break all;
                }
                tokio::time::sleep(BATCH_PAUSE).await;
                let late = stop.is_some_and(|stop| Instant::now() >= stop);
                if let Some(after) = after.filter(|_| late || this.tasks.is_closed()) {
                    next_token = place.token(after);
                    break all;
                }
            };
            // Also where there was nothing left to end: an earlier run that was killed has not waited.
            let revision = committed.revision();
            let sample = Vec::new();
            Ok(committed.done(BulkRevoked { count, sample, revision, next_token }))
        })
        .await
    }

    /// Counts, and records that somebody did.
    async fn dry_run(
        &self,
        attempt: &Attempt,
        filter: &RevokeFilter,
        why: Option<&str>,
    ) -> Result<Done<BulkRevoked>> {
        let count = self.store.count_revocable(filter).await?;
        let sample = self.store.list_revocable(filter, None, SAMPLE).await?;
        let found = json!({"count": count});
        let committed = self.commit_unchanged(None, attempt, found, why).await?;
        let revision = committed.revision();
        let next_token = String::new();
        Ok(committed.done(BulkRevoked { count, sample, revision, next_token }))
    }

    async fn check_bulk(&self, request: &BulkRevoke) -> Result<(Option<String>, Option<UserId>)> {
        let mut violations = Violations::default();
        let restricts = request.workspace.is_some()
            || request.user.is_some()
            || request.family_id.is_some()
            || !request.creator.is_empty()
            || request.created_before.is_some()
            || request.last_used_before.is_some();
        if !restricts {
            violations.add(
                "workspace",
                "at least one of workspace, user, family_id, creator, created_before and \
                 last_used_before is required",
            );
        }
        if request.creator.len() > CREATOR_BYTES_MAX {
            violations.add("creator", format!("must be at most {CREATOR_BYTES_MAX} bytes"));
        }
        if request.dry_run && !request.page_token.is_empty() {
            violations.add("page_token", "must be empty with dry_run");
        }
        let why = violations.check("reason", ReasonText::parse(&request.reason));
        let acting_user = Some(request.acting_user.as_str()).filter(|id| !id.is_empty());
        let acting_user =
            acting_user.and_then(|id| violations.check("acting_user", UserId::parse(id)));
        violations.finish()?;
        if let Some(id) = &acting_user {
            let user = self.store.find_user(id).await?;
            user.filter(|user| !user.disabled).ok_or(Reason::ActingUserNotActive)?;
        }
        let why = why.map(|why| why.as_str().to_owned()).filter(|why| !why.is_empty());
        Ok((why, acting_user))
    }

    /// Where it begins: now, or where an earlier call of the same filter stopped.
    fn place(&self, request: &BulkRevoke) -> Result<Place> {
        let filter = BulkRevoke { dry_run: false, ..request.clone() };
        let page = PageRequest { size: 0, token: request.page_token.clone() };
        let cursor = Cursor::new(&page, format!("bulk_revoke {}", described(&filter)))?;
        let earlier = cursor.after.as_deref().and_then(|position| {
            let (begun, after) = position.split_once(' ')?;
            let begun = Timestamp::from_unix_micros(begun.parse().ok()?)?;
            Some((begun, CredentialId::parse(after).ok()?))
        });
        let now = self.clock.now();
        let (begun, after) = earlier.map_or((now, None), |(begun, after)| (begun, Some(after)));
        // Nobody has begun in the future.
        Ok(Place { cursor, begun: begun.min(now), after })
    }

    async fn revoke_filter(&self, request: &BulkRevoke, begun: Timestamp) -> Result<RevokeFilter> {
        let workspace_id = match &request.workspace {
            Some(name) => Some(self.get_workspace(name).await?.id),
            None => None,
        };
        let user_id = match &request.user {
            Some(id) => Some(self.get_user(id).await?.id),
            None => None,
        };
        Ok(RevokeFilter {
            workspace_id,
            user_id,
            family_id: request.family_id,
            creator: Some(request.creator.clone()).filter(|creator| !creator.is_empty()),
            created_before: Some(request.created_before.map_or(begun, |time| time.min(begun))),
            last_used_before: request.last_used_before,
        })
    }

    /// Revokes these credentials in one transaction, with an event for each and one for all of them; each as it stands
    /// now, and whether it was this that revoked it. Where none was left to revoke, the events are bounded as refusals are.
    pub(in crate::service) async fn revoke_many(
        &self,
        context: &Context,
        many: Many<'_>,
        why: impl Fn(CredentialId) -> Option<String> + Send,
    ) -> Result<(Committed, HashMap<CredentialId, (Credential, bool)>)> {
        let mut tx = self.begin(many.action.as_str()).await?;
        let found = tx.find_credentials(many.ids).await?;
        let now = self.clock.now();
        let live = found.iter().filter(|credential| credential.revoke_time.is_none());
        let live: Vec<_> = live.map(|credential| credential.id).collect();
        tx.revoke_credentials(&live, now).await?;
        let mut events = Vec::with_capacity(found.len());
        let mut revoked = HashMap::with_capacity(found.len());
        for before in found {
            let is_live = before.revoke_time.is_none();
            let mut after = before.clone();
            if is_live {
                after.revoke_time = Some(now);
                after.version += 1;
            }
            if is_live || many.also_revoked {
                let reason = why(after.id);
                let entry = Entry {
                    action: AuditAction::CredentialRevoke,
                    target: AuditTarget::Credential(after.id),
                    acting_user: many.acting_user,
                    before: Some(view::credential(&before, now)),
                    after: Some(view::credential(&after, now)),
                    reason: reason.as_deref(),
                };
                events.push(self.audit_event(context, entry)?);
            }
            revoked.insert(after.id, (after, is_live));
        }
        if live.is_empty() && !self.admits(context) {
            drop(tx);
            return Ok((self.nothing_to_commit().await?, revoked));
        }
        tx.insert_audit_events(&events).await?;
        let entry = Entry {
            action: many.action,
            target: AuditTarget::Credentials,
            acting_user: many.acting_user,
            before: None,
            after: Some(json!({"asked": many.asked, "revoked_count": live.len()})),
            reason: None,
        };
        let committed = self.commit(tx, &self.audit_event(context, entry)?).await?;
        Ok((committed, revoked))
    }
}

/// Many credentials to be revoked in one transaction.
pub(in crate::service) struct Many<'a> {
    /// What the event for all of them says was done.
    pub(in crate::service) action: AuditAction,
    /// What was asked for, for the same event.
    pub(in crate::service) asked: Value,
    /// On whose behalf.
    pub(in crate::service) acting_user: Option<&'a UserId>,
    /// Which.
    pub(in crate::service) ids: &'a [CredentialId],
    /// Whether those that are revoked already have an event too.
    pub(in crate::service) also_revoked: bool,
}

/// The filter as the audit log has it: what is set.
fn described(request: &BulkRevoke) -> Value {
    let fields = [
        ("workspace", request.workspace.as_ref().map(ToString::to_string)),
        ("user_id", request.user.as_ref().map(ToString::to_string)),
        ("family_id", request.family_id.map(|id| id.to_string())),
        ("creator", Some(request.creator.clone()).filter(|creator| !creator.is_empty())),
        ("created_before", request.created_before.map(|time| time.to_string())),
        ("last_used_before", request.last_used_before.map(|time| time.to_string())),
    ];
    let set = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into())));
    let mut described: Map<String, Value> = set.collect();
    if request.dry_run {
        described.insert("dry_run".to_owned(), true.into());
    }
    Value::Object(described)
}
