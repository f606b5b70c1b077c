//! The three things that the decision reads, in memory: credentials by digest, users with their roles by id, workspaces
//! by id and by slug; and callers. No clock and no I/O: what may be believed, the lease says.
//!
//! The rules (CATALOGUE E-SPEC, E4, E6):
//! 1. Everything here is as of `applied` or newer. A change is applied in this order: raise `admitted`, evict, detach
//!    fills under way ([`Flights::detach`](super::flights::Flights::detach)), raise `applied`.
//! 2. A fill is of one revision, and is kept only if that is not behind `admitted`: checked and inserted as one step under
//!    the shard's lock, which evicting takes too.
//! 3. An eviction names one entity. Nothing is keyed by request, and there is no reverse index.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::KnownDigests;
use super::clock_map::{ClockMap, Keyed};
use crate::model::{
    Caller, CertificateSan, CredentialFacts, Digest, Facts, FoundFacts, OwnerKind, PrincipalFacts,
    Revision, UserFacts, UserId, Workspace, WorkspaceId,
};
use crate::store::{Change, ChangedEntity};

/// How much is kept of things that there are few of.
const CALLERS_MAX: usize = 10_000;
/// How many digests are remembered to be nobody's. Apart from the good ones, which a flood must not evict.
const UNKNOWN_MAX: usize = 65_536;

/// A value, and the revision that it was read at.
#[derive(Debug)]
struct Remembered<T> {
    revision: Revision,
    value: Arc<T>,
}

impl<T> Clone for Remembered<T> {
    fn clone(&self) -> Self {
        Self { revision: self.revision, value: Arc::clone(&self.value) }
    }
}

impl<T: Keyed> Keyed for Remembered<T> {
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

/// What is in memory.
pub struct Mirror {
    /// Counts the times at which everything was dropped: a fill of another life is not kept.
    life: AtomicU64,
    /// Fills of older revisions are not kept.
    admitted: AtomicU64,
    /// All changes up to this one are applied.
    applied: AtomicU64,
    credentials: ClockMap<Remembered<CredentialFacts>>,
    users: ClockMap<Remembered<UserFacts>>,
    workspaces: ClockMap<Remembered<Workspace>>,
    /// Where a slug was last seen. Only a hint: the workspace itself says whether it still has it.
    slugs: ClockMap<(Box<str>, Arc<Workspace>)>,
    /// Names of no workspace.
    unknown_names: ClockMap<(Box<str>, Revision)>,
    /// Digests of no credential.
    unknown: ClockMap<(Digest, Revision)>,
    callers: ClockMap<(Digest, Arc<Caller>)>,
    /// Digests of no caller. Apart from the real ones too.
    unknown_callers: ClockMap<(Digest, ())>,
    callers_by_san: ClockMap<(CertificateSan, Option<Arc<Caller>>)>,
    /// Counts the times at which what is known of callers was dropped.
    callers_generation: AtomicU64,
    /// No part of what may be believed: only who is limited is decided by it.
    known_digests: Arc<KnownDigests>,
}

impl Mirror {
    /// Empty; holds at most about so many credentials, and as many users and workspaces.
    pub fn new(capacity: usize) -> Self {
        Self {
            life: AtomicU64::new(0),
            admitted: AtomicU64::new(0),
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
            callers_generation: AtomicU64::new(0),
            known_digests: Arc::default(),
        }
    }

    /// The revision that everything here is as of, or newer.
    pub fn applied(&self) -> Revision {
        Revision(self.applied.load(Ordering::Acquire))
    }

    /// To be read before the store is, for [`Self::remember`].
    pub fn life(&self) -> u64 {
        self.life.load(Ordering::Acquire)
    }

    /// Counts up whenever what is known of callers was dropped.
    pub fn callers_generation(&self) -> u64 {
        self.callers_generation.load(Ordering::Acquire)
    }

    /// The digests that may be somebody's.
    pub const fn known_digests(&self) -> &Arc<KnownDigests> {
        &self.known_digests
    }

    /// How many credentials are in memory.
    pub fn credentials_len(&self) -> usize {
        self.credentials.len()
    }

    /// All that an introspection is decided by, if all of it is here and not older than `at_least`.
    pub fn recall(
        &self,
        digest: &Digest,
        workspace: Option<&str>,
        at_least: Revision,
    ) -> Option<Facts> {
        // Before the entries: what is read after it is not older.
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
                        let (read, named) = self.named(name)?;
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

    /// The workspace of this slug or id; nothing if that is not known here.
    fn named(&self, name: &str) -> Option<(Revision, Option<Arc<Workspace>>)> {
        let hint = self.slugs.get(name, |(_, hint)| Arc::clone(hint));
        let hinted = hint.and_then(|hint| self.workspaces.get(&hint.id, Clone::clone));
        let hinted = hinted.filter(|workspace| workspace.value.slug.as_str() == name);
        let by_id = || self.workspaces.get(name, Clone::clone);
        match hinted.or_else(by_id).filter(|found| found.value.delete_time.is_none()) {
            Some(found) => Some((found.revision, Some(found.value))),
            None => self.unknown_names.get(name, |kept| (kept.1, None)),
        }
    }

    /// Keeps what was read of the store, part by part, as far as it is not behind; `life` was read before that.
    pub fn remember(&self, digest: &Digest, workspace: Option<&str>, facts: &Facts, life: u64) {
        let revision = facts.revision;
        let fresh = || self.admits(revision, life);
        let Some(found) = &facts.found else {
            self.unknown.insert_if((*digest, revision), fresh);
            return;
        };
        let value = Arc::clone(&found.credential);
        self.credentials.insert_if(Remembered { revision, value }, fresh);
        match &found.principal {
            PrincipalFacts::Workspace(own) => self.remember_workspace(own, revision, life),
            PrincipalFacts::User(user) => {
                let value = Arc::clone(user);
                self.users.insert_if(Remembered { revision, value }, fresh);
            }
        }
        match (&found.named_workspace, workspace) {
            (Some(named), _) => self.remember_workspace(named, revision, life),
            (None, Some(name)) if matches!(found.principal, PrincipalFacts::User(_)) => {
                self.unknown_names.insert_if((name.into(), revision), fresh);
            }
            (None, _) => {}
        }
    }

    fn remember_workspace(&self, workspace: &Arc<Workspace>, revision: Revision, life: u64) {
        let value = Arc::clone(workspace);
        let fresh = || self.admits(revision, life);
        self.workspaces.insert_if(Remembered { revision, value }, fresh);
        // Only a hint: the workspace itself says whether it has that slug.
        let hint = Arc::clone(workspace);
        self.slugs.insert_if((workspace.slug.as_str().into(), hint), || true);
    }

    /// Asked under the lock of the shard that is inserted into.
    fn admits(&self, revision: Revision, life: u64) -> bool {
        revision.0 >= self.admitted.load(Ordering::Acquire) && self.life() == life
    }

    /// The caller of this service token: nothing if that is not known here, `Some(None)` if there is none.
    pub fn recall_caller(&self, digest: &Digest) -> Option<Option<Arc<Caller>>> {
        match self.callers.get(digest, |(_, caller)| Arc::clone(caller)) {
            Some(caller) => Some(Some(caller)),
            None => self.unknown_callers.get(digest, |_| None),
        }
    }

    /// The caller of this certificate's name.
    pub fn recall_caller_by_san(&self, san: &CertificateSan) -> Option<Option<Arc<Caller>>> {
        self.callers_by_san.get(san, |(_, caller)| caller.clone())
    }

    /// Keeps the caller, unless what is known of callers was dropped since `generation` was read, which was before the
    /// store was.
    pub fn remember_caller(&self, digest: &Digest, caller: Option<Arc<Caller>>, generation: u64) {
        let fresh = || self.callers_generation() == generation;
        match caller {
            Some(caller) => self.callers.insert_if((*digest, caller), fresh),
            None => self.unknown_callers.insert_if((*digest, ()), fresh),
        };
    }

    /// As [`Self::remember_caller`].
    pub fn remember_caller_by_san(
        &self,
        san: &CertificateSan,
        caller: Option<Arc<Caller>>,
        generation: u64,
    ) {
        let fresh = || self.callers_generation() == generation;
        self.callers_by_san.insert_if((san.clone(), caller), fresh);
    }

    /// Begins to apply changes up to `revision`: from here on no older fill is kept.
    pub fn evict(&self, changes: &[Change], revision: Revision) {
        self.admitted.fetch_max(revision.0, Ordering::AcqRel);
        for change in changes {
            match &change.entity {
                ChangedEntity::Credential(digest) => {
                    self.credentials.remove(digest);
                    self.unknown.remove(digest);
                    self.known_digests.note(digest);
                }
                ChangedEntity::User(id) => self.users.remove(id),
                ChangedEntity::Workspace(id) => {
                    self.workspaces.remove(id);
                    // It may have taken a name that was nobody's.
                    self.unknown_names.clear();
                }
                ChangedEntity::Caller(_) => self.drop_callers(),
                ChangedEntity::UnknownDigests => {
                    self.unknown.clear();
                    self.known_digests.lose();
                }
            }
        }
    }

    /// Ends applying: everything is as of `revision` now.
    pub fn publish(&self, revision: Revision) {
        self.applied.fetch_max(revision.0, Ordering::AcqRel);
    }

    /// Drops everything, and goes on from `revision`, be it lower than before: another life of the store.
    pub fn start_over(&self, revision: Revision) {
        // First: what was read in the life before is not kept while this empties, nor after it.
        self.life.fetch_add(1, Ordering::AcqRel);
        self.credentials.clear();
        self.users.clear();
        self.workspaces.clear();
        self.slugs.clear();
        self.unknown_names.clear();
        self.unknown.clear();
        self.drop_callers();
        self.applied.store(revision.0, Ordering::Release);
        self.admitted.store(revision.0, Ordering::Release);
        // Of what was committed before this the log tells nothing.
        self.known_digests.lose();
    }

    fn drop_callers(&self) {
        self.callers_generation.fetch_add(1, Ordering::AcqRel);
        self.callers.clear();
        self.unknown_callers.clear();
        self.callers_by_san.clear();
    }
}
