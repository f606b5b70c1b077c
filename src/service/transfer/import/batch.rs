//! Comparison of a batch with the store: the owner of each credential, and whether it already exists.

use std::collections::{BTreeSet, HashMap};

use super::super::check::LineError;
use super::super::restricted::restricted_to;
use crate::model::{
    Credential, CredentialId, Digest, Invalid, Owner, Slug, User, UserId, Workspace,
    WorkspaceEntry, WorkspaceId, WorkspaceSet,
};
use crate::store::{ImportFound, ImportNames, StoredCredential, TakenCredential};

/// Outcome of a line.
pub(super) enum LineOutcome {
    /// The credential is new. The ids and generations of all that it names are set.
    New,
    /// The credential is new, and its owner or a workspace of its restrictions does not exist yet.
    OwnerMissing,
    /// The credential already exists.
    Exists,
    /// The credential cannot be imported.
    Rejected(LineError),
}

/// Collects the digests, ids and owners in a batch, for one look-up.
pub(super) fn names<'a>(batch: impl Iterator<Item = &'a StoredCredential>) -> ImportNames {
    let mut names = ImportNames::default();
    let mut workspaces = BTreeSet::new();
    let mut users = BTreeSet::new();
    for StoredCredential { credential, digest } in batch {
        match &credential.owner {
            Owner::Workspace(name) => workspaces.insert(name.to_string()),
            Owner::User { id, .. } => users.insert(id.clone()),
        };
        workspaces.extend(restricted_to(credential).map(|entry| entry.id.to_string()));
        names.digests.push(*digest);
        names.ids.push(credential.id);
    }
    names.workspaces = workspaces.into_iter().collect();
    names.users = users.into_iter().collect();
    names
}

/// The rows of the store that a batch refers to.
pub(super) struct ExistingRows<'f> {
    ids: HashMap<&'f str, &'f Workspace>,
    slugs: HashMap<&'f str, &'f Workspace>,
    users: HashMap<&'f str, &'f User>,
    by_digest: HashMap<Digest, &'f TakenCredential>,
    by_id: HashMap<CredentialId, &'f TakenCredential>,
    create_missing: bool,
}

impl<'f> ExistingRows<'f> {
    pub(super) fn new(found: &'f ImportFound, create_missing: bool) -> Self {
        let workspaces = || found.workspaces.iter();
        Self {
            ids: workspaces().map(|workspace| (workspace.id.as_str(), workspace)).collect(),
            slugs: workspaces().map(|workspace| (workspace.slug.as_str(), workspace)).collect(),
            users: found.users.iter().map(|user| (user.id.as_str(), user)).collect(),
            by_digest: found.credentials.iter().map(|taken| (taken.digest, taken)).collect(),
            by_id: found.credentials.iter().map(|taken| (taken.id, taken)).collect(),
            create_missing,
        }
    }

    /// Sets the ids and generations of the owner of the credential and of the workspaces of its restrictions, and returns
    /// the outcome of its line.
    pub(super) fn resolve(&self, stored: &mut StoredCredential) -> LineOutcome {
        let owned = match &stored.credential.owner {
            Owner::Workspace(name) => self.workspace(name),
            Owner::User { id, .. } => self.user(id),
        };
        let has_owner = match owned {
            Ok(Some((workspace, generation))) => {
                if let Some(id) = workspace {
                    stored.credential.owner = Owner::Workspace(id);
                }
                stored.credential.generation = generation;
                true
            }
            Ok(None) => false,
            Err(bad) => return LineOutcome::Rejected(bad.into()),
        };
        if let Some(taken) = self.by_digest.get(&stored.digest) {
            let credential = &stored.credential;
            let exists =
                taken.kind == credential.kind && same_owner(&taken.owner, &credential.owner);
            return if exists {
                self.resolve_restrictions(&mut stored.credential, false);
                LineOutcome::Exists
            } else {
                rejected("digest: a credential of another owner has it")
            };
        }
        if self.by_id.contains_key(&stored.credential.id) {
            return rejected("id: another credential with another digest has it");
        }
        let missing = self.missing_workspaces(&stored.credential);
        if let Some(reason) = missing.iter().find_map(|id| self.why_not_created(id)) {
            return rejected(reason);
        }
        let has_all = has_owner && missing.is_empty();
        self.resolve_restrictions(&mut stored.credential, true);
        if has_all { LineOutcome::New } else { LineOutcome::OwnerMissing }
    }

    /// Returns the workspaces of the restrictions of the credential that do not exist.
    pub(super) fn missing_workspaces(&self, credential: &Credential) -> Vec<WorkspaceId> {
        let names = restricted_to(credential).map(|entry| &entry.id);
        names.filter(|name| self.named(name).is_none()).cloned().collect()
    }

    /// Returns why a workspace of a restriction is not created. `None` if it is.
    fn why_not_created(&self, id: &WorkspaceId) -> Option<&'static str> {
        if !self.create_missing {
            Some(
                "granted_workspaces or barred_workspaces: it names a workspace that does not exist here: create it with \
                 `workspace put`, or use --create-missing",
            )
        } else if Slug::is_spelled(id.as_str()) {
            None
        } else {
            Some(
                "granted_workspaces or barred_workspaces: it names a workspace that does not exist here, and \
                 --create-missing cannot create it, because the id is not a valid slug: create it with \
                 `workspace put SLUG --id ID`",
            )
        }
    }

    /// Sets the ids and generations in the restrictions of the credential. Entries of missing workspaces stay as they
    /// are, or are removed: they permit and forbid nothing.
    fn resolve_restrictions(&self, credential: &mut Credential, keep_missing: bool) {
        let resolved = |entry: &WorkspaceEntry| match self.named(&entry.id) {
            Some(found) => {
                Some(WorkspaceEntry { id: found.id.clone(), generation: found.generation })
            }
            None => keep_missing.then(|| entry.clone()),
        };
        let set = |set: &WorkspaceSet| WorkspaceSet::new(set.iter().filter_map(resolved));
        credential.granted_workspaces = credential.granted_workspaces.as_ref().map(set);
        credential.barred_workspaces = set(&credential.barred_workspaces);
    }

    /// Finds a workspace. Ids take precedence over slugs.
    fn named(&self, name: &WorkspaceId) -> Option<&'f Workspace> {
        self.ids.get(name.as_str()).or_else(|| self.slugs.get(name.as_str())).copied()
    }

    /// Returns the id and generation of the workspace. `None` if the workspace is to be created.
    fn workspace(&self, name: &WorkspaceId) -> Result<Option<(Option<WorkspaceId>, i64)>, Invalid> {
        match self.named(name) {
            Some(workspace) => Ok(Some((Some(workspace.id.clone()), workspace.generation))),
            None if !self.create_missing => Err(Invalid::new(
                "workspace: there is none with this slug or id: create it with `workspace put`, or use --create-missing",
            )),
            None if Slug::is_spelled(name.as_str()) => Ok(None),
            None => Err(Invalid::new(
                "workspace: there is none with this id, and --create-missing cannot create it, because the id is not a \
                 valid slug: create it with `workspace put SLUG --id ID`",
            )),
        }
    }

    /// Returns the generation of the user. `None` if the user is to be created.
    fn user(&self, id: &UserId) -> Result<Option<(Option<WorkspaceId>, i64)>, Invalid> {
        match self.users.get(id.as_str()) {
            Some(user) => Ok(Some((None, user.generation))),
            None if self.create_missing => Ok(None),
            None => Err(Invalid::new(
                "user: there is none with this id: create the user with `user put`, or use --create-missing",
            )),
        }
    }
}

/// Whether both are the same owner. The maximum role may differ.
fn same_owner(one: &Owner, other: &Owner) -> bool {
    match (one, other) {
        (Owner::Workspace(one), Owner::Workspace(other)) => one == other,
        (Owner::User { id: one, .. }, Owner::User { id: other, .. }) => one == other,
        (Owner::Workspace(_), Owner::User { .. }) | (Owner::User { .. }, Owner::Workspace(_)) => {
            false
        }
    }
}

fn rejected(reason: &str) -> LineOutcome {
    LineOutcome::Rejected(Invalid::new(reason).into())
}
