//! Where a proxy says that its client is. That is a hint: what cannot be read is no address, which refuses the credentials
//! with an allowlist and nobody else.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::model::{BootClock, parse_client_ip};
use crate::service::Service;

/// How often the log says that addresses cannot be read.
const PAUSE: Duration = Duration::from_mins(1);

/// Addresses that could not be read since the log last said so.
pub struct UnreadableAddresses {
    boot: Arc<dyn BootClock>,
    since: AtomicU64,
    /// Seconds since boot from which the log may say so again.
    quiet_until: AtomicU64,
}

impl UnreadableAddresses {
    /// None so far.
    pub fn new(boot: Arc<dyn BootClock>) -> Self {
        Self { boot, since: AtomicU64::new(0), quiet_until: AtomicU64::new(0) }
    }

    /// Notes one; how many there are to tell of, if it is time to.
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
    /// The address that a proxy has written; `place` is where. What it wrote is not repeated: it may be anything.
    pub fn client_address(&self, place: &str, text: &[u8]) -> Option<IpAddr> {
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
    fn the_log_says_it_once_a_minute_and_how_often_it_was() {
        let clock = Arc::new(Seconds::default());
        let addresses = UnreadableAddresses::new(Arc::clone(&clock) as _);
        let said = [5, 5, 64, 65, 66, 200].map(|seconds| {
            clock.0.store(seconds, Ordering::Relaxed);
            addresses.note()
        });
        assert_eq!(said, [Some(1), None, None, Some(3), None, Some(2)]);
    }
}
