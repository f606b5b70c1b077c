//! Work that leaves nothing half done when it is interrupted.

use tokio::signal::unix::{SignalKind, signal};

/// Does the work, or drops it when a signal asks the program to end: what it made for itself alone goes with it.
pub(super) async fn unless_interrupted<T>(
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::select! {
        done = work => done,
        _ = terminate.recv() => anyhow::bail!("interrupted by SIGTERM: nothing was written"),
        _ = interrupt.recv() => anyhow::bail!("interrupted by SIGINT: nothing was written"),
        _ = hangup.recv() => anyhow::bail!("interrupted by SIGHUP: nothing was written"),
    }
}
