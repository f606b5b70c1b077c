//! What an introspection is decided by: the store reads it, the cache remembers it and shares it, the decision borrows it.

use std::sync::Arc;

use super::{CredentialFacts, Revision, Role, User, Workspace, WorkspaceId};

/// All that an introspection is decided by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// A revision that none of it is older than. As the store gives them, all of it is of this revision.
    pub revision: Revision,
    /// What the digest is of, if anything.
    pub found: Option<FoundFacts>,
    /// Whether the store was out of reach, and this is what was last known.
    pub stale: bool,
}

/// A credential and what it is decided by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundFacts {
    /// The credential.
    pub credential: Arc<CredentialFacts>,
    /// Whose it is, deleted or not.
    pub principal: PrincipalFacts,
    /// For what is a user's: the workspace of the name asked for, if there is one that is not deleted.
    pub named_workspace: Option<Arc<Workspace>>,
}

/// Whose a credential is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PrincipalFacts {
    /// A workspace's.
    Workspace(Arc<Workspace>),
    /// A user's.
    User(Arc<UserFacts>),
}

/// A user with all their roles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserFacts {
    /// The user.
    pub user: User,
    /// By workspace, in the order of their ids.
    pub roles: Box<[(WorkspaceId, Role)]>,
}

impl Facts {
    /// What the store has found.
    pub const fn new(revision: Revision, found: Option<FoundFacts>) -> Self {
        Self { revision, found, stale: false }
    }
}

impl FoundFacts {
    /// The user's role in the workspace that is named, if they are a member.
    pub fn membership(&self) -> Option<Role> {
        match &self.principal {
            PrincipalFacts::Workspace(_) => None,
            PrincipalFacts::User(facts) => facts.role_in(&self.named_workspace.as_ref()?.id),
        }
    }
}

impl PrincipalFacts {
    /// The watermark: credentials of a lower generation are revoked.
    pub fn generation(&self) -> i64 {
        match self {
            Self::Workspace(workspace) => workspace.generation,
            Self::User(facts) => facts.user.generation,
        }
    }

    /// Whether the workspace or the user is deleted.
    pub fn is_deleted(&self) -> bool {
        match self {
            Self::Workspace(workspace) => workspace.delete_time.is_some(),
            Self::User(facts) => facts.user.delete_time.is_some(),
        }
    }

    /// Whether the workspace or the user is disabled.
    pub fn is_disabled(&self) -> bool {
        match self {
            Self::Workspace(workspace) => workspace.disabled,
            Self::User(facts) => facts.user.disabled,
        }
    }
}

impl UserFacts {
    /// The user's role in a workspace, if they are a member.
    pub fn role_in(&self, workspace: &WorkspaceId) -> Option<Role> {
        // Few belong to many workspaces, and a search needs no order to be right.
        self.roles.iter().find(|(id, _)| id == workspace).map(|(_, role)| *role)
    }
}
