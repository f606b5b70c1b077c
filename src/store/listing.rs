//! The plan for a page of credentials, shared by both databases: which index to walk, and how to avoid long scans when
//! the filter matches few rows. Pure; the SQL is in `sqlite/listing.rs` and `postgres/listing.rs`.
//!
//! A page walks one index in order, starting after the previous page. Conditions that the index does not cover are
//! checked row by row, for at most [`LIST_SCAN_MAX`] rows; after those the page ends early. Before that happens, the
//! plan looks for a selective filter: one that has an index and matches few rows, all of which are then read
//! and sorted. So the cost of a page does not grow with the store.

use std::cmp::Ordering;

use async_trait::async_trait;

use super::Result;
use crate::model::{
    Credential, CredentialId, CredentialKind, CredentialState, Digest, OwnerKind, Scope, Timestamp,
    UserId, WorkspaceId,
};

#[expect(unused_imports, reason = "the module documentation links to it")]
use crate::model::limits::LIST_SCAN_MAX;

/// Lists credentials and digests page by page.
#[async_trait]
pub trait ListingStore: Send + Sync {
    /// Lists the credentials after the position `after`, in the filter's order, in the form of
    /// [`super::CredentialStore::find_credential`]. Their state is computed as of `now`. A short page is not
    /// necessarily the last: see [`CredentialPage::resume`].
    async fn list_credentials(
        &self,
        filter: &CredentialFilter,
        now: Timestamp,
        after: Option<CredentialPosition>,
        limit: u32,
    ) -> Result<CredentialPage>;
    /// Returns the database's query plan for that page, line by line.
    async fn explain_credentials(
        &self,
        filter: &CredentialFilter,
        now: Timestamp,
        after: Option<CredentialPosition>,
        limit: u32,
    ) -> Result<Vec<String>>;
    /// Lists the digests of all credentials after `after`, in order. Credentials that are revoked or expired are
    /// included.
    async fn list_digests(&self, after: Option<&Digest>, limit: u32) -> Result<Vec<Digest>>;
    /// Returns the database's query plan for that page.
    async fn explain_digests(&self, after: Option<&Digest>, limit: u32) -> Result<Vec<String>>;
}

/// Selects credentials and their order. A field that is `None` does not restrict the selection.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CredentialFilter {
    /// Keys of this workspace.
    pub workspace_id: Option<WorkspaceId>,
    /// Personal access tokens of this user.
    pub user_id: Option<UserId>,
    /// Credentials of this kind.
    pub kind: Option<CredentialKind>,
    /// Credentials in this state.
    pub state: Option<CredentialState>,
    /// Credentials that this user may see: the user's personal access tokens, and the keys of workspaces in which
    /// the user is an admin or owner. Those of an earlier owner with the same id are hidden.
    pub visible_to: Option<UserId>,
    /// Credentials created by this creator.
    pub creator: Option<String>,
    /// Credentials with this scope.
    pub scope: Option<Scope>,
    /// Credentials that expire before this time and are neither revoked nor expired yet.
    pub expires_before: Option<Timestamp>,
    /// Credentials not used since this time, including those never used.
    pub unused_since: Option<Timestamp>,
    /// Credentials whose name begins with this text, case-sensitive.
    pub name_prefix: Option<String>,
    /// Credentials of this family.
    pub family_id: Option<CredentialId>,
    /// Order of the list.
    pub order: CredentialOrder,
}

/// Order of a list of credentials. Ties are broken by id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CredentialOrder {
    /// By id, which is by creation time, oldest first.
    #[default]
    CreateTime,
    /// Newest first.
    CreateTimeDesc,
    /// By last use, oldest first. Credentials never used come first.
    LastUseTime,
    /// By expiry, soonest first. Credentials that never expire are left out.
    ExpireTime,
}

/// A position in a list of credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CredentialPosition {
    /// Time of last use or expiry, in the orders by these times. `None` in the other orders, and for a credential never
    /// used.
    pub time: Option<Timestamp>,
    /// Id of the credential.
    pub id: CredentialId,
}

impl CredentialPosition {
    /// Returns the position of this credential in this order.
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
    /// Compares two positions. `None`, which means never, comes before all times.
    pub fn compare(self, one: CredentialPosition, other: CredentialPosition) -> Ordering {
        let ascending = (one.time, one.id).cmp(&(other.time, other.id));
        match self {
            Self::CreateTimeDesc => ascending.reverse(),
            Self::CreateTime | Self::LastUseTime | Self::ExpireTime => ascending,
        }
    }
}

/// A page of credentials.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CredentialPage {
    /// Credentials, in order.
    pub credentials: Vec<Credential>,
    /// Position after which the next page begins, if this page is short although more credentials follow.
    pub resume: Option<CredentialPosition>,
}

/// Leading columns of the index that a page walks, before the columns of the order.
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
    /// Returns the best index for this filter in its order.
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

    /// Returns whether the filter has a condition that the index does not cover.
    pub(super) fn needs_row_filter(self, filter: &CredentialFilter) -> bool {
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

/// A condition that has its own index and may match few rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SelectiveFilter {
    Family,
    Creator,
    NamePrefix,
    ExpiresBefore,
    UnusedSince,
}

/// Returns the conditions of this filter that have their own index, without the one that the page walks anyway.
pub(super) fn selective_filters(
    filter: &CredentialFilter,
    driver: Driver,
) -> impl Iterator<Item = SelectiveFilter> {
    let asked = [
        (filter.family_id.is_some() && driver != Driver::Family, SelectiveFilter::Family),
        (filter.creator.is_some() && driver != Driver::Creator, SelectiveFilter::Creator),
        (filter.name_prefix.is_some(), SelectiveFilter::NamePrefix),
        (filter.expires_before.is_some(), SelectiveFilter::ExpiresBefore),
        (filter.unused_since.is_some(), SelectiveFilter::UnusedSince),
    ];
    asked.into_iter().filter(|(asked, _)| *asked).map(|(_, filter)| filter)
}

/// Returns whether no credential can match. Each credential has exactly one owner, of the type that its kind requires.
pub(super) fn is_impossible(filter: &CredentialFilter) -> bool {
    let owned_by = filter.kind.map(CredentialKind::owner_kind);
    let other_viewer = filter.user_id.as_ref().zip(filter.visible_to.as_ref());
    (filter.workspace_id.is_some() && filter.user_id.is_some())
        || (filter.workspace_id.is_some() && owned_by == Some(OwnerKind::User))
        || (filter.user_id.is_some() && owned_by == Some(OwnerKind::Workspace))
        || other_viewer.is_some_and(|(user, viewer)| user != viewer)
}

/// An owner whose credentials a user may see.
pub(super) struct VisibleOwner {
    /// The workspace. `None` for the user itself.
    pub(super) workspace_id: Option<WorkspaceId>,
    /// Whether it was deleted and created again. Credentials of its earlier generations are then skipped row by row.
    pub(super) recreated: bool,
}

/// Splits a filter for an acting user into one walk for each of these owners.
pub(super) fn walks_by_owner(
    filter: &CredentialFilter,
    owners: Vec<VisibleOwner>,
) -> Vec<(CredentialFilter, bool)> {
    let walk = |VisibleOwner { workspace_id, recreated }| {
        let filter = match workspace_id {
            Some(id) => CredentialFilter { workspace_id: Some(id), ..filter.clone() },
            None => CredentialFilter { user_id: filter.visible_to.clone(), ..filter.clone() },
        };
        (filter, recreated)
    };
    let walks = owners.into_iter().map(walk);
    walks.filter(|(walk, _)| !is_impossible(walk)).collect()
}

/// Merges the pages of several walks into one page.
pub(super) fn merge(
    order: CredentialOrder,
    parts: Vec<CredentialPage>,
    limit: u32,
) -> CredentialPage {
    let position = |credential: &Credential| CredentialPosition::of(credential, order);
    let ends = parts.iter().filter_map(|part| part.resume);
    let end = ends.min_by(|one, other| order.compare(*one, *other));
    let mut credentials: Vec<_> = parts.into_iter().flat_map(|part| part.credentials).collect();
    credentials.sort_by(|one, other| order.compare(position(one), position(other)));
    if let Some(end) = end {
        // Beyond this position one of the walks has not read yet.
        credentials.retain(|credential| order.compare(position(credential), end).is_le());
    }
    credentials.truncate(limit as usize);
    let short = credentials.len() < limit as usize;
    CredentialPage { credentials, resume: end.filter(|_| short) }
}

/// Returns the first text after all texts with this prefix, or `None` if there is none.
pub(super) fn after_prefix(prefix: &str) -> Option<String> {
    let mut characters: Vec<char> = prefix.chars().collect();
    while let Some(last) = characters.pop() {
        // UTF-8 sorts like code points. The surrogates between these two are not characters.
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

/// Side of a position, in the order of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// After the position.
    After,
    /// Up to the position, and the position itself.
    Through,
}

impl Side {
    /// Returns the operator between the columns of a row and the position.
    pub(super) const fn operator(self, order: CredentialOrder) -> &'static str {
        match (self, order) {
            (Self::After, CredentialOrder::CreateTimeDesc) => " < ",
            (Self::After, _) => " > ",
            (Self::Through, CredentialOrder::CreateTimeDesc) => " >= ",
            (Self::Through, _) => " <= ",
        }
    }
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
