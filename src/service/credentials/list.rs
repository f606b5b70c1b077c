//! Lists of credentials, with filters, orders and pages.

use std::time::Duration;

use super::owner::require_access;
use crate::model::limits::NAME_BYTES_MAX;
use crate::model::{
    Credential, CredentialId, CredentialKind, CredentialState, Scope, Timestamp, User, UserId,
    Workspace, WorkspaceName,
};
use crate::policy;
use crate::service::grant::READ;
use crate::service::page::Cursor;
use crate::service::{Context, Page, PageRequest, Reason, Result, Service, Violations};
use crate::store::{CredentialFilter, CredentialOrder, CredentialPosition};

/// Filter and order of a list of credentials. Fields that are not set match every credential.
#[derive(Debug, Clone, Default)]
pub struct ListCredentials {
    /// Keys of this workspace, by slug or id.
    pub workspace: Option<WorkspaceName>,
    /// Personal access tokens of this user.
    pub user: Option<UserId>,
    /// Credentials of this kind.
    pub kind: Option<CredentialKind>,
    /// Credentials in this state.
    pub state: Option<CredentialState>,
    /// Credentials by this creator, as in [`Credential::creator`].
    pub creator: Option<String>,
    /// Credentials with this scope.
    pub scope: Option<Scope>,
    /// Credentials that have not ended and expire before this time.
    pub expires_before: Option<Timestamp>,
    /// Credentials that have not ended and expire within this time from now.
    pub expiring_within: Option<Duration>,
    /// Credentials not used since this time, or never used.
    pub unused_since: Option<Timestamp>,
    /// Credentials whose name starts with this text. Case matters.
    pub name_prefix: Option<String>,
    /// Credentials of this family.
    pub family_id: Option<CredentialId>,
    /// Order of the list.
    pub order: CredentialOrder,
    /// User on whose behalf the caller acts. Empty for the system itself.
    pub acting_user: String,
    /// The page to return.
    pub page: PageRequest,
}

impl Service {
    /// Returns a page of the credentials that the acting user may see. A short page is not always the last one
    /// (AIP-158).
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
        // Page tokens are bound to the request as it was sent: `expiring_within` becomes a different time on each page.
        let asked = ListCredentials { page: PageRequest::default(), ..request.clone() };
        let cursor = Cursor::new(&request.page, format!("credentials {asked:?}"))?;
        let after = cursor.after.as_deref().and_then(parse_position);
        let now = self.clock.now();
        // A time past the year 9999 is capped, and still matches every expiry.
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

    /// Returns the acting user. Fails if the user is disabled or does not exist.
    pub(in crate::service) async fn require_active(&self, id: &UserId) -> Result<User> {
        let user = self.store.find_user(id).await?;
        user.filter(|user| !user.disabled).ok_or_else(|| Reason::ActingUserNotActive.into())
    }

    pub(super) async fn workspace_to_list(
        &self,
        name: &WorkspaceName,
        acting_user: Option<&UserId>,
    ) -> Result<Workspace> {
        self.accessible_workspace(name, acting_user, policy::access_to_workspace_keys).await
    }

    async fn check_user_to_list(&self, user: &UserId, acting_user: Option<&UserId>) -> Result<()> {
        match acting_user {
            Some(acting_user) => {
                require_access(policy::access_to_user_pats(acting_user, user), Reason::UserNotFound)
            }
            None => self.get_user(user).await.map(drop),
        }
    }
}

fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.into_iter().chain(other).min()
}

/// Rejects text that cannot be part of a name or creator. One reason is NUL, which not every database accepts.
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

/// Formats a position for a page token: microseconds or `-`, and the id.
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
