//! The service's clock. Expiry and deletion go by the store's time if the store has a clock, as Postgres does. Between
//! two readings of it, the time since boot is added. That clock cannot be set. While this machine's clock and the store
//! disagree, nothing is purged.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::{Reason, Result, Service, ServiceError};
use crate::model::{BootClock as _, Clock, Lately, StoreTime, SystemClock, Timestamp};

/// Difference in microseconds up to which this machine's clock counts as equal to the store's.
const NEGLIGIBLE: i64 = 1_000_000;
/// Difference in microseconds beyond which one of the two clocks is wrong.
const DISAGREE: i64 = 60_000_000;
/// Apparent difference in microseconds that reading two clocks one after the other can produce.
const JITTER: i64 = 10_000;
/// Time in microseconds without events, beyond which a wrong clock is more likely than an idle store.
const IDLE_MAX: i64 = 90 * 24 * 3_600_000_000;
/// Longest round trip to the store from which its time is taken. A slower one is too inaccurate.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// Marks an absent offset.
const NONE: i64 = i64::MIN;

/// This machine's clock, corrected by the store's.
pub struct StoreClock {
    machine: Arc<dyn Clock>,
    /// Store's time minus the time since boot, in microseconds. [`NONE`] until a store with a clock was asked: until
    /// then, this machine's clock is used.
    offset: AtomicI64,
    /// This machine's time minus the time since boot when the store was last asked, in microseconds.
    machine_offset: AtomicI64,
    observed: Mutex<Observed>,
}

/// Why a clock must be wrong, and a time that has certainly passed in spite of that. Events do not prove such a time,
/// because another wrong clock may have written them.
type Doubt = (String, Timestamp);

/// First reading of the clocks, for a store without a clock.
#[derive(Clone)]
struct FirstObservation {
    wall: i64,
    boot: i64,
    idle: Option<IdlePeriod>,
}

/// Period without events in the store, by this machine's clock.
#[derive(Clone, Copy)]
struct IdlePeriod {
    since: Timestamp,
    until: Timestamp,
}

/// Conclusions from the store's answers.
#[derive(Default)]
struct Observed {
    /// Why one of the clocks must be wrong. `None` if there is no doubt.
    doubt: Option<String>,
    /// A time that has certainly passed. `None` if there is no doubt.
    certain: Option<Timestamp>,
    /// For a store without a clock.
    first: Option<FirstObservation>,
}

impl StoreClock {
    /// Creates a clock that follows `machine` until the store's time is known.
    pub fn new(machine: Arc<dyn Clock>) -> Self {
        let (offset, machine_offset) = (AtomicI64::new(NONE), AtomicI64::new(NONE));
        Self { machine, offset, machine_offset, observed: Mutex::default() }
    }

    /// Returns this machine's time minus the time since boot. Takes the quickest of three readings, since a thread that
    /// is descheduled between the two clocks would measure the pause.
    fn machine_offset(&self) -> i64 {
        let looks = (0..3).map(|_| {
            let before = micros(SystemClock.since_boot());
            let wall = self.machine.now().unix_micros();
            let taken = micros(SystemClock.since_boot()) - before;
            (taken, wall - before - taken / 2)
        });
        looks.min().map_or(0, |(_, offset)| offset)
    }

    /// Adjusts the clock to a store that has one. Where the two agree, this machine's clock is used, which is smoother.
    /// Returns false if the answer took too long to be accurate.
    fn adjust(&self, machine: i64, store: Timestamp, asked: Duration, answered: Duration) -> bool {
        let taken = answered.saturating_sub(asked);
        if taken > ANSWER_MAX {
            return false;
        }
        let offset = store.unix_micros() - (micros(asked) + micros(taken) / 2);
        let ahead = machine - offset;
        let differs = ahead.abs() > NEGLIGIBLE + micros(taken);
        let offset = if differs { offset } else { machine };
        let last = self.offset.load(Ordering::Acquire);
        // A slow answer does not prove that this machine's clock agrees again. The time must not go back because of it.
        let was_other = last != NONE && (last - machine).abs() > NEGLIGIBLE;
        let is_conclusive = differs || !was_other || micros(taken) <= NEGLIGIBLE;
        if differs || last == NONE || (is_conclusive && (offset - last).abs() > JITTER) {
            self.offset.store(offset, Ordering::Release);
        }
        let doubt = (ahead.abs() > DISAGREE).then(|| {
            let which = if ahead > 0 { "ahead of" } else { "behind" };
            format!("this machine's clock is {} s {which} the store's", ahead.abs() / 1_000_000)
        });
        self.set_doubt(doubt.map(|doubt| (doubt, store)));
        true
    }

    /// For a store without a clock: looks for evidence that this machine's clock is wrong.
    fn check_plausibility(&self, store: StoreTime, boot: Duration) {
        let (now, boot) = (self.machine.now(), micros(boot));
        let wall = now.unix_micros();
        let first = {
            let mut observed = self.observed.lock();
            observed
                .first
                .get_or_insert_with(|| FirstObservation {
                    wall,
                    boot,
                    idle: idle_period(store, now),
                })
                .clone()
        };
        let gone = (boot - first.boot) + first.wall;
        let newest = store.newest_event;
        let ahead = newest.filter(|newest| newest.unix_micros() - wall > DISAGREE);
        let doubt = if let Some(newest) = ahead {
            let text = format!(
                "the store's newest audit event is of {newest}, which is in the future by this machine's clock ({now})"
            );
            // Either this clock is wrong, or the clock that wrote the event.
            Some((text, Timestamp::EARLIEST))
        } else if (wall - gone).abs() > DISAGREE {
            let text = format!(
                "this machine's clock was set by {} s while this ran",
                (wall - gone) / 1_000_000
            );
            Some((text, Timestamp::from_unix_micros(wall.min(gone)).unwrap_or(Timestamp::EARLIEST)))
        } else {
            first.idle.and_then(|idle| idle.doubt(gone))
        };
        self.set_doubt(doubt);
    }

    fn set_doubt(&self, doubt: Option<Doubt>) {
        let (doubt, certain) = doubt.unzip();
        let mut observed = self.observed.lock();
        if observed.doubt.is_some() != doubt.is_some() {
            if let Some(doubt) = &doubt {
                tracing::warn!("{doubt}: nothing is purged until that is resolved");
            } else {
                tracing::info!("this machine's clock and the store agree");
            }
        }
        (observed.doubt, observed.certain) = (doubt, certain);
    }
}

/// Returns the very long period without events that ends now or ended recently, if there is one.
fn idle_period(store: StoreTime, now: Timestamp) -> Option<IdlePeriod> {
    let is_long =
        |idle: &IdlePeriod| idle.until.unix_micros() - idle.since.unix_micros() > IDLE_MAX;
    let now = store.newest_event.map(|since| IdlePeriod { since, until: now });
    let lately =
        store.lately.map(|Lately { first, before }| IdlePeriod { since: before, until: first });
    now.filter(is_long).or(lately.filter(is_long))
}

impl IdlePeriod {
    /// Returns the doubt about a clock that shows such a period. The doubt ends [`StoreTime::LATELY`] after the period:
    /// before that, recent events prove nothing, because a wrong clock may have written them.
    fn doubt(self, gone: i64) -> Option<Doubt> {
        let Self { since, until } = self;
        let end = until.saturating_add(StoreTime::LATELY);
        (gone < end.unix_micros()).then(|| {
            let text = format!(
                "by this machine's clock nothing happened in the store from {since} to {until}. If that is so, purging begins by \
                 itself on {end}"
            );
            (text, Timestamp::EARLIEST)
        })
    }
}

impl Clock for StoreClock {
    fn now(&self) -> Timestamp {
        match self.offset.load(Ordering::Acquire) {
            NONE => self.machine.now(),
            offset => {
                let micros = micros(SystemClock.since_boot()) + offset;
                Timestamp::from_unix_micros(micros).unwrap_or(Timestamp::EARLIEST)
            }
        }
    }

    fn earliest_now(&self) -> Timestamp {
        let now = self.now().min(self.machine.now());
        self.observed.lock().certain.map_or(now, |certain| certain.min(now))
    }

    fn doubt(&self) -> Option<String> {
        self.observed.lock().doubt.clone()
    }

    fn was_set(&self) -> bool {
        let now = self.machine_offset();
        let last = self.machine_offset.load(Ordering::Acquire);
        // `NONE`: the store was never asked.
        last == NONE || (now - last).abs() > NEGLIGIBLE
    }

    fn observe_store(&self, store: StoreTime, asked: Duration, answered: Duration) -> bool {
        let machine = self.machine_offset();
        let is_accurate = if let Some(now) = store.now {
            self.adjust(machine, now, asked, answered)
        } else {
            self.check_plausibility(store, answered);
            true
        };
        // Otherwise the store is asked again soon.
        if is_accurate {
            self.machine_offset.store(machine, Ordering::Release);
        }
        is_accurate
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

impl Service {
    /// Whether this machine's clock was set since the store was last asked for the time.
    pub fn clock_was_set(&self) -> bool {
        self.clock.was_set()
    }

    /// Asks the store for the time and adjusts the clock. Returns false if the answer took too long to be accurate.
    ///
    /// # Errors
    /// If the store is unreachable.
    pub async fn sync_clock(&self) -> Result<bool> {
        let asked = SystemClock.since_boot();
        let observed = self.store.time().await?;
        Ok(self.clock.observe_store(observed, asked, SystemClock.since_boot()))
    }

    /// Returns an error if the store contradicts the clock. Called before anything is purged.
    pub(super) async fn require_trusted_clock(&self) -> Result<()> {
        let is_accurate = self.sync_clock().await?;
        let late = || "the store took too long to report its time: try again".to_owned();
        match self.clock.doubt().or_else(|| (!is_accurate).then(late)) {
            None => Ok(()),
            Some(doubt) => Err(ServiceError::from(Reason::ClocksDisagree).with("why", doubt)),
        }
    }
}
