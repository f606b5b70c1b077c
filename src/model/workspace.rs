//! The tenant.

use super::{DisplayName, Slug, Timestamp, WorkspaceId};

/// A workspace as the store keeps it, deleted ones included: their row holds the id until it is put again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    /// Opaque.
    pub id: WorkspaceId,
    /// Unique among workspaces that are not deleted.
    pub slug: Slug,
    /// For people.
    pub display_name: DisplayName,
    /// Its keys are refused, and nothing acts in it.
    pub disabled: bool,
    /// The watermark: keys made under a smaller generation are revoked.
    pub generation: i64,
    /// When the watermark last rose.
    pub generation_time: Option<Timestamp>,
    /// When it was first put.
    pub create_time: Timestamp,
    /// When it was last changed.
    pub update_time: Timestamp,
    /// When it was deleted, if it is.
    pub delete_time: Option<Timestamp>,
}
