//! How a page of credentials is found, in words that both databases share: which index is walked, and what happens where
//! a filter lets little of it through. Pure; the SQL is in `sqlite/listing.rs` and `postgres/listing.rs`.
//!
//! A page walks one index in its order, from where the page before ended. What that index cannot filter is looked at
//! row by row, but no more than [`LIST_SCAN_MAX`] rows a page: behind them the next page begins. Before it comes to that,
//! a filter of few rows is looked for, all of which are then read and sorted. So no page costs more in a large store.

use std::cmp::Ordering;

use async_trait::async_trait;

use super::Result;
use crate::model::{
    Credential, CredentialId, CredentialKind, CredentialState, Digest, OwnerKind, Scope, Timestamp,
    UserId, WorkspaceId,
};

#[expect(unused_imports, reason = "the head of this file speaks of it")]
use crate::model::limits::LIST_SCAN_MAX;

/// Lists credentials, and their digests, page by page.
#[async_trait]
pub trait ListingStore: Send + Sync {
    /// Credentials after this place, in the filter's order, as [`super::CredentialStore::find_credential`] gives them. `now` is what their
    /// state is as of. A page may be short and yet not the last: see [`Listed::resume`].
    async fn list_credentials(
        &self,
        filter: &CredentialFilter,
        now: Timestamp,
        after: Option<CredentialPosition>,
        limit: u32,
    ) -> Result<Listed>;
    /// How the database would find that page: its plan, line by line, for people and for tests.
    async fn explain_credentials(
        &self,
        filter: &CredentialFilter,
        now: Timestamp,
        after: Option<CredentialPosition>,
        limit: u32,
    ) -> Result<Vec<String>>;
    /// Digests of credentials after this one, in their order, be they dead or not.
    async fn list_digests(&self, after: Option<&Digest>, limit: u32) -> Result<Vec<Digest>>;
    /// How the database would find that page: its plan, for tests.
    async fn explain_digests(&self, after: Option<&Digest>, limit: u32) -> Result<Vec<String>>;
}

/// Which credentials to list, and in which order. What is `None` does not restrict.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CredentialFilter {
    /// Keys of this workspace.
    pub workspace_id: Option<WorkspaceId>,
    /// Personal access tokens of this user.
    pub user_id: Option<UserId>,
    /// Of this kind.
    pub kind: Option<CredentialKind>,
    /// In this state.
    pub state: Option<CredentialState>,
    /// What this user sees: their own personal access tokens, and the keys of the workspaces that they are admin or
    /// owner of.
    pub visible_to: Option<UserId>,
    /// Made by this creator.
    pub creator: Option<String>,
    /// Granted this scope.
    pub scope: Option<Scope>,
    /// Expiring before this, and neither revoked nor expired yet.
    pub expires_before: Option<Timestamp>,
    /// Not used since this, or never.
    pub unused_since: Option<Timestamp>,
    /// Whose name begins with this, to the letter.
    pub name_prefix: Option<String>,
    /// Of this family.
    pub family_id: Option<CredentialId>,
    /// In which order.
    pub order: CredentialOrder,
}

/// The orders in which credentials are listed; what is equal goes by id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CredentialOrder {
    /// By id, which is by create time, oldest first.
    #[default]
    CreateTime,
    /// Newest first.
    CreateTimeDesc,
    /// By last use, longest ago first, those never used before all others.
    LastUseTime,
    /// By expiry, soonest first; only those that expire.
    ExpireTime,
}

/// A place in a list of credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CredentialPosition {
    /// Of the last use or expiry, as the order has it; of the other orders `None`.
    pub time: Option<Timestamp>,
    /// The credential's.
    pub id: CredentialId,
}

impl CredentialPosition {
    /// Where this credential stands in this order.
    pub fn of(credential: &Credential, order: CredentialOrder) -> Self {
        let time = match order {
            CredentialOrder::CreateTime | CredentialOrder::CreateTimeDesc => None,
            CredentialOrder::LastUseTime => credential.last_use.map(|last_use| last_use.time),
            CredentialOrder::ExpireTime => credential.expire_time,
        };
        Self { time, id: credential.id }
    }
}

impl From<CredentialId> for CredentialPosition {
    fn from(id: CredentialId) -> Self {
        Self { time: None, id }
    }
}

impl CredentialOrder {
    /// Which of two places comes first. `None`, never, is before all times.
    pub fn compare(self, one: CredentialPosition, other: CredentialPosition) -> Ordering {
        let ascending = (one.time, one.id).cmp(&(other.time, other.id));
        match self {
            Self::CreateTimeDesc => ascending.reverse(),
            Self::CreateTime | Self::LastUseTime | Self::ExpireTime => ascending,
        }
    }
}

/// A page as the store gives it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listed {
    /// The credentials, in their order.
    pub credentials: Vec<Credential>,
    /// Where the page ends before the list does, although it is short: the next one begins after this.
    pub resume: Option<CredentialPosition>,
}

/// What the walked index begins with, before the order's own columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Driver {
    All,
    Workspace,
    User,
    Family,
    Creator,
    Kind,
    Disabled,
}

impl Driver {
    /// The best index for this filter in its order.
    pub(super) fn of(filter: &CredentialFilter) -> Self {
        let by_id =
            matches!(filter.order, CredentialOrder::CreateTime | CredentialOrder::CreateTimeDesc);
        let candidates = [
            (filter.workspace_id.is_some(), Self::Workspace),
            (filter.user_id.is_some(), Self::User),
            (by_id && filter.family_id.is_some(), Self::Family),
            (by_id && filter.creator.is_some(), Self::Creator),
            (by_id && filter.kind.is_some(), Self::Kind),
            (by_id && filter.state == Some(CredentialState::Disabled), Self::Disabled),
        ];
        let fits = candidates.into_iter().find(|(fits, _)| *fits);
        fits.map_or(Self::All, |(_, driver)| driver)
    }

    /// Whether something is asked for that the index does not know of.
    pub(super) fn leaves_to_filter(self, filter: &CredentialFilter) -> bool {
        let owned = matches!(self, Self::Workspace | Self::User);
        filter.state.is_some()
            || filter.scope.is_some()
            || filter.name_prefix.is_some()
            || filter.expires_before.is_some()
            || (filter.unused_since.is_some() && filter.order != CredentialOrder::LastUseTime)
            || (filter.family_id.is_some() && self != Self::Family)
            || (filter.creator.is_some() && self != Self::Creator)
            || (filter.kind.is_some() && self != Self::Kind && !owned)
    }
}

/// A filter with an index of its own, by which few rows may be left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Narrow {
    Family,
    Creator,
    NamePrefix,
    ExpiresBefore,
    UnusedSince,
}

/// Those that are asked for and that the walked index does not begin with.
pub(super) fn narrow(filter: &CredentialFilter, driver: Driver) -> impl Iterator<Item = Narrow> {
    let asked = [
        (filter.family_id.is_some() && driver != Driver::Family, Narrow::Family),
        (filter.creator.is_some() && driver != Driver::Creator, Narrow::Creator),
        (filter.name_prefix.is_some(), Narrow::NamePrefix),
        (filter.expires_before.is_some(), Narrow::ExpiresBefore),
        (filter.unused_since.is_some(), Narrow::UnusedSince),
    ];
    asked.into_iter().filter(|(asked, _)| *asked).map(|(_, narrow)| narrow)
}

/// Whether no credential can be what is asked for: each has one owner, which is as its kind says.
pub(super) fn is_impossible(filter: &CredentialFilter) -> bool {
    let owned_by = filter.kind.map(CredentialKind::owner_kind);
    let stranger = filter.user_id.as_ref().zip(filter.visible_to.as_ref());
    (filter.workspace_id.is_some() && filter.user_id.is_some())
        || (filter.workspace_id.is_some() && owned_by == Some(OwnerKind::User))
        || (filter.user_id.is_some() && owned_by == Some(OwnerKind::Workspace))
        || stranger.is_some_and(|(user, viewer)| user != viewer)
}

/// One page of the pages that several walks gave.
pub(super) fn merge(order: CredentialOrder, parts: Vec<Listed>, limit: u32) -> Listed {
    let place = |credential: &Credential| CredentialPosition::of(credential, order);
    let ends = parts.iter().filter_map(|part| part.resume);
    let end = ends.min_by(|one, other| order.compare(*one, *other));
    let mut credentials: Vec<_> = parts.into_iter().flat_map(|part| part.credentials).collect();
    credentials.sort_by(|one, other| order.compare(place(one), place(other)));
    if let Some(end) = end {
        // Behind it one of the walks has not looked yet.
        credentials.retain(|credential| order.compare(place(credential), end).is_le());
    }
    credentials.truncate(limit as usize);
    let short = credentials.len() < limit as usize;
    Listed { credentials, resume: end.filter(|_| short) }
}

/// The first text after all that begin with this one; `None` if there is none.
pub(super) fn after_prefix(prefix: &str) -> Option<String> {
    let mut characters: Vec<char> = prefix.chars().collect();
    while let Some(last) = characters.pop() {
        // UTF-8 keeps the order of code points; surrogates are none.
        let next = match last {
            '\u{D7FF}' => Some('\u{E000}'),
            last => char::from_u32(u32::from(last) + 1),
        };
        if let Some(next) = next {
            characters.push(next);
            return Some(characters.into_iter().collect());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::after_prefix;

    #[test]
    fn the_text_after_a_prefix_is_above_all_that_begin_with_it() {
        assert_eq!(after_prefix("ci"), Some("cj".to_owned()));
        assert_eq!(after_prefix("c\u{10FFFF}"), Some("d".to_owned()));
        assert_eq!(after_prefix("\u{D7FF}"), Some("\u{E000}".to_owned()));
        assert_eq!(after_prefix("\u{10FFFF}"), None);
        assert_eq!(after_prefix(""), None);
        assert!("ci\u{10FFFF}\u{10FFFF}" < after_prefix("ci").expect("there is one").as_str());
    }
}
