//! Credentials, one at a time.

use async_trait::async_trait;

use super::{Lock, Result};
use crate::model::{Credential, CredentialId, Digest, Facts, Owner, Timestamp};

/// Reads credentials one at a time, and answers the look-ups that introspections are decided by.
#[async_trait]
pub trait CredentialStore: Send + Sync {
    /// All that an introspection of this digest is decided by, in one round trip. `workspace` is the slug or id that the
    /// request names.
    async fn look_up(&self, digest: &Digest, workspace: Option<&str>) -> Result<Facts>;
    /// All that introspections of these digests are decided by, each with the workspace that it names, in their order:
    /// one statement or transaction, hence one snapshot.
    async fn look_up_many(&self, asked: &[(Digest, Option<String>)]) -> Result<Vec<Facts>>;
    /// The credential, with what its owner's watermark revokes in its `revoke_time`.
    async fn find_credential(&self, id: CredentialId) -> Result<Option<Credential>>;
}

/// Reads and writes credentials one at a time.
#[async_trait]
pub trait CredentialTx: Send {
    /// The credential, with what its owner's watermark revokes in its `revoke_time`.
    async fn find_credential(&mut self, id: CredentialId, lock: Lock)
    -> Result<Option<Credential>>;
    /// The same, not held: for what of it never changes, before the locks are taken in their order.
    async fn peek_credential(&mut self, id: CredentialId) -> Result<Option<Credential>>;
    /// The credential of this digest, as [`Self::find_credential`] gives it.
    async fn find_credential_by_digest(
        &mut self,
        digest: &Digest,
        lock: Lock,
    ) -> Result<Option<Credential>>;
    /// Inserts the credential.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if its id or digest is taken.
    async fn insert_credential(&mut self, credential: &Credential, digest: &Digest) -> Result<()>;
    /// Makes the credential's row look so: what may change of it, which is neither the owner nor the times of making
    /// and last use.
    async fn update_credential(&mut self, credential: &Credential) -> Result<()>;
    /// Gives the credential another token: from now on only the text of this digest is it.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the digest is taken.
    async fn replace_digest(&mut self, id: CredentialId, digest: &Digest) -> Result<()>;
    /// What succeeded this credential by rotation and is neither revoked nor expired at `now`.
    async fn find_successor(
        &mut self,
        id: CredentialId,
        now: Timestamp,
    ) -> Result<Option<Credential>>;
    /// How many credentials of this owner, made under this generation or a later one, are neither revoked nor expired at
    /// `now`; counts up to `most`.
    async fn count_live_credentials(
        &mut self,
        owner: &Owner,
        generation: i64,
        now: Timestamp,
        most: u32,
    ) -> Result<u32>;
}
