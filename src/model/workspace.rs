//! Workspaces, the tenants of the service.

use std::time::Duration;

use super::{DisplayName, Slug, Timestamp, WorkspaceId};

/// A workspace as the store keeps it. The row of a deleted workspace stays, so that its id is known when it is created
/// again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    /// Opaque id.
    pub id: WorkspaceId,
    /// Unique among workspaces that are not deleted.
    pub slug: Slug,
    /// Name for people.
    pub display_name: DisplayName,
    /// Whether its keys are refused and nobody may act in it.
    pub disabled: bool,
    /// Which personal access tokens may act in it.
    pub pat_policy: PatPolicy,
    /// Number that rises when the workspace is deleted. Keys of a lower generation are revoked.
    pub generation: i64,
    /// When the generation was last raised.
    pub generation_time: Option<Timestamp>,
    /// When it was first created.
    pub create_time: Timestamp,
    /// When it was last changed.
    pub update_time: Timestamp,
    /// When it was deleted. `None` if it is not.
    pub delete_time: Option<Timestamp>,
}

/// Policy of a workspace for the personal access tokens that act in it. Unlike [`WorkspacePolicy`], it is part of every
/// decision, so a change applies at once to tokens that exist already. The default restricts nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PatPolicy {
    /// Whether no personal access token may act in the workspace.
    pub forbidden: bool,
    /// Whether only personal access tokens that expire may act in it.
    pub expiry_required: bool,
    /// Longest lifetime, from creation to expiry, of a personal access token that may act in it. It also requires an
    /// expiry.
    pub lifetime_max: Option<Duration>,
}

/// A change of a workspace's policy for personal access tokens. `None` leaves a rule unchanged; zero or `false` removes
/// it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PatPolicyChange {
    /// Whether no personal access token may act in the workspace.
    pub forbidden: Option<bool>,
    /// Whether only personal access tokens that expire may act in it.
    pub expiry_required: Option<bool>,
    /// Longest lifetime of a personal access token that may act in it.
    pub lifetime_max: Option<Duration>,
}

impl PatPolicy {
    /// Whether a personal access token that was created and expires at these times may act in the workspace.
    pub fn permits(&self, create_time: Timestamp, expire_time: Option<Timestamp>) -> bool {
        if self.forbidden {
            return false;
        }
        match expire_time {
            None => !self.expiry_required && self.lifetime_max.is_none(),
            Some(expire_time) => self
                .lifetime_max
                .is_none_or(|most| expire_time.saturating_since(create_time) <= most),
        }
    }
}

impl PatPolicyChange {
    /// Returns `before` with this change applied.
    pub fn apply_to(self, before: PatPolicy) -> PatPolicy {
        PatPolicy {
            forbidden: self.forbidden.unwrap_or(before.forbidden),
            expiry_required: self.expiry_required.unwrap_or(before.expiry_required),
            lifetime_max: match self.lifetime_max {
                Some(Duration::ZERO) => None,
                Some(most) => Some(most),
                None => before.lifetime_max,
            },
        }
    }
}

/// Policy of a workspace for its keys. It applies in addition to the server's policy: of the two limits the stricter
/// one applies. `None` and `false` mean no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WorkspacePolicy {
    /// Longest lifetime of a new key.
    pub key_lifetime_max: Option<Duration>,
    /// Whether a new key must have an expiry.
    pub key_expiry_required: bool,
    /// Maximum number of keys that are neither revoked nor expired.
    pub keys_max: Option<u32>,
    /// Shortest overlap of a rotation.
    pub overlap_min: Option<Duration>,
    /// Longest overlap of a rotation.
    pub overlap_max: Option<Duration>,
}

/// A change of a workspace's policy. `None` leaves a limit unchanged; zero or `false` removes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PolicyChange {
    /// Longest lifetime of a new key.
    pub key_lifetime_max: Option<Duration>,
    /// Whether a new key must have an expiry.
    pub key_expiry_required: Option<bool>,
    /// Maximum number of keys that are neither revoked nor expired.
    pub keys_max: Option<u32>,
    /// Shortest overlap of a rotation.
    pub overlap_min: Option<Duration>,
    /// Longest overlap of a rotation.
    pub overlap_max: Option<Duration>,
}

impl PolicyChange {
    /// Removes every limit.
    pub const NO_LIMIT: Self = Self {
        key_lifetime_max: Some(Duration::ZERO),
        key_expiry_required: Some(false),
        keys_max: Some(0),
        overlap_min: Some(Duration::ZERO),
        overlap_max: Some(Duration::ZERO),
    };

    /// Returns `before` with this change applied.
    pub fn apply_to(self, before: WorkspacePolicy) -> WorkspacePolicy {
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
