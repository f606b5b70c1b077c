//! Where credentials, the directory, callers, the audit log and the change log are kept: one trait, two databases.
//!
//! The rules, which `tests/it/store` holds both to:
//!
//! 1. Every method can fail, and a failure is a [`StoreError`]: what is not there is `None`, not an error.
//! 2. Reads see what was committed before they began. [`ReadStore::look_up`] is one statement, hence one snapshot.
//! 3. Writing goes through [`Store::begin`] and leaves by [`WriteTx::commit`], which takes the audit event with it.
//!    The rows of the change log are written by triggers, so that none can be forgotten, not even with psql.
//! 4. A dropped [`WriteTx`] leaves nothing behind. It is never owned by a request's future, which a client can cancel:
//!    `service` runs it in a task of its own.
//! 5. Locks are taken in the order requests, workspace names, workspaces, their policies, users, memberships,
//!    credentials, callers, and the revision counter last, so that no two transactions wait for each other.
//! 6. No method takes a raw token. Digests go in; they come out for caches, in the change log, and for export.
//! 7. Bound values never stand in an error's text.

mod columns;
mod error;
mod feed;
mod filter;
mod lineage;
mod listing;
mod location;
mod migrations;
mod nouns;
mod row;
mod sql;
mod transfer;
mod untold;
mod writes;

pub mod postgres;
pub mod sqlite;

pub use error::StoreError;
pub use feed::{ChangeFeed, Hint, Incarnation, Published, Replica, Replicas, Synced};
pub use filter::{AuditFilter, RevokeFilter};
pub use lineage::{Admitted, Floor, Life, Lineage, Place, Refused};
pub use listing::{CredentialOrder, CredentialPosition, Listed};
pub use location::{
    backup, lacking, may_be_away, migrate, open, open_as_is, open_as_is_with, open_with, others,
    pending, place, restore,
};
pub use migrations::Migrated;
pub use nouns::{Change, ChangedEntity, ClaimedRequest, CredentialFilter, Lock, NameHolder};
pub use postgres::{PoolSizes, PostgresStore};
pub use sqlite::{Restoring, SqliteStore};
pub use transfer::{ExportFilter, ImportFound, ImportNames, StoredCredential, TakenCredential};
pub use untold::{Untold, UntoldOwner};

use async_trait::async_trait;
use uuid::Uuid;

use crate::model::{
    AuditEvent, Caller, CallerId, Credential, CredentialId, Digest, EventId, Facts, LastUse,
    Membership, Owner, ReplicaId, Revision, Slug, StoreTime, Timestamp, User, UserId, Workspace,
    WorkspaceId, WorkspacePolicy,
};

/// How long a turn at a connection is waited for, at the most: longer than anybody waits for an answer by default, and then
/// the deadline of the request comes first. A store that is away is another thing, and told sooner.
const TURN_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(20);

/// What every method gives.
pub type Result<T> = std::result::Result<T, StoreError>;

/// The database but for [`Store::begin`]: what reads, and the little that is written beside management calls and changes no
/// answer. This is what use cases have; how they write is `service/commit.rs`.
#[async_trait]
pub trait ReadStore: Send + Sync {
    /// Whether the database answers, and takes writes. It is written to, with nothing left of it, only if that is in doubt: at
    /// first, and after a write of anybody that found the disk full or was denied.
    async fn ping(&self) -> Result<()>;

    /// All that an introspection of this digest is decided by, in one round trip. `workspace` is the slug or id that the
    /// request names.
    async fn look_up(&self, digest: &Digest, workspace: Option<&str>) -> Result<Facts>;

    /// The credential, with what its owner's watermark revokes in its `revoke_time`.
    async fn find_credential(&self, id: CredentialId) -> Result<Option<Credential>>;
    /// Credentials after this place, in the filter's order, as [`Self::find_credential`] gives them. `now` is what their
    /// state is as of. A page may be short and yet not the last: see [`Listed::resume`].
    async fn list_credentials(
        &self,
        filter: &CredentialFilter,
        now: Timestamp,
        after: Option<CredentialPosition>,
        limit: u32,
    ) -> Result<Listed>;
    /// How the database would find that page: its plan, line by line, for people and for tests.
    async fn explain_credentials(
        &self,
        filter: &CredentialFilter,
        now: Timestamp,
        after: Option<CredentialPosition>,
        limit: u32,
    ) -> Result<Vec<String>>;
    /// Credentials that the filter names after this one, by id.
    async fn list_revocable(
        &self,
        filter: &RevokeFilter,
        after: Option<CredentialId>,
        limit: u32,
    ) -> Result<Vec<Credential>>;
    /// How many credentials the filter names.
    async fn count_revocable(&self, filter: &RevokeFilter) -> Result<u64>;
    /// Some credentials that were revoked or expired before `cutoff`, by themselves or with their owner's watermark.
    async fn list_dead(&self, cutoff: Timestamp, limit: u32) -> Result<Vec<CredentialId>>;
    /// Notes when and from where credentials were last used, in a transaction of its own, but for those of which a later
    /// use is known; how many it noted. No management call: it changes no answer, no etag, and goes into no log.
    async fn write_last_uses(&self, uses: &[(CredentialId, LastUse)]) -> Result<u64>;

    /// Credentials after this one, by id, with their digests; not those of owners that are deleted, which are dead for
    /// good.
    async fn export_credentials(
        &self,
        filter: &ExportFilter,
        after: Option<CredentialId>,
        limit: u32,
    ) -> Result<Vec<StoredCredential>>;
    /// Digests of credentials after this one, in their order, be they dead or not.
    async fn list_digests(&self, after: Option<&Digest>, limit: u32) -> Result<Vec<Digest>>;
    /// How the database would find that page: its plan, for tests.
    async fn explain_digests(&self, after: Option<&Digest>, limit: u32) -> Result<Vec<String>>;
    /// What is there of what a batch of an import names.
    async fn find_imported(&self, names: &ImportNames) -> Result<ImportFound>;

    /// The workspace of this slug or id, unless it is deleted.
    async fn find_workspace(&self, name: &str) -> Result<Option<Workspace>>;
    /// Workspaces after this one, by id, without deleted ones.
    async fn list_workspaces(
        &self,
        after: Option<&WorkspaceId>,
        limit: u32,
    ) -> Result<Vec<Workspace>>;
    /// What this workspace asks of its keys, if it asks anything.
    async fn find_workspace_policy(&self, id: &WorkspaceId) -> Result<Option<WorkspacePolicy>>;
    /// What the workspaces from the first id to the last ask of their keys, of those that ask anything.
    async fn list_workspace_policies(
        &self,
        first: &WorkspaceId,
        last: &WorkspaceId,
    ) -> Result<Vec<(WorkspaceId, WorkspacePolicy)>>;
    /// The user, unless deleted.
    async fn find_user(&self, id: &UserId) -> Result<Option<User>>;
    /// Users after this one, by id, without deleted ones.
    async fn list_users(&self, after: Option<&UserId>, limit: u32) -> Result<Vec<User>>;
    /// The user's membership of the workspace.
    async fn find_membership(
        &self,
        workspace: &WorkspaceId,
        user: &UserId,
    ) -> Result<Option<Membership>>;
    /// Memberships after this one, by workspace id, then user id.
    async fn list_memberships(
        &self,
        workspace: Option<&WorkspaceId>,
        user: Option<&UserId>,
        after: Option<(&WorkspaceId, &UserId)>,
        limit: u32,
    ) -> Result<Vec<Membership>>;

    /// The caller whose service token this is, or was before its last rotation, be it dead by now; revoked or not.
    async fn find_caller_by_digest(&self, digest: &Digest) -> Result<Option<Caller>>;
    /// The caller of this client certificate's subject alternative name, unless revoked.
    async fn find_caller_by_san(&self, san: &str) -> Result<Option<Caller>>;
    /// Callers after this one, by id, revoked ones included.
    async fn list_callers(&self, after: Option<CallerId>, limit: u32) -> Result<Vec<Caller>>;

    /// Audit events that the filter names after this one, by id, which is by time.
    async fn list_audit_events(
        &self,
        filter: &AuditFilter,
        after: Option<EventId>,
        limit: u32,
    ) -> Result<Vec<AuditEvent>>;
    /// The rows of the change log after this revision, in order.
    async fn list_changes(&self, after: Revision, limit: u32) -> Result<Vec<Change>>;
    /// Drops the oldest rows of the change log, up to `limit` of them, in a transaction of its own: those from before
    /// `cutoff` that every replica has applied, and never the newest. How many it dropped.
    ///
    /// It drops a prefix, whatever the database's clock did: a gap would be read over.
    async fn delete_changes(&self, cutoff: Timestamp, limit: u32) -> Result<u64>;
    /// The newest revision.
    async fn revision(&self) -> Result<Revision>;
    /// What time it is, as far as the store can tell.
    async fn time(&self) -> Result<StoreTime>;

    /// All that introspections of these digests are decided by, each with the workspace that it names, in their order:
    /// one statement or transaction, hence one snapshot.
    async fn look_up_many(&self, asked: &[(Digest, Option<String>)]) -> Result<Vec<Facts>>;

    /// Whether there are credentials that died with their owner, of which the audit log has yet to tell.
    async fn has_untold(&self) -> Result<bool>;

    /// Connections of their own for a process that answers from memory. They belong to the runtime this is called in.
    async fn open_feed(&self) -> Result<Box<dyn ChangeFeed>>;
    /// The processes that answer from memory, and the newest revision, as the primary has them.
    async fn list_replicas(&self) -> Result<Replicas>;
    /// The host and the process of a replica, as it named itself; nothing if its row is gone.
    async fn find_replica_host(&self, id: ReplicaId) -> Result<Option<String>>;
    /// Marks a replica's row as ended if it still stands at `seq`: when it syncs next, it learns that it was given up.
    async fn fence_replica(&self, id: ReplicaId, seq: i64) -> Result<bool>;

    /// When the store is known to be away, and whoever waits for it waits in vain; never, where that cannot be known.
    async fn gone(&self) -> StoreError {
        std::future::pending().await
    }

    /// Ends every connection.
    async fn close(&self);
}

/// The database, for reading, and for beginning to write.
#[async_trait]
pub trait Store: ReadStore {
    /// Begins to write. `name` is for traces.
    async fn begin(&self, name: &'static str) -> Result<Box<dyn WriteTx>>;
}

/// A transaction: small verbs, one exit.
#[async_trait]
pub trait WriteTx: Send {
    /// Makes all that give or take names of workspaces wait for each other, from here to the end.
    async fn lock_workspace_names(&mut self) -> Result<()>;
    /// Who holds this name as an id, as a slug, or as a slug reserved beyond `now`.
    async fn find_name_holder(&mut self, name: &str, now: Timestamp) -> Result<Option<NameHolder>>;
    /// Reserves a slug that the workspace gives up, until `release_time`.
    async fn reserve_slug(
        &mut self,
        slug: &Slug,
        id: &WorkspaceId,
        release_time: Timestamp,
    ) -> Result<()>;
    /// Drops the reservation of a slug, if there is one.
    async fn release_slug(&mut self, slug: &Slug) -> Result<()>;

    /// The workspace of this slug or id, unless it is deleted.
    async fn find_workspace(&mut self, name: &str, lock: Lock) -> Result<Option<Workspace>>;
    /// The workspace of this id, deleted or not.
    async fn find_workspace_row(
        &mut self,
        id: &WorkspaceId,
        lock: Lock,
    ) -> Result<Option<Workspace>>;
    /// Inserts the workspace, or makes the row of its id look so (but for `create_time`).
    async fn put_workspace(&mut self, workspace: &Workspace) -> Result<()>;

    /// What this workspace asks of its keys, if it asks anything.
    async fn find_workspace_policy(
        &mut self,
        id: &WorkspaceId,
        lock: Lock,
    ) -> Result<Option<WorkspacePolicy>>;
    /// Has the workspace ask this of its keys.
    async fn put_workspace_policy(
        &mut self,
        id: &WorkspaceId,
        policy: &WorkspacePolicy,
    ) -> Result<()>;
    /// Has the workspace ask nothing of its keys.
    async fn delete_workspace_policy(&mut self, id: &WorkspaceId) -> Result<()>;

    /// The user of this id, deleted or not.
    async fn find_user_row(&mut self, id: &UserId, lock: Lock) -> Result<Option<User>>;
    /// Inserts the user, or makes the row of its id look so (but for `create_time`).
    async fn put_user(&mut self, user: &User) -> Result<()>;

    /// The user's membership of the workspace.
    async fn find_membership(
        &mut self,
        workspace: &WorkspaceId,
        user: &UserId,
        lock: Lock,
    ) -> Result<Option<Membership>>;
    /// Inserts the membership, or makes its row look so (but for `create_time`).
    async fn put_membership(&mut self, membership: &Membership) -> Result<()>;
    /// Drops the membership; whether there was one.
    async fn delete_membership(&mut self, workspace: &WorkspaceId, user: &UserId) -> Result<bool>;
    /// Drops every membership of the workspace; how many there were.
    async fn delete_memberships_of_workspace(&mut self, workspace: &WorkspaceId) -> Result<u64>;
    /// Drops every membership of the user; how many there were.
    async fn delete_memberships_of_user(&mut self, user: &UserId) -> Result<u64>;

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
    /// Notes that this request makes its credential. If one of the same requester and id did after `forget_before`, that
    /// one is given instead, and nothing is noted. Of two that race, the second waits for the first to end.
    async fn claim_request(
        &mut self,
        request: &ClaimedRequest,
        forget_before: Timestamp,
    ) -> Result<Option<ClaimedRequest>>;

    /// What is there of what a batch of an import names, the owners held as by [`Lock::Share`].
    async fn find_imported(&mut self, names: &ImportNames) -> Result<ImportFound>;
    /// The same, nothing held: before the locks are taken in their order.
    async fn peek_imported(&mut self, names: &ImportNames) -> Result<ImportFound>;
    /// Inserts them all, as one change of the log: [`ChangedEntity::UnknownDigests`].
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if an id or digest is taken.
    async fn insert_credentials(&mut self, credentials: &[StoredCredential]) -> Result<()>;
    /// Gives the change log a new epoch: whoever answers from memory drops it all and starts afresh.
    async fn renew_epoch(&mut self, epoch: Uuid) -> Result<()>;
    /// Those of these credentials that are there, by id, as [`Self::find_credential`] gives them, held for a change.
    async fn find_credentials(&mut self, ids: &[CredentialId]) -> Result<Vec<Credential>>;
    /// Credentials that the filter names after this one, by id, as [`ReadStore::list_revocable`] gives them, held for a change;
    /// of owners that this transaction holds. Fewer than `limit`: these were the last.
    async fn find_revocable(
        &mut self,
        filter: &RevokeFilter,
        after: Option<CredentialId>,
        limit: u32,
    ) -> Result<Vec<Credential>>;
    /// Revokes these credentials, none of which is revoked, and counts their versions on.
    async fn revoke_credentials(&mut self, ids: &[CredentialId], time: Timestamp) -> Result<()>;
    /// Drops the rows of these credentials.
    async fn delete_credentials(&mut self, ids: &[CredentialId]) -> Result<()>;

    /// The oldest of what the audit log has yet to tell that no other transaction holds, held.
    async fn take_untold(&mut self) -> Result<Option<Untold>>;
    /// The next of its credentials, by id, with their owner's watermark in their `revoke_time`.
    async fn list_untold(&mut self, untold: &Untold, limit: u32) -> Result<Vec<Credential>>;
    /// Inserts it, or notes how far it has come.
    async fn save_untold(&mut self, untold: &Untold) -> Result<()>;
    /// Drops it: all is told.
    async fn delete_untold(&mut self, id: Uuid) -> Result<()>;

    /// The caller, revoked or not.
    async fn find_caller(&mut self, id: CallerId, lock: Lock) -> Result<Option<Caller>>;
    /// The caller of this name, unless revoked.
    async fn find_caller_by_name(&mut self, name: &str, lock: Lock) -> Result<Option<Caller>>;
    /// Inserts the caller.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if its id or identity, or the name among those not revoked, is taken.
    async fn insert_caller(&mut self, caller: &Caller) -> Result<()>;
    /// Makes the caller's row look so, but for the time of its making.
    ///
    /// # Errors
    /// As [`Self::insert_caller`].
    async fn update_caller(&mut self, caller: &Caller) -> Result<()>;

    /// Appends events beside the one that [`Self::commit`] takes, all at once: where one call changes many things.
    async fn insert_audit_events(&mut self, events: &[AuditEvent]) -> Result<()>;
    /// Retention: drops the oldest events from before `cutoff`, up to `limit` of them; how many.
    async fn delete_audit_events(&mut self, cutoff: Timestamp, limit: u32) -> Result<u64>;

    /// Commits all of it with the audit event and the rows of the change log; the newest revision.
    async fn commit(self: Box<Self>, audit: &AuditEvent) -> Result<Revision>;
}
