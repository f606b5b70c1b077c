//! Putting workspaces: one, or several at once, so that two can swap their slugs. A put changes only what it names.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::json;

use crate::model::limits::{SLUG_RESERVATION, WORKSPACES_PUT_MAX};
use crate::model::{
    AuditAction, AuditTarget, Clock, DisplayName, Invalid, Permission, PolicyChange, Slug,
    Timestamp, Workspace, WorkspaceId, WorkspacePolicy,
};
use crate::service::audit::Entry;
use crate::service::commit::{Committed, Effect, Transaction};
use crate::service::{Attempt, Context, Reason, Result, Service, ServiceError, Violations, view};
use crate::store::{Lock, NameHolder, WriteTx};

/// A workspace as it is to be. What is `None` stays as it is; of a new one slug and name are required.
#[derive(Debug, Clone)]
pub struct PutWorkspace {
    /// Which.
    pub id: WorkspaceId,
    /// Its slug.
    pub slug: Option<Slug>,
    /// Its name, for people.
    pub display_name: Option<DisplayName>,
    /// Whether it is disabled; a new one is not.
    pub disabled: Option<bool>,
    /// What to change of what it asks of its keys.
    pub policy: Option<PolicyChange>,
}

/// A workspace that is put: what it was, and what it is to be.
pub(in crate::service) struct Naming<'a> {
    /// Its row, deleted or not.
    pub(in crate::service) before: Option<&'a Workspace>,
    /// Which.
    pub(in crate::service) id: &'a WorkspaceId,
    /// Its slug from now on.
    pub(in crate::service) slug: &'a Slug,
}

/// What one that was put was before, and what became of it.
struct Put {
    before: Option<Workspace>,
    /// Before, and now.
    policies: (Option<WorkspacePolicy>, Option<WorkspacePolicy>),
    changed: bool,
}

impl Naming<'_> {
    /// The slug that it gives up. A deleted workspace's was reserved when it was deleted.
    fn given_up(&self) -> Option<&Slug> {
        let live = self.before.filter(|before| before.delete_time.is_none());
        live.map(|before| &before.slug).filter(|slug| *slug != self.slug)
    }
}

impl Service {
    /// Makes the workspace, or changes what is named of it.
    ///
    /// # Errors
    /// [`Reason::SlugTaken`], [`Reason::WorkspaceIdTaken`]; [`Reason::ArgumentInvalid`] for a policy that is laxer than
    /// the server's, unless it is the workspace's already: the server's may have become stricter.
    pub async fn put_workspace(
        self: &Arc<Self>,
        context: Context,
        request: PutWorkspace,
    ) -> Result<Workspace> {
        let target = AuditTarget::Workspace(request.id.clone());
        let attempt = Attempt::on(&context, AuditAction::WorkspacePut, &target);
        let mut put = self.put_all(attempt, vec![request], |_| "workspace".to_owned()).await?;
        put.pop().ok_or_else(|| ServiceError::internal(&"a workspace that was put is not there"))
    }

    /// The same of several workspaces, of all or of none: names are as free as they are when all of it is done, so that
    /// two may swap their slugs.
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

    /// `field` is what the request calls the workspace of this index.
    async fn put_all(
        self: &Arc<Self>,
        attempt: Attempt,
        requests: Vec<PutWorkspace>,
        field: fn(usize) -> String,
    ) -> Result<Vec<Workspace>> {
        let this = Arc::clone(self);
        let context = attempt.context().clone();
        // It names slugs, and those before must be dead when it returns.
        self.run(attempt, Effect::Narrows, async move {
            check_ids(&requests, field)?;
            let now = this.clock.now();
            let mut tx = this.begin("put_workspaces").await?;
            tx.lock_workspace_names().await?;
            let mut befores = vec![None; requests.len()];
            // In the order of their ids, as whoever else locks several.
            let mut order: Vec<_> = (0..requests.len()).collect();
            order.sort_by_key(|i| &requests[*i].id);
            for i in order {
                befores[i] = tx.find_workspace_row(&requests[i].id, Lock::Update).await?;
            }
            let mut afters = afters(&requests, &befores, field, now)?;
            let namings = afters.iter().zip(&befores).map(|(after, before)| Naming {
                before: before.as_ref(),
                id: &after.id,
                slug: &after.slug,
            });
            let namings: Vec<_> = namings.collect();
            claim_names(&mut *tx, &namings, &*this.clock)
                .await
                .map_err(|error| told(&context, error))?;
            make_way(&mut *tx, &namings, now).await?;
            let mut puts = Vec::with_capacity(requests.len());
            for (i, (request, before)) in requests.iter().zip(befores).enumerate() {
                let before = before.filter(|before| before.delete_time.is_none());
                puts.push(this.put_one(&mut *tx, request, before, &mut afters[i], field(i)).await?);
            }
            let committed = this.commit_put(&context, tx, &puts, &afters).await?;
            Ok(committed.done(afters))
        })
        .await
    }

    /// Writes what is to be changed of one. What is as asked already stays as it is, with the time of its last change.
    async fn put_one(
        &self,
        tx: &mut dyn WriteTx,
        request: &PutWorkspace,
        before: Option<Workspace>,
        after: &mut Workspace,
        field: String,
    ) -> Result<Put> {
        let same = before.clone().filter(|before| {
            *before == Workspace { update_time: before.update_time, ..after.clone() }
        });
        // A policy is of a workspace that is there.
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
        Ok(Put { before, policies, changed })
    }

    /// With an event for each.
    async fn commit_put(
        &self,
        context: &Context,
        mut tx: Transaction,
        puts: &[Put],
        afters: &[Workspace],
    ) -> Result<Committed> {
        let entry = |(put, after): (&Put, &Workspace)| Entry {
            action: AuditAction::WorkspacePut,
            target: AuditTarget::Workspace(after.id.clone()),
            acting_user: None,
            before: put
                .before
                .as_ref()
                .map(|before| view::with_policy(view::workspace(before), put.policies.0.as_ref())),
            after: Some(view::with_policy(view::workspace(after), put.policies.1.as_ref())),
            reason: None,
        };
        let changed = puts.iter().any(|put| put.changed);
        let mut entries: Vec<_> = puts.iter().zip(afters).map(entry).collect();
        let last = entries.pop();
        let last = last.ok_or_else(|| ServiceError::internal(&"nothing was put"))?;
        let events: Result<Vec<_>> =
            entries.into_iter().map(|entry| self.audit_event(context, entry)).collect();
        tx.insert_audit_events(&events?).await?;
        self.commit_change(context, tx, changed, last).await
    }

    /// Changes what is named of the workspace's policy; the one before and the one now.
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

/// That there are some, not too many, and none twice.
fn check_ids(requests: &[PutWorkspace], field: fn(usize) -> String) -> Result<()> {
    let mut violations = Violations::default();
    if requests.is_empty() || requests.len() > WORKSPACES_PUT_MAX {
        violations.add("requests", format!("must have 1 to {WORKSPACES_PUT_MAX} entries"));
        return violations.finish();
    }
    let mut seen = HashSet::new();
    for (i, request) in requests.iter().enumerate() {
        if !seen.insert(&request.id) {
            violations.add(&format!("{}.id", field(i)), "must not stand in the request twice");
        }
    }
    violations.finish()
}

/// The workspaces as they are to be.
fn afters(
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
            violations.add(&format!("{}.slug", field(i)), "is required of a new workspace");
        }
        if name.is_none() {
            violations.add(&format!("{}.display_name", field(i)), "is required of a new workspace");
        }
        let Some((slug, display_name)) = slug.zip(name) else { continue };
        if afters.iter().any(|other| other.slug == slug) {
            violations.add(&format!("{}.slug", field(i)), "must not stand in the request twice");
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
        });
    }
    violations.finish()?;
    Ok(afters)
}

/// Sees to it that ids and slugs are free for these workspaces once all are put, and reserves the slugs that they give up
/// and that none of them takes (DESIGN §5).
pub(in crate::service) async fn claim_names(
    tx: &mut dyn WriteTx,
    namings: &[Naming<'_>],
    clock: &dyn Clock,
) -> Result<()> {
    // No name is freed by a clock that runs ahead.
    let (now, certain) = (clock.now(), clock.earliest_now());
    for naming in namings {
        let holder = tx.find_name_holder(naming.slug.as_str(), certain).await?;
        let gives_it_up = |holder: &NameHolder| {
            let given_up = |other: &Naming<'_>| other.given_up() == Some(naming.slug);
            namings.iter().any(|other| *other.id == holder.workspace_id && given_up(other))
        };
        let holder = holder.filter(|holder| holder.workspace_id != *naming.id);
        if let Some(holder) = holder.filter(|holder| !gives_it_up(holder)) {
            return Err(held(Reason::SlugTaken, &holder));
        }
        if namings
            .iter()
            .any(|other| other.id != naming.id && other.id.as_str() == naming.slug.as_str())
        {
            return Err(Reason::SlugTaken.into());
        }
        if naming.before.is_none() {
            let holder = tx.find_name_holder(naming.id.as_str(), certain).await?;
            if let Some(holder) = holder.filter(|holder| holder.workspace_id != *naming.id) {
                return Err(held(Reason::WorkspaceIdTaken, &holder));
            }
        }
    }
    for naming in namings {
        if let Some(given_up) = naming.given_up() {
            reserve(tx, given_up, naming.id, now).await?;
        }
    }
    for naming in namings {
        tx.release_slug(naming.slug).await?;
    }
    Ok(())
}

/// Within the transaction, those whose slug another of them takes are deleted until they are put: no two have one slug at
/// any moment.
async fn make_way(tx: &mut dyn WriteTx, namings: &[Naming<'_>], now: Timestamp) -> Result<()> {
    for naming in namings {
        let wanted =
            naming.given_up().is_some_and(|slug| namings.iter().any(|other| other.slug == slug));
        if let Some(before) = naming.before.filter(|_| wanted) {
            let away = Workspace { delete_time: Some(now), ..before.clone() };
            tx.put_workspace(&away).await?;
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
    // The clock would have to stand in the year 9999 for the reservation not to fit.
    let release_time = now.checked_add(SLUG_RESERVATION).unwrap_or(now);
    Ok(tx.reserve_slug(slug, id, release_time).await?)
}

/// Whose the name is, and of one that was given up also until when.
fn held(reason: Reason, holder: &NameHolder) -> ServiceError {
    let (error, id) = (ServiceError::from(reason), holder.workspace_id.as_str());
    match holder.release_time {
        Some(time) => error.with("reserved_until", time.to_string()).with("reclaimed_by_id", id),
        None => error.with("held_by_id", id),
    }
}

/// What the requester may know: the ids of other workspaces are for who may read the directory.
fn told(context: &Context, error: ServiceError) -> ServiceError {
    if context.permits(Permission::DirectoryRead) {
        return error;
    }
    ServiceError { metadata: Vec::new(), ..error }
}
