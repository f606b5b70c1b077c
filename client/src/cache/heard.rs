//! The last change heard of each entity, in room that does not grow: entities share places by a keyed hash, and a place
//! holds the highest revision of all that fall on it. Two that share one cost a call too many, never a wrong answer.

use std::hash::{BuildHasher as _, Hash};
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::fast::RandomState;

use crate::pb::change::Entity;

/// With a hundred changes a second, an answer that rests on three entities is lost by chance about every 110 s.
const PLACES: u16 = 1 << 15;

/// Where an entity's last change is noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place(u16);

struct Slot {
    /// The highest revision heard.
    revision: AtomicU64,
    /// The number of the response that it was heard in.
    heard_in: AtomicU64,
}

/// What was heard.
pub(super) struct Heard {
    slots: Box<[Slot]>,
    responses: AtomicU64,
    hasher: RandomState,
}

impl Heard {
    pub(super) fn new() -> Self {
        let slot = || Slot { revision: AtomicU64::new(0), heard_in: AtomicU64::new(0) };
        Self {
            slots: std::iter::repeat_with(slot).take(usize::from(PLACES)).collect(),
            responses: AtomicU64::new(0),
            hasher: RandomState::default(),
        }
    }

    pub(super) fn credential(&self, digest: &[u8]) -> Place {
        self.place((0_u8, digest))
    }

    pub(super) fn user(&self, id: &str) -> Place {
        self.place((1_u8, id))
    }

    pub(super) fn workspace(&self, id: &str) -> Place {
        self.place((2_u8, id))
    }

    /// All that is unknown: an import makes many tokens known at once.
    pub(super) fn unknown(&self) -> Place {
        self.place((3_u8, ""))
    }

    fn place(&self, entity: impl Hash) -> Place {
        let bytes = self.hasher.hash_one(entity).to_le_bytes();
        Place(u16::from_le_bytes([bytes[0], bytes[1]]) % PLACES)
    }

    /// How many responses with changes were heard so far.
    pub(super) fn responses(&self) -> u64 {
        self.responses.load(Ordering::Acquire)
    }

    /// Takes in the changes of one response. Only one task ever does.
    pub(super) fn hear<'a>(&self, changes: impl Iterator<Item = (&'a Entity, u64)>) {
        // The number goes up last: a fill that is begun while this is under way counts as begun before.
        let number = self.responses() + 1;
        for (entity, revision) in changes {
            let place = match entity {
                Entity::CredentialDigest(digest) => self.credential(digest),
                Entity::UserId(id) => self.user(id),
                Entity::WorkspaceId(id) => self.workspace(id),
                Entity::UnknownDigests(_) => self.unknown(),
            };
            let slot = &self.slots[usize::from(place.0)];
            slot.heard_in.store(number, Ordering::Release);
            slot.revision.fetch_max(revision, Ordering::AcqRel);
        }
        self.responses.store(number, Ordering::Release);
    }

    /// Whether an answer of this revision, which rests on these entities, is still good.
    pub(super) fn nothing_after(&self, revision: u64, places: &[Place]) -> bool {
        places.iter().all(|place| {
            self.slots[usize::from(place.0)].revision.load(Ordering::Acquire) <= revision
        })
    }

    /// Whether nothing of these entities was heard since there were so many responses.
    pub(super) fn nothing_since(&self, responses: u64, places: &[Place]) -> bool {
        places.iter().all(|place| {
            self.slots[usize::from(place.0)].heard_in.load(Ordering::Acquire) <= responses
        })
    }

    /// Forgets revisions, which begin anew with another history of the store. Responses are counted on.
    pub(super) fn forget(&self) {
        for slot in &self.slots {
            slot.revision.store(0, Ordering::Release);
        }
    }
}
