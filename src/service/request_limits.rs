//! Limits on requests, which all faces share.

use std::time::Duration;

/// Limits on requests in flight.
#[derive(Debug, Clone, Copy)]
pub struct RequestLimits {
    /// Maximum number of requests in flight over all connections. One caller may have half of them. Further requests
    /// are refused, not queued. 0 means no limit.
    pub requests_max: usize,
    /// Longest duration of a request, even if its own deadline is later. Zero means no limit.
    pub request_timeout: Duration,
}

impl RequestLimits {
    /// Returns limits to calculate with: an absent limit becomes one that is never reached.
    #[must_use]
    pub fn in_effect(self) -> Self {
        const A_YEAR: Duration = Duration::from_hours(365 * 24);
        let requests_max = if self.requests_max == 0 { usize::MAX } else { self.requests_max };
        let timeout = if self.request_timeout.is_zero() { A_YEAR } else { self.request_timeout };
        Self { requests_max, request_timeout: timeout.min(A_YEAR) }
    }
}
