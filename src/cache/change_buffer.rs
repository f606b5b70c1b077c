//! The newest changes, for streams of the change log: a ring buffer of bounded size that each stream reads at its pace.
//! Nothing is buffered for a single stream. A stream that falls behind the ring gets an error and reads the store
//! instead.

use std::collections::VecDeque;

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use crate::model::Revision;
use crate::store::{Change, IncarnationId};

/// Maximum number of changes in the ring: several seconds' worth at 10,000 changes a second.
const CHANGES_MAX: usize = 65_536;

/// How far the change log has been read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogPosition {
    /// The incarnation of the store. `None` before the first sync.
    pub incarnation: Option<IncarnationId>,
    /// The newest revision read. Changes up to it are in the ring or have left it.
    pub revision: Revision,
    /// Number of syncs that confirmed the position.
    pub syncs: u64,
}

/// The changes are no longer in the ring, or the store is another incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotBuffered;

/// Ring buffer of the newest changes.
#[derive(Debug)]
pub struct ChangeBuffer {
    ring: RwLock<Ring>,
    /// `None` once closed. Receivers then get an error.
    position: Mutex<Option<watch::Sender<LogPosition>>>,
}

#[derive(Debug, Default)]
struct Ring {
    /// Revision before the oldest change in the ring.
    floor: Revision,
    changes: VecDeque<Change>,
    incarnation: Option<IncarnationId>,
}

impl Default for ChangeBuffer {
    fn default() -> Self {
        Self {
            ring: RwLock::default(),
            position: Mutex::new(Some(watch::channel(LogPosition::default()).0)),
        }
    }
}

impl ChangeBuffer {
    /// Subscribes to the position of the log. The receiver is notified when the position moves or is confirmed, and
    /// gets an error when the buffer is closed.
    pub fn position(&self) -> watch::Receiver<LogPosition> {
        match &*self.position.lock() {
            Some(sender) => sender.subscribe(),
            None => watch::channel(LogPosition::default()).1,
        }
    }

    /// Closes the buffer: receivers of the position get an error.
    pub fn close(&self) {
        self.position.lock().take();
    }

    /// Returns the changes after `after`, at most `limit`.
    ///
    /// # Errors
    /// If some of them are no longer in the ring.
    pub fn changes(
        &self,
        incarnation: &IncarnationId,
        after: Revision,
        limit: usize,
    ) -> Result<Vec<Change>, NotBuffered> {
        let ring = self.ring.read();
        if ring.incarnation.as_ref() != Some(incarnation) || after < ring.floor {
            return Err(NotBuffered);
        }
        let newest = ring.newest();
        if after > newest {
            return Err(NotBuffered);
        }
        // Revisions have no gaps, so the index follows from the revision.
        let begin = usize::try_from(after.0 - ring.floor.0).map_err(|_| NotBuffered)?;
        Ok(ring.changes.iter().skip(begin).take(limit).cloned().collect())
    }

    /// Empties the ring for another incarnation of the store, which begins at `revision`.
    pub(super) fn reset(&self, incarnation: &IncarnationId, revision: Revision) {
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

    /// Appends changes, which have no gaps.
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

    /// Publishes `revision` as the newest one read. `confirmed` means that the primary had no more changes.
    pub(super) fn publish(&self, revision: Revision, confirmed: bool) {
        let Some(sender) = &*self.position.lock() else { return };
        sender.send_if_modified(|position| {
            let moved = position.revision != revision;
            position.revision = revision;
            position.syncs += u64::from(confirmed);
            moved || confirmed
        });
    }
}

impl Ring {
    fn newest(&self) -> Revision {
        self.changes.back().map_or(self.floor, |change| change.revision)
    }
}
