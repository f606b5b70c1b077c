//! Answers in memory, and when they are good. Pure: the time is passed in, `watch.rs` feeds it, `client.rs` asks it.
//!
//! An answer is given from memory only while all of this holds:
//!
//! 1. the last checkpoint was proved to be of no more than `checkpoint_max` ago ([`Cache::take_in`]);
//! 2. no change of its credential, its user or its workspaces was heard that is newer than its own revision;
//! 3. it is not older than its `cache_ttl`, which the service never lets reach past the expiry;
//! 4. it was asked for in the same era: an era ends when anything may have been missed.
//!
//! A fill is not kept if a change of what it rests on was heard since it was begun: it may be of before that change.

mod heard;

#[cfg(test)]
mod tests;

use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use foldhash::fast::RandomState;
use quick_cache::sync::{Cache as QuickCache, DefaultLifecycle};
use quick_cache::{Equivalent, UnitWeighter};

use crate::clock::Moment;
use crate::introspection::Introspection;
use crate::pb::introspect_response::Principal;
use crate::pb::{Denial, WatchResponse};
use heard::{Heard, Place};

/// Changes that the service sends at once at the most; there may be more.
const CHANGES_MAX: usize = 1_000;

/// How much, and how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CacheLimits {
    pub(crate) answers_max: usize,
    /// How old a checkpoint may be.
    pub(crate) checkpoint_max: Duration,
    /// How long a refusal is remembered that no change could be matched with.
    pub(crate) unknown_ttl: Duration,
    /// How long after that an answer may still be given if the service is out of reach.
    pub(crate) bridge_outage: Duration,
}

/// What an answer depends on. Never the token's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    digest: [u8; 32],
    workspace: Box<str>,
    scopes: u8,
    client_ip: Option<IpAddr>,
}

/// The same, borrowed, so that looking up allocates nothing.
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
    /// Of the credential, its owner, and the workspace acted in.
    places: [Place; 3],
    good_until: Moment,
    era: u64,
}

/// What a fill has to know of the time at which it was begun.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Begun {
    pub(crate) at: Moment,
    era: u64,
    responses: u64,
}

type Entries = QuickCache<Key, Entry, UnitWeighter, RandomState>;

/// Answers in memory.
pub(crate) struct Cache {
    /// Answers whose every entity is known.
    kept: Entries,
    /// Refusals that no change could be matched with, apart, so that a flood of made-up tokens drives out no good one.
    refused: Entries,
    heard: Heard,
    fresh_until: AtomicU64,
    /// The revision up to which all changes were heard.
    revision: AtomicU64,
    /// Answers of an older state may rest on changes from before this era, which nobody will tell of.
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
            kept: entries(),
            refused: entries(),
            heard: Heard::new(),
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

    /// Until when answers may be given.
    pub(crate) fn fresh_until(&self) -> Moment {
        Moment(self.fresh_until.load(Ordering::Acquire))
    }

    /// The answer, if there is one that is good now and of no state before `at_least_revision`.
    pub(crate) fn get(
        &self,
        key: &KeyRef<'_>,
        at_least_revision: u64,
        now: Moment,
    ) -> Option<Introspection> {
        // Before the entry is looked at: what `take_in` heard before it extended this is seen below.
        if now >= self.fresh_until() {
            return None;
        }
        // Nothing that it rests on has changed up to the checkpoint, so the answer is of that revision as well.
        let current = || self.revision.load(Ordering::Acquire) >= at_least_revision;
        let entry = self.good(key, now)?;
        (entry.answer.revision() >= at_least_revision || current()).then_some(entry.answer)
    }

    /// The answer that was good when the service was last heard of, if that is not too long ago.
    pub(crate) fn get_bridging(&self, key: &KeyRef<'_>, now: Moment) -> Option<Introspection> {
        let bridge = self.limits.bridge_outage;
        if bridge.is_zero() || now >= self.fresh_until().plus(bridge) {
            return None;
        }
        self.good(key, now).map(|entry| entry.answer.bridging())
    }

    fn good(&self, key: &KeyRef<'_>, now: Moment) -> Option<Entry> {
        let entry = self.kept.get(key).or_else(|| self.refused.get(key))?;
        let good = now < entry.good_until
            && entry.era == self.era.load(Ordering::Acquire)
            && self.heard.nothing_after(entry.answer.revision(), &entry.places);
        good.then_some(entry)
    }

    /// To be called before a fill is asked for.
    pub(crate) fn begin(&self, now: Moment) -> Begun {
        Begun { at: now, era: self.era.load(Ordering::Acquire), responses: self.heard.responses() }
    }

    /// Whether a request that comes now may have what a fill brings that was begun then: nothing was heard since, and it
    /// is not so old that its answer could be of before what a checkpoint would have told.
    pub(crate) fn may_join(&self, begun: &Begun, now: Moment) -> bool {
        begun.responses == self.heard.responses()
            && begun.era == self.era.load(Ordering::Acquire)
            && now.since(begun.at) < self.limits.checkpoint_max
    }

    /// Keeps an answer, if it may be kept.
    pub(crate) fn keep(&self, key: Key, answer: Introspection, begun: &Begun) {
        let era = self.era.load(Ordering::Acquire);
        let revision = answer.revision();
        // Revision 0 rests on nothing that is stored, so nothing would ever be heard of it.
        let current = revision >= self.floor.load(Ordering::Acquire).max(1);
        let places = self.places(&key, &answer);
        if answer.is_stale()
            || begun.era != era
            || !current
            || !self.heard.nothing_since(begun.responses, &places)
            || !self.heard.nothing_after(revision, &places)
            || self.knows_later(&key, revision, era)
        {
            return;
        }
        let told = answer.response().cache_ttl.and_then(|ttl| Duration::try_from(ttl).ok());
        let told = told.unwrap_or(Duration::ZERO);
        let denial = answer.denial();
        if denial == Some(Denial::UnknownTokensTooMany) {
            // It says nothing of the token, which may be good in a moment.
            return;
        }
        // What is unknown has no lifetime of its own; of other refusals the service says how long they may live.
        let (entries, ttl) = match denial {
            Some(Denial::TokenUnknown) => (&self.refused, self.limits.unknown_ttl),
            Some(_) if !is_matched(&answer) => (&self.refused, told.min(self.limits.unknown_ttl)),
            Some(_) | None => (&self.kept, told),
        };
        let good_until = begun.at.plus(ttl);
        if good_until > begun.at {
            entries.insert(key, Entry { answer, places, good_until, era });
        }
    }

    /// Whether another call for the same brought an answer of a later state: what was refused is not allowed again by a
    /// call that was slow.
    fn knows_later(&self, key: &Key, revision: u64, era: u64) -> bool {
        [&self.kept, &self.refused].into_iter().any(|entries| {
            let known = entries.peek(key);
            known.is_some_and(|known| known.era == era && known.answer.revision() > revision)
        })
    }

    fn places(&self, key: &Key, answer: &Introspection) -> [Place; 3] {
        let credential = self.heard.credential(&key.digest);
        if answer.denial() == Some(Denial::TokenUnknown) {
            let unknown = self.heard.unknown();
            return [credential, unknown, unknown];
        }
        let owner = answer.principal().map_or(credential, |principal| match principal {
            Principal::User(user) => self.heard.user(&user.id),
            Principal::WorkspaceKey(key) => self.heard.workspace(&key.workspace_id),
        });
        let workspace =
            answer.workspace().map_or(owner, |workspace| self.heard.workspace(&workspace.id));
        [credential, owner, workspace]
    }

    /// Takes in a response of Watch. `proved` is a moment at which it cannot have been sent yet; `afresh` says that the
    /// stream did not resume after what was taken in before. Tells whether everything was dropped.
    pub(crate) fn take_in(
        &self,
        response: &WatchResponse,
        proved: Moment,
        afresh: bool,
        now: Moment,
    ) -> bool {
        let backwards = response.revision < self.revision.load(Ordering::Acquire);
        let dropped = afresh || backwards || self.is_over(now);
        if dropped {
            self.begin_era(response.revision);
        }
        if !response.changes.is_empty() {
            let changes = response.changes.iter();
            self.heard.hear(changes.filter_map(|change| {
                change.entity.as_ref().map(|entity| (entity, change.revision))
            }));
        }
        // A change of something that this version has no name for could be of anything.
        let nameless = response.changes.iter().any(|change| change.entity.is_none());
        if nameless {
            self.begin_era(response.revision);
        }
        self.revision.store(response.revision, Ordering::Release);
        // A full response says nothing of what comes behind it.
        if response.changes.len() < CHANGES_MAX {
            self.fresh_until.store(proved.plus(self.limits.checkpoint_max).0, Ordering::Release);
        }
        dropped || nameless
    }

    /// Whether what is remembered is of no more use: not fresh, and past what may be bridged.
    pub(crate) fn is_over(&self, now: Moment) -> bool {
        now >= self.fresh_until().plus(self.limits.bridge_outage)
    }

    /// Drops everything: from here on nothing is good until a stream starts afresh.
    pub(crate) fn drop_all(&self) {
        self.fresh_until.store(0, Ordering::Release);
        self.begin_era(u64::MAX);
    }

    fn begin_era(&self, floor: u64) {
        // The floor first, so that no fill of the new era is measured by the old one; the era before anything is
        // forgotten, so that no answer of the old one seems good again. Fills under way carry the old era.
        self.floor.store(floor, Ordering::Release);
        self.era.fetch_add(1, Ordering::AcqRel);
        self.heard.forget();
        self.kept.clear();
        self.refused.clear();
    }
}

/// Whether a change that turned this answer around would name an entity that the answer names too. Of a refusal that tells
/// neither owner nor workspace nobody knows what it rests on.
fn is_matched(answer: &Introspection) -> bool {
    answer.is_active() && answer.denial() != Some(Denial::NotAMember)
}
