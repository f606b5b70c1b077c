//! Operations on single credentials.

use async_trait::async_trait;

use super::{Lock, Result};
use crate::model::{Credential, CredentialId, Digest, Facts, Owner, Timestamp};

/// Reads single credentials, and looks up the facts that decide an introspection.
#[async_trait]
pub trait CredentialStore: Send + Sync {
    /// Returns all facts that decide an introspection of this digest, in one round trip. `workspace` is the slug or id
    /// in the request.
    async fn look_up(&self, digest: &Digest, workspace: Option<&str>) -> Result<Facts>;
    /// Returns the facts for several digests, each with the workspace that its request names, in the same order. All
    /// facts come from one snapshot.
    async fn look_up_many(&self, asked: &[(Digest, Option<String>)]) -> Result<Vec<Facts>>;
    /// Returns the credential. If its owner's generation revokes it, `revoke_time` says so.
    async fn find_credential(&self, id: CredentialId) -> Result<Option<Credential>>;
    /// Returns the digest of the credential's token, by which [`Self::look_up`] finds it.
    async fn find_digest(&self, id: CredentialId) -> Result<Option<Digest>>;
}

/// Reads and writes single credentials.
#[async_trait]
pub trait CredentialTx: Send {
    /// Returns the credential. If its owner's generation revokes it, `revoke_time` says so.
    async fn find_credential(&mut self, id: CredentialId, lock: Lock)
    -> Result<Option<Credential>>;
    /// Returns the credential without locking it. For fields that never change, before the locks are taken in their
    /// order.
    async fn peek_credential(&mut self, id: CredentialId) -> Result<Option<Credential>>;
    /// Returns the credential of this digest, like [`Self::find_credential`].
    async fn find_credential_by_digest(
        &mut self,
        digest: &Digest,
        lock: Lock,
    ) -> Result<Option<Credential>>;
    /// Inserts the credential.
    ///
    /// # Errors
    /// [`StoreError::Conflict`](super::StoreError::Conflict) if its id or digest is taken.
    async fn insert_credential(&mut self, credential: &Credential, digest: &Digest) -> Result<()>;
    /// Replaces the credential's row, except the fields that never change here: the owner, the creation time and the
    /// last use.
    async fn update_credential(&mut self, credential: &Credential) -> Result<()>;
    /// Replaces the digest of the credential's token, which ends the old token.
    ///
    /// # Errors
    /// [`StoreError::Conflict`](super::StoreError::Conflict) if the digest is taken.
    async fn replace_digest(&mut self, id: CredentialId, digest: &Digest) -> Result<()>;
    /// Returns the successor that a rotation of this credential created, if it is neither revoked nor expired at `now`.
    async fn find_successor(
        &mut self,
        id: CredentialId,
        now: Timestamp,
    ) -> Result<Option<Credential>>;
    /// Counts the credentials of this owner that are neither revoked nor expired at `now`, up to `most`. Only those of
    /// this generation or a later one count.
    async fn count_live_credentials(
        &mut self,
        owner: &Owner,
        generation: i64,
        now: Timestamp,
        most: u32,
    ) -> Result<u32>;
}
