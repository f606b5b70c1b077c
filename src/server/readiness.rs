//! Whether this server can do what it is for, told apart: introspections may be answered from memory where the store is
//! away, and management never is.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::service::{Memory, Readiness, Service};
use crate::store::StoreError;

/// How often the store is asked.
const ASK_INTERVAL: Duration = Duration::from_secs(1);
/// How long it may take to answer what reads.
const READ_TIMEOUT: Duration = Duration::from_secs(2);
/// How long it may take to let somebody write: others have their turns.
const WRITE_TIMEOUT: Duration = Duration::from_secs(6);
/// How often memory is looked at, whose lease ends without a word.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// What the store said last; nothing: it has not been asked yet.
type Said = Option<Result<(), StoreError>>;

/// Where answers to introspections come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Store,
    Memory,
    LastKnown,
    Nowhere,
    /// The store is there, and does not let itself be read.
    Denied,
}

impl Source {
    const fn answers(self) -> bool {
        !matches!(self, Self::Nowhere | Self::Denied)
    }
}

/// Asks the store and looks at memory until `stop`, tells what comes of it, and logs each change, once.
pub(super) async fn monitor(
    service: Arc<Service>,
    ready: watch::Sender<Readiness>,
    stop: CancellationToken,
) {
    let (can_read, readable) = watch::channel(None);
    let (can_write, writable) = watch::channel(None);
    let asking = async {
        tokio::join!(
            ask(&service, Question::Read, can_read),
            ask(&service, Question::Write, can_write),
            look(&service, readable, writable, &ready),
        )
    };
    tokio::select! {
        _ = asking => {}
        () = stop.cancelled() => {}
    }
}

/// What the store is asked.
#[derive(Debug, Clone, Copy)]
enum Question {
    Read,
    Write,
}

/// Asks this again and again.
async fn ask(service: &Service, question: Question, said: watch::Sender<Said>) {
    loop {
        let answer = async {
            match question {
                Question::Read => service.probe_reads().await,
                Question::Write => service.probe_writes().await,
            }
        };
        let longest = match question {
            Question::Read => READ_TIMEOUT,
            Question::Write => WRITE_TIMEOUT,
        };
        let late = |_| StoreError::Unavailable(format!("it did not answer within {longest:?}"));
        let answer = tokio::time::timeout(longest, answer).await.map_err(late);
        said.send_replace(Some(answer.and_then(|answer| answer)));
        tokio::time::sleep(ASK_INTERVAL).await;
    }
}

async fn look(
    service: &Service,
    mut readable: watch::Receiver<Said>,
    mut writable: watch::Receiver<Said>,
    health: &watch::Sender<Readiness>,
) {
    let mut told = Told::default();
    loop {
        let reads = readable.borrow_and_update().clone();
        let writes = writable.borrow_and_update().clone();
        if let Some(reads) = &reads {
            let source = source(service.memory(), reads);
            told.source(source, reads);
            let management = matches!((reads, &writes), (Ok(()), Some(Ok(()))));
            if let Some(writes) = &writes {
                told.management(management, if reads.is_err() { reads } else { writes });
            }
            let now = Readiness { introspection: source.answers(), management };
            health.send_if_modified(|last| std::mem::replace(last, now) != now);
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
            _ = readable.changed() => {}
            _ = writable.changed() => {}
        }
    }
}

fn source(memory: Memory, reads: &Result<(), StoreError>) -> Source {
    if reads.is_ok() {
        Source::Store
    } else if matches!(reads, Err(StoreError::Denied(_))) {
        Source::Denied
    } else {
        match memory {
            Memory::Current => Source::Memory,
            Memory::LastKnown => Source::LastKnown,
            Memory::Useless => Source::Nowhere,
        }
    }
}

/// What the log has been told.
#[derive(Debug, Default)]
struct Told {
    source: Option<Source>,
    management: Option<bool>,
}

impl Told {
    fn source(&mut self, source: Source, reads: &Result<(), StoreError>) {
        let before = self.source.replace(source);
        if before == Some(source) {
            return;
        }
        let error = reads.as_ref().err().map(StoreError::cause).unwrap_or_default();
        match source {
            Source::Store if before.is_none() => tracing::info!("serving"),
            Source::Store => tracing::info!("the store answers again: serving as ever"),
            Source::Memory => tracing::warn!(
                error,
                "the store is out of reach: introspections are answered from memory until the lease is over"
            ),
            Source::LastKnown => tracing::warn!(
                error,
                "the store is out of reach and the lease is over: what was last known is answered, marked stale, \
                 until --outage-grace is over"
            ),
            Source::Nowhere => tracing::error!(
                error,
                "the store is out of reach and memory is too old to be believed: not serving"
            ),
            Source::Denied => tracing::error!(
                error,
                "the store does not let this server read: not serving. docs/postgres-roles.md has the rights it needs"
            ),
        }
    }

    fn management(&mut self, serving: bool, said: &Result<(), StoreError>) {
        let before = self.management.replace(serving);
        if before == Some(serving) {
            return;
        }
        let error = said.as_ref().err().map(StoreError::cause).unwrap_or_default();
        match (before, serving) {
            (None, true) => {}
            (_, true) => tracing::info!("management works again"),
            (_, false) => {
                tracing::warn!(error, "management does not work: the store takes no writes");
            }
        }
    }
}
