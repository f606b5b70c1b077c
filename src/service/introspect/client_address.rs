//! The client's network address, as a proxy reports it. Text that cannot be parsed counts as no address. Then only
//! credentials with an IP allowlist are denied.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::model::{BootClock, parse_client_ip};
use crate::service::Service;

/// Pause between two log lines about unreadable addresses.
const PAUSE: Duration = Duration::from_mins(1);

/// Count of addresses that could not be parsed since the last log line.
pub struct UnreadableAddresses {
    boot: Arc<dyn BootClock>,
    since: AtomicU64,
    /// Time of the next possible log line, in seconds since boot.
    quiet_until: AtomicU64,
}

impl UnreadableAddresses {
    /// A count of zero.
    pub fn new(boot: Arc<dyn BootClock>) -> Self {
        Self { boot, since: AtomicU64::new(0), quiet_until: AtomicU64::new(0) }
    }

    /// Counts an unreadable address. Returns the number to log if the last log line is old enough.
    fn note(&self) -> Option<u64> {
        let now = self.boot.since_boot();
        self.since.fetch_add(1, Ordering::Relaxed);
        let (now, again) = (now.as_secs(), (now + PAUSE).as_secs());
        let update = |until| (until <= now).then_some(again);
        self.quiet_until.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update).ok()?;
        Some(self.since.swap(0, Ordering::Relaxed))
    }
}

impl Service {
    /// Parses the address that a proxy wrote in `place`, such as a header. The log does not repeat the text, which
    /// could be anything. It does repeat `place`, which therefore never comes from a request.
    pub fn client_address(&self, place: &'static str, text: &[u8]) -> Option<IpAddr> {
        let parsed = std::str::from_utf8(text).ok().and_then(|text| parse_client_ip(text).ok());
        if parsed.is_none()
            && let Some(count) = self.unreadable_addresses.note()
        {
            tracing::warn!(
                place,
                count,
                "a client's address cannot be read, so credentials with an IP allowlist are refused: the proxy must \
                 write an IPv4 or IPv6 address there, with or without a port"
            );
        }
        parsed
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use super::{BootClock, UnreadableAddresses};

    #[derive(Default)]
    struct Seconds(AtomicU64);

    impl BootClock for Seconds {
        fn since_boot(&self) -> Duration {
            Duration::from_secs(self.0.load(Ordering::Relaxed))
        }
    }

    #[test]
    fn unreadable_addresses_are_logged_once_a_minute_with_their_number() {
        let clock = Arc::new(Seconds::default());
        let addresses = UnreadableAddresses::new(Arc::clone(&clock) as _);
        let said = [5, 5, 64, 65, 66, 200].map(|seconds| {
            clock.0.store(seconds, Ordering::Relaxed);
            addresses.note()
        });
        assert_eq!(said, [Some(1), None, None, Some(3), None, Some(2)]);
    }
}
