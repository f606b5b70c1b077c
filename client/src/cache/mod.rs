//! The cache of answers, and the rules by which they are valid. Pure: the time is passed in, `watch.rs` feeds it, and
//! `client.rs` reads it.
//!
//! The cache gives an answer only while all of this holds:
//!
//! 1. The last checkpoint was sent at most `checkpoint_max` ago ([`Cache::apply`]).
//! 2. No change of its credential, its user or its workspaces has been received that is newer than its revision.
//! 3. It is not older than its `cache_ttl`, which the service never extends past the credential's expiry.
//! 4. It was requested in the current era. An era ends whenever changes may have been missed.
//!
//! A fill is the call that fetches an answer. It is discarded if a change of an entity that it depends on was received
//! after it started, since it may be older than that change.

mod changes;

#[cfg(test)]
mod tests;

use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use foldhash::fast::RandomState;
use quick_cache::sync::{Cache as QuickCache, DefaultLifecycle};
use quick_cache::{Equivalent, UnitWeighter};

use crate::clock::BootInstant;
use crate::introspection::Introspection;
use crate::pb::introspect_response::Principal;
use crate::pb::{Denial, WatchResponse};
use changes::{ChangeTable, SlotIndex};

/// Maximum number of changes in one response of the service. A response of this size may be followed by more.
const CHANGES_MAX: usize = 1_000;

/// Capacity and lifetimes of the cache.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CacheLimits {
    pub(crate) answers_max: usize,
    /// Age up to which a checkpoint allows answers.
    pub(crate) checkpoint_max: Duration,
    /// Lifetime of a refusal that does not show which changes would invalidate it.
    pub(crate) unknown_ttl: Duration,
    /// How long after `checkpoint_max` an answer may still be given while the service is unavailable.
    pub(crate) bridge_outage: Duration,
}

/// The question that an answer belongs to. It has a digest, never the token's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    digest: [u8; 32],
    workspace: Box<str>,
    scopes: u8,
    client_ip: Option<IpAddr>,
}

/// A borrowed [`Key`], so that a look-up allocates nothing.
#[derive(Debug, Clone, Copy, Hash)]
pub(crate) struct KeyRef<'a> {
    pub(crate) digest: &'a [u8; 32],
    pub(crate) workspace: &'a str,
    pub(crate) scopes: u8,
    pub(crate) client_ip: Option<IpAddr>,
}

impl Key {
    fn borrowed(&self) -> KeyRef<'_> {
        KeyRef {
            digest: &self.digest,
            workspace: &self.workspace,
            scopes: self.scopes,
            client_ip: self.client_ip,
        }
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.borrowed().hash(state);
    }
}

impl KeyRef<'_> {
    pub(crate) fn to_key(self) -> Key {
        Key {
            digest: *self.digest,
            workspace: self.workspace.into(),
            scopes: self.scopes,
            client_ip: self.client_ip,
        }
    }
}

impl Equivalent<Key> for KeyRef<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        *self.digest == key.digest
            && *self.workspace == *key.workspace
            && self.scopes == key.scopes
            && self.client_ip == key.client_ip
    }
}

#[derive(Clone)]
struct Entry {
    answer: Introspection,
    /// Slots of the credential, its owner, and the workspace that it acts in.
    slots: [SlotIndex; 3],
    valid_until: BootInstant,
    era: u64,
}

/// The state of the cache when a fill started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FillStart {
    pub(crate) at: BootInstant,
    era: u64,
    responses: u64,
}

type Entries = QuickCache<Key, Entry, UnitWeighter, RandomState>;

/// The cache of answers.
pub(crate) struct Cache {
    /// Answers whose entities are all known.
    answers: Entries,
    /// Refusals that do not show which changes would invalidate them. They are kept apart, so that a flood of made-up
    /// tokens evicts no other answers.
    refusals: Entries,
    changes: ChangeTable,
    fresh_until: AtomicU64,
    /// Revision up to which all changes have been received.
    revision: AtomicU64,
    /// Lowest revision of an answer that may be kept. Changes before it were in an earlier era and will not be received
    /// again.
    floor: AtomicU64,
    era: AtomicU64,
    limits: CacheLimits,
}

impl Cache {
    pub(crate) fn new(limits: CacheLimits) -> Self {
        let entries = || {
            let max = limits.answers_max;
            let (hasher, lifecycle) = (RandomState::default(), DefaultLifecycle::default());
            Entries::with(max, max as u64, UnitWeighter, hasher, lifecycle)
        };
        Self {
            answers: entries(),
            refusals: entries(),
            changes: ChangeTable::new(),
            fresh_until: AtomicU64::new(0),
            revision: AtomicU64::new(0),
            floor: AtomicU64::new(0),
            era: AtomicU64::new(0),
            limits,
        }
    }

    pub(crate) fn limits(&self) -> &CacheLimits {
        &self.limits
    }

    /// Returns the instant until which answers may be given.
    pub(crate) fn fresh_until(&self) -> BootInstant {
        BootInstant(self.fresh_until.load(Ordering::Acquire))
    }

    /// Returns the answer, if it is valid now and of at least this revision.
    pub(crate) fn get(
        &self,
        key: &KeyRef<'_>,
        at_least_revision: u64,
        now: BootInstant,
    ) -> Option<Introspection> {
        // Checked before the entry is read. Changes that `apply` recorded before it extended this time are thus seen
        // below.
        if now >= self.fresh_until() {
            return None;
        }
        // Nothing that the answer depends on has changed up to the checkpoint, so it is valid for that revision too.
        let current = || self.revision.load(Ordering::Acquire) >= at_least_revision;
        let entry = self.get_valid(key, now)?;
        (entry.answer.revision() >= at_least_revision || current()).then_some(entry.answer)
    }

    /// Returns the answer that was valid at the last checkpoint, marked as stale, if `bridge_outage` has not passed
    /// since.
    pub(crate) fn get_bridging(&self, key: &KeyRef<'_>, now: BootInstant) -> Option<Introspection> {
        let bridge = self.limits.bridge_outage;
        if bridge.is_zero() || now >= self.fresh_until().plus(bridge) {
            return None;
        }
        self.get_valid(key, now).map(|entry| entry.answer.into_stale())
    }

    fn get_valid(&self, key: &KeyRef<'_>, now: BootInstant) -> Option<Entry> {
        let entry = self.answers.get(key).or_else(|| self.refusals.get(key))?;
        let good = now < entry.valid_until
            && entry.era == self.era.load(Ordering::Acquire)
            && self.changes.unchanged_after(entry.answer.revision(), &entry.slots);
        good.then_some(entry)
    }

    /// Must be called before a fill is requested.
    pub(crate) fn begin_fill(&self, now: BootInstant) -> FillStart {
        FillStart {
            at: now,
            era: self.era.load(Ordering::Acquire),
            responses: self.changes.responses(),
        }
    }

    /// Whether a request at `now` may wait for a fill that started earlier. It may if no change has been received
    /// since, and the fill started less than `checkpoint_max` ago.
    pub(crate) fn may_join(&self, started: &FillStart, now: BootInstant) -> bool {
        started.responses == self.changes.responses()
            && started.era == self.era.load(Ordering::Acquire)
            && now.since(started.at) < self.limits.checkpoint_max
    }

    /// Inserts an answer, if the rules allow it.
    pub(crate) fn insert(&self, key: Key, answer: Introspection, started: &FillStart) {
        let era = self.era.load(Ordering::Acquire);
        let revision = answer.revision();
        // An answer of revision 0 depends on nothing stored, so no change would ever invalidate it.
        let current = revision >= self.floor.load(Ordering::Acquire).max(1);
        let slots = self.slots(&key, &answer);
        if answer.is_stale()
            || started.era != era
            || !current
            || !self.changes.unchanged_since_response(started.responses, &slots)
            || !self.changes.unchanged_after(revision, &slots)
            || self.has_newer_answer(&key, revision, era)
        {
            return;
        }
        let service_ttl = answer.response().cache_ttl.and_then(|ttl| Duration::try_from(ttl).ok());
        let service_ttl = service_ttl.unwrap_or(Duration::ZERO);
        let denial = answer.denial();
        if matches!(denial, Some(Denial::UnknownTokensTooMany | Denial::Unspecified)) {
            // The first says nothing about the token, which may be valid at the next attempt. The other is a refusal
            // that this version does not know, so it does not know either what would end it.
            return;
        }
        // The service gives a lifetime with every refusal except that of an unknown token.
        let (answers, refusals) = (&self.answers, &self.refusals);
        let (entries, others, ttl) = match denial {
            Some(Denial::TokenUnknown) => (refusals, answers, self.limits.unknown_ttl),
            Some(_) if !names_its_entities(&answer) => {
                (refusals, answers, service_ttl.min(self.limits.unknown_ttl))
            }
            Some(_) | None => (answers, refusals, service_ttl),
        };
        let valid_until = started.at.plus(ttl);
        if valid_until > started.at {
            // An older answer to the same question would hide this one.
            others.remove(&key);
            entries.insert(key, Entry { answer, slots, valid_until, era });
        }
    }

    /// Whether another call for the same question has brought an answer of a later revision. A slow call must not
    /// replace a newer refusal by an older permission.
    fn has_newer_answer(&self, key: &Key, revision: u64, era: u64) -> bool {
        [&self.answers, &self.refusals].into_iter().any(|entries| {
            let known = entries.peek(key);
            known.is_some_and(|known| known.era == era && known.answer.revision() > revision)
        })
    }

    fn slots(&self, key: &Key, answer: &Introspection) -> [SlotIndex; 3] {
        let credential = self.changes.credential(&key.digest);
        if answer.denial() == Some(Denial::TokenUnknown) {
            let unknown = self.changes.unknown();
            return [credential, unknown, unknown];
        }
        let owner = answer.principal().map_or(credential, |principal| match principal {
            Principal::User(user) => self.changes.user(&user.id),
            Principal::WorkspaceKey(key) => self.changes.workspace(&key.workspace_id),
        });
        let workspace =
            answer.workspace().map_or(owner, |workspace| self.changes.workspace(&workspace.id));
        [credential, owner, workspace]
    }

    /// Applies a response of Watch. `sent_after` is an instant before the response was sent. `restarted` is true if the
    /// stream did not resume from the last response. Returns whether the cache was cleared.
    pub(crate) fn apply(
        &self,
        response: &WatchResponse,
        sent_after: BootInstant,
        restarted: bool,
        now: BootInstant,
    ) -> bool {
        let goes_backwards = response.revision < self.revision.load(Ordering::Acquire);
        let dropped = restarted || goes_backwards || self.is_expired(now);
        if dropped {
            self.begin_era(response.revision);
        }
        if !response.changes.is_empty() {
            let changes = response.changes.iter();
            self.changes.record(changes.filter_map(|change| {
                change.entity.as_ref().map(|entity| (entity, change.revision))
            }));
        }
        // A change of an entity that this version does not know may affect any answer.
        let has_unknown_entity = response.changes.iter().any(|change| change.entity.is_none());
        if has_unknown_entity {
            self.begin_era(response.revision);
        }
        self.revision.store(response.revision, Ordering::Release);
        // A full response may be followed by more changes, so it is not a checkpoint.
        if response.changes.len() < CHANGES_MAX {
            self.fresh_until
                .store(sent_after.plus(self.limits.checkpoint_max).0, Ordering::Release);
        }
        dropped || has_unknown_entity
    }

    /// Whether all answers are too old to be used, even to bridge an outage.
    pub(crate) fn is_expired(&self, now: BootInstant) -> bool {
        now >= self.fresh_until().plus(self.limits.bridge_outage)
    }

    /// Clears the cache. It answers again once a stream has started from scratch.
    pub(crate) fn drop_all(&self) {
        self.fresh_until.store(0, Ordering::Release);
        self.begin_era(u64::MAX);
    }

    fn begin_era(&self, floor: u64) {
        // The floor comes first, so that no fill of the new era is checked against the old one. The era comes before
        // the reset of revisions, so that no answer of the old era becomes valid again. Fills in flight carry the old
        // era.
        self.floor.store(floor, Ordering::Release);
        self.era.fetch_add(1, Ordering::AcqRel);
        self.changes.reset_revisions();
        self.answers.clear();
        self.refusals.clear();
    }
}

/// Whether every change that could reverse this answer concerns an entity that the answer names. A refusal without an
/// owner, or one because of the named workspace that does not name it, does not show which entities it depends on.
fn names_its_entities(answer: &Introspection) -> bool {
    answer.is_active()
        && match answer.denial() {
            Some(Denial::NotAMember) => false,
            // They depend on what the workspace permits, and a member may know the workspace.
            Some(Denial::WorkspaceNotGranted | Denial::PatNotPermitted) => {
                answer.workspace().is_some()
            }
            _ => true,
        }
}
