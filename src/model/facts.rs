//! Facts: the input of the decision. The store reads them, the cache keeps and shares them, and the decision borrows
//! them.

use std::sync::Arc;

use super::{CredentialFacts, Revision, Role, User, Workspace, WorkspaceId};

/// Everything that an introspection is decided by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Revision of the facts. Those from the store are all of this revision. Those from the cache are of this revision
    /// or a later one.
    pub revision: Revision,
    /// The credential with the digest and its owner. `None` if the digest is unknown.
    pub found: Option<FoundFacts>,
    /// Whether the store was unreachable, and the facts are those last known.
    pub stale: bool,
}

/// A credential, and the facts that it is decided by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundFacts {
    /// The credential.
    pub credential: Arc<CredentialFacts>,
    /// Its owner, which may be deleted.
    pub principal: PrincipalFacts,
    /// For a credential of a user: the workspace that the request names, if it exists and is not deleted.
    pub named_workspace: Option<Arc<Workspace>>,
}

/// The owner of a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PrincipalFacts {
    /// A workspace.
    Workspace(Arc<Workspace>),
    /// A user.
    User(Arc<UserFacts>),
}

/// A user with their roles in all workspaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserFacts {
    /// The user.
    pub user: User,
    /// Roles by workspace, in the order of the workspaces' ids.
    pub roles: Box<[(WorkspaceId, Role)]>,
}

impl Facts {
    /// Creates the facts that the store found.
    pub const fn new(revision: Revision, found: Option<FoundFacts>) -> Self {
        Self { revision, found, stale: false }
    }
}

impl FoundFacts {
    /// Returns the named workspace and the user's role in it, if it is enabled and the user is a member of it.
    #[inline]
    pub fn joined_workspace(&self) -> Option<(&Workspace, Role)> {
        let named = self.named_workspace.as_deref()?;
        let usable = !named.disabled && named.delete_time.is_none();
        self.membership().filter(|_| usable).map(|role| (named, role))
    }

    /// Returns the user's role in the named workspace, if they are a member.
    pub fn membership(&self) -> Option<Role> {
        match &self.principal {
            PrincipalFacts::Workspace(_) => None,
            PrincipalFacts::User(facts) => facts.role_in(&self.named_workspace.as_ref()?.id),
        }
    }
}

impl PrincipalFacts {
    /// Returns the generation of the owner. Credentials of a lower generation are revoked.
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
    /// Returns the user's role in a workspace, if they are a member.
    pub fn role_in(&self, workspace: &WorkspaceId) -> Option<Role> {
        // Few users have many workspaces, and a linear search does not depend on the order.
        self.roles.iter().find(|(id, _)| id == workspace).map(|(_, role)| *role)
    }
}
