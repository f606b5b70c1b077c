//! The workspaces to which a personal access token is limited.

use std::collections::BTreeSet;

use crate::model::{
    Credential, CredentialId, Owner, UserId, Workspace, WorkspaceEntry, WorkspaceName, WorkspaceSet,
};
use crate::service::{Result, Service, ServiceError, Violations};
use crate::store::{ImportNames, Lock, WriteTx};

/// The field of `UpdateCredential`.
const UPDATED_FIELD: &str = "credential.granted_workspace_ids";

/// The workspaces that a request names, in the order of the request. `None` for one that does not exist.
pub(super) struct NamedWorkspaces<'a> {
    field: &'static str,
    names: &'a [WorkspaceName],
    found: Vec<Option<Workspace>>,
}

/// A limit that a request asks for, with its locks.
pub(super) struct RequestedLimit<'a> {
    named: NamedWorkspaces<'a>,
    /// The limit of a token that had none when the locks were taken. Its error is returned only after the credential is
    /// known to be visible.
    granted: Option<Result<WorkspaceSet>>,
}

impl Service {
    /// Locks what a change of the limit of a token to `names` needs, before the transaction locks the credential.
    pub(super) async fn lock_limit<'a>(
        &self,
        tx: &mut dyn WriteTx,
        id: CredentialId,
        names: Option<&'a [WorkspaceName]>,
    ) -> Result<Option<RequestedLimit<'a>>> {
        let Some(names) = names else { return Ok(None) };
        let peeked = tx.peek_credential(id).await?;
        let mut requested = NamedWorkspaces { field: UPDATED_FIELD, names, found: Vec::new() };
        let mut granted = None;
        // A key cannot be limited, and the workspace of a key is locked elsewhere.
        if let Some(peeked) = peeked
            && let Owner::User { id, .. } = &peeked.owner
        {
            requested = self.lock_named_workspaces(tx, UPDATED_FIELD, names).await?;
            tx.find_user_row(id, Lock::Share).await?;
            match &peeked.granted_workspaces {
                Some(present) => requested.forget_workspaces_of_others(tx, id, present).await?,
                None => granted = Some(self.granted_to_member(tx, id, &requested).await),
            }
        }
        Ok(Some(RequestedLimit { named: requested, granted }))
    }

    /// Returns the new limit of the credential, which is locked.
    ///
    /// # Errors
    /// [`Reason::ArgumentInvalid`](crate::service::Reason::ArgumentInvalid) for a key, for an empty limit and for one that is not a part of the present one.
    pub(super) async fn narrowed_limit(
        &self,
        tx: &mut dyn WriteTx,
        limit: RequestedLimit<'_>,
        before: &Credential,
    ) -> Result<WorkspaceSet> {
        check_limitable(before, UPDATED_FIELD, limit.named.names)?;
        match (&before.granted_workspaces, limit.granted) {
            (Some(present), _) => limit.named.part_of(present),
            (None, Some(granted)) => {
                let granted = granted?;
                Self::require_new_rules(tx).await?;
                Ok(granted)
            }
            (None, None) => Err(ServiceError::internal(&"a limit was removed")),
        }
    }

    /// Finds the workspaces of a request and locks them, before the transaction locks users.
    pub(super) async fn lock_named_workspaces<'a>(
        &self,
        tx: &mut dyn WriteTx,
        field: &'static str,
        names: &'a [WorkspaceName],
    ) -> Result<NamedWorkspaces<'a>> {
        let texts = names.iter().map(|name| name.as_str().to_owned()).collect();
        let peeked = if names.is_empty() {
            Vec::new()
        } else {
            let names = ImportNames { workspaces: texts, ..ImportNames::default() };
            tx.peek_imported(&names).await?.workspaces
        };
        let find = |name: &WorkspaceName| {
            let by_id = peeked.iter().find(|workspace| workspace.id.as_str() == name.as_str());
            let by_slug = || peeked.iter().find(|peeked| peeked.slug.as_str() == name.as_str());
            by_id.or_else(by_slug).cloned()
        };
        let mut found: Vec<_> = names.iter().map(find).collect();
        // Locked in the order of their ids, as in every transaction that locks several.
        let ids: BTreeSet<_> =
            found.iter().flatten().map(|workspace| workspace.id.clone()).collect();
        for id in &ids {
            let locked = tx.find_workspace_row(id, Lock::Share).await?;
            let locked = locked.filter(|workspace| workspace.delete_time.is_none());
            for named in &mut found {
                if named.as_ref().is_some_and(|named| named.id == *id) {
                    named.clone_from(&locked);
                }
            }
        }
        Ok(NamedWorkspaces { field, names, found })
    }

    /// Returns the limit of a new credential of this owner. `None` if no workspaces are named.
    pub(super) async fn limit_of_new_token(
        &self,
        tx: &mut dyn WriteTx,
        owner: &Owner,
        named: &NamedWorkspaces<'_>,
    ) -> Result<Option<WorkspaceSet>> {
        match owner {
            Owner::User { id, .. } if !named.names.is_empty() => {
                let granted = self.granted_to_member(tx, id, named).await?;
                Self::require_new_rules(tx).await?;
                Ok(Some(granted))
            }
            Owner::User { .. } | Owner::Workspace(_) => Ok(None),
        }
    }

    /// Returns the limit of a token of this user to the named workspaces, whose rows are locked. The user's row must be
    /// locked too.
    ///
    /// # Errors
    /// [`Reason::ArgumentInvalid`](crate::service::Reason::ArgumentInvalid) for a workspace that does not exist or of which the user is not a member.
    async fn granted_to_member(
        &self,
        tx: &mut dyn WriteTx,
        user: &UserId,
        named: &NamedWorkspaces<'_>,
    ) -> Result<WorkspaceSet> {
        let mut violations = Violations::default();
        let mut entries = Vec::with_capacity(named.found.len());
        for (i, workspace) in named.found.iter().enumerate() {
            let membership = match workspace {
                Some(workspace) => tx.find_membership(&workspace.id, user, Lock::Share).await?,
                None => None,
            };
            match workspace.as_ref().filter(|_| membership.is_some()) {
                Some(workspace) => entries.push(entry(workspace)),
                None => violations.add(
                    &format!("{}[{i}]", named.field),
                    "must be a workspace of which the user is a member",
                ),
            }
        }
        violations.finish()?;
        Ok(WorkspaceSet::new(entries))
    }
}

impl NamedWorkspaces<'_> {
    /// Forgets the workspaces of which the user is not a member, and those that were created again since they were
    /// granted. Otherwise a slug that is accepted would tell which workspace it now belongs to.
    async fn forget_workspaces_of_others(
        &mut self,
        tx: &mut dyn WriteTx,
        user: &UserId,
        present: &WorkspaceSet,
    ) -> Result<()> {
        for named in &mut self.found {
            let is_known = match named {
                Some(workspace) if present.contains(workspace) => {
                    tx.find_membership(&workspace.id, user, Lock::Share).await?.is_some()
                }
                Some(_) | None => false,
            };
            if !is_known {
                *named = None;
            }
        }
        Ok(())
    }

    /// Returns the named workspaces as a part of `present`, the limit of a token.
    ///
    /// # Errors
    /// [`Reason::ArgumentInvalid`](crate::service::Reason::ArgumentInvalid) if one of them is not in it.
    pub(super) fn part_of(&self, present: &WorkspaceSet) -> Result<WorkspaceSet> {
        let mut violations = Violations::default();
        let mut entries = Vec::with_capacity(self.names.len());
        for (i, (name, found)) in self.names.iter().zip(&self.found).enumerate() {
            // A workspace that was deleted since can still be named by its id.
            let by_id = present.iter().find(|entry| entry.id.as_str() == name.as_str());
            let by_slug = || present.find(&found.as_ref()?.id);
            match by_id.or_else(by_slug) {
                Some(entry) => entries.push(entry.clone()),
                None => violations.add(
                    &format!("{}[{i}]", self.field),
                    "must be a workspace to which the token is limited already: workspaces can only be removed. One of which the user is no longer a member is named by its id",
                ),
            }
        }
        violations.finish()?;
        Ok(WorkspaceSet::new(entries))
    }
}

/// Fails for a key, and for an empty list.
fn check_limitable(
    credential: &Credential,
    field: &'static str,
    names: &[WorkspaceName],
) -> Result<()> {
    let mut violations = Violations::default();
    match &credential.owner {
        Owner::User { .. } if !names.is_empty() => {}
        Owner::User { .. } => violations
            .add(field, "must keep at least one workspace: to end the token everywhere, revoke it"),
        Owner::Workspace(_) => violations.add(
            field,
            "must be empty for a key: only a personal access token can be limited to workspaces",
        ),
    }
    violations.finish()
}

fn entry(workspace: &Workspace) -> WorkspaceEntry {
    WorkspaceEntry { id: workspace.id.clone(), generation: workspace.generation }
}
