//! The newest changes, for whoever streams them on: a ring of bounded size that each reader reads at its own pace. Nothing
//! is buffered for a reader; one that falls behind the ring is told so, and reads the store.

use std::collections::VecDeque;

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use crate::model::Revision;
use crate::store::{Change, IncarnationId};

/// Changes that are kept: at 10,000 a second, some seconds of them.
const CHANGES_MAX: usize = 65_536;

/// How far the log has been read, and when: `number` counts the syncs that it was confirmed by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Position {
    /// The store's life; nothing before the first sync.
    pub incarnation: Option<IncarnationId>,
    /// Everything up to this is in the ring, or has left it.
    pub revision: Revision,
    /// Counts syncs with the primary.
    pub number: u64,
}

/// The reader has fallen behind what is kept, or the store began another life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooOld;

/// The ring.
#[derive(Debug)]
pub struct Hub {
    ring: RwLock<Ring>,
    /// Nothing once it is closed: then those who wait are told.
    position: Mutex<Option<watch::Sender<Position>>>,
}

#[derive(Debug, Default)]
struct Ring {
    /// What comes before the first change that is kept.
    floor: Revision,
    changes: VecDeque<Change>,
    incarnation: Option<IncarnationId>,
}

impl Default for Hub {
    fn default() -> Self {
        Self {
            ring: RwLock::default(),
            position: Mutex::new(Some(watch::channel(Position::default()).0)),
        }
    }
}

impl Hub {
    /// Where the log is; to be told when it moves, or is confirmed, and, by an error, when there is no more.
    pub fn position(&self) -> watch::Receiver<Position> {
        match &*self.position.lock() {
            Some(sender) => sender.subscribe(),
            None => watch::channel(Position::default()).1,
        }
    }

    /// Tells all who wait that there will be no more.
    pub fn close(&self) {
        self.position.lock().take();
    }

    /// The changes after `after`, at most `limit`.
    ///
    /// # Errors
    /// If they are not all here any more.
    pub fn changes(
        &self,
        incarnation: &IncarnationId,
        after: Revision,
        limit: usize,
    ) -> Result<Vec<Change>, TooOld> {
        let ring = self.ring.read();
        if ring.incarnation.as_ref() != Some(incarnation) || after < ring.floor {
            return Err(TooOld);
        }
        let newest = ring.newest();
        if after > newest {
            return Err(TooOld);
        }
        // Revisions are gapless, so the place of each is known.
        let begin = usize::try_from(after.0 - ring.floor.0).map_err(|_| TooOld)?;
        Ok(ring.changes.iter().skip(begin).take(limit).cloned().collect())
    }

    /// Another life of the store begins at `revision`.
    pub(super) fn start_over(&self, incarnation: &IncarnationId, revision: Revision) {
        {
            let mut ring = self.ring.write();
            ring.changes.clear();
            ring.floor = revision;
            ring.incarnation = Some(incarnation.clone());
        }
        if let Some(sender) = &*self.position.lock() {
            sender.send_modify(|position| {
                position.incarnation = Some(incarnation.clone());
                position.revision = revision;
            });
        }
    }

    /// Appends changes, without gaps.
    pub(super) fn append(&self, changes: &[Change]) {
        let mut ring = self.ring.write();
        for change in changes {
            ring.changes.push_back(change.clone());
            if ring.changes.len() > CHANGES_MAX
                && let Some(dropped) = ring.changes.pop_front()
            {
                ring.floor = dropped.revision;
            }
        }
    }

    /// All up to `revision` is here; `confirmed` if the primary has just said that there is no more.
    pub(super) fn publish(&self, revision: Revision, confirmed: bool) {
        let Some(sender) = &*self.position.lock() else { return };
        sender.send_if_modified(|position| {
            let moved = position.revision != revision;
            position.revision = revision;
            position.number += u64::from(confirmed);
            moved || confirmed
        });
    }
}

impl Ring {
    fn newest(&self) -> Revision {
        self.changes.back().map_or(self.floor, |change| change.revision)
    }
}
