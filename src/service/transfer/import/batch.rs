//! A batch of lines among what is in the store: whose is each, and is it new?

use std::collections::{BTreeSet, HashMap};

use super::super::check::Bad;
use crate::model::{
    CredentialId, Digest, Invalid, Owner, Slug, User, UserId, Workspace, WorkspaceId,
};
use crate::store::{ImportFound, ImportNames, StoredCredential, TakenCredential};

/// What becomes of a line.
pub(super) enum Verdict {
    /// It is new, and has been given its owner's id and generation.
    New,
    /// It is new, and so is its owner.
    Orphan,
    /// It is there.
    There,
    /// It cannot be.
    Bad(Bad),
}

/// What a batch names.
pub(super) fn names<'a>(batch: impl Iterator<Item = &'a StoredCredential>) -> ImportNames {
    let mut names = ImportNames::default();
    let mut workspaces = BTreeSet::new();
    let mut users = BTreeSet::new();
    for StoredCredential { credential, digest } in batch {
        match &credential.owner {
            Owner::Workspace(name) => workspaces.insert(name.to_string()),
            Owner::User { id, .. } => users.insert(id.clone()),
        };
        names.digests.push(*digest);
        names.ids.push(credential.id);
    }
    names.workspaces = workspaces.into_iter().collect();
    names.users = users.into_iter().collect();
    names
}

/// What is in the store of what a batch names.
pub(super) struct Surroundings<'f> {
    ids: HashMap<&'f str, &'f Workspace>,
    slugs: HashMap<&'f str, &'f Workspace>,
    users: HashMap<&'f str, &'f User>,
    by_digest: HashMap<Digest, &'f TakenCredential>,
    by_id: HashMap<CredentialId, &'f TakenCredential>,
    create_missing: bool,
}

impl<'f> Surroundings<'f> {
    pub(super) fn of(found: &'f ImportFound, create_missing: bool) -> Self {
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

    /// Gives the credential its owner's id and generation, and says what becomes of it.
    pub(super) fn resolve(&self, stored: &mut StoredCredential) -> Verdict {
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
            Err(bad) => return Verdict::Bad(bad.into()),
        };
        if let Some(taken) = self.by_digest.get(&stored.digest) {
            let credential = &stored.credential;
            let there = taken.kind == credential.kind && same(&taken.owner, &credential.owner);
            return if there {
                Verdict::There
            } else {
                bad("digest: a credential of another owner has it")
            };
        }
        if self.by_id.contains_key(&stored.credential.id) {
            return bad("id: another credential has it, of another digest");
        }
        if has_owner { Verdict::New } else { Verdict::Orphan }
    }

    /// The workspace's id and generation; ids come first, as everywhere. Nothing if it is to be made.
    fn workspace(&self, name: &WorkspaceId) -> Result<Option<(Option<WorkspaceId>, i64)>, Invalid> {
        let found = self.ids.get(name.as_str()).or_else(|| self.slugs.get(name.as_str()));
        match found {
            Some(workspace) => Ok(Some((Some(workspace.id.clone()), workspace.generation))),
            None if !self.create_missing => Err(Invalid::new(
                "workspace: there is none of this slug or id: make it by `workspace put`, or use --create-missing",
            )),
            None if Slug::is_spelled(name.as_str()) => Ok(None),
            None => Err(Invalid::new(
                "workspace: there is none of this id, and it cannot be made, since the id is not spelled as a slug: \
                 make it by `workspace put SLUG --id ID`",
            )),
        }
    }

    /// The user's generation. Nothing if they are to be made.
    fn user(&self, id: &UserId) -> Result<Option<(Option<WorkspaceId>, i64)>, Invalid> {
        match self.users.get(id.as_str()) {
            Some(user) => Ok(Some((None, user.generation))),
            None if self.create_missing => Ok(None),
            None => Err(Invalid::new(
                "user: there is none of this id: make them by `user put`, or use --create-missing",
            )),
        }
    }
}

/// Whether it is the same owner; the downscope may have changed since.
fn same(one: &Owner, other: &Owner) -> bool {
    match (one, other) {
        (Owner::Workspace(one), Owner::Workspace(other)) => one == other,
        (Owner::User { id: one, .. }, Owner::User { id: other, .. }) => one == other,
        (Owner::Workspace(_), Owner::User { .. }) | (Owner::User { .. }, Owner::Workspace(_)) => {
            false
        }
    }
}

fn bad(reason: &str) -> Verdict {
    Verdict::Bad(Invalid::new(reason).into())
}
