//! Revocation of many credentials: every credential that a filter matches, in batches. Each batch is one transaction,
//! so that no batch holds a lock for long. A batch is atomic. If a run is interrupted, the next one revokes the rest.
//!
//! Each credential gets an audit event, as if it had been revoked individually, so that the audit log of each
//! credential is complete. Each batch adds one event (`credential.bulk_revoke`) with the filter and the count.
//!
//! On behalf of an acting user the selection is bounded (`bulk_scope.rs`): keys of a workspace that the user
//! administers, or the user's own personal access tokens. Each transaction checks that again.
//!
//! Credentials that end because their owner is deleted also get an event each, although their rows do not change: see
//! `pending_ends.rs`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use super::bulk_scope::BulkScope;
use crate::model::limits::{BATCH_PAUSE, CREATOR_BYTES_MAX};
use crate::model::{
    AuditAction, AuditTarget, Credential, CredentialId, ReasonText, Revision, Timestamp, UserId,
    WorkspaceId, WorkspaceName,
};
use crate::service::audit::Entry;
use crate::service::commit::{Committed, Done, Effect};
use crate::service::grant::MANAGE;
use crate::service::page::{Cursor, PageRequest};
use crate::service::{Attempt, Context, Result, Service, Violations, view};
use crate::store::RevokeFilter;

/// Number of credentials that one transaction revokes. It is small because other writers wait for the transaction.
const CREDENTIALS_PER_TRANSACTION: u32 = 50;
/// Number of credentials in the sample of a dry run.
const SAMPLE: u32 = 10;

/// Selects the credentials to revoke: those that match every field that is set and are not yet revoked. Expired
/// credentials match too.
#[derive(Debug, Clone, Default)]
pub struct BulkRevoke {
    /// Keys of this workspace, by slug or id.
    pub workspace: Option<WorkspaceName>,
    /// Personal access tokens of this user.
    pub user: Option<UserId>,
    /// Credentials of this family.
    pub family_id: Option<CredentialId>,
    /// Credentials by this creator, as in [`Credential::creator`]. Empty for any creator.
    pub creator: String,
    /// Credentials created before this time.
    pub created_before: Option<Timestamp>,
    /// Credentials not used since this time, or never used.
    pub last_used_before: Option<Timestamp>,
    /// Credentials that are at least this old and were not used for this long. Excludes [`Self::last_used_before`].
    pub unused_for: Option<Duration>,
    /// Only count the credentials and return a sample.
    pub dry_run: bool,
    /// Free text for the audit log.
    pub reason: String,
    /// User on whose behalf the caller acts, who may end keys of a workspace that they administer, and their own
    /// personal access tokens. Empty for the system itself.
    pub acting_user: String,
    /// [`BulkRevoked::next_token`] of an earlier call with the same filter, to continue where it stopped. Empty to
    /// start.
    pub page_token: String,
}

/// Result of a bulk revocation.
#[derive(Debug, Clone)]
pub struct BulkRevoked {
    /// Number of credentials that were revoked, or in a dry run would be.
    pub count: u64,
    /// The first of the matching credentials, in a dry run.
    pub sample: Vec<Credential>,
    /// Revision of the store that contains all of the revocations.
    pub revision: Revision,
    /// Token that continues the run if its time was not enough. Empty if all are revoked.
    pub next_token: String,
}

/// Where a call starts.
struct Start {
    cursor: Cursor,
    /// The workspace that the request names.
    workspace_id: Option<WorkspaceId>,
    /// Largest id of all credentials when the first call of the run began. Larger ids were created later and stay, so
    /// that the run ends. A time would not do: the clock of the server that created a credential may be ahead.
    last_id: CredentialId,
    after: Option<CredentialId>,
}

impl Start {
    /// Returns the page token that continues after this credential.
    fn token_after(&self, after: CredentialId) -> String {
        self.cursor.token(&format!("{} {after}", self.last_id))
    }
}

impl Service {
    /// Revokes all credentials that the request selects. `progress` is called after each batch with the count so far.
    ///
    /// The call stops after half of its deadline and leaves the rest to the next call, because the other half is needed
    /// to wait for the replicas. Credentials created during the run are not revoked.
    ///
    /// # Errors
    /// [`WorkspaceNotFound`], [`UserNotFound`], [`ActingUserNotActive`], [`RoleTooLow`]. [`ArgumentInvalid`] also if an
    /// acting user asks for tokens of another user.
    ///
    /// [`ActingUserNotActive`]: crate::service::Reason::ActingUserNotActive
    /// [`ArgumentInvalid`]: crate::service::Reason::ArgumentInvalid
    /// [`RoleTooLow`]: crate::service::Reason::RoleTooLow
    /// [`UserNotFound`]: crate::service::Reason::UserNotFound
    /// [`WorkspaceNotFound`]: crate::service::Reason::WorkspaceNotFound
    pub async fn bulk_revoke(
        self: &Arc<Self>,
        context: Context,
        request: BulkRevoke,
        progress: impl Fn(u64) + Send + Sync + 'static,
    ) -> Result<BulkRevoked> {
        let this = Arc::clone(self);
        let attempt = Attempt::new(&context, AuditAction::CredentialBulkRevoke)
            .acting_for(&request.acting_user)
            .asking(describe_filter(&request));
        let unchanged = attempt.clone();
        let effect = if request.dry_run { Effect::Neutral } else { Effect::Narrows };
        self.run(attempt, effect, async move {
            let acting_user = MANAGE.acting_user(&context, &request.acting_user)?;
            let why = check_bulk_revoke(&request, acting_user.as_ref())?;
            if let Some(user) = &acting_user {
                this.require_active(user).await?;
            }
            // Once, because the slug can move to another workspace at any time.
            let workspace_id = match &request.workspace {
                Some(name) => Some(this.workspace_to_list(name, acting_user.as_ref()).await?.id),
                None => None,
            };
            let scope =
                acting_user.as_ref().map(|user| BulkScope::new(user, workspace_id.as_ref()));
            let start = this.start_of(&request, workspace_id).await?;
            let filter = this.revoke_filter(&request, &start).await?;
            let stop = context.deadline.map(|deadline| {
                let now = Instant::now();
                now + deadline.saturating_duration_since(now) / 2
            });
            if request.dry_run {
                return this.dry_run(&unchanged, &filter, why.as_deref()).await;
            }
            let (mut count, mut after, mut next_token) = (0, start.after, String::new());
            let mut committed: Option<Committed> = None;
            let committed = loop {
                let batch =
                    this.store.list_revocable(&filter, after, CREDENTIALS_PER_TRANSACTION).await?;
                let ids: Vec<_> = batch.iter().map(|credential| credential.id).collect();
                after = ids.last().copied();
                let last = ids.len() < CREDENTIALS_PER_TRANSACTION as usize;
                if let Some(committed) = committed.filter(|_| ids.is_empty()) {
                    break committed;
                }
                let batch = RevocationBatch {
                    action: AuditAction::CredentialBulkRevoke,
                    summary: describe_filter(&request),
                    acting_user: acting_user.as_ref(),
                    scope: scope.as_ref(),
                    ids: &ids,
                    include_revoked: false,
                };
                let (batch, revoked) = this.revoke_many(&context, batch, |_| why.clone()).await?;
                let all = committed.map_or(batch, |committed| committed.and(batch));
                committed = Some(all);
                count += revoked.values().filter(|(_, now)| *now).count() as u64;
                progress(count);
                if last {
                    break all;
                }
                tokio::time::sleep(BATCH_PAUSE).await;
                let late = stop.is_some_and(|stop| Instant::now() >= stop);
                if let Some(after) = after.filter(|_| late || this.tasks.tracker.is_closed()) {
                    next_token = start.token_after(after);
                    break all;
                }
            };
            // Waits even if nothing was left to revoke: an earlier run may have been killed before it had waited.
            let revision = committed.revision();
            let sample = Vec::new();
            Ok(committed.done(BulkRevoked { count, sample, revision, next_token }))
        })
        .await
    }

    /// Counts the matching credentials and records the dry run in the audit log.
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

    /// Returns where the call starts: at the first credential, or where an earlier call with the same filter stopped.
    async fn start_of(
        &self,
        request: &BulkRevoke,
        workspace_id: Option<WorkspaceId>,
    ) -> Result<Start> {
        let filter = BulkRevoke { dry_run: false, ..request.clone() };
        let page = PageRequest { size: 0, token: request.page_token.clone() };
        let filter = describe_filter(&filter);
        // The slug of the workspace can move to another one between two calls.
        let binding = match &workspace_id {
            Some(id) => format!("bulk_revoke in {id} {filter}"),
            None => format!("bulk_revoke {filter}"),
        };
        let cursor = Cursor::new(&page, binding)?;
        let earlier = cursor.after.as_deref().and_then(|position| {
            let (last_id, after) = position.split_once(' ')?;
            Some((CredentialId::parse(last_id).ok()?, CredentialId::parse(after).ok()?))
        });
        if let Some((last_id, after)) = earlier {
            return Ok(Start { cursor, workspace_id, last_id, after: Some(after) });
        }
        let last_id = self.store.last_credential_id().await?;
        let last_id = last_id.unwrap_or(CredentialId(Uuid::nil()));
        Ok(Start { cursor, workspace_id, last_id, after: None })
    }

    async fn revoke_filter(&self, request: &BulkRevoke, start: &Start) -> Result<RevokeFilter> {
        let user_id = match &request.user {
            Some(id) => Some(self.get_user(id).await?.id),
            None => None,
        };
        // What was used before that time was created before it too. A credential that was never used must be as old.
        let unused_since = request.unused_for.map(|unused| self.clock.now().saturating_sub(unused));
        let created_before = request.created_before.into_iter().chain(unused_since).min();
        Ok(RevokeFilter {
            workspace_id: start.workspace_id.clone(),
            user_id,
            family_id: request.family_id,
            last_id: Some(start.last_id),
            creator: Some(request.creator.clone()).filter(|creator| !creator.is_empty()),
            created_before,
            last_used_before: request.last_used_before.or(unused_since),
        })
    }

    /// Revokes these credentials in one transaction, with one audit event for each and one for the batch. Returns each
    /// credential in its new state, and whether this call revoked it. If none was left to revoke, the rate of such
    /// events is limited as for refusals.
    pub(in crate::service) async fn revoke_many(
        &self,
        context: &Context,
        batch: RevocationBatch<'_>,
        why: impl Fn(CredentialId) -> Option<String> + Send,
    ) -> Result<(Committed, HashMap<CredentialId, (Credential, bool)>)> {
        let mut tx = self.begin(batch.action.as_str()).await?;
        if let Some(scope) = batch.scope {
            scope.lock(&mut *tx).await?;
        }
        let found = tx.find_credentials(batch.ids).await?;
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
            if is_live || batch.include_revoked {
                let reason = why(after.id);
                let entry = Entry {
                    action: AuditAction::CredentialRevoke,
                    target: AuditTarget::Credential(after.id),
                    acting_user: batch.acting_user,
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
            action: batch.action,
            target: AuditTarget::Credentials,
            acting_user: batch.acting_user,
            before: None,
            after: Some(json!({"asked": batch.summary, "revoked_count": live.len()})),
            reason: None,
        };
        let committed = self.commit(tx, &self.audit_event(context, entry)?).await?;
        Ok((committed, revoked))
    }
}

/// Credentials to revoke in one transaction.
pub(in crate::service) struct RevocationBatch<'a> {
    /// Action in the event for the batch.
    pub(in crate::service) action: AuditAction,
    /// Description of the request in the event for the batch.
    pub(in crate::service) summary: Value,
    /// User on whose behalf the caller acts.
    pub(in crate::service) acting_user: Option<&'a UserId>,
    /// What this user may revoke. The transaction locks it. `None` if the user is only recorded, or there is none.
    pub(in crate::service) scope: Option<&'a BulkScope>,
    /// Ids of the credentials.
    pub(in crate::service) ids: &'a [CredentialId],
    /// Whether credentials that are already revoked get an event too.
    pub(in crate::service) include_revoked: bool,
}

/// Checks the fields, and returns the reason for the audit log, if there is one.
fn check_bulk_revoke(request: &BulkRevoke, acting_user: Option<&UserId>) -> Result<Option<String>> {
    let mut violations = Violations::default();
    let restricts = request.workspace.is_some()
        || request.user.is_some()
        || request.family_id.is_some()
        || !request.creator.is_empty()
        || request.created_before.is_some()
        || request.last_used_before.is_some()
        || request.unused_for.is_some();
    if !restricts {
        violations.add(
            "workspace",
            "at least one of `workspace`, `user`, `family_id`, `creator`, `created_before`, `last_used_before` \
             and `unused_for` is required",
        );
    }
    if let Some(user) = acting_user.filter(|_| restricts) {
        BulkScope::check(&mut violations, user, request);
    }
    if request.creator.len() > CREATOR_BYTES_MAX {
        violations.add("creator", format!("must be at most {CREATOR_BYTES_MAX} bytes"));
    }
    if request.unused_for.is_some_and(|unused| unused.is_zero()) {
        violations.add("unused_for", "must be positive");
    }
    if request.unused_for.is_some() && request.last_used_before.is_some() {
        violations.add("unused_for", "cannot be set together with `last_used_before`");
    }
    if request.dry_run && !request.page_token.is_empty() {
        violations.add("page_token", "must be empty with `dry_run`");
    }
    let why = violations.check("reason", ReasonText::parse(&request.reason));
    violations.finish()?;
    Ok(why.map(|why| why.as_str().to_owned()).filter(|why| !why.is_empty()))
}

/// Describes the fields of the filter that are set, for the audit log.
fn describe_filter(request: &BulkRevoke) -> Value {
    let fields = [
        ("workspace", request.workspace.as_ref().map(ToString::to_string)),
        ("user_id", request.user.as_ref().map(ToString::to_string)),
        ("family_id", request.family_id.map(|id| id.to_string())),
        ("creator", Some(request.creator.clone()).filter(|creator| !creator.is_empty())),
        ("created_before", request.created_before.map(|time| time.to_string())),
        ("last_used_before", request.last_used_before.map(|time| time.to_string())),
        ("unused_for", request.unused_for.map(|unused| format!("{}s", unused.as_secs_f64()))),
    ];
    let set = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into())));
    let mut described: Map<String, Value> = set.collect();
    if request.dry_run {
        described.insert("dry_run".to_owned(), true.into());
    }
    Value::Object(described)
}
