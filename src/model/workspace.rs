//! The tenant.

use std::time::Duration;

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

/// What a workspace asks of its keys beyond the server's own policy: of the two the stricter holds. What is `None` or
/// false restricts nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WorkspacePolicy {
    /// The longest that a key may be made to live.
    pub key_lifetime_max: Option<Duration>,
    /// A key must be made to expire.
    pub key_expiry_required: bool,
    /// The most keys that are neither revoked nor expired.
    pub keys_max: Option<u32>,
    /// The shortest that a rotated key lives on.
    pub overlap_min: Option<Duration>,
    /// The longest that a rotated key lives on.
    pub overlap_max: Option<Duration>,
}

/// What is to change of a workspace's policy. What is `None` stays as it is; zero, or false, takes the limit away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PolicyChange {
    /// The longest that a key may be made to live.
    pub key_lifetime_max: Option<Duration>,
    /// A key must be made to expire.
    pub key_expiry_required: Option<bool>,
    /// The most keys that are neither revoked nor expired.
    pub keys_max: Option<u32>,
    /// The shortest that a rotated key lives on.
    pub overlap_min: Option<Duration>,
    /// The longest that a rotated key lives on.
    pub overlap_max: Option<Duration>,
}

impl PolicyChange {
    /// Takes every limit away.
    pub const NO_LIMIT: Self = Self {
        key_lifetime_max: Some(Duration::ZERO),
        key_expiry_required: Some(false),
        keys_max: Some(0),
        overlap_min: Some(Duration::ZERO),
        overlap_max: Some(Duration::ZERO),
    };

    /// The policy with this changed.
    pub fn of(self, before: WorkspacePolicy) -> WorkspacePolicy {
        fn limit<T: PartialEq + Default>(named: Option<T>, before: Option<T>) -> Option<T> {
            match named {
                Some(named) => Some(named).filter(|named| *named != T::default()),
                None => before,
            }
        }
        WorkspacePolicy {
            key_lifetime_max: limit(self.key_lifetime_max, before.key_lifetime_max),
            key_expiry_required: self.key_expiry_required.unwrap_or(before.key_expiry_required),
            keys_max: limit(self.keys_max, before.keys_max),
            overlap_min: limit(self.overlap_min, before.overlap_min),
            overlap_max: limit(self.overlap_max, before.overlap_max),
        }
    }
}
