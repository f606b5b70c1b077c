//! What was taken away here since, and must not come back by a file from before: what a credential may do here and there, and
//! what the audit log says was ended and is no longer there to be compared.

use std::collections::{BTreeSet, HashSet};

use super::super::super::Service;
use super::super::TransferError;
use super::batch::Verdict;
use crate::model::{
    AuditAction, AuditEvent, AuditTarget, Credential, CredentialId, Invalid, IpAllowlist,
    Membership, Owner, Role, Timestamp,
};
use crate::store::{AuditFilter, StoredCredential};

/// Events that are fetched at once.
const PAGE: u32 = 1_000;

/// Who may do less by a credential: whoever has it here, or whoever has it in the file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Compared {
    /// In what it is narrower here.
    pub(super) here: Vec<&'static str>,
    /// In what it is narrower in the file.
    pub(super) there: Vec<&'static str>,
}

impl Compared {
    /// A credential as it is here, and as it is in the file.
    pub(super) fn of(here: &Credential, there: &Credential) -> Self {
        let mut compared = Self::default();
        let (ours, theirs) = (here.revoke_time.is_some(), there.revoke_time.is_some());
        compared.note("revoked", ours && !theirs, theirs && !ours);
        if ours || theirs {
            // Whatever else it was, it is dead.
            return compared;
        }
        let (ours, theirs) = (here.disable_time.is_some(), there.disable_time.is_some());
        compared.note("disabled", ours && !theirs, theirs && !ours);
        let (ours, theirs) = (end(here), end(there));
        compared.note("to expire earlier", ours < theirs, theirs < ours);
        let lacks =
            |one: &Credential, other: &Credential| !other.scopes.difference(one.scopes).is_empty();
        compared.note("of fewer scopes", lacks(here, there), lacks(there, here));
        let (ours, theirs) = (&here.ip_allowlist, &there.ip_allowlist);
        let narrower = (refuses(ours, theirs), refuses(theirs, ours));
        compared.note("of a narrower ip_allowlist", narrower.0, narrower.1);
        let (ours, theirs) = (role(here), role(there));
        compared.note("of a lower max_role", ours < theirs, theirs < ours);
        compared
    }

    /// Of two sets each may be narrower than the other.
    fn note(&mut self, what: &'static str, here: bool, there: bool) {
        self.here.extend(here.then_some(what));
        self.there.extend(there.then_some(what));
    }
}

/// Never comes last.
fn end(credential: &Credential) -> (bool, Option<Timestamp>) {
    (credential.expire_time.is_none(), credential.expire_time)
}

/// Whether it refuses addresses that the other does not, as far as their entries show; one without entries refuses none.
fn refuses(one: &IpAllowlist, other: &IpAllowlist) -> bool {
    let entries =
        |list: &IpAllowlist| list.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
    if one.is_empty() || other.is_empty() {
        return !one.is_empty() && other.is_empty();
    }
    !entries(other).is_subset(&entries(one))
}

fn role(credential: &Credential) -> Option<Role> {
    match &credential.owner {
        Owner::User { max_role, .. } => Some(*max_role),
        Owner::Workspace(_) => None,
    }
}

/// What was ended here and has no row any more, by the audit log, as far back as that goes.
#[derive(Debug, Default)]
pub(super) struct Gone {
    memberships: HashSet<String>,
    purged: HashSet<CredentialId>,
}

impl Gone {
    /// Whether this membership was removed.
    pub(super) fn has_membership(&self, membership: &Membership) -> bool {
        let (workspace, user) = (&membership.workspace_id, &membership.user_id);
        let (_, id) = AuditTarget::Membership(workspace.clone(), user.clone()).kind_and_id();
        self.memberships.contains(&id)
    }

    /// Whether this credential died and was dropped, and is alive in the file.
    pub(super) fn has_credential(&self, credential: &Credential) -> bool {
        credential.revoke_time.is_none() && self.purged.contains(&credential.id)
    }

    /// The same of a line whose credential is not there.
    pub(super) fn has(&self, stored: &StoredCredential, verdict: &Verdict) -> bool {
        let is_new = matches!(verdict, Verdict::New | Verdict::Orphan);
        is_new && self.has_credential(&stored.credential)
    }
}

/// What is said of such a line where nothing else goes with it.
pub(super) fn buried() -> Verdict {
    let reason = "id: this credential died here and was dropped: it stays dead; left out, the id makes it another one";
    Verdict::Bad(Invalid::new(reason).into())
}

impl Service {
    /// Asks the audit log.
    pub(super) async fn gone(&self) -> Result<Gone, TransferError> {
        let mut gone = Gone::default();
        self.each_event(AuditAction::MembershipDelete, |event| {
            gone.memberships.insert(event.target_id);
        })
        .await?;
        self.each_event(AuditAction::CredentialPurge, |event| {
            gone.purged.extend(CredentialId::parse(&event.target_id));
        })
        .await?;
        Ok(gone)
    }

    /// Every event of this action that found something to do.
    async fn each_event(
        &self,
        action: AuditAction,
        mut each: impl FnMut(AuditEvent),
    ) -> Result<(), TransferError> {
        let filter =
            AuditFilter { action: Some(action.as_str().to_owned()), ..AuditFilter::default() };
        let mut after = None;
        loop {
            let events = self.store.list_audit_events(&filter, after, PAGE).await?;
            let Some(last) = events.last() else { return Ok(()) };
            after = Some(last.id);
            let done = |event: &AuditEvent| event.refusal.is_none() && event.before.is_some();
            events.into_iter().filter(done).for_each(&mut each);
        }
    }
}
