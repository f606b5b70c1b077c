//! Watching: the changes that may turn an answer around, and a checkpoint at least every second.
//!
//! Nothing is buffered for a watcher: each reads the hub's ring at its own pace. One that the ring has left behind, or that
//! comes back with a cursor, reads the store's log until the ring has what comes next; only where the log has been cut is
//! it told so. A checkpoint is sent only when the primary has just confirmed that there is nothing more.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::Stream;
use tokio::sync::watch;
use tokio::time::{Duration, Instant};

use super::{KnownCaller, PresentedCaller, Reason, Result, Service, ServiceError, Violations};
use crate::cache::Position;
use crate::model::{Caller, CallerIdentity, Permission, Revision};
use crate::store::{Change, ChangedEntity, IncarnationId};

/// A response with as many changes as this is full: more may come, and it is no checkpoint. One may have up to twice as
/// many, since those of callers, which are left out, are read along.
const CHANGES_MAX: usize = 1_000;
/// Without changes a checkpoint is sent this often.
const CHECKPOINT_INTERVAL: Duration = Duration::from_millis(500);
/// A cursor of another server may be ahead of this one, by what this one reads next. The sync that is under way may be of
/// before the cursor, and the next one not.
const SYNCS_BEHIND_MAX: u64 = 2;
/// Bytes of a cursor at most.
const CURSOR_BYTES_MAX: usize = 256;

/// What a watcher hears at once.
#[derive(Debug, Clone)]
pub struct Heard {
    /// Changes, in the order of their revisions. Those of callers are left out: caches know nothing of them.
    pub changes: Vec<Change>,
    /// Where to go on after this.
    pub cursor: String,
    /// Everything up to this was heard.
    pub revision: Revision,
}

/// One who watches.
struct Watcher {
    service: Arc<Service>,
    position: watch::Receiver<Position>,
    caller: Arc<Caller>,
    /// The caller as it was last found good; nothing: that is still to be asked.
    known: Option<KnownCaller>,
    incarnation: IncarnationId,
    /// Everything up to this was sent.
    sent: Revision,
    /// It has had all there was: what it misses from here on, it has missed by reading too slowly.
    caught_up: bool,
    /// The sync that the last response rested on.
    number: u64,
    sent_at: Option<Instant>,
}

impl Service {
    /// What a caller hears that watches from `cursor` on; empty: from now on.
    ///
    /// # Errors
    /// [`Reason::CursorTooOld`], at once if the cursor is too old already, and as the last item of the stream;
    /// [`Reason::WatcherTooSlow`], [`Reason::CallerUnknown`], [`Reason::PermissionMissing`], [`Reason::Stopping`].
    pub async fn watch(
        self: &Arc<Self>,
        caller: Arc<Caller>,
        cursor: &str,
    ) -> Result<impl Stream<Item = Result<Heard>> + Send + use<>> {
        let mut watcher = Watcher::begin(Arc::clone(self), caller, cursor).await?;
        // What is too old is said at once, as the answer to the call.
        let first = watcher.next().await?;
        let rest = futures::stream::unfold(Some(watcher), |watcher| async {
            let mut watcher = watcher?;
            let heard = watcher.next().await;
            let watcher = heard.is_ok().then_some(watcher);
            Some((heard, watcher))
        });
        let first = futures::stream::once(std::future::ready(Ok(first)));
        Ok(futures::StreamExt::chain(first, rest))
    }

    /// Ends all watching, with a word that sends watchers elsewhere.
    pub fn end_watches(&self) {
        self.hub.close();
    }

    /// Waits until this process has read the change log up to `revision`.
    ///
    /// # Errors
    /// [`Reason::Stopping`], where it reads no more.
    pub async fn has_read(&self, revision: Revision) -> Result<()> {
        let mut position = self.hub.position();
        let reached = position.wait_for(|position| position.revision >= revision).await;
        reached.map(drop).map_err(|_| Reason::Stopping.into())
    }
}

impl Watcher {
    /// Waits until this process has read the log as far as the cursor.
    async fn begin(service: Arc<Service>, caller: Arc<Caller>, cursor: &str) -> Result<Self> {
        let mut position = service.hub.position();
        let now = position.wait_for(|position| position.number > 0).await;
        let now = now.map_err(|_| Reason::Stopping)?.clone();
        let incarnation = now.incarnation.ok_or(Reason::StoreUnavailable)?;
        let sent = match parse(cursor)? {
            None => now.revision,
            Some((life, revision)) if life == incarnation => revision,
            Some(_) => return Err(Reason::CursorTooOld.into()),
        };
        let number = now.number.saturating_sub(1);
        let latest = now.number + SYNCS_BEHIND_MAX;
        let reached = position
            .wait_for(|position| position.revision >= sent || position.number >= latest)
            .await
            .map_err(|_| Reason::Stopping)?
            .revision;
        if sent > reached {
            return Err(Reason::CursorTooOld.into());
        }
        Ok(Self {
            service,
            position,
            caller,
            known: None,
            incarnation,
            sent,
            caught_up: false,
            number,
            sent_at: None,
        })
    }

    /// Waits until there is something to say.
    async fn next(&mut self) -> Result<Heard> {
        loop {
            let (number, sent, sent_at) = (self.number, self.sent, self.sent_at);
            let due = |position: &Position| {
                let idle = sent_at.is_some_and(|at| at.elapsed() < CHECKPOINT_INTERVAL);
                position.number > number && (position.revision > sent || !idle)
            };
            let position = self.position.wait_for(due).await.map_err(|_| Reason::Stopping)?.clone();
            if position.incarnation.as_ref() != Some(&self.incarnation) {
                return Err(Reason::CursorTooOld.into());
            }
            // A process that was stopped may wake up with an old sync in hand: its word would be too late.
            if !self.service.lookup.is_current() {
                self.number = position.number;
                continue;
            }
            // What was sent was of another past.
            if self.sent > position.revision {
                return Err(Reason::CursorTooOld.into());
            }
            self.check_caller().await?;
            let mut entities = Vec::new();
            while self.sent < position.revision && entities.len() < CHANGES_MAX {
                let changes = self.changes(position.revision).await?;
                let last = changes.last().ok_or_else(|| self.missed())?;
                self.sent = last.revision;
                entities.extend(changes.into_iter().filter(is_told));
            }
            // With more to come this is no checkpoint yet: what tells that is that it is full.
            if self.sent >= position.revision {
                self.number = position.number;
                self.caught_up = true;
            }
            self.sent_at = Some(Instant::now());
            return Ok(Heard {
                changes: entities,
                cursor: spell(&self.incarnation, self.sent),
                revision: self.sent,
            });
        }
    }

    /// What comes after what was sent, up to `end`: from the ring, or from the store where the ring has it no more.
    async fn changes(&self, end: Revision) -> Result<Vec<Change>> {
        let kept = self.service.hub.changes(&self.incarnation, self.sent, CHANGES_MAX);
        let mut changes = if let Ok(changes) = kept {
            changes
        } else {
            let limit = u32::try_from(CHANGES_MAX).unwrap_or(u32::MAX);
            self.service.store.list_changes(self.sent, limit).await?
        };
        // The store may be ahead of what has been confirmed, and a ring of another life of what was sent.
        changes.retain(|change| change.revision <= end);
        let gapless = changes.first().is_some_and(|first| first.revision.0 == self.sent.0 + 1);
        if gapless { Ok(changes) } else { Err(self.missed()) }
    }

    /// What to say where what comes next is not kept any more.
    fn missed(&self) -> ServiceError {
        if self.caught_up { Reason::WatcherTooSlow } else { Reason::CursorTooOld }.into()
    }

    /// A caller that was revoked meanwhile hears no more; nor does one whose token has ended since.
    async fn check_caller(&mut self) -> Result<()> {
        let term = self.service.term();
        let known = self.known.as_ref().is_some_and(|known| self.service.is_still_known(known));
        if known && self.service.may_believe(term) {
            return Ok(());
        }
        let presented = match &self.caller.identity {
            CallerIdentity::Token(digest) => PresentedCaller::Token(*digest),
            CallerIdentity::Certificate(san) => PresentedCaller::Certificate([san.clone()].into()),
        };
        let (caller, known) = self.service.authenticate_to_remember(&presented, None).await?;
        if !caller.permissions.contains(Permission::Introspect) {
            return Err(Reason::PermissionMissing.into());
        }
        self.known = known;
        self.caller = caller;
        Ok(())
    }
}

/// Whether watchers are told of a change: caches know nothing of callers.
fn is_told(change: &Change) -> bool {
    !matches!(change.entity, ChangedEntity::Caller(_))
}

fn spell(incarnation: &IncarnationId, revision: Revision) -> String {
    URL_SAFE_NO_PAD.encode(format!("{} {}", revision.0, incarnation.0))
}

/// Nothing for an empty cursor.
fn parse(cursor: &str) -> Result<Option<(IncarnationId, Revision)>> {
    if cursor.is_empty() {
        return Ok(None);
    }
    let parsed = || {
        let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
        let text = std::str::from_utf8(&bytes).ok()?;
        let (revision, incarnation) = text.split_once(' ')?;
        let revision = revision.parse().ok()?;
        Some((IncarnationId(incarnation.to_owned()), Revision(revision)))
    };
    let parsed =
        Some(cursor).filter(|cursor| cursor.len() <= CURSOR_BYTES_MAX).and_then(|_| parsed());
    if parsed.is_none() {
        let mut violations = Violations::default();
        violations.add("cursor", "must be the cursor of a response, as it came, or empty");
        violations.finish()?;
    }
    Ok(parsed)
}
