//! Sets of workspaces to which a personal access token is limited, or from which it is barred.

use super::limits::WORKSPACE_SET_MAX;
use super::{Invalid, Workspace, WorkspaceId};

/// A workspace as it was when it was put into a set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct WorkspaceEntry {
    /// Its id.
    pub id: WorkspaceId,
    /// Its generation at that time. A workspace that was deleted and created again has a higher one, and is another
    /// workspace.
    pub generation: i64,
}

/// A set of workspaces, in the order of their ids.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WorkspaceSet(Box<[WorkspaceEntry]>);

impl WorkspaceSet {
    /// Creates a set. Of several entries for one workspace the newest generation is kept.
    pub fn new(entries: impl IntoIterator<Item = WorkspaceEntry>) -> Self {
        let mut entries: Vec<_> = entries.into_iter().collect();
        entries.sort_unstable();
        entries.reverse();
        entries.dedup_by(|later, kept| later.id == kept.id);
        entries.reverse();
        Self(entries.into())
    }

    /// Reads the text of the store: `<id>=<generation>`, separated by commas. Empty for the empty set.
    ///
    /// # Errors
    /// For a text of another form.
    pub fn from_text(text: &str) -> Result<Self, Invalid> {
        let wrong = || Invalid::new("must be <workspace id>=<generation>, separated by commas");
        let entries = text.split(',').filter(|entry| !entry.is_empty()).map(|entry| {
            let (id, generation) = entry.split_once('=').ok_or_else(wrong)?;
            let generation = generation.parse().map_err(|_| wrong())?;
            Ok(WorkspaceEntry { id: WorkspaceId::parse(id)?, generation })
        });
        entries.collect::<Result<Vec<_>, Invalid>>().map(Self::new)
    }

    /// Returns the text of the store.
    pub fn to_text(&self) -> String {
        let entries = self.0.iter().map(|entry| format!("{}={}", entry.id, entry.generation));
        entries.collect::<Vec<_>>().join(",")
    }

    /// Checks the number of workspaces that a request may name.
    ///
    /// # Errors
    /// For more than [`WORKSPACE_SET_MAX`].
    pub fn check_count(count: usize) -> Result<(), Invalid> {
        if count > WORKSPACE_SET_MAX {
            return Err(Invalid::new(format!("must have at most {WORKSPACE_SET_MAX} entries")));
        }
        Ok(())
    }

    /// Whether the set has no workspaces.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Iterates in the order of the ids.
    pub fn iter(&self) -> impl Iterator<Item = &WorkspaceEntry> {
        self.0.iter()
    }

    /// Whether the set has this workspace, in its present generation.
    pub fn contains(&self, workspace: &Workspace) -> bool {
        // Sets are small, and most entries differ in their first bytes.
        self.0
            .iter()
            .any(|entry| entry.generation == workspace.generation && entry.id == workspace.id)
    }

    /// Returns the entry of the workspace with this id, of any generation.
    pub fn find(&self, id: &WorkspaceId) -> Option<&WorkspaceEntry> {
        self.0.iter().find(|entry| entry.id == *id)
    }

    /// Returns the set with this workspace.
    #[must_use]
    pub fn with(&self, entry: WorkspaceEntry) -> Self {
        Self::new(self.0.iter().cloned().chain([entry]))
    }

    /// Returns the set without the workspace of this id.
    #[must_use]
    pub fn without(&self, id: &WorkspaceId) -> Self {
        Self(self.0.iter().filter(|entry| entry.id != *id).cloned().collect())
    }
}
