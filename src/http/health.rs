//! What an orchestrator asks: does the process live, and should it be sent requests.

use axum::http::StatusCode;
use tokio::sync::watch;

use crate::service::Readiness;

/// The process lives.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Introspections can be answered, and nobody has asked the server to stop. The second line is about management, which needs
/// the store.
pub(super) fn readyz(ready: &watch::Receiver<Readiness>) -> (StatusCode, &'static str) {
    let ready = *ready.borrow();
    match (ready.introspection, ready.management) {
        (true, true) => (StatusCode::OK, "ready\nmanagement: ready\n"),
        (true, false) => (StatusCode::OK, "ready\nmanagement: not ready\n"),
        (false, management) => (
            StatusCode::SERVICE_UNAVAILABLE,
            if management {
                "not ready: the store is out of reach, or stopping\nmanagement: ready\n"
            } else {
                "not ready: the store is out of reach, or stopping\nmanagement: not ready\n"
            },
        ),
    }
}
