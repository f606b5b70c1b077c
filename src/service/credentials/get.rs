//! Reading one credential, by its id or by its token.

use zeroize::Zeroizing;

use super::CredentialEnd;
use super::hidden::like_unknown_token;
use super::owner::Viewer;
use crate::model::{Credential, CredentialId, CredentialKind, Owner, User};
use crate::service::grant::READ;
use crate::service::introspect::LookupOrigin;
use crate::service::{Context, Reason, Result, Service};
use crate::token::digest_to_revoke;

/// Which credential to read.
pub enum CredentialChoice {
    /// The credential with this id.
    Id(CredentialId),
    /// The credential that this text is the token of. Text of any shape is looked up.
    Token(Zeroizing<String>),
}

impl Service {
    /// Returns the credential if the acting user may see it. If `kind` is given, the credential must be of that kind.
    ///
    /// # Errors
    /// [`Reason::CredentialNotFound`], also for a credential that the acting user may not see.
    /// [`Reason::UnknownTokensTooMany`] instead, for a token, if the caller has exceeded its rate of unknown tokens.
    /// [`Reason::ActingUserNotActive`].
    pub async fn get_credential(
        &self,
        context: &Context,
        choice: &CredentialChoice,
        kind: Option<CredentialKind>,
        acting_user_id: &str,
    ) -> Result<Credential> {
        let acting_user = match READ.acting_user(context, acting_user_id)? {
            Some(id) => Some(self.require_active(&id).await?),
            None => None,
        };
        let found = match choice {
            CredentialChoice::Id(id) => self.find_visible(*id, acting_user.as_ref()).await?,
            CredentialChoice::Token(text) => {
                let found = self.find_visible_by_token(context, text, acting_user.as_ref());
                let hides = acting_user.is_some();
                like_unknown_token(hides, found, Option::is_some).await?
            }
        };
        let found = found.filter(|found| kind.is_none_or(|kind| kind == found.kind));
        found.ok_or_else(|| Reason::CredentialNotFound.into())
    }

    /// Returns the credential as [`Self::get_credential`] does, and how it ended. `None` if it is active.
    ///
    /// # Errors
    /// Those of [`Self::get_credential`].
    pub async fn get_credential_and_end(
        &self,
        context: &Context,
        choice: &CredentialChoice,
        kind: Option<CredentialKind>,
        acting_user_id: &str,
    ) -> Result<(Credential, Option<CredentialEnd>)> {
        let credential = self.get_credential(context, choice, kind, acting_user_id).await?;
        let end = self.find_end_of(&credential).await?;
        Ok((credential, end))
    }

    /// Returns the credential. `None` if it does not exist, or the acting user may not see it.
    async fn find_visible(
        &self,
        id: CredentialId,
        acting_user: Option<&User>,
    ) -> Result<Option<Credential>> {
        let Some(credential) = self.store.find_credential(id).await? else { return Ok(None) };
        let Some(user) = acting_user else { return Ok(Some(credential)) };
        let mut viewer = Viewer { user: user.clone(), role: None, generation: None };
        if let Owner::Workspace(id) = &credential.owner {
            let membership = self.store.find_membership(id, &user.id).await?;
            viewer.role = membership.map(|membership| membership.role);
            // After the membership, so that the generation is not older than it.
            let workspace = self.store.find_workspace(id.as_str()).await?;
            let workspace = workspace.filter(|workspace| workspace.id == *id);
            viewer.generation = workspace.map(|workspace| workspace.generation);
        }
        let visible = viewer.require_visible(&credential).is_ok();
        Ok(Some(credential).filter(|_| visible))
    }

    /// Returns the credential of this token, like [`Self::find_visible`]. A token that the acting user may not see is
    /// counted and refused in the same way as an unknown one, so that no answer tells them apart.
    async fn find_visible_by_token(
        &self,
        context: &Context,
        text: &str,
        acting_user: Option<&User>,
    ) -> Result<Option<Credential>> {
        let digest = digest_to_revoke(text);
        let origin = LookupOrigin { caller: context.caller_id(), client_ip: None };
        self.admit_token(origin, &digest).await?;
        let Some(found) = self.store.look_up(&digest, None).await?.found else {
            self.count_unknown_token(origin, &digest);
            return Ok(None);
        };
        let visible = self.find_visible(found.credential.id, acting_user).await?;
        if visible.is_none() {
            self.refuse_hidden_token(origin).await?;
        }
        Ok(visible)
    }
}
