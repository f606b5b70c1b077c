//! Whose time it is. What ends or frees something goes by the store's time where the store has a clock of its own, as
//! Postgres does. Nothing is deleted for good while this machine's clock and the store disagree.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::{Reason, Result, Service, ServiceError};
use crate::model::{BootClock as _, Clock, StoreTime, SystemClock, Timestamp};

/// Below this, this machine's clock is as good as the store's.
const NEGLIGIBLE: i64 = 1_000_000;
/// Beyond this, one of the two is wrong.
const DISAGREE: i64 = 60_000_000;
/// A file that nothing has happened in for so long is rather one that a wrong clock looks at.
const IDLE_MAX: i64 = 90 * 24 * 3_600_000_000;
/// An answer that took longer tells too little.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// No offset.
const NONE: i64 = i64::MIN;

/// This machine's clock, put right by the store.
pub struct StoreClock {
    machine: Arc<dyn Clock>,
    /// The store's time less the time since boot, where it differs from this machine's; else [`NONE`].
    offset: AtomicI64,
    heard: Mutex<Heard>,
}

/// Why a clock must be wrong, and what is certain to be past all the same.
type Doubt = (String, Timestamp);

/// A first look at a store without a clock.
#[derive(Clone)]
struct First {
    wall: i64,
    boot: i64,
    doubt: Option<Doubt>,
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
        Self { machine, offset: AtomicI64::new(NONE), heard: Mutex::default() }
    }

    /// Of a store with a clock: sets this one by it.
    fn set(&self, store: Timestamp, asked: Duration, answered: Duration) {
        let taken = answered.saturating_sub(asked);
        if taken > ANSWER_MAX {
            return;
        }
        let then = micros(asked) + micros(taken) / 2;
        let offset = store.unix_micros() - then;
        let ahead = self.machine.now().unix_micros() - micros(answered) - offset;
        let differs = ahead.abs() > NEGLIGIBLE + micros(taken);
        self.offset.store(if differs { offset } else { NONE }, Ordering::Release);
        let doubt = (ahead.abs() > DISAGREE).then(|| {
            let which = if ahead > 0 { "ahead of" } else { "behind" };
            format!("this machine's clock is {} s {which} the store's", ahead.abs() / 1_000_000)
        });
        self.conclude(doubt.map(|doubt| (doubt, store)));
    }

    /// Of a store without one: looks for evidence against this machine's.
    fn judge(&self, newest: Option<Timestamp>, boot: Duration) {
        let (now, boot) = (self.machine.now(), micros(boot));
        let wall = now.unix_micros();
        let first = {
            let mut heard = self.heard.lock();
            heard
                .first
                .get_or_insert_with(|| First { wall, boot, doubt: idle(newest, now) })
                .clone()
        };
        let gone = (boot - first.boot) + first.wall;
        let ahead = newest.filter(|newest| newest.unix_micros() - wall > DISAGREE);
        let doubt = if let Some(newest) = ahead {
            let text = format!(
                "the store's newest audit event is of {newest}, which by this machine's clock, {now}, is to come"
            );
            Some((text, now))
        } else if (wall - gone).abs() > DISAGREE {
            let text = format!(
                "this machine's clock was set by {} s while this ran",
                (wall - gone) / 1_000_000
            );
            Some((text, Timestamp::from_unix_micros(wall.min(gone)).unwrap_or(Timestamp::EARLIEST)))
        } else {
            first.doubt
        };
        self.conclude(doubt);
    }

    fn conclude(&self, doubt: Option<Doubt>) {
        let (doubt, certain) = doubt.unzip();
        let mut heard = self.heard.lock();
        if heard.doubt.is_some() != doubt.is_some() {
            if let Some(doubt) = &doubt {
                tracing::warn!("{doubt}: nothing is purged until they agree");
            } else {
                tracing::info!("this machine's clock and the store agree");
            }
        }
        (heard.doubt, heard.certain) = (doubt, certain);
    }
}

/// The doubt about a clock that says that nothing happened for very long.
fn idle(newest: Option<Timestamp>, now: Timestamp) -> Option<Doubt> {
    let newest = newest.filter(|newest| now.unix_micros() - newest.unix_micros() > IDLE_MAX)?;
    let text = format!(
        "this machine's clock says {now}, and the last event in the store is of {newest}. If that is so, change anything, \
         as by `workspace put`, and start again"
    );
    Some((text, newest))
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

    fn certain(&self) -> Timestamp {
        let now = self.now().min(self.machine.now());
        self.heard.lock().certain.map_or(now, |certain| certain.min(now))
    }

    fn doubt(&self) -> Option<String> {
        self.heard.lock().doubt.clone()
    }

    fn hear(&self, store: StoreTime, asked: Duration, answered: Duration) {
        match store.now {
            Some(now) => self.set(now, asked, answered),
            None => self.judge(store.newest_event, answered),
        }
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

impl Service {
    /// Asks the store for the time, and sets the clock by it.
    ///
    /// # Errors
    /// Only if the store is out of reach.
    pub async fn hear_the_time(&self) -> Result<()> {
        let asked = SystemClock.since_boot();
        let heard = self.store.time().await?;
        self.clock.hear(heard, asked, SystemClock.since_boot());
        Ok(())
    }

    /// Refuses to delete by a clock that the store contradicts.
    pub(super) async fn trust_the_clock(&self) -> Result<()> {
        self.hear_the_time().await?;
        match self.clock.doubt() {
            None => Ok(()),
            Some(doubt) => Err(ServiceError::from(Reason::ClocksDisagree).with("why", doubt)),
        }
    }
}
