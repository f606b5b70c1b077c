//! What an acting user may revoke in bulk: the keys of a workspace of which they are an admin or owner, or all of their
//! own personal access tokens. Tokens of other users are out of reach (`docs/api.md`).

use super::bulk_revoke::BulkRevoke;
use super::owner::{lock_access, lock_active_user};
use crate::model::{UserId, WorkspaceId};
use crate::policy::{self, AccessOutcome};
use crate::service::{Result, Violations};
use crate::store::WriteTx;

/// The credentials that an acting user may revoke in bulk.
pub(in crate::service) struct BulkScope {
    acting_user: UserId,
    /// The workspace whose keys are revoked. `None` for the user's own personal access tokens.
    workspace_id: Option<WorkspaceId>,
}

impl BulkScope {
    /// What the acting user may revoke by a request whose fields are checked. `workspace_id` is the workspace that it
    /// names.
    pub(super) fn new(acting_user: &UserId, workspace_id: Option<&WorkspaceId>) -> Self {
        Self { acting_user: acting_user.clone(), workspace_id: workspace_id.cloned() }
    }

    /// Adds a violation unless the request selects keys of one workspace, or the user's own personal access tokens. It
    /// depends on the request alone, so it does not reveal which users exist.
    pub(super) fn check(violations: &mut Violations, acting_user: &UserId, request: &BulkRevoke) {
        match (&request.workspace, &request.user) {
            (Some(_), None) => {}
            (None, Some(user)) => {
                if policy::access_to_user_pats(acting_user, user) != AccessOutcome::Allowed {
                    violations.add(
                        "user",
                        "must be the acting user: nobody else can end a user's personal access tokens",
                    );
                }
            }
            (None, None) => violations.add(
                "workspace",
                "on behalf of an acting user, `workspace` or `user` is required: keys of a workspace of \
                 which they are an admin or owner, or their own personal access tokens",
            ),
            (Some(_), Some(_)) => violations
                .add("user", "on behalf of an acting user, cannot be set together with `workspace`"),
        }
    }

    /// Locks the acting user and their membership until the end of the transaction, and checks that the user still may
    /// revoke these credentials.
    ///
    /// # Errors
    /// [`ActingUserNotActive`], [`RoleTooLow`], [`WorkspaceNotFound`].
    ///
    /// [`ActingUserNotActive`]: crate::service::Reason::ActingUserNotActive
    /// [`RoleTooLow`]: crate::service::Reason::RoleTooLow
    /// [`WorkspaceNotFound`]: crate::service::Reason::WorkspaceNotFound
    pub(super) async fn lock(&self, tx: &mut dyn WriteTx) -> Result<()> {
        lock_active_user(tx, &self.acting_user).await?;
        let Some(workspace) = &self.workspace_id else { return Ok(()) };
        let access = policy::access_to_workspace_keys;
        lock_access(tx, workspace, &self.acting_user, access).await
    }
}
