//! The facts that decisions are made from, in memory: credentials by digest, users with their roles by id, workspaces
//! by id and by slug. Also callers. No clock and no I/O; the lease says whether memory is valid.
//!
//! The rules (`docs/protocol.md`):
//! 1. Every entry is of revision `applied` or newer. Changes are applied in this order: raise `fill_floor`, evict,
//!    detach the fills in flight ([`ReadsInFlight::detach_all`](super::ReadsInFlight::detach_all)), raise `applied`.
//! 2. A fill is of one revision. It is kept only if that is not below `fill_floor`. The check and the insertion happen
//!    under the lock of the shard, which an eviction takes too.
//! 3. An eviction names one entity. No entry is keyed by request, and there is no reverse index.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::KnownDigests;
use super::clock_map::{ClockMap, Keyed};
use crate::model::{
    Caller, CertificateSan, CredentialFacts, Digest, Facts, FoundFacts, OwnerKind, PrincipalFacts,
    Revision, UserFacts, UserId, Workspace, WorkspaceId,
};
use crate::store::{Change, ChangedEntity};

/// Capacity for callers, of which there are few.
const CALLERS_MAX: usize = 10_000;
/// Capacity for digests that do not exist. They are kept apart, so that a flood of them does not evict the ones that
/// do.
const UNKNOWN_MAX: usize = 65_536;

/// A value, and the revision at which it was read.
#[derive(Debug)]
struct Entry<T> {
    revision: Revision,
    value: Arc<T>,
}

impl<T> Clone for Entry<T> {
    fn clone(&self) -> Self {
        Self { revision: self.revision, value: Arc::clone(&self.value) }
    }
}

impl<T: Keyed> Keyed for Entry<T> {
    type Key = T::Key;

    fn key(&self) -> &T::Key {
        self.value.key()
    }
}

impl Keyed for CredentialFacts {
    type Key = Digest;

    fn key(&self) -> &Digest {
        &self.digest
    }
}

impl Keyed for UserFacts {
    type Key = UserId;

    fn key(&self) -> &UserId {
        &self.user.id
    }
}

impl Keyed for Workspace {
    type Key = WorkspaceId;

    fn key(&self) -> &WorkspaceId {
        &self.id
    }
}

/// The facts in memory.
pub struct Mirror {
    /// Number of times that the mirror was reset. A fill that began before the last reset is not kept.
    resets: AtomicU64,
    /// Fills of older revisions are not kept.
    fill_floor: AtomicU64,
    /// All changes up to this revision are applied.
    applied: AtomicU64,
    credentials: ClockMap<Entry<CredentialFacts>>,
    users: ClockMap<Entry<UserFacts>>,
    workspaces: ClockMap<Entry<Workspace>>,
    /// The workspace that last had a slug. Only a hint: the workspace entry says whether it still has it.
    slugs: ClockMap<(Box<str>, Arc<Workspace>)>,
    /// Names that no workspace has.
    unknown_names: ClockMap<(Box<str>, Revision)>,
    /// Digests that no credential has.
    unknown: ClockMap<(Digest, Revision)>,
    callers: ClockMap<(Digest, Arc<Caller>)>,
    /// Digests that no caller has. Kept apart for the same reason as `unknown` (see [`UNKNOWN_MAX`]).
    unknown_callers: ClockMap<(Digest, ())>,
    callers_by_san: ClockMap<(CertificateSan, Option<Arc<Caller>>)>,
    /// Number of times that all callers were dropped.
    caller_drops: AtomicU64,
    /// Decides only which look-ups are limited, and is not part of the facts.
    known_digests: Arc<KnownDigests>,
}

impl Mirror {
    /// Creates an empty mirror of about this capacity for each of credentials, users and workspaces.
    pub fn new(capacity: usize) -> Self {
        Self {
            resets: AtomicU64::new(0),
            fill_floor: AtomicU64::new(0),
            applied: AtomicU64::new(0),
            credentials: ClockMap::new(capacity),
            users: ClockMap::new(capacity),
            workspaces: ClockMap::new(capacity),
            slugs: ClockMap::new(capacity),
            unknown_names: ClockMap::new(UNKNOWN_MAX),
            unknown: ClockMap::new(UNKNOWN_MAX),
            callers: ClockMap::new(CALLERS_MAX),
            unknown_callers: ClockMap::new(CALLERS_MAX),
            callers_by_san: ClockMap::new(CALLERS_MAX),
            caller_drops: AtomicU64::new(0),
            known_digests: Arc::default(),
        }
    }

    /// Every entry reflects this revision or a newer one.
    pub fn applied(&self) -> Revision {
        Revision(self.applied.load(Ordering::Acquire))
    }

    /// Number of times that the mirror was reset. Read it before the store, for [`Self::insert`].
    pub fn resets(&self) -> u64 {
        self.resets.load(Ordering::Acquire)
    }

    /// Number of times that all callers were dropped.
    pub fn caller_drops(&self) -> u64 {
        self.caller_drops.load(Ordering::Acquire)
    }

    /// The digests that may exist.
    pub const fn known_digests(&self) -> &Arc<KnownDigests> {
        &self.known_digests
    }

    /// Returns the facts for an introspection, if memory has all of them and they are not older than `at_least`.
    pub fn cached_facts(
        &self,
        digest: &Digest,
        workspace: Option<&str>,
        at_least: Revision,
    ) -> Option<Facts> {
        // Read before the entries, which are then not older.
        let applied = self.applied();
        let Some(credential) = self.credentials.get(digest, Clone::clone) else {
            let revision = self.unknown.get(digest, |kept| kept.1)?.max(applied);
            return (revision >= at_least).then_some(Facts::new(revision, None));
        };
        let mut revision = credential.revision.max(applied);
        let mut as_of = |read: Revision| revision = revision.min(read.max(applied));
        let owner = credential.value.owner_id();
        let (principal, named_workspace) = match credential.value.kind.owner_kind() {
            OwnerKind::Workspace => {
                let own = self.workspaces.get(owner, Clone::clone)?;
                as_of(own.revision);
                (PrincipalFacts::Workspace(own.value), None)
            }
            OwnerKind::User => {
                let user = self.users.get(owner, Clone::clone)?;
                as_of(user.revision);
                let named = match workspace {
                    None => None,
                    Some(name) => {
                        let (read, named) = self.workspace_by_name(name)?;
                        as_of(read);
                        named
                    }
                };
                (PrincipalFacts::User(user.value), named)
            }
        };
        let found = FoundFacts { credential: credential.value, principal, named_workspace };
        (revision >= at_least).then_some(Facts::new(revision, Some(found)))
    }

    /// The workspace of this slug or id. `None` if memory does not know.
    fn workspace_by_name(&self, name: &str) -> Option<(Revision, Option<Arc<Workspace>>)> {
        let hint = self.slugs.get(name, |(_, hint)| Arc::clone(hint));
        let hinted = hint.and_then(|hint| self.workspaces.get(&hint.id, Clone::clone));
        let hinted = hinted.filter(|workspace| workspace.value.slug.as_str() == name);
        let by_id = || self.workspaces.get(name, Clone::clone);
        match hinted.or_else(by_id).filter(|found| found.value.delete_time.is_none()) {
            Some(found) => Some((found.revision, Some(found.value))),
            None => self.unknown_names.get(name, |kept| (kept.1, None)),
        }
    }

    /// Keeps each part of the facts, unless it is too old. `resets` was read before the facts were read from the store.
    pub fn insert(&self, digest: &Digest, workspace: Option<&str>, facts: &Facts, resets: u64) {
        let revision = facts.revision;
        let fresh = || self.accepts_fill(revision, resets);
        let Some(found) = &facts.found else {
            self.unknown.insert_if((*digest, revision), fresh);
            return;
        };
        let value = Arc::clone(&found.credential);
        self.credentials.insert_if(Entry { revision, value }, fresh);
        match &found.principal {
            PrincipalFacts::Workspace(own) => self.insert_workspace(own, revision, resets),
            PrincipalFacts::User(user) => {
                let value = Arc::clone(user);
                self.users.insert_if(Entry { revision, value }, fresh);
            }
        }
        match (&found.named_workspace, workspace) {
            (Some(named), _) => self.insert_workspace(named, revision, resets),
            (None, Some(name)) if matches!(found.principal, PrincipalFacts::User(_)) => {
                self.unknown_names.insert_if((name.into(), revision), fresh);
            }
            (None, _) => {}
        }
    }

    fn insert_workspace(&self, workspace: &Arc<Workspace>, revision: Revision, resets: u64) {
        let value = Arc::clone(workspace);
        let fresh = || self.accepts_fill(revision, resets);
        self.workspaces.insert_if(Entry { revision, value }, fresh);
        // Only a hint: the workspace entry says whether it has that slug.
        let hint = Arc::clone(workspace);
        self.slugs.insert_if((workspace.slug.as_str().into(), hint), || true);
    }

    /// Whether a fill is kept. Called under the lock of the shard that it is inserted into.
    fn accepts_fill(&self, revision: Revision, resets: u64) -> bool {
        revision.0 >= self.fill_floor.load(Ordering::Acquire) && self.resets() == resets
    }

    /// The caller of this service token. `None` if memory does not know, `Some(None)` if there is no such caller.
    pub fn cached_caller(&self, digest: &Digest) -> Option<Option<Arc<Caller>>> {
        match self.callers.get(digest, |(_, caller)| Arc::clone(caller)) {
            Some(caller) => Some(Some(caller)),
            None => self.unknown_callers.get(digest, |_| None),
        }
    }

    /// The caller of this subject alternative name, in the same way.
    pub fn cached_caller_by_san(&self, san: &CertificateSan) -> Option<Option<Arc<Caller>>> {
        self.callers_by_san.get(san, |(_, caller)| caller.clone())
    }

    /// Keeps the caller, unless all callers were dropped since `drops` was read, before the caller was read from the
    /// store.
    pub fn insert_caller(&self, digest: &Digest, caller: Option<Arc<Caller>>, drops: u64) {
        let fresh = || self.caller_drops() == drops;
        match caller {
            Some(caller) => self.callers.insert_if((*digest, caller), fresh),
            None => self.unknown_callers.insert_if((*digest, ()), fresh),
        };
    }

    /// Like [`Self::insert_caller`].
    pub fn insert_caller_by_san(
        &self,
        san: &CertificateSan,
        caller: Option<Arc<Caller>>,
        drops: u64,
    ) {
        let fresh = || self.caller_drops() == drops;
        self.callers_by_san.insert_if((san.clone(), caller), fresh);
    }

    /// Begins to apply changes up to `revision`. From now on, older fills are not kept.
    pub fn evict(&self, changes: &[Change], revision: Revision) {
        self.fill_floor.fetch_max(revision.0, Ordering::AcqRel);
        for change in changes {
            match &change.entity {
                ChangedEntity::Credential(digest) => {
                    self.credentials.remove(digest);
                    self.unknown.remove(digest);
                    self.known_digests.insert(digest);
                }
                ChangedEntity::User(id) => self.users.remove(id),
                ChangedEntity::Workspace(id) => {
                    self.workspaces.remove(id);
                    // The workspace may have taken a name that was unknown.
                    self.unknown_names.clear();
                }
                ChangedEntity::Caller(_) => self.drop_callers(),
                ChangedEntity::UnknownDigests => {
                    self.unknown.clear();
                    self.known_digests.mark_incomplete();
                }
            }
        }
    }

    /// Ends applying: every entry is now of `revision` or newer.
    pub fn set_applied(&self, revision: Revision) {
        self.applied.fetch_max(revision.0, Ordering::AcqRel);
    }

    /// Drops everything and continues from `revision`, which may be lower than before: the store is another
    /// incarnation.
    pub fn reset(&self, revision: Revision) {
        // Count the reset before the entries are dropped, so that a read that began earlier is not kept during or after
        // it.
        self.resets.fetch_add(1, Ordering::AcqRel);
        self.credentials.clear();
        self.users.clear();
        self.workspaces.clear();
        self.slugs.clear();
        self.unknown_names.clear();
        self.unknown.clear();
        self.drop_callers();
        self.applied.store(revision.0, Ordering::Release);
        self.fill_floor.store(revision.0, Ordering::Release);
        // The change log does not name what was committed before this.
        self.known_digests.mark_incomplete();
    }

    fn drop_callers(&self) {
        self.caller_drops.fetch_add(1, Ordering::AcqRel);
        self.callers.clear();
        self.unknown_callers.clear();
        self.callers_by_san.clear();
    }
}
