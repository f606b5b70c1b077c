//! Instants with microseconds, the finest that both databases keep, and the clock that everything else is given.

use std::fmt;
use std::num::NonZeroU64;
use std::time::{Duration, SystemTime};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Invalid;

/// An instant: microseconds since 1970-01-01T00:00:00Z, within the years 1 to 9999.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(
    /// Microseconds since the beginning of the year 1, and one more: so an `Option` takes no more room.
    NonZeroU64,
);

impl Timestamp {
    /// The beginning of the year 1: before all there is.
    pub const EARLIEST: Self = Self(NonZeroU64::MIN);
    /// The last microsecond of the year 9999.
    const LATEST: Self = Self::EARLIEST.later(Self::MAX.abs_diff(Self::MIN));
    /// The epoch.
    const EPOCH: Self = Self::EARLIEST.later(Self::MIN.unsigned_abs());

    const MIN: i64 = -62_135_596_800_000_000;
    const MAX: i64 = 253_402_300_799_999_999;

    /// From microseconds since the epoch; `None` outside the years 1 to 9999.
    pub const fn from_unix_micros(micros: i64) -> Option<Self> {
        if micros < Self::MIN || micros > Self::MAX {
            return None;
        }
        Some(Self::EARLIEST.later(micros.abs_diff(Self::MIN)))
    }

    /// Microseconds since the epoch.
    pub const fn unix_micros(self) -> i64 {
        // Ten thousand years of microseconds fit.
        Self::MIN - 1 + self.0.get().cast_signed()
    }

    const fn later(self, micros: u64) -> Self {
        Self(self.0.saturating_add(micros))
    }

    /// From the seconds and nanoseconds of a `google.protobuf.Timestamp`; nanoseconds are cut to microseconds.
    pub fn from_unix(seconds: i64, nanos: i32) -> Result<Self, Invalid> {
        let invalid = || {
            Invalid::new(
                "must be between 0001-01-01T00:00:00Z and 9999-12-31T23:59:59.999999999Z, \
                 with nanos from 0 to 999,999,999",
            )
        };
        if !(0..1_000_000_000).contains(&nanos) {
            return Err(invalid());
        }
        seconds
            .checked_mul(1_000_000)
            .and_then(|micros| micros.checked_add(i64::from(nanos / 1_000)))
            .and_then(Self::from_unix_micros)
            .ok_or_else(invalid)
    }

    /// From RFC 3339 text, with any offset.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        OffsetDateTime::parse(text, &Rfc3339)
            .ok()
            .and_then(Self::from_date_time)
            .ok_or_else(|| Invalid::new("must be an RFC 3339 time, as 2027-01-31T12:00:00Z"))
    }

    /// This much later; `None` past the year 9999.
    pub fn checked_add(self, duration: Duration) -> Option<Self> {
        let micros = i64::try_from(duration.as_micros()).ok()?;
        Self::from_unix_micros(self.unix_micros().checked_add(micros)?)
    }

    /// This much later, or the end of the year 9999.
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        self.checked_add(duration).unwrap_or(Self::LATEST)
    }

    /// This much earlier, or the year 1.
    #[must_use]
    pub fn saturating_sub(self, duration: Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        let earlier = self.unix_micros().saturating_sub(micros);
        Self::from_unix_micros(earlier).unwrap_or(Self::EARLIEST)
    }

    /// How long after `earlier` this is; zero if it is not.
    pub fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.get().saturating_sub(earlier.0.get()))
    }

    /// As the databases' native type has it.
    pub fn date_time(self) -> OffsetDateTime {
        // The range of Timestamp lies within that of OffsetDateTime, so the fallback is never taken.
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.unix_micros()) * 1_000)
            .unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }

    /// From the databases' native type; `None` outside the years 1 to 9999.
    pub fn from_date_time(date_time: OffsetDateTime) -> Option<Self> {
        let micros = date_time.unix_timestamp_nanos().div_euclid(1_000);
        Self::from_unix_micros(i64::try_from(micros).ok()?)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Timestamp({})", self.unix_micros())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.date_time().format(&Rfc3339).map_err(|_| fmt::Error)?)
    }
}

/// Where the time comes from: passed in, so that tests own it.
pub trait Clock: Send + Sync {
    /// The time of day.
    fn now(&self) -> Timestamp;

    /// The time, as far as that is certain: what ends after it is neither deleted nor freed.
    fn certain(&self) -> Timestamp {
        self.now()
    }

    /// Why it must not be believed where something is deleted for good.
    fn doubt(&self) -> Option<String> {
        None
    }

    /// Whether this machine's clock was set since the store was last asked.
    fn was_set(&self) -> bool {
        false
    }

    /// Takes in what the store knows of the time: it was asked and has answered at these times since boot. No if that took too
    /// long to tell.
    fn hear(&self, _store: StoreTime, _asked: Duration, _answered: Duration) -> bool {
        true
    }
}

/// What a store knows of the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreTime {
    /// By its own clock, if it has one.
    pub now: Option<Timestamp>,
    /// When the last thing happened that it has recorded.
    pub newest_event: Option<Timestamp>,
    /// Of a store without a clock: the first event of the last [`Self::LATELY`] before that one, itself included, and the one
    /// before it.
    pub lately: Option<Lately>,
}

impl StoreTime {
    /// So long has to go by until a clock is believed again that says that nothing happened for very long.
    pub const LATELY: Duration = Duration::from_hours(7 * 24);
}

/// Where the last events begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lately {
    /// The first of them.
    pub first: Timestamp,
    /// The one before.
    pub before: Timestamp,
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        #[expect(
            clippy::disallowed_methods,
            reason = "the one place that reads the machine's clock"
        )]
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let micros = now.ok().and_then(|now| i64::try_from(now.as_micros()).ok());
        micros.and_then(Timestamp::from_unix_micros).unwrap_or(Timestamp::EPOCH)
    }
}

/// Where elapsed time comes from that leases are counted in: passed in, so that tests own it.
pub trait BootClock: Send + Sync {
    /// Time since the machine booted, the time that it was suspended included.
    fn since_boot(&self) -> Duration;
}

impl BootClock for SystemClock {
    fn since_boot(&self) -> Duration {
        // CLOCK_MONOTONIC, which `std::time::Instant` reads, stands still while the machine is suspended.
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
    }
}
