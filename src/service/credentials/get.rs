//! Reading one credential.

use super::owner::require_visible;
use crate::model::{Credential, CredentialId, Owner};
use crate::service::grant::READ;
use crate::service::{Context, Reason, Result, Service};

impl Service {
    /// Returns the credential if the acting user may see it.
    pub async fn get_credential(
        &self,
        context: &Context,
        id: CredentialId,
        acting_user_id: &str,
    ) -> Result<Credential> {
        let acting_user = READ.acting_user(context, acting_user_id)?;
        if let Some(id) = &acting_user {
            self.require_active(id).await?;
        }
        let credential = self.store.find_credential(id).await?.ok_or(Reason::CredentialNotFound)?;
        if let Some(user) = &acting_user {
            let role = match &credential.owner {
                Owner::Workspace(workspace) => self.store.find_membership(workspace, user).await?,
                Owner::User { .. } => None,
            };
            require_visible(user, &credential, role)?;
        }
        Ok(credential)
    }
}
