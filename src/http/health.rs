//! Liveness and readiness probes for orchestrators.

use axum::http::StatusCode;
use tokio::sync::watch;

use crate::service::Readiness;

/// Liveness: answers as long as the process runs.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Readiness: introspections can be answered, and the server is not shutting down. The second line is about management,
/// which needs the store.
pub(super) fn readyz(ready: &watch::Receiver<Readiness>) -> (StatusCode, &'static str) {
    let ready = *ready.borrow();
    match (ready.introspection, ready.management) {
        (true, true) => (StatusCode::OK, "ready\nmanagement: ready\n"),
        (true, false) => (StatusCode::OK, "ready\nmanagement: not ready\n"),
        (false, management) => (
            StatusCode::SERVICE_UNAVAILABLE,
            if management {
                "not ready: the store is unreachable, or the server is stopping\nmanagement: ready\n"
            } else {
                "not ready: the store is unreachable, or the server is stopping\nmanagement: not ready\n"
            },
        ),
    }
}
