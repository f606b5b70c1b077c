//! The situations in which the two statements of the decision table are compared.

use std::sync::Arc;
use std::time::Duration;

use super::{acme, key, now_plus, pat, workspace};
use crate::model::{
    Credential, PatPolicy, Role, Scope, ScopeSet, Workspace, WorkspaceEntry, WorkspaceId,
    WorkspaceSet,
};

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    Key,
    Pat,
}

/// A reason why a credential is not active. Several can apply together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Defect {
    Revoked,
    BelowWatermark,
    OwnerDeleted,
    Expired,
    Disabled,
    OwnerDisabled,
}

pub(super) const DEFECTS: [Defect; 6] = [
    Defect::Revoked,
    Defect::BelowWatermark,
    Defect::OwnerDeleted,
    Defect::Expired,
    Defect::Disabled,
    Defect::OwnerDisabled,
];

/// The workspace that the request names. "Own" is the key's workspace, or one of which the user may be a member.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Named {
    Nothing,
    OwnSlug,
    OwnId,
    Other,
    Unknown,
    Disabled,
    Deleted,
}

pub(super) const NAMED: [Named; 7] = [
    Named::Nothing,
    Named::OwnSlug,
    Named::OwnId,
    Named::Other,
    Named::Unknown,
    Named::Disabled,
    Named::Deleted,
];

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum AddressCase {
    NoAllowlist,
    NoAllowlistNorAddress,
    Inside,
    Outside,
    NoAddress,
}

pub(super) const ADDRESS_CASES: [AddressCase; 5] = [
    AddressCase::NoAllowlist,
    AddressCase::NoAllowlistNorAddress,
    AddressCase::Inside,
    AddressCase::Outside,
    AddressCase::NoAddress,
];

/// The workspaces to which a personal access token is limited.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Limit {
    None,
    Here,
    Elsewhere,
    Nowhere,
    /// The named workspace, before it was deleted and created again.
    FormerHere,
}

pub(super) const LIMITS: [Limit; 5] =
    [Limit::None, Limit::Here, Limit::Elsewhere, Limit::Nowhere, Limit::FormerHere];

/// The workspaces from which a personal access token is barred.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Bar {
    None,
    Here,
    Elsewhere,
    FormerHere,
}

pub(super) const BARS: [Bar; 4] = [Bar::None, Bar::Here, Bar::Elsewhere, Bar::FormerHere];

/// What every workspace demands of the personal access tokens that act in it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Demand {
    Nothing,
    NoToken,
    AnExpiry,
    /// A lifetime of exactly that of the token.
    ThisLifetime,
    /// A lifetime of a microsecond less.
    ShorterLifetime,
}

pub(super) const DEMANDS: [Demand; 5] = [
    Demand::Nothing,
    Demand::NoToken,
    Demand::AnExpiry,
    Demand::ThisLifetime,
    Demand::ShorterLifetime,
];

/// The rules about where a personal access token may act.
#[derive(Debug, Clone, Copy)]
pub(super) struct Restrictions {
    pub(super) limit: Limit,
    pub(super) bar: Bar,
    pub(super) demand: Demand,
    pub(super) expires: bool,
}

pub(super) const UNRESTRICTED: Restrictions =
    Restrictions { limit: Limit::None, bar: Bar::None, demand: Demand::Nothing, expires: true };

/// Whether each scope is in the set: read, capture, admin.
pub(super) type Scopes = [bool; Scope::ALL.len()];
/// A role by its rank: viewer, member, admin, owner are 0 to 3.
pub(super) type Rank = usize;

pub(super) const MAY_EXERCISE: [Scopes; 4] =
    [[true, false, false], [true, true, false], [true, true, true], [true, true, true]];

#[derive(Debug, Clone, Copy)]
pub(super) struct Situation<'a> {
    pub(super) kind: Kind,
    pub(super) defects: &'a [Defect],
    pub(super) membership: Option<Rank>,
    pub(super) max_role: Rank,
    pub(super) granted: Scopes,
    pub(super) required: Scopes,
    pub(super) named: Named,
    pub(super) address: AddressCase,
    pub(super) restrictions: Restrictions,
}

pub(super) fn role_of(rank: Rank) -> Role {
    [Role::Viewer, Role::Member, Role::Admin, Role::Owner][rank]
}

pub(super) fn set_of(scopes: Scopes) -> ScopeSet {
    Scope::ALL.into_iter().zip(scopes).filter_map(|(scope, there)| there.then_some(scope)).collect()
}

/// The workspaces of the situations.
pub(super) struct World {
    pub(super) own: Arc<Workspace>,
    pub(super) other: Arc<Workspace>,
    pub(super) disabled: Arc<Workspace>,
    pub(super) deleted: Arc<Workspace>,
}

impl World {
    pub(super) fn new(demand: Demand) -> Self {
        let lifetime = now_plus(1).saturating_since(key(ScopeSet::NONE).create_time);
        let lifetime_max = match demand {
            Demand::Nothing | Demand::NoToken | Demand::AnExpiry => None,
            Demand::ThisLifetime => Some(lifetime),
            Demand::ShorterLifetime => Some(lifetime.saturating_sub(Duration::from_micros(1))),
        };
        let pat_policy = PatPolicy {
            forbidden: demand == Demand::NoToken,
            expiry_required: demand == Demand::AnExpiry,
            lifetime_max,
        };
        let workspace = |id, slug| Workspace { pat_policy, ..workspace(id, slug) };
        Self {
            own: workspace("ws_1", "acme").into(),
            other: workspace("ws_2", "globex").into(),
            disabled: Workspace { disabled: true, ..workspace("ws_3", "hooli") }.into(),
            deleted: Workspace { delete_time: Some(now_plus(-1)), ..workspace("ws_4", "initech") }
                .into(),
        }
    }

    pub(super) fn name(&self, named: Named) -> (Option<&'static str>, Option<&Arc<Workspace>>) {
        match named {
            Named::Nothing => (None, None),
            Named::OwnSlug => (Some("acme"), Some(&self.own)),
            Named::OwnId => (Some("ws_1"), Some(&self.own)),
            Named::Other => (Some("globex"), Some(&self.other)),
            Named::Unknown => (Some("nowhere"), None),
            Named::Disabled => (Some("hooli"), Some(&self.disabled)),
            Named::Deleted => (Some("initech"), Some(&self.deleted)),
        }
    }
}

/// Returns a set of all workspaces of the situations, in the generation that they have plus `offset`.
pub(super) fn all_workspaces(offset: i64) -> WorkspaceSet {
    let entry = |id| WorkspaceEntry {
        id: WorkspaceId::parse(id).expect("a good id"),
        generation: acme().generation + offset,
    };
    WorkspaceSet::new(["ws_1", "ws_2", "ws_3", "ws_4"].map(entry))
}

pub(super) fn another_workspace() -> WorkspaceSet {
    let id = WorkspaceId::parse("ws_5").expect("a good id");
    WorkspaceSet::new([WorkspaceEntry { id, generation: acme().generation }])
}

pub(super) fn credential_of(s: &Situation) -> Credential {
    let granted = set_of(s.granted);
    let mut credential = match s.kind {
        Kind::Key => key(granted),
        Kind::Pat => pat(granted, role_of(s.max_role)),
    };
    let has = |defect| s.defects.contains(&defect);
    credential.revoke_time = has(Defect::Revoked).then(|| now_plus(-1));
    credential.expire_time =
        Some(now_plus(i64::from(!has(Defect::Expired)))).filter(|_| s.restrictions.expires);
    credential.granted_workspaces = match s.restrictions.limit {
        Limit::None => None,
        Limit::Here => Some(all_workspaces(0)),
        Limit::Elsewhere => Some(another_workspace()),
        Limit::Nowhere => Some(WorkspaceSet::default()),
        Limit::FormerHere => Some(all_workspaces(-1)),
    };
    credential.barred_workspaces = match s.restrictions.bar {
        Bar::None => WorkspaceSet::default(),
        Bar::Here => all_workspaces(0),
        Bar::Elsewhere => another_workspace(),
        Bar::FormerHere => all_workspaces(-1),
    };
    credential.disable_time = has(Defect::Disabled).then(|| now_plus(-1));
    credential.generation -= i64::from(has(Defect::BelowWatermark));
    credential
}
