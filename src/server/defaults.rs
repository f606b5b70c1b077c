//! Default settings of a server. `Config::new` and the flags of `serve` both read them here.

use std::time::Duration;

/// A default duration, and how its flag writes it.
#[derive(Debug, Clone, Copy)]
pub struct DefaultDuration {
    /// The duration.
    pub value: Duration,
    /// The same as a text, such as `30m`.
    pub text: &'static str,
}

/// Number of seconds in a unit.
macro_rules! seconds_in {
    (s) => {
        1
    };
    (m) => {
        60
    };
    (h) => {
        3_600
    };
    (d) => {
        86_400
    };
}

/// Declares each duration once, as a number and its unit.
macro_rules! durations {
    ($($(#[$doc:meta])+ $name:ident = $number:literal $unit:ident;)+) => {
        $($(#[$doc])+
        pub const $name: DefaultDuration = DefaultDuration {
            value: Duration::from_secs($number * seconds_in!($unit)),
            text: concat!($number, stringify!($unit)),
        };)+
    };
}

/// `--reflection`.
pub const REFLECTION: bool = true;
/// `--cache-capacity`.
pub const CACHE_CAPACITY: usize = 1_000_000;
/// `--unknown-rate-max`.
pub const UNKNOWN_RATE_MAX: u32 = 1_000;
/// `--connections-max`, if the process may open enough files.
pub const CONNECTIONS_MAX: usize = 10_000;
/// `--streams-max`.
pub const STREAMS_MAX: u32 = 256;
/// `--requests-max`.
pub const REQUESTS_MAX: usize = 4_096;

durations! {
    /// `--cache-ttl`.
    CACHE_TTL = 60 s;
    /// `--lease`.
    LEASE = 10 s;
    /// `--outage-grace`.
    OUTAGE_GRACE = 0 s;
    /// `--request-timeout`.
    REQUEST_TIMEOUT = 15 s;
    /// `--connection-age-max`.
    CONNECTION_AGE_MAX = 30 m;
    /// `--drain-delay`.
    DRAIN_DELAY = 0 s;
    /// `--shutdown-grace`.
    SHUTDOWN_GRACE = 10 s;
    /// `--last-use-flush`.
    LAST_USE_FLUSH = 60 s;
    /// `--purge-every`.
    PURGE_EVERY = 1 h;
    /// `--purge-dead-after`.
    PURGE_DEAD_AFTER = 90 d;
    /// `--purge-changes-after`.
    PURGE_CHANGES_AFTER = 7 d;
}

#[cfg(test)]
mod tests {
    use super::CACHE_TTL;
    use crate::service::Options;

    /// The use cases have this default of their own, because they are below the server.
    #[test]
    fn answers_are_cached_for_as_long_with_and_without_a_server() {
        assert_eq!(CACHE_TTL.value, Options::default().cache_ttl);
    }
}
