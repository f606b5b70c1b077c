//! Creating and changing workspaces: one, or several in one transaction, so that two can exchange their slugs.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::json;

use crate::model::limits::{SLUG_RESERVATION, WORKSPACES_PUT_MAX};
use crate::model::{
    AuditAction, AuditTarget, Clock, DisplayName, Invalid, PatPolicy, PatPolicyChange, Permission,
    PolicyChange, Slug, Timestamp, Workspace, WorkspaceId, WorkspacePolicy,
};
use crate::service::audit::Entry;
use crate::service::commit::{Committed, Effect, Transaction};
use crate::service::{Attempt, Context, Reason, Result, Service, ServiceError, Violations, view};
use crate::store::{Lock, NameHolder, WriteTx};

/// A workspace to create or change. A field that is `None` is not changed. A new workspace needs a slug and a name.
#[derive(Debug, Clone)]
pub struct PutWorkspace {
    /// Id of the workspace.
    pub id: WorkspaceId,
    /// New slug.
    pub slug: Option<Slug>,
    /// New display name.
    pub display_name: Option<DisplayName>,
    /// Whether the workspace is disabled. New workspaces are not.
    pub disabled: Option<bool>,
    /// Changes to the policy for its keys.
    pub policy: Option<PolicyChange>,
    /// Changes to the policy for the personal access tokens that act in it.
    pub pat_policy: Option<PatPolicyChange>,
}

/// A workspace and the slug that it takes.
pub(in crate::service) struct NameClaim<'a> {
    /// The present row, which may be a deleted one.
    pub(in crate::service) before: Option<&'a Workspace>,
    /// Id of the workspace.
    pub(in crate::service) id: &'a WorkspaceId,
    /// The new slug.
    pub(in crate::service) slug: &'a Slug,
}

/// A workspace as it was, and what changed.
struct WorkspaceChange {
    before: Option<Workspace>,
    /// The old and the new policy.
    policies: (Option<WorkspacePolicy>, Option<WorkspacePolicy>),
    changed: bool,
}

impl NameClaim<'_> {
    /// Returns the slug that the workspace gives up. The slug of a deleted workspace was reserved on deletion.
    fn given_up(&self) -> Option<&Slug> {
        let live = self.before.filter(|before| before.delete_time.is_none());
        live.map(|before| &before.slug).filter(|slug| *slug != self.slug)
    }
}

impl Service {
    /// Creates the workspace, or changes the given fields.
    ///
    /// # Errors
    /// [`Reason::SlugTaken`], [`Reason::WorkspaceIdTaken`]. [`Reason::ArgumentInvalid`] for a policy that is laxer than
    /// that of the server, unless the workspace has it already, since the server may have become stricter.
    pub async fn put_workspace(
        self: &Arc<Self>,
        context: Context,
        request: PutWorkspace,
    ) -> Result<Workspace> {
        let target = AuditTarget::Workspace(request.id.clone());
        let attempt = Attempt::on(&context, AuditAction::WorkspacePut, &target);
        let mut workspaces =
            self.put_all(attempt, vec![request], |_| "workspace".to_owned()).await?;
        workspaces.pop().ok_or_else(|| ServiceError::internal(&"a written workspace is missing"))
    }

    /// Does the same for several workspaces in one transaction. Only the final state must have unique names, so two
    /// workspaces may exchange their slugs.
    pub async fn put_workspaces(
        self: &Arc<Self>,
        context: Context,
        requests: Vec<PutWorkspace>,
    ) -> Result<Vec<Workspace>> {
        let ids: Vec<_> = requests.iter().map(|request| request.id.as_str()).collect();
        let attempt =
            Attempt::new(&context, AuditAction::WorkspacePut).asking(json!({"workspace_ids": ids}));
        self.put_all(attempt, requests, |i| format!("requests[{i}].workspace")).await
    }

    /// `field` returns the request's field name of the workspace at this index.
    async fn put_all(
        self: &Arc<Self>,
        attempt: Attempt,
        requests: Vec<PutWorkspace>,
        field: fn(usize) -> String,
    ) -> Result<Vec<Workspace>> {
        let this = Arc::clone(self);
        let context = attempt.context().clone();
        // A workspace may give up a slug, which must stop working before the call returns.
        self.run(attempt, Effect::Narrows, async move {
            check_ids(&requests, field)?;
            let now = this.clock.now();
            let mut tx = this.begin("put_workspaces").await?;
            tx.lock_workspace_names().await?;
            let mut befores = vec![None; requests.len()];
            // Locked in the order of their ids, as in every transaction that locks several. Otherwise two could
            // deadlock.
            let mut order: Vec<_> = (0..requests.len()).collect();
            order.sort_by_key(|i| &requests[*i].id);
            for i in order {
                befores[i] = tx.find_workspace_row(&requests[i].id, Lock::Update).await?;
            }
            let mut afters = updated_workspaces(&requests, &befores, field, now)?;
            let claims = afters.iter().zip(&befores).map(|(after, before)| NameClaim {
                before: before.as_ref(),
                id: &after.id,
                slug: &after.slug,
            });
            let claims: Vec<_> = claims.collect();
            claim_names(&mut *tx, &claims, &*this.clock)
                .await
                .map_err(|error| hide_other_ids(&context, error))?;
            free_exchanged_slugs(&mut *tx, &claims, now).await?;
            let mut changes = Vec::with_capacity(requests.len());
            for (i, (request, before)) in requests.iter().zip(befores).enumerate() {
                let before = before.filter(|before| before.delete_time.is_none());
                changes
                    .push(this.put_one(&mut *tx, request, before, &mut afters[i], field(i)).await?);
            }
            let committed = this.commit_put(&context, tx, &changes, &afters).await?;
            Ok(committed.done(afters))
        })
        .await
    }

    /// Writes the changes to one workspace. If nothing changes, it keeps its update time.
    async fn put_one(
        &self,
        tx: &mut dyn WriteTx,
        request: &PutWorkspace,
        before: Option<Workspace>,
        after: &mut Workspace,
        field: String,
    ) -> Result<WorkspaceChange> {
        let same = before.clone().filter(|before| {
            *before == Workspace { update_time: before.update_time, ..after.clone() }
        });
        let policy_before = before.as_ref().map(|before| before.pat_policy).unwrap_or_default();
        if after.pat_policy != policy_before && after.pat_policy != PatPolicy::default() {
            Self::require_new_rules(tx).await?;
        }
        // A policy needs the row of its workspace.
        if same.is_none() {
            tx.put_workspace(after).await?;
        }
        let policies = self.put_policy(tx, request, field).await?;
        let changed = match same {
            Some(before) if policies.0 == policies.1 => {
                *after = before;
                false
            }
            Some(_) => {
                tx.put_workspace(after).await?;
                true
            }
            None => true,
        };
        Ok(WorkspaceChange { before, policies, changed })
    }

    /// Commits, with an audit event for each workspace.
    async fn commit_put(
        &self,
        context: &Context,
        mut tx: Transaction,
        changes: &[WorkspaceChange],
        afters: &[Workspace],
    ) -> Result<Committed> {
        let entry = |(change, after): (&WorkspaceChange, &Workspace)| Entry {
            action: AuditAction::WorkspacePut,
            target: AuditTarget::Workspace(after.id.clone()),
            acting_user: None,
            before: change.before.as_ref().map(|before| {
                view::with_policy(view::workspace(before), change.policies.0.as_ref())
            }),
            after: Some(view::with_policy(view::workspace(after), change.policies.1.as_ref())),
            reason: None,
        };
        let any_changed = changes.iter().any(|change| change.changed);
        let mut entries: Vec<_> = changes.iter().zip(afters).map(entry).collect();
        let last = entries.pop();
        let last = last.ok_or_else(|| ServiceError::internal(&"no workspace was written"))?;
        let events: Result<Vec<_>> =
            entries.into_iter().map(|entry| self.audit_event(context, entry)).collect();
        tx.insert_audit_events(&events?).await?;
        self.commit_change(context, tx, any_changed, last).await
    }

    /// Changes the given fields of the policy. Returns the old and the new policy.
    async fn put_policy(
        &self,
        tx: &mut dyn WriteTx,
        request: &PutWorkspace,
        field: String,
    ) -> Result<(Option<WorkspacePolicy>, Option<WorkspacePolicy>)> {
        let id = &request.id;
        let before = tx.find_workspace_policy(id, Lock::Update).await?;
        let own = before.unwrap_or_default();
        let after = request.policy.map(|change| change.apply_to(own));
        let Some(after) = after.filter(|after| *after != own) else { return Ok((before, before)) };
        let mut violations = Violations::default();
        for (name, Invalid(description)) in self.options.policy.refuse_change(&own, &after) {
            violations.add(&format!("{field}.policy.{name}"), description);
        }
        violations.finish()?;
        if after == WorkspacePolicy::default() {
            tx.delete_workspace_policy(id).await?;
            return Ok((before, None));
        }
        tx.put_workspace_policy(id, &after).await?;
        Ok((before, Some(after)))
    }
}

/// Checks that the request has entries, not too many, and no id twice.
fn check_ids(requests: &[PutWorkspace], field: fn(usize) -> String) -> Result<()> {
    let mut violations = Violations::default();
    if requests.is_empty() || requests.len() > WORKSPACES_PUT_MAX {
        violations.add("requests", format!("must have 1 to {WORKSPACES_PUT_MAX} entries"));
        return violations.finish();
    }
    let mut seen = HashSet::new();
    for (i, request) in requests.iter().enumerate() {
        if !seen.insert(&request.id) {
            violations.add(&format!("{}.id", field(i)), "must not be in the request twice");
        }
    }
    violations.finish()
}

/// Returns the workspaces in their new state.
fn updated_workspaces(
    requests: &[PutWorkspace],
    befores: &[Option<Workspace>],
    field: fn(usize) -> String,
    now: Timestamp,
) -> Result<Vec<Workspace>> {
    let mut violations = Violations::default();
    let mut afters: Vec<Workspace> = Vec::with_capacity(requests.len());
    for (i, (request, before)) in requests.iter().zip(befores).enumerate() {
        let live = before.as_ref().filter(|before| before.delete_time.is_none());
        let slug = request.slug.clone().or_else(|| live.map(|live| live.slug.clone()));
        let name =
            request.display_name.clone().or_else(|| live.map(|live| live.display_name.clone()));
        if slug.is_none() {
            violations.add(&format!("{}.slug", field(i)), "is required for a new workspace");
        }
        if name.is_none() {
            violations
                .add(&format!("{}.display_name", field(i)), "is required for a new workspace");
        }
        let Some((slug, display_name)) = slug.zip(name) else { continue };
        if afters.iter().any(|other| other.slug == slug) {
            violations.add(&format!("{}.slug", field(i)), "must not be in the request twice");
        }
        afters.push(Workspace {
            generation: before.as_ref().map_or(0, |before| before.generation),
            generation_time: before.as_ref().and_then(|before| before.generation_time),
            create_time: live.map_or(now, |live| live.create_time),
            update_time: now,
            delete_time: None,
            id: request.id.clone(),
            slug,
            display_name,
            disabled: request.disabled.unwrap_or(live.is_some_and(|live| live.disabled)),
            pat_policy: request
                .pat_policy
                .unwrap_or_default()
                .apply_to(live.map(|live| live.pat_policy).unwrap_or_default()),
        });
    }
    violations.finish()?;
    Ok(afters)
}

/// Checks that the ids and slugs are free once all of these workspaces are written. Reserves the slugs that are given
/// up and that none of the others takes. docs/api.md describes the reservation.
pub(in crate::service) async fn claim_names(
    tx: &mut dyn WriteTx,
    claims: &[NameClaim<'_>],
    clock: &dyn Clock,
) -> Result<()> {
    // A clock that runs ahead must not free a reserved name early.
    let (now, certain) = (clock.now(), clock.earliest_now());
    for claim in claims {
        let holder = tx.find_name_holder(claim.slug.as_str(), certain).await?;
        let gives_it_up = |holder: &NameHolder| {
            let given_up = |other: &NameClaim<'_>| other.given_up() == Some(claim.slug);
            claims.iter().any(|other| *other.id == holder.workspace_id && given_up(other))
        };
        let holder = holder.filter(|holder| holder.workspace_id != *claim.id);
        if let Some(holder) = holder.filter(|holder| !gives_it_up(holder)) {
            return Err(name_taken(Reason::SlugTaken, &holder));
        }
        if claims
            .iter()
            .any(|other| other.id != claim.id && other.id.as_str() == claim.slug.as_str())
        {
            return Err(Reason::SlugTaken.into());
        }
        if claim.before.is_none() {
            let holder = tx.find_name_holder(claim.id.as_str(), certain).await?;
            if let Some(holder) = holder.filter(|holder| holder.workspace_id != *claim.id) {
                return Err(name_taken(Reason::WorkspaceIdTaken, &holder));
            }
        }
    }
    for claim in claims {
        if let Some(given_up) = claim.given_up() {
            reserve(tx, given_up, claim.id, now).await?;
        }
    }
    for claim in claims {
        tx.release_slug(claim.slug).await?;
    }
    Ok(())
}

/// Marks the workspaces whose slug another one takes as deleted until they are written. So no two rows have the same
/// slug at any moment of the transaction.
async fn free_exchanged_slugs(
    tx: &mut dyn WriteTx,
    claims: &[NameClaim<'_>],
    now: Timestamp,
) -> Result<()> {
    for claim in claims {
        let wanted =
            claim.given_up().is_some_and(|slug| claims.iter().any(|other| other.slug == slug));
        if let Some(before) = claim.before.filter(|_| wanted) {
            let set_aside = Workspace { delete_time: Some(now), ..before.clone() };
            tx.put_workspace(&set_aside).await?;
        }
    }
    Ok(())
}

pub(in crate::service) async fn reserve(
    tx: &mut dyn WriteTx,
    slug: &Slug,
    id: &WorkspaceId,
    now: Timestamp,
) -> Result<()> {
    // The sum overflows only if the clock is in the year 9999.
    let release_time = now.checked_add(SLUG_RESERVATION).unwrap_or(now);
    Ok(tx.reserve_slug(slug, id, release_time).await?)
}

/// Returns the error with the holder of the name and, for a reserved name, the end of the reservation.
fn name_taken(reason: Reason, holder: &NameHolder) -> ServiceError {
    let (error, id) = (ServiceError::from(reason), holder.workspace_id.as_str());
    match holder.release_time {
        Some(time) => error.with("reserved_until", time.to_string()).with("reclaimed_by_id", id),
        None => error.with("held_by_id", id),
    }
}

/// Removes the ids of other workspaces from the error, unless the requester may read the directory.
fn hide_other_ids(context: &Context, error: ServiceError) -> ServiceError {
    if context.permits(Permission::DirectoryRead) {
        return error;
    }
    ServiceError { metadata: Vec::new(), ..error }
}
