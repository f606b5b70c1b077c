//! What is seen of a command while it runs: which servers it waits for, and, where a signal ends it, whether what it did is
//! committed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use tokio::signal::unix::SignalKind;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::output;
use super::signals::Signals;
use crate::cache::Waiting;
use crate::service::Service;

/// A wait that is over sooner is not worth a word.
const QUIET: Duration = Duration::from_secs(1);
/// How often to say that it still waits.
const REPEAT: Duration = Duration::from_secs(10);
/// How often to look.
const LOOK: Duration = Duration::from_millis(100);
/// For the name of a replica: the store may be what is slow.
const NAME_TIMEOUT: Duration = Duration::from_millis(500);

/// The service that a command works with, once it has opened it, and whether it is about to show a token.
#[derive(Debug, Clone, Default)]
pub(super) struct Attended {
    service: Arc<OnceLock<Weak<Service>>>,
    showing: Arc<AtomicBool>,
}

/// While it lives, a token is made that is to be shown: the first signal waits for that, since nobody would ever have it.
#[must_use]
pub(super) struct Showing(Arc<AtomicBool>);

impl Drop for Showing {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// A signal ended the command.
#[derive(Debug, thiserror::Error)]
pub(super) enum Interrupted {
    /// What it did is committed, and some server may not know yet.
    #[error(
        "interrupted: the change is committed (revision {revision}), and nothing takes it back. {who} may go on answering \
         as before for up to {longest} s; the same command again waits on"
    )]
    Committed {
        /// The revision.
        revision: u64,
        /// The servers that have not confirmed it.
        who: String,
        /// When the last of them is given up, in seconds.
        longest: u64,
    },
    /// It was ended before anything was known to be committed.
    #[error("interrupted")]
    Before(i32),
}

impl Interrupted {
    /// As shells have it, but for what is committed.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Committed { .. } => super::NOT_CONFIRMED,
            Self::Before(signal) => u8::try_from(128 + signal).unwrap_or(1),
        }
    }
}

impl Attended {
    /// To be told of the service as soon as there is one.
    pub(super) fn set(&self, service: &Arc<Service>) {
        // A command opens one service.
        let _ = self.service.set(Arc::downgrade(service));
    }

    /// To be held from before a token is made until it was shown, or was revoked because it could not be.
    pub(super) fn showing(&self) -> Showing {
        self.showing.store(true, Ordering::Release);
        Showing(Arc::clone(&self.showing))
    }

    /// Runs a command to its end, or until a signal.
    pub(super) async fn attend<T>(
        &self,
        command: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        let mut signals = Signals::listen()?;
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut progress = Progress::default();
        let mut waits = None;
        tokio::pin!(command);
        loop {
            let signal = tokio::select! {
                biased;
                outcome = &mut command => {
                    progress.end();
                    return outcome;
                }
                // What comes with the first is the same word.
                signal = signals.next() => signals.is_another().then_some(signal),
                _ = look.tick() => None,
            };
            let showing = self.showing.load(Ordering::Acquire);
            match signal {
                Some(signal) if showing && waits.is_none() => {
                    waits = Some(signal);
                    output::note(
                        "a token is being made: this ends once it is shown; a second signal ends it at once",
                    );
                }
                Some(signal) => return self.interrupted(signal).await,
                None => {
                    if let Some(signal) = waits.filter(|_| !showing) {
                        return self.interrupted(signal).await;
                    }
                    if let Some(service) = self.service.get().and_then(Weak::upgrade) {
                        progress.look(&service).await;
                    }
                }
            }
        }
    }

    async fn interrupted<T>(&self, signal: SignalKind) -> anyhow::Result<T> {
        let service = self.service.get().and_then(Weak::upgrade);
        let waiting = service.as_ref().and_then(|service| service.waiting().map(|w| (service, w)));
        let Some((service, waiting)) = waiting else {
            return Err(Interrupted::Before(signal.as_raw_value()).into());
        };
        Err(Interrupted::Committed {
            revision: waiting.revision.0,
            who: named(service, &waiting).await,
            longest: waiting.longest().unwrap_or_default().as_secs().max(1),
        }
        .into())
    }
}

/// What was said of a wait.
#[derive(Debug, Default)]
struct Progress {
    since: Option<Instant>,
    said: Option<Instant>,
}

impl Progress {
    async fn look(&mut self, service: &Service) {
        let Some(waiting) = service.waiting() else {
            self.end();
            return;
        };
        let since = *self.since.get_or_insert_with(Instant::now);
        let due = self.said.map_or(since + QUIET, |said| said + REPEAT);
        if Instant::now() < due {
            return;
        }
        self.said = Some(Instant::now());
        let (who, seconds) = (named(service, &waiting).await, since.elapsed().as_secs());
        output::note(&match waiting.longest().map(|longest| longest.as_secs()) {
            Some(longest) => format!(
                "committed; waiting until {who} confirms it: {seconds} s so far; a server that has died is given up after \
                 {longest} s"
            ),
            None => {
                format!("committed; waiting until every server confirms it: {seconds} s so far")
            }
        });
    }

    /// The wait is over, or there was none.
    fn end(&mut self) {
        if self.said.take().is_some() {
            output::note("confirmed by every server");
        }
        self.since = None;
    }
}

/// The replicas that are waited for, by their ids and as their processes named themselves.
async fn named(service: &Service, waiting: &Waiting) -> String {
    let mut names = Vec::new();
    for (id, _) in &waiting.replicas {
        let host = tokio::time::timeout(NAME_TIMEOUT, service.replica_host(*id)).await;
        names.push(match host {
            Ok(Ok(Some(host))) => format!("replica {id} ({host})"),
            _ => format!("replica {id}"),
        });
    }
    if names.is_empty() { "a server".to_owned() } else { names.join(", ") }
}
