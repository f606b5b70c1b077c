//! Restrictions of personal access tokens to workspaces, in files. A file names workspaces, by slug or id. A set in the
//! store also has their generations: a workspace that was deleted and created again is another one.

use std::collections::{BTreeSet, HashMap};

use crate::model::{Credential, WorkspaceEntry, WorkspaceId, WorkspaceSet};
use crate::store::{ImportFound, ImportNames};

/// Whether a server of an earlier release would allow the credential something that is denied here.
pub(super) fn needs_new_rules(credential: &Credential) -> bool {
    credential.revoke_time.is_none()
        && (credential.granted_workspaces.is_some() || !credential.barred_workspaces.is_empty())
}

/// Iterates over the workspaces to which the credential is limited, and from which it is barred.
pub(super) fn restricted_to(credential: &Credential) -> impl Iterator<Item = &WorkspaceEntry> {
    let granted = credential.granted_workspaces.iter().flat_map(WorkspaceSet::iter);
    granted.chain(credential.barred_workspaces.iter())
}

/// Returns the names for a look-up of these workspaces. `None` if there are none.
pub(super) fn names_of<'a>(
    credentials: impl Iterator<Item = &'a Credential>,
) -> Option<ImportNames> {
    let ids: BTreeSet<_> =
        credentials.flat_map(restricted_to).map(|entry| entry.id.to_string()).collect();
    let workspaces: Vec<_> = ids.into_iter().collect();
    (!workspaces.is_empty()).then(|| ImportNames { workspaces, ..ImportNames::default() })
}

/// Returns the generation of each workspace of a look-up, by its id.
pub(super) fn generations(found: &ImportFound) -> HashMap<WorkspaceId, i64> {
    found.workspaces.iter().map(|found| (found.id.clone(), found.generation)).collect()
}

/// Removes the entries of workspaces that do not exist any more in their generation: they neither permit nor forbid
/// anything. A limited credential stays limited, even to nothing.
pub(super) fn keep_existing(credential: &mut Credential, existing: &HashMap<WorkspaceId, i64>) {
    let exists = |entry: &WorkspaceEntry| existing.get(&entry.id) == Some(&entry.generation);
    let kept = |set: &WorkspaceSet| WorkspaceSet::new(set.iter().filter(|e| exists(e)).cloned());
    credential.granted_workspaces = credential.granted_workspaces.as_ref().map(kept);
    credential.barred_workspaces = kept(&credential.barred_workspaces);
}
