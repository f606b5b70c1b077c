//! Uses of personal access tokens in workspaces.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{CredentialId, LastUse, Timestamp, Workspace, WorkspaceId};

/// Maximum number of workspaces that are noted for one credential between two flushes. Uses in further workspaces are
/// dropped until the next flush.
pub const NOTED_WORKSPACES_MAX: usize = 64;

/// When a personal access token was last allowed in a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkspaceUse {
    /// Id of the token's credential.
    pub credential_id: CredentialId,
    /// Id of the workspace.
    pub workspace_id: WorkspaceId,
    /// Generation of the workspace at that time.
    pub generation: i64,
    /// Time of use.
    pub time: Timestamp,
}

/// Uses of a credential that the store does not have yet.
#[derive(Debug, Clone)]
pub struct NotedUse {
    /// The latest use.
    pub last_use: LastUse,
    /// The latest use in each workspace in which a personal access token was allowed. Most tokens act in one between two
    /// flushes, and one needs no allocation.
    pub workspaces: SmallVec<[(Arc<Workspace>, Timestamp); 1]>,
}

impl NotedUse {
    /// Creates the note of a first use.
    pub fn new(last_use: LastUse) -> Self {
        Self { last_use, workspaces: SmallVec::new() }
    }

    /// Notes a use in a workspace, unless a later one is noted or too many workspaces are.
    pub fn note_workspace(&mut self, workspace: &Arc<Workspace>, time: Timestamp) {
        let noted = self.workspaces.iter_mut().find(|(noted, _)| {
            Arc::ptr_eq(noted, workspace)
                || (noted.id == workspace.id && noted.generation == workspace.generation)
        });
        if let Some((_, noted)) = noted {
            *noted = time.max(*noted);
        } else if self.workspaces.len() < NOTED_WORKSPACES_MAX {
            self.workspaces.push((Arc::clone(workspace), time));
        }
    }
}
