//! Whose time it is. What ends or frees something goes by the store's time where the store has a clock of its own, as
//! Postgres does: between two looks at it by the time since boot, which nobody sets. Nothing is deleted for good while this
//! machine's clock and the store disagree.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::{Reason, Result, Service, ServiceError};
use crate::model::{BootClock as _, Clock, Lately, StoreTime, SystemClock, Timestamp};

/// Below this, this machine's clock is as good as the store's.
const NEGLIGIBLE: i64 = 1_000_000;
/// Beyond this, one of the two is wrong.
const DISAGREE: i64 = 60_000_000;
/// What reading two clocks one after the other may make of nothing.
const JITTER: i64 = 10_000;
/// A file that nothing has happened in for so long is rather one that a wrong clock looks at.
const IDLE_MAX: i64 = 90 * 24 * 3_600_000_000;
/// An answer that took longer tells too little.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// No offset.
const NONE: i64 = i64::MIN;

/// This machine's clock, put right by the store.
pub struct StoreClock {
    machine: Arc<dyn Clock>,
    /// The time less the time since boot, of a store with a clock that was asked; else [`NONE`], and it is this machine's.
    offset: AtomicI64,
    /// This machine's time less the time since boot, when the store was last asked.
    machine_offset: AtomicI64,
    heard: Mutex<Heard>,
}

/// Why a clock must be wrong, and what is certain to be past all the same. Of events alone that is nothing: another wrong clock
/// may have written them.
type Doubt = (String, Timestamp);

/// A first look at a store without a clock.
#[derive(Clone)]
struct First {
    wall: i64,
    boot: i64,
    quiet: Option<Quiet>,
}

/// A time in which nothing happened, as far as a clock is to be believed.
#[derive(Clone, Copy)]
struct Quiet {
    since: Timestamp,
    until: Timestamp,
}

/// What was heard of the store.
#[derive(Default)]
struct Heard {
    /// Why one of the clocks must be wrong.
    doubt: Option<String>,
    /// What is certain to be past, while there is a doubt.
    certain: Option<Timestamp>,
    /// Of a store without a clock.
    first: Option<First>,
}

impl StoreClock {
    /// Over this machine's clock; to be told what the store says.
    pub fn new(machine: Arc<dyn Clock>) -> Self {
        let (offset, machine_offset) = (AtomicI64::new(NONE), AtomicI64::new(NONE));
        Self { machine, offset, machine_offset, heard: Mutex::default() }
    }

    /// This machine's time less the time since boot. Of a few looks the quickest: who is held up between one clock and the other
    /// takes that for time.
    fn machine_offset(&self) -> i64 {
        let looks = (0..3).map(|_| {
            let before = micros(SystemClock.since_boot());
            let wall = self.machine.now().unix_micros();
            let taken = micros(SystemClock.since_boot()) - before;
            (taken, wall - before - taken / 2)
        });
        looks.min().map_or(0, |(_, offset)| offset)
    }

    /// Of a store with a clock: sets this one by it. This machine's own is taken where the two agree, which is smoother.
    /// No if the answer took too long to tell.
    fn set(&self, machine: i64, store: Timestamp, asked: Duration, answered: Duration) -> bool {
        let taken = answered.saturating_sub(asked);
        if taken > ANSWER_MAX {
            return false;
        }
        let offset = store.unix_micros() - (micros(asked) + micros(taken) / 2);
        let ahead = machine - offset;
        let differs = ahead.abs() > NEGLIGIBLE + micros(taken);
        let offset = if differs { offset } else { machine };
        let last = self.offset.load(Ordering::Acquire);
        // A slow answer cannot tell that this machine's clock agrees after all: the time must not go back by that.
        let was_other = last != NONE && (last - machine).abs() > NEGLIGIBLE;
        let tells = differs || !was_other || micros(taken) <= NEGLIGIBLE;
        if differs || last == NONE || (tells && (offset - last).abs() > JITTER) {
            self.offset.store(offset, Ordering::Release);
        }
        let doubt = (ahead.abs() > DISAGREE).then(|| {
            let which = if ahead > 0 { "ahead of" } else { "behind" };
            format!("this machine's clock is {} s {which} the store's", ahead.abs() / 1_000_000)
        });
        self.conclude(doubt.map(|doubt| (doubt, store)));
        true
    }

    /// Of a store without one: looks for evidence against this machine's.
    fn judge(&self, store: StoreTime, boot: Duration) {
        let (now, boot) = (self.machine.now(), micros(boot));
        let wall = now.unix_micros();
        let first = {
            let mut heard = self.heard.lock();
            heard
                .first
                .get_or_insert_with(|| First { wall, boot, quiet: quiet(store, now) })
                .clone()
        };
        let gone = (boot - first.boot) + first.wall;
        let newest = store.newest_event;
        let ahead = newest.filter(|newest| newest.unix_micros() - wall > DISAGREE);
        let doubt = if let Some(newest) = ahead {
            let text = format!(
                "the store's newest audit event is of {newest}, which by this machine's clock, {now}, is to come"
            );
            // Whether this clock is wrong or the one that wrote it, nobody knows.
            Some((text, Timestamp::EARLIEST))
        } else if (wall - gone).abs() > DISAGREE {
            let text = format!(
                "this machine's clock was set by {} s while this ran",
                (wall - gone) / 1_000_000
            );
            Some((text, Timestamp::from_unix_micros(wall.min(gone)).unwrap_or(Timestamp::EARLIEST)))
        } else {
            first.quiet.and_then(|quiet| quiet.doubt(gone))
        };
        self.conclude(doubt);
    }

    fn conclude(&self, doubt: Option<Doubt>) {
        let (doubt, certain) = doubt.unzip();
        let mut heard = self.heard.lock();
        if heard.doubt.is_some() != doubt.is_some() {
            if let Some(doubt) = &doubt {
                tracing::warn!("{doubt}: nothing is purged meanwhile");
            } else {
                tracing::info!("this machine's clock and the store agree");
            }
        }
        (heard.doubt, heard.certain) = (doubt, certain);
    }
}

/// Whether the clock says that nothing happened for very long, until now or until lately.
fn quiet(store: StoreTime, now: Timestamp) -> Option<Quiet> {
    let is_long = |quiet: &Quiet| quiet.until.unix_micros() - quiet.since.unix_micros() > IDLE_MAX;
    let now = store.newest_event.map(|since| Quiet { since, until: now });
    let lately = store.lately.map(|Lately { first, before }| Quiet { since: before, until: first });
    now.filter(is_long).or(lately.filter(is_long))
}

impl Quiet {
    /// The doubt about such a clock, until it has gone on for long enough: what a wrong one has written is no evidence for it.
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
        self.heard.lock().certain.map_or(now, |certain| certain.min(now))
    }

    fn doubt(&self) -> Option<String> {
        self.heard.lock().doubt.clone()
    }

    fn was_set(&self) -> bool {
        let now = self.machine_offset();
        let last = self.machine_offset.load(Ordering::Acquire);
        // It was never asked.
        last == NONE || (now - last).abs() > NEGLIGIBLE
    }

    fn observe_store(&self, store: StoreTime, asked: Duration, answered: Duration) -> bool {
        let machine = self.machine_offset();
        let told = if let Some(now) = store.now {
            self.set(machine, now, asked, answered)
        } else {
            self.judge(store, answered);
            true
        };
        // Else it is asked again soon.
        if told {
            self.machine_offset.store(machine, Ordering::Release);
        }
        told
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

    /// Asks the store for the time, and sets the clock by it; no if the answer took too long to tell.
    ///
    /// # Errors
    /// Only if the store is out of reach.
    pub async fn hear_the_time(&self) -> Result<bool> {
        let asked = SystemClock.since_boot();
        let heard = self.store.time().await?;
        Ok(self.clock.observe_store(heard, asked, SystemClock.since_boot()))
    }

    /// Refuses to delete by a clock that the store contradicts.
    pub(super) async fn trust_the_clock(&self) -> Result<()> {
        let told = self.hear_the_time().await?;
        let late = || "the store took too long to say what time it is: try again".to_owned();
        match self.clock.doubt().or_else(|| (!told).then(late)) {
            None => Ok(()),
            Some(doubt) => Err(ServiceError::from(Reason::ClocksDisagree).with("why", doubt)),
        }
    }
}
