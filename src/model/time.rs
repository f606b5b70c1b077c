//! Instants with microsecond precision, the finest that both databases store, and the clocks that are passed to all
//! other code.

use std::fmt;
use std::num::NonZeroU64;
use std::time::{Duration, SystemTime};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Invalid;

/// An instant in the years 1 to 9999, with microsecond precision.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(
    /// Microseconds since the beginning of the year 1, plus one, so that an `Option<Timestamp>` takes no extra space.
    NonZeroU64,
);

impl Timestamp {
    /// The beginning of the year 1.
    pub const EARLIEST: Self = Self(NonZeroU64::MIN);
    /// The last microsecond of the year 9999.
    const LATEST: Self = Self::EARLIEST.later(Self::MAX.abs_diff(Self::MIN));
    /// The Unix epoch.
    const EPOCH: Self = Self::EARLIEST.later(Self::MIN.unsigned_abs());

    const MIN: i64 = -62_135_596_800_000_000;
    const MAX: i64 = 253_402_300_799_999_999;

    /// Creates an instant from microseconds since the Unix epoch. `None` outside the years 1 to 9999.
    pub const fn from_unix_micros(micros: i64) -> Option<Self> {
        if micros < Self::MIN || micros > Self::MAX {
            return None;
        }
        Some(Self::EARLIEST.later(micros.abs_diff(Self::MIN)))
    }

    /// Returns the microseconds since the Unix epoch.
    pub const fn unix_micros(self) -> i64 {
        // Ten thousand years of microseconds fit.
        Self::MIN - 1 + self.0.get().cast_signed()
    }

    const fn later(self, micros: u64) -> Self {
        Self(self.0.saturating_add(micros))
    }

    /// Creates an instant from the seconds and nanoseconds of a `google.protobuf.Timestamp`. Fractions of a microsecond
    /// are dropped.
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

    /// Parses RFC 3339 text with any offset.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        OffsetDateTime::parse(text, &Rfc3339)
            .ok()
            .and_then(Self::from_date_time)
            .ok_or_else(|| Invalid::new("must be an RFC 3339 time, such as 2027-01-31T12:00:00Z"))
    }

    /// Adds a duration. `None` past the year 9999.
    pub fn checked_add(self, duration: Duration) -> Option<Self> {
        let micros = i64::try_from(duration.as_micros()).ok()?;
        Self::from_unix_micros(self.unix_micros().checked_add(micros)?)
    }

    /// Adds a duration. Saturates at the end of the year 9999.
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        self.checked_add(duration).unwrap_or(Self::LATEST)
    }

    /// Subtracts a duration. Saturates at the beginning of the year 1.
    #[must_use]
    pub fn saturating_sub(self, duration: Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        let earlier = self.unix_micros().saturating_sub(micros);
        Self::from_unix_micros(earlier).unwrap_or(Self::EARLIEST)
    }

    /// Returns the time since `earlier`. Zero if `earlier` is later.
    pub fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.get().saturating_sub(earlier.0.get()))
    }

    /// Converts to the type that the databases use.
    pub fn date_time(self) -> OffsetDateTime {
        // `OffsetDateTime` covers the range of `Timestamp`, so the fallback is never taken.
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.unix_micros()) * 1_000)
            .unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }

    /// Converts from the type that the databases use. `None` outside the years 1 to 9999.
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

/// Source of the time of day. It is a trait so that tests can control it.
pub trait Clock: Send + Sync {
    /// Returns the time of day.
    fn now(&self) -> Timestamp;

    /// Returns the earliest time that it may be now. Nothing that ends later is deleted or released.
    fn earliest_now(&self) -> Timestamp {
        self.now()
    }

    /// Returns the reason why this clock must not be trusted for permanent deletions, if there is one.
    fn doubt(&self) -> Option<String> {
        None
    }

    /// Whether this machine's clock was set since the store was last asked for the time.
    fn was_set(&self) -> bool {
        false
    }

    /// Updates the clock from the store's time. The store was asked and answered at these times since
    /// boot. Returns false if the answer took too long to be useful.
    fn observe_store(&self, _store: StoreTime, _asked: Duration, _answered: Duration) -> bool {
        true
    }
}

/// The time and the latest events as a store knows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreTime {
    /// Time by the store's clock, if it has one.
    pub now: Option<Timestamp>,
    /// Time of the newest recorded event.
    pub newest_event: Option<Timestamp>,
    /// For a store without a clock: the beginning of its last [`Self::LATELY`] of events.
    pub lately: Option<Lately>,
}

impl StoreTime {
    /// Time for which a clock that reports a very long idle period must keep running before it is trusted.
    pub const LATELY: Duration = Duration::from_hours(7 * 24);
}

/// The beginning of the recent events. A gap before it suggests that the clock jumped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lately {
    /// Time of the first recent event.
    pub first: Timestamp,
    /// Time of the event before it.
    pub before: Timestamp,
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        #[expect(
            clippy::disallowed_methods,
            reason = "the only place that reads the machine's clock"
        )]
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let micros = now.ok().and_then(|now| i64::try_from(now.as_micros()).ok());
        micros.and_then(Timestamp::from_unix_micros).unwrap_or(Timestamp::EPOCH)
    }
}

/// Source of the elapsed time that leases are measured by. It is a trait so that tests can control it.
pub trait BootClock: Send + Sync {
    /// Returns the time since the machine booted, including time in suspend.
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
