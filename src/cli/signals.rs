//! Signals that end a process.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

/// Signals within this time after the first are duplicates of it. GNU `timeout`, terminals and supervisors signal both the
/// process and its group, and a shell or npm in between passes signals on.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(1);

/// Handlers of the signals. Install them before the server announces that it runs: a supervisor may then stop it at once,
/// and a signal without a handler kills the process.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hangup: Signal,
    /// Time of the last signal that was not a duplicate.
    last_signal: Option<Instant>,
}

impl Signals {
    pub(super) fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hangup: signal(SignalKind::hangup())?,
            last_signal: None,
        })
    }

    /// Waits for the next signal.
    pub(super) async fn next(&mut self) -> SignalKind {
        tokio::select! {
            _ = self.terminate.recv() => SignalKind::terminate(),
            _ = self.interrupt.recv() => SignalKind::interrupt(),
            _ = self.quit.recv() => SignalKind::quit(),
            _ = self.hangup.recv() => SignalKind::hangup(),
        }
    }

    /// Waits for SIGTERM, SIGINT or SIGQUIT, ignoring duplicates. Leaves SIGHUP to [`Self::next`].
    pub(super) async fn terminated(&mut self) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => {}
                _ = self.interrupt.recv() => {}
                _ = self.quit.recv() => {}
            }
            if self.is_new() {
                return;
            }
        }
    }

    /// Records a signal that arrived now. Returns `false` for a duplicate.
    pub(super) fn is_new(&mut self) -> bool {
        let another =
            self.last_signal.is_none_or(|last_signal| last_signal.elapsed() > DUPLICATE_WINDOW);
        if another {
            self.last_signal = Some(Instant::now());
        }
        another
    }
}
