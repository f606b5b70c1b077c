//! Time and network address of each caller's last use. As for credentials (`introspect/last_use.rs`), they are noted in
//! memory and written later, so that a process that is killed loses at most a minute of them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::{Mutex, RwLock};

use super::AuthenticatedCaller;
use crate::model::{CallerId, LastUse, Timestamp};
use crate::service::Service;

/// Precision of a noted use, in microseconds. Within it, further uses of a caller only read an atomic.
const PRECISION: i64 = 1_000_000;
/// Number of callers that one transaction updates.
const CALLERS_PER_TRANSACTION: usize = 500;

/// The callers that this process has authenticated of late.
#[derive(Debug, Default)]
pub(in crate::service) struct CallerUses(RwLock<HashMap<CallerId, Arc<CallerUse>>>);

/// The last use of a caller that is not written yet.
#[derive(Debug)]
pub(super) struct CallerUse {
    id: CallerId,
    /// Uses before this time, in microseconds since 1970, are not noted: there is one within [`PRECISION`] before it.
    noted_until: AtomicI64,
    last: Mutex<Option<LastUse>>,
}

impl CallerUse {
    fn new(id: CallerId) -> Self {
        Self { id, noted_until: AtomicI64::new(i64::MIN), last: Mutex::default() }
    }

    /// Notes a use, unless a later one, or one in the same second, is noted. Allocates nothing.
    fn note(&self, last_use: LastUse) {
        let micros = last_use.time.unix_micros();
        if micros < self.noted_until.load(Ordering::Relaxed) {
            return;
        }
        let mut last = self.last.lock();
        if last.is_none_or(|noted| noted.time < last_use.time) {
            *last = Some(last_use);
            self.noted_until.store(micros.saturating_add(PRECISION), Ordering::Relaxed);
        }
    }

    /// Takes the noted use, to be written to the store.
    fn take(&self) -> Option<LastUse> {
        let mut last = self.last.lock();
        self.noted_until.store(i64::MIN, Ordering::Relaxed);
        last.take()
    }
}

impl CallerUses {
    /// Returns where the uses of this caller are noted.
    pub(super) fn of(&self, id: CallerId) -> Arc<CallerUse> {
        if let Some(known) = self.0.read().get(&id) {
            return Arc::clone(known);
        }
        Arc::clone(self.0.write().entry(id).or_insert_with(|| Arc::new(CallerUse::new(id))))
    }

    /// Takes all noted uses, sorted by id. Forgets callers that no connection remembers any more.
    fn take(&self) -> Vec<(Arc<CallerUse>, LastUse)> {
        let mut known = self.0.write();
        let noted = known.values().filter_map(|of| Some((Arc::clone(of), of.take()?)));
        let mut noted: Vec<_> = noted.collect();
        known.retain(|_, of| Arc::strong_count(of) > 1);
        noted.sort_unstable_by_key(|(of, _)| of.id);
        noted
    }
}

impl Service {
    /// Notes a use of the caller, now and from this address.
    pub fn note_caller_use(&self, authenticated: &AuthenticatedCaller, ip: Option<IpAddr>) {
        let time: Timestamp = self.clock.now();
        authenticated.uses.note(LastUse { time, ip: ip.map(|ip| ip.to_canonical()) });
    }

    /// Writes the noted uses of callers and returns the number of changed rows. Uses that cannot be written are noted
    /// again.
    pub async fn flush_caller_uses(&self) -> u64 {
        let uses = self.caller_uses.take();
        let mut written = 0;
        for (i, batch) in uses.chunks(CALLERS_PER_TRANSACTION).enumerate() {
            let rows: Vec<_> = batch.iter().map(|(of, last_use)| (of.id, *last_use)).collect();
            match self.store.write_caller_uses(&rows).await {
                Ok(count) => written += count,
                Err(error) => {
                    tracing::warn!(%error, "last uses of callers could not be written: the next flush tries again");
                    for (of, last_use) in &uses[i * CALLERS_PER_TRANSACTION..] {
                        of.note(*last_use);
                    }
                    break;
                }
            }
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: i64) -> LastUse {
        LastUse { time: Timestamp::from_unix_micros(micros).expect("a time"), ip: None }
    }

    fn id(byte: u8) -> CallerId {
        CallerId(uuid::Uuid::from_bytes([byte; 16]))
    }

    #[test]
    fn one_use_a_second_is_noted_and_the_latest_is_taken() {
        let of = CallerUse::new(id(1));
        of.note(at(5));
        of.note(at(PRECISION));
        assert_eq!(*of.last.lock(), Some(at(5)), "within a second of the first");
        of.note(at(PRECISION + 5));
        of.note(at(7));
        assert_eq!(of.take(), Some(at(PRECISION + 5)));
        assert_eq!(of.take(), None);
        of.note(at(PRECISION + 6));
        assert_eq!(of.take(), Some(at(PRECISION + 6)), "the first after a flush");
    }

    #[test]
    fn a_caller_that_no_connection_remembers_is_forgotten_once_its_use_is_written() {
        let uses = CallerUses::default();
        let remembered = uses.of(id(2));
        remembered.note(at(2));
        uses.of(id(1)).note(at(1));
        let taken = uses.take();
        assert_eq!(taken.iter().map(|(of, _)| of.id).collect::<Vec<_>>(), [id(1), id(2)]);
        drop(taken);
        assert!(uses.take().is_empty());
        assert_eq!(uses.0.read().len(), 1);
        assert!(Arc::ptr_eq(&remembered, &uses.of(id(2))));
    }
}
