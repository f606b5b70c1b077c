//! What an orchestrator asks: does the process live, and should it be sent requests.

use axum::http::StatusCode;
use tokio::sync::watch;

/// The process lives.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// The store answers, and nobody has asked the server to stop.
pub(super) fn readyz(ready: &watch::Receiver<bool>) -> (StatusCode, &'static str) {
    if *ready.borrow() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready: the store is out of reach, or stopping\n")
    }
}
