//! Lists of credentials, for whoever may see them: filters, orders, pages.

use std::time::Duration;

use super::owner::open;
use crate::model::limits::NAME_BYTES_MAX;
use crate::model::{
    Credential, CredentialId, CredentialKind, CredentialState, Scope, Timestamp, UserId, Workspace,
    WorkspaceName,
};
use crate::policy;
use crate::service::grant::READ;
use crate::service::page::Cursor;
use crate::service::{Context, Page, PageRequest, Reason, Result, Service, Violations};
use crate::store::{CredentialFilter, CredentialOrder, CredentialPosition};

/// Which credentials to list, and in which order. What is not set does not restrict.
#[derive(Debug, Clone, Default)]
pub struct ListCredentials {
    /// Keys of this workspace, by slug or id.
    pub workspace: Option<WorkspaceName>,
    /// Personal access tokens of this user.
    pub user: Option<UserId>,
    /// Of this kind.
    pub kind: Option<CredentialKind>,
    /// In this state.
    pub state: Option<CredentialState>,
    /// Made by this creator, as [`Credential::creator`] has it.
    pub creator: Option<String>,
    /// Granted this scope.
    pub scope: Option<Scope>,
    /// Expiring before this, and not dead yet.
    pub expires_before: Option<Timestamp>,
    /// Expiring within this from now, and not dead yet.
    pub expiring_within: Option<Duration>,
    /// Not used since this, or never.
    pub unused_since: Option<Timestamp>,
    /// Whose name begins with this, to the letter.
    pub name_prefix: Option<String>,
    /// Of this family.
    pub family_id: Option<CredentialId>,
    /// In which order.
    pub order: CredentialOrder,
    /// On whose behalf; empty: the system's.
    pub acting_user: String,
    /// Which page.
    pub page: PageRequest,
}

impl Service {
    /// A page of credentials, of those that the acting user may see. A page may be short and yet not the last (AIP-158).
    pub async fn list_credentials(
        &self,
        context: &Context,
        request: &ListCredentials,
    ) -> Result<Page<Credential>> {
        let acting_user = READ.acting_user(context, &request.acting_user)?;
        check_texts(request)?;
        if let Some(id) = &acting_user {
            self.require_active(id).await?;
        }
        let workspace_id = match &request.workspace {
            None => None,
            Some(name) => Some(self.workspace_to_list(name, acting_user.as_ref()).await?.id),
        };
        if let Some(user) = &request.user {
            self.check_user_to_list(user, acting_user.as_ref()).await?;
        }
        // Bound to what was asked, not to what it comes to: `expiring_within` comes to another time on each page.
        let asked = ListCredentials { page: PageRequest::default(), ..request.clone() };
        let cursor = Cursor::new(&request.page, format!("credentials {asked:?}"))?;
        let after = cursor.after.as_deref().and_then(parse_position);
        let now = self.clock.now();
        // What ends beyond the year 9999 restricts nothing that expires.
        let within = request.expiring_within.map(|within| now.saturating_add(within));
        let filter = CredentialFilter {
            workspace_id,
            user_id: request.user.clone(),
            kind: request.kind,
            state: request.state,
            visible_to: acting_user,
            creator: request.creator.clone(),
            scope: request.scope,
            expires_before: earlier(request.expires_before, within),
            unused_since: request.unused_since,
            name_prefix: request.name_prefix.clone(),
            family_id: request.family_id,
            order: request.order,
        };
        let listed = self.store.list_credentials(&filter, now, after, cursor.fetch).await?;
        Ok(cursor.short_page(listed.credentials, listed.resume.map(position_text), |credential| {
            position_text(CredentialPosition::of(credential, request.order))
        }))
    }

    pub(in crate::service) async fn require_active(&self, id: &UserId) -> Result<()> {
        let user = self.store.find_user(id).await?;
        user.filter(|user| !user.disabled)
            .map(drop)
            .ok_or_else(|| Reason::ActingUserNotActive.into())
    }

    async fn workspace_to_list(
        &self,
        name: &WorkspaceName,
        acting_user: Option<&UserId>,
    ) -> Result<Workspace> {
        let workspace = self.get_workspace(name).await?;
        if let Some(user) = acting_user {
            let membership = self.store.find_membership(&workspace.id, user).await?;
            let access =
                policy::access_to_workspace_keys(membership.map(|membership| membership.role));
            open(access, Reason::WorkspaceNotFound)?;
        }
        Ok(workspace)
    }

    async fn check_user_to_list(&self, user: &UserId, acting_user: Option<&UserId>) -> Result<()> {
        match acting_user {
            Some(acting_user) => {
                open(policy::access_to_user_pats(acting_user, user), Reason::UserNotFound)
            }
            None => self.get_user(user).await.map(drop),
        }
    }
}

fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.into_iter().chain(other).min()
}

/// What no name and no creator can be is refused here: not every database takes a NUL.
fn check_texts(request: &ListCredentials) -> Result<()> {
    let mut violations = Violations::default();
    for (field, text) in [("creator", &request.creator), ("name_prefix", &request.name_prefix)] {
        let text = text.as_deref().unwrap_or_default();
        if text.len() > NAME_BYTES_MAX || text.chars().any(char::is_control) {
            let description =
                format!("must be at most {NAME_BYTES_MAX} bytes, without control characters");
            violations.add(field, description);
        }
    }
    violations.finish()
}

/// A place as page tokens have it: microseconds or `-`, and the id.
fn position_text(position: CredentialPosition) -> String {
    let time = position.time.map_or_else(|| "-".to_owned(), |time| time.unix_micros().to_string());
    format!("{time}/{}", position.id)
}

fn parse_position(text: &str) -> Option<CredentialPosition> {
    let (time, id) = text.split_once('/')?;
    let time = match time {
        "-" => None,
        micros => Some(Timestamp::from_unix_micros(micros.parse().ok()?)?),
    };
    Some(CredentialPosition { time, id: CredentialId::parse(id).ok()? })
}
