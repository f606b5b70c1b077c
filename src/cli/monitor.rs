//! Monitors a running command: prints which servers it waits for. If a signal ends it, reports whether its change is
//! committed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use tokio::signal::unix::SignalKind;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::failure::{EXIT_NOT_CONFIRMED, exit_code_of_signal};
use super::output;
use super::signals::Signals;
use crate::cache::BarrierStatus;
use crate::service::{Service, WaitCause};

/// Length of a wait before the first report.
const FIRST_REPORT_AFTER: Duration = Duration::from_secs(1);
/// Interval between reports of one wait.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);
/// Interval at which the wait is checked.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Time limit for reading a replica's name. The store may be slow.
const NAME_TIMEOUT: Duration = Duration::from_millis(500);

/// The use cases of the command, once it has opened the store, and whether it is creating a token.
#[derive(Debug, Clone, Default)]
pub(super) struct CommandMonitor {
    service: Arc<OnceLock<Weak<Service>>>,
    waiting_command: Arc<OnceLock<String>>,
    token_in_progress: Arc<AtomicBool>,
}

/// While this guard exists, the first signal waits. Otherwise the process could end after a token was created and
/// before it was shown.
#[must_use]
pub(super) struct TokenGuard(Arc<AtomicBool>);

impl Drop for TokenGuard {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// A signal ended the command.
#[derive(Debug, thiserror::Error)]
pub(super) enum Interrupted {
    /// The change is committed, but some server may not have applied it yet.
    #[error(
        "interrupted: the change is committed (revision {revision}) and stays so. {replicas} may answer as before for up to \
        {seconds} s. To wait for that, {again}"
    )]
    Committed {
        /// Revision of the change.
        revision: u64,
        /// Replicas that have not confirmed it.
        replicas: String,
        /// Time until the last of them is no longer waited for, in seconds.
        seconds: u64,
        /// What to run to wait for them.
        again: String,
    },
    /// Changes are committed, and more were to come, or the wait for other servers had not begun.
    #[error(
        "interrupted: the changes up to revision {revision} are committed and stay so. A server may answer as before for a \
        moment, or for its whole lease if it has crashed. To wait for that, {again}"
    )]
    Unfinished {
        /// Revision of the last change.
        revision: u64,
        /// What to run to wait for the servers.
        again: String,
    },
    /// The command changed nothing, and waited in case an earlier one did.
    #[error(
        "interrupted: this command changed nothing{refusal}. If an earlier one did, {replicas} may answer as before for up \
        to {seconds} s. To wait for that, run the same command again"
    )]
    Unchanged {
        /// Why it was refused, in brackets. Empty if it was not.
        refusal: String,
        /// Replicas that have not confirmed the present state.
        replicas: String,
        /// Time until the last of them is no longer waited for, in seconds.
        seconds: u64,
        /// Number of the signal.
        signal: i32,
    },
    /// Nothing is known to be committed. Has the number of the signal.
    #[error("interrupted")]
    Uncommitted(i32),
}

impl Interrupted {
    /// Returns 3 for committed changes, else 128 plus the signal, as shells do.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Committed { .. } | Self::Unfinished { .. } => EXIT_NOT_CONFIRMED,
            Self::Unchanged { signal, .. } | Self::Uncommitted(signal) => {
                exit_code_of_signal(*signal)
            }
        }
    }
}

impl CommandMonitor {
    /// Sets the use cases to monitor.
    pub(super) fn set(&self, service: &Arc<Service>) {
        // A command opens the store once.
        let _ = self.service.set(Arc::downgrade(service));
    }

    /// Sets the command that waits for the servers, if the same command would do more than that.
    pub(super) fn set_waiting_command(&self, command: String) {
        let _ = self.waiting_command.set(command);
    }

    /// Returns a guard to hold while a token is created, until it is printed, or revoked because it could not be printed.
    pub(super) fn guard_token(&self) -> TokenGuard {
        self.token_in_progress.store(true, Ordering::Release);
        TokenGuard(Arc::clone(&self.token_in_progress))
    }

    /// Runs a command until it ends or a signal ends it.
    pub(super) async fn run<T>(
        &self,
        command: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        let mut signals = Signals::listen()?;
        let mut poll = interval(POLL_INTERVAL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut reporter = WaitReporter::default();
        let mut pending_signal = None;
        tokio::pin!(command);
        loop {
            let signal = tokio::select! {
                biased;
                outcome = &mut command => {
                    // An error may be that of the wait.
                    reporter.end(outcome.is_ok());
                    return outcome;
                }
                // A duplicate of the first signal is ignored.
                signal = signals.next() => signals.is_new().then_some(signal),
                _ = poll.tick() => None,
            };
            let token_in_progress = self.token_in_progress();
            match signal {
                Some(signal) if token_in_progress && pending_signal.is_none() => {
                    pending_signal = Some(signal);
                    output::note(
                        "a token is being created: the command ends once it is shown; a second signal ends it at once",
                    );
                }
                Some(signal) => return self.interrupted(signal).await,
                None => {
                    if let Some(signal) = pending_signal.filter(|_| !token_in_progress) {
                        return self.interrupted(signal).await;
                    }
                    if let Some(service) = self.service.get().and_then(Weak::upgrade) {
                        reporter.report(&service).await;
                    }
                }
            }
        }
    }

    /// Whether a token is being created. A refused command creates none, and may wait for a while.
    fn token_in_progress(&self) -> bool {
        let refused = || {
            let service = self.service.get().and_then(Weak::upgrade);
            let cause = service.map(|service| service.newest_wait().cause);
            matches!(cause, Some(WaitCause::Refusal(_)))
        };
        self.token_in_progress.load(Ordering::Acquire) && !refused()
    }

    async fn interrupted<T>(&self, signal: SignalKind) -> anyhow::Result<T> {
        let service = self.service.get().and_then(Weak::upgrade);
        let waiting = service.as_ref().and_then(|service| Some((service, service.waiting()?)));
        let Some((service, waiting)) = waiting else {
            let committed = service.and_then(|service| service.last_commit());
            return Err(match committed {
                Some(revision) => Interrupted::Unfinished {
                    revision: revision.0,
                    again: self.how_to_wait(
                        "and to do the rest, run the same command again, unless it has printed a token",
                    ),
                },
                None => Interrupted::Uncommitted(signal.as_raw_value()),
            }
            .into());
        };
        let replicas = replica_names(service, &waiting).await;
        let seconds = waiting.longest_wait().unwrap_or_default().as_secs().max(1);
        // An earlier transaction of the same command, such as a batch, may have changed something.
        let changed = service.last_commit().is_some();
        let refusal = match service.newest_wait().cause {
            WaitCause::NoChange if !changed => Some(String::new()),
            WaitCause::Refusal(refusal) if !changed => Some(format!(" ({refusal})")),
            WaitCause::Change | WaitCause::NoChange | WaitCause::Refusal(_) => None,
        };
        if let Some(refusal) = refusal {
            let signal = signal.as_raw_value();
            return Err(Interrupted::Unchanged { refusal, replicas, seconds, signal }.into());
        }
        Err(Interrupted::Committed {
            revision: waiting.revision.0,
            replicas,
            seconds,
            again: self.how_to_wait(
                "run the same command again: it may then answer that the change is made already",
            ),
        }
        .into())
    }

    /// Says how to wait for the servers: by the command that only waits, if there is one.
    fn how_to_wait(&self, otherwise: &str) -> String {
        let only_waits = |command| format!("run `{command}`, which changes nothing");
        self.waiting_command.get().map_or_else(|| otherwise.to_owned(), only_waits)
    }
}

/// Reports on the wait for other servers.
#[derive(Debug, Default)]
struct WaitReporter {
    since: Option<Instant>,
    last_report: Option<Instant>,
}

impl WaitReporter {
    async fn report(&mut self, service: &Service) {
        let wait = service.newest_wait();
        let Some(waiting) = service.waiting() else {
            self.end(wait.has_passed);
            return;
        };
        let since = *self.since.get_or_insert_with(Instant::now);
        let due = self
            .last_report
            .map_or(since + FIRST_REPORT_AFTER, |last_report| last_report + REPORT_INTERVAL);
        if Instant::now() < due {
            return;
        }
        self.last_report = Some(Instant::now());
        let (replicas, seconds) =
            (replica_names(service, &waiting).await, since.elapsed().as_secs());
        let (outcome, what) = match &wait.cause {
            WaitCause::Change => ("committed".to_owned(), "it"),
            WaitCause::NoChange => ("nothing left to change".to_owned(), "the present state"),
            WaitCause::Refusal(refusal) => (
                format!("refused ({refusal})"),
                "the present state, in case an earlier try changed it",
            ),
        };
        output::note(&match waiting.longest_wait().map(|longest| longest.as_secs()) {
            Some(longest) => format!(
                "{outcome}; waiting until {replicas} confirms {what}: {seconds} s so far; a crashed server is waited for at \
                most {longest} s"
            ),
            None => {
                format!("{outcome}; waiting until every server confirms {what}: {seconds} s so far")
            }
        });
    }

    /// Ends the report, if there was a wait. If the wait failed, the error of the command reports it.
    fn end(&mut self, has_passed: bool) {
        if self.last_report.take().is_some() && has_passed {
            output::note("every server has confirmed it, or was given up and answers no more");
        }
        self.since = None;
    }
}

/// Returns the ids and host names of the replicas that the command waits for.
async fn replica_names(service: &Service, waiting: &BarrierStatus) -> String {
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
