//! Signals that tell a process to end.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

/// What comes so soon after the first is the same word: GNU `timeout`, a terminal and a supervisor send it to the process and
/// to its group, and a shell or npm in between passes it on.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(1);

/// Signals that are waited for. To be made before anybody is told that the server runs: whoever was told may end it at
/// once, and a signal that nobody waits for ends the process where it stands.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hangup: Signal,
    /// When the first word to end came.
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

    /// Waits for the next signal, whichever.
    pub(super) async fn next(&mut self) -> SignalKind {
        tokio::select! {
            _ = self.terminate.recv() => SignalKind::terminate(),
            _ = self.interrupt.recv() => SignalKind::interrupt(),
            _ = self.quit.recv() => SignalKind::quit(),
            _ = self.hangup.recv() => SignalKind::hangup(),
        }
    }

    /// Waits for the word to end, and, once it was heard, for another one; a hangup is left to [`Self::next`].
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

    /// Notes a word to end that came now; whether it is another than the last.
    pub(super) fn is_new(&mut self) -> bool {
        let another =
            self.last_signal.is_none_or(|last_signal| last_signal.elapsed() > DUPLICATE_WINDOW);
        if another {
            self.last_signal = Some(Instant::now());
        }
        another
    }
}
