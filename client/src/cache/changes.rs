//! The last received change of each entity, in constant space. Entities are hashed to slots with a random key. A slot
//! holds the highest revision of all its entities. A collision costs an extra call, never a wrong answer.

use std::hash::{BuildHasher as _, Hash};
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::fast::RandomState;

use crate::pb::change::Entity;

/// Number of slots. At 100 changes per second, an answer that depends on three entities is lost to a collision about
/// every 110 s.
const SLOTS: u16 = 1 << 15;

/// Index of the slot of an entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SlotIndex(u16);

struct Slot {
    /// Highest received revision.
    revision: AtomicU64,
    /// Number of the response with the last change.
    response: AtomicU64,
}

/// The last received change of each entity.
pub(super) struct ChangeTable {
    slots: Box<[Slot]>,
    responses: AtomicU64,
    hasher: RandomState,
}

impl ChangeTable {
    pub(super) fn new() -> Self {
        let slot = || Slot { revision: AtomicU64::new(0), response: AtomicU64::new(0) };
        Self {
            slots: std::iter::repeat_with(slot).take(usize::from(SLOTS)).collect(),
            responses: AtomicU64::new(0),
            hasher: RandomState::default(),
        }
    }

    pub(super) fn credential(&self, digest: &[u8]) -> SlotIndex {
        self.slot_index((0_u8, digest))
    }

    pub(super) fn user(&self, id: &str) -> SlotIndex {
        self.slot_index((1_u8, id))
    }

    pub(super) fn workspace(&self, id: &str) -> SlotIndex {
        self.slot_index((2_u8, id))
    }

    /// Returns the slot of all unknown tokens together. An import makes many of them known at once.
    pub(super) fn unknown(&self) -> SlotIndex {
        self.slot_index((3_u8, ""))
    }

    fn slot_index(&self, entity: impl Hash) -> SlotIndex {
        let bytes = self.hasher.hash_one(entity).to_le_bytes();
        SlotIndex(u16::from_le_bytes([bytes[0], bytes[1]]) % SLOTS)
    }

    /// Returns the number of responses with changes received so far.
    pub(super) fn responses(&self) -> u64 {
        self.responses.load(Ordering::Acquire)
    }

    /// Records the changes of one response. Only one task calls this.
    pub(super) fn record<'a>(&self, changes: impl Iterator<Item = (&'a Entity, u64)>) {
        // The number is raised last, so that a fill that starts meanwhile counts as started before these changes.
        let number = self.responses() + 1;
        for (entity, revision) in changes {
            let slot_index = match entity {
                Entity::CredentialDigest(digest) => self.credential(digest),
                Entity::UserId(id) => self.user(id),
                Entity::WorkspaceId(id) => self.workspace(id),
                Entity::UnknownDigests(_) => self.unknown(),
            };
            let slot = &self.slots[usize::from(slot_index.0)];
            slot.response.store(number, Ordering::Release);
            slot.revision.fetch_max(revision, Ordering::AcqRel);
        }
        self.responses.store(number, Ordering::Release);
    }

    /// Whether an answer of this revision, which depends on these entities, is still valid.
    pub(super) fn unchanged_after(&self, revision: u64, slots: &[SlotIndex]) -> bool {
        slots.iter().all(|slot_index| {
            self.slots[usize::from(slot_index.0)].revision.load(Ordering::Acquire) <= revision
        })
    }

    /// Whether these entities have not changed since this many responses were received.
    pub(super) fn unchanged_since_response(&self, responses: u64, slots: &[SlotIndex]) -> bool {
        slots.iter().all(|slot_index| {
            self.slots[usize::from(slot_index.0)].response.load(Ordering::Acquire) <= responses
        })
    }

    /// Resets the revisions, because those of another incarnation of the store cannot be compared with them. The count
    /// of responses continues.
    pub(super) fn reset_revisions(&self) {
        for slot in &self.slots {
            slot.revision.store(0, Ordering::Release);
        }
    }
}
