//! Protection against an old file: rights that were taken away here since its export must not come back. Rows are
//! compared field by field. For rows that no longer exist, the audit log says what was removed.

use std::collections::{BTreeSet, HashSet};

use super::super::super::Service;
use super::super::TransferError;
use super::batch::LineOutcome;
use crate::model::{
    AuditAction, AuditEvent, AuditTarget, Credential, CredentialId, Invalid, IpAllowlist,
    Membership, Owner, Role, Timestamp, WorkspaceSet,
};
use crate::store::{AuditFilter, StoredCredential};

/// Number of events in a page.
const EVENTS_PER_PAGE: u32 = 1_000;

/// In which fields a credential has fewer rights here or in the file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Narrowing {
    /// Fields in which it has fewer rights here.
    pub(super) here: Vec<&'static str>,
    /// Fields in which it has fewer rights in the file.
    pub(super) in_file: Vec<&'static str>,
}

impl Narrowing {
    /// Compares a credential here with the one in the file.
    pub(super) fn of(here: &Credential, in_file: &Credential) -> Self {
        let mut compared = Self::default();
        let (ours, theirs) = (here.revoke_time.is_some(), in_file.revoke_time.is_some());
        compared.note("revoked", ours && !theirs, theirs && !ours);
        if ours || theirs {
            // The other fields do not matter for a revoked credential.
            return compared;
        }
        let (ours, theirs) = (here.disable_time.is_some(), in_file.disable_time.is_some());
        compared.note("disabled", ours && !theirs, theirs && !ours);
        let (ours, theirs) = (end(here), end(in_file));
        compared.note("to expire earlier", ours < theirs, theirs < ours);
        let lacks =
            |one: &Credential, other: &Credential| !other.scopes.difference(one.scopes).is_empty();
        compared.note("of fewer scopes", lacks(here, in_file), lacks(in_file, here));
        let (ours, theirs) = (&here.ip_allowlist, &in_file.ip_allowlist);
        let narrowing = (refuses(ours, theirs), refuses(theirs, ours));
        compared.note("of a narrower ip_allowlist", narrowing.0, narrowing.1);
        let (ours, theirs) = (role(here), role(in_file));
        compared.note("of a lower max_role", ours < theirs, theirs < ours);
        let (ours, theirs) = (here, in_file);
        let narrowing = (is_limited_more(ours, theirs), is_limited_more(theirs, ours));
        compared.note("limited to fewer workspaces", narrowing.0, narrowing.1);
        let narrowing = (is_barred_more(ours, theirs), is_barred_more(theirs, ours));
        compared.note("barred from more workspaces", narrowing.0, narrowing.1);
        compared
    }

    /// Records a difference. Neither of two sets need contain the other, so both sides may have fewer rights.
    fn note(&mut self, what: &'static str, here: bool, in_file: bool) {
        self.here.extend(here.then_some(what));
        self.in_file.extend(in_file.then_some(what));
    }
}

/// Sorts a credential that never expires last.
fn end(credential: &Credential) -> (bool, Option<Timestamp>) {
    (credential.expire_time.is_none(), credential.expire_time)
}

/// Whether the first list refuses addresses that the second allows. Only the texts of the entries are compared. An
/// empty list refuses none.
fn refuses(one: &IpAllowlist, other: &IpAllowlist) -> bool {
    let entries =
        |list: &IpAllowlist| list.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
    if one.is_empty() || other.is_empty() {
        return !one.is_empty() && other.is_empty();
    }
    !entries(other).is_subset(&entries(one))
}

/// Whether the first credential is denied, by its limit, in a workspace that the second may act in.
fn is_limited_more(one: &Credential, other: &Credential) -> bool {
    match (&one.granted_workspaces, &other.granted_workspaces) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(one), Some(other)) => has_others_than(other, one),
    }
}

/// Whether the first credential is barred from a workspace from which the second is not.
fn is_barred_more(one: &Credential, other: &Credential) -> bool {
    has_others_than(&one.barred_workspaces, &other.barred_workspaces)
}

/// Whether the first set has an entry that the second does not have.
fn has_others_than(one: &WorkspaceSet, other: &WorkspaceSet) -> bool {
    one.iter().any(|entry| other.find(&entry.id) != Some(entry))
}

fn role(credential: &Credential) -> Option<Role> {
    match &credential.owner {
        Owner::User { max_role, .. } => Some(*max_role),
        Owner::Workspace(_) => None,
    }
}

/// Memberships and credentials that were removed here and no longer have a row, as far as the audit log goes back.
#[derive(Debug, Default)]
pub(super) struct Removed {
    memberships: HashSet<String>,
    purged: HashSet<CredentialId>,
}

impl Removed {
    /// Whether this membership was removed.
    pub(super) fn has_membership(&self, membership: &Membership) -> bool {
        let (workspace, user) = (&membership.workspace_id, &membership.user_id);
        let (_, id) = AuditTarget::Membership(workspace.clone(), user.clone()).kind_and_id();
        self.memberships.contains(&id)
    }

    /// Whether this credential is not revoked in the file but was purged here.
    pub(super) fn has_credential(&self, credential: &Credential) -> bool {
        credential.revoke_time.is_none() && self.purged.contains(&credential.id)
    }

    /// Whether the line would bring back a purged credential.
    pub(super) fn forbids(&self, stored: &StoredCredential, outcome: &LineOutcome) -> bool {
        let is_new = matches!(outcome, LineOutcome::New | LineOutcome::OwnerMissing);
        is_new && self.has_credential(&stored.credential)
    }
}

/// Returns the outcome for such a line.
pub(super) fn purged_error() -> LineOutcome {
    let reason = "id: this credential was purged here, and is not imported again. Without an id it is imported as a new credential";
    LineOutcome::Rejected(Invalid::new(reason).into())
}

impl Service {
    /// Reads the removed memberships and credentials from the audit log.
    pub(super) async fn load_removed(&self) -> Result<Removed, TransferError> {
        let mut removed = Removed::default();
        self.each_event(AuditAction::MembershipDelete, |event| {
            removed.memberships.insert(event.target_id);
        })
        .await?;
        self.each_event(AuditAction::CredentialPurge, |event| {
            removed.purged.extend(CredentialId::parse(&event.target_id));
        })
        .await?;
        Ok(removed)
    }

    /// Calls `each` for every event of this action that removed something.
    async fn each_event(
        &self,
        action: AuditAction,
        mut each: impl FnMut(AuditEvent),
    ) -> Result<(), TransferError> {
        let filter =
            AuditFilter { action: Some(action.as_str().to_owned()), ..AuditFilter::default() };
        let mut after = None;
        loop {
            let events = self.store.list_audit_events(&filter, after, EVENTS_PER_PAGE).await?;
            let Some(last) = events.last() else { return Ok(()) };
            after = Some(last.id);
            let done = |event: &AuditEvent| event.refusal.is_none() && event.before.is_some();
            events.into_iter().filter(done).for_each(&mut each);
        }
    }
}
