//! Look-ups by token on behalf of an acting user. The token of a credential that this user may not see takes more reads
//! than text that is no token, so neither is answered before a fixed time.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::service::Result;

/// Shortest time until a look-up finds nothing or is refused. It usually covers all reads.
const NOT_FOUND_MIN: Duration = Duration::from_millis(20);

/// Runs a look-up by token. If it `hides` what an acting user may not see, everything that is not found takes the same
/// time.
pub(super) async fn like_unknown_token<T>(
    hides: bool,
    look_up: impl Future<Output = Result<T>>,
    is_found: impl Fn(&T) -> bool,
) -> Result<T> {
    let earliest = Instant::now() + NOT_FOUND_MIN;
    let result = look_up.await;
    if hides && !result.as_ref().is_ok_and(is_found) {
        sleep_until(earliest).await;
    }
    result
}
