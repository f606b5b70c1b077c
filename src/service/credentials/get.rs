//! Reading one credential, by its id or by its token.

use zeroize::Zeroizing;

use super::CredentialEnd;
use super::owner::require_visible;
use crate::model::{Credential, CredentialId, CredentialKind, Owner, UserId};
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
        let acting_user = READ.acting_user(context, acting_user_id)?;
        if let Some(id) = &acting_user {
            self.require_active(id).await?;
        }
        let found = match choice {
            CredentialChoice::Id(id) => self.find_visible(*id, acting_user.as_ref()).await?,
            CredentialChoice::Token(text) => {
                self.find_visible_by_token(context, text, acting_user.as_ref()).await?
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
        acting_user: Option<&UserId>,
    ) -> Result<Option<Credential>> {
        let Some(credential) = self.store.find_credential(id).await? else { return Ok(None) };
        let Some(user) = acting_user else { return Ok(Some(credential)) };
        let role = match &credential.owner {
            Owner::Workspace(workspace) => self.store.find_membership(workspace, user).await?,
            Owner::User { .. } => None,
        };
        let visible = require_visible(user, &credential, role).is_ok();
        Ok(Some(credential).filter(|_| visible))
    }

    /// Returns the credential of this token, like [`Self::find_visible`]. A token that the acting user may not see is
    /// counted and refused in the same way as an unknown one, so that no answer tells them apart.
    async fn find_visible_by_token(
        &self,
        context: &Context,
        text: &str,
        acting_user: Option<&UserId>,
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
            self.refuse_hidden_token(origin)?;
        }
        Ok(visible)
    }
}
