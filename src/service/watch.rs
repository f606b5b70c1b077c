//! Watch: a stream of the changes that may alter an answer, with a checkpoint at least every second.
//!
//! Nothing is buffered per watcher: each reads the change buffer, a ring, at its own pace. A watcher that the ring has
//! overtaken, or that resumes from a cursor, reads the store's change log until it has caught up with the ring. It gets
//! an error only if the log no longer reaches back far enough. A checkpoint is sent only after the primary has
//! confirmed that there are no further changes.

use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::Stream;
use tokio::sync::watch;
use tokio::time::{Duration, Instant};

use super::{
    AuthenticatedCaller, PresentedCaller, Reason, Result, Service, ServiceError, Violations,
};
use crate::cache::LogPosition;
use crate::model::{Caller, CallerIdentity, Permission, Revision};
use crate::store::{Change, ChangedEntity, IncarnationId};

/// Number of changes at which a response is full. A full response is not a checkpoint, since more changes may follow. A
/// response may hold up to twice as many, because reading stops only once this number is reached.
const CHANGES_MAX: usize = 1_000;
/// Interval between checkpoints while nothing changes.
const CHECKPOINT_INTERVAL: Duration = Duration::from_millis(500);
/// Number of syncs by which a cursor from another server may be ahead of this one. The sync in flight may have started
/// before the cursor's revision was committed. The next one has not.
const SYNCS_BEHIND_MAX: u64 = 2;
/// Maximum length of a cursor in bytes.
const CURSOR_BYTES_MAX: usize = 256;

/// One update for a watcher.
#[derive(Debug, Clone)]
pub struct WatchUpdate {
    /// Changes in the order of their revisions. Changes of callers are left out, since caches hold no callers.
    pub changes: Vec<Change>,
    /// Cursor from which to resume after this update.
    pub cursor: String,
    /// Revision up to which the watcher has received every change.
    pub revision: Revision,
}

/// State of one Watch stream.
struct Watcher {
    service: Arc<Service>,
    position: watch::Receiver<LogPosition>,
    caller: Arc<Caller>,
    /// Address of the client, for the last use of the caller.
    address: Option<IpAddr>,
    /// The caller as last authenticated. `None` if it has to be authenticated before the next update.
    known: Option<AuthenticatedCaller>,
    incarnation: IncarnationId,
    /// Revision up to which every change was sent.
    sent: Revision,
    /// Whether the watcher has caught up once. If it misses changes after that, it reads too slowly.
    caught_up: bool,
    /// Number of the sync that the last response is based on.
    number: u64,
    sent_at: Option<Instant>,
}

impl Service {
    /// Returns the stream of changes after `cursor`, for the caller at `address`. An empty cursor means from now on.
    ///
    /// # Errors
    /// Each of these at once, or later as the last item of the stream: [`Reason::CursorTooOld`],
    /// [`Reason::WatcherTooSlow`], [`Reason::CallerUnknown`], [`Reason::CallerExpired`], [`Reason::PermissionMissing`],
    /// [`Reason::Stopping`].
    pub async fn watch(
        self: &Arc<Self>,
        caller: Arc<Caller>,
        address: Option<IpAddr>,
        cursor: &str,
    ) -> Result<impl Stream<Item = Result<WatchUpdate>> + Send + use<>> {
        let mut watcher = Watcher::begin(Arc::clone(self), caller, address, cursor).await?;
        // A cursor that is too old is reported at once, as the answer to the call.
        let first = watcher.next().await?;
        let rest = futures::stream::unfold(Some(watcher), |watcher| async {
            let mut watcher = watcher?;
            let update = watcher.next().await;
            let watcher = update.is_ok().then_some(watcher);
            Some((update, watcher))
        });
        let first = futures::stream::once(std::future::ready(Ok(first)));
        Ok(futures::StreamExt::chain(first, rest))
    }

    /// Ends every Watch with [`Reason::Stopping`], so that watchers connect to another server.
    pub fn end_watches(&self) {
        self.change_buffer.close();
    }

    /// Waits until this process has read the change log up to `revision`, for tests of several servers. They cannot wait
    /// by the barrier, which does not know a server that has not registered yet.
    ///
    /// # Errors
    /// [`Reason::Stopping`] if it no longer reads the log.
    pub async fn wait_until_read(&self, revision: Revision) -> Result<()> {
        let mut position = self.change_buffer.position();
        let reached = position.wait_for(|position| position.revision >= revision).await;
        reached.map(drop).map_err(|_| Reason::Stopping.into())
    }
}

impl Watcher {
    /// Begins a Watch. Waits until this process has read the log up to the cursor.
    async fn begin(
        service: Arc<Service>,
        caller: Arc<Caller>,
        address: Option<IpAddr>,
        cursor: &str,
    ) -> Result<Self> {
        let mut position = service.change_buffer.position();
        let now = position.wait_for(|position| position.syncs > 0).await;
        let now = now.map_err(|_| Reason::Stopping)?.clone();
        let incarnation = now.incarnation.ok_or(Reason::StoreUnavailable)?;
        let sent = match decode_cursor(cursor)? {
            None => now.revision,
            Some((of, revision)) if of == incarnation => revision,
            Some(_) => return Err(Reason::CursorTooOld.into()),
        };
        let number = now.syncs.saturating_sub(1);
        let latest = now.syncs + SYNCS_BEHIND_MAX;
        let reached = position
            .wait_for(|position| position.revision >= sent || position.syncs >= latest)
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
            address,
            known: None,
            incarnation,
            sent,
            caught_up: false,
            number,
            sent_at: None,
        })
    }

    /// Waits for the next update.
    async fn next(&mut self) -> Result<WatchUpdate> {
        loop {
            let (number, sent, sent_at) = (self.number, self.sent, self.sent_at);
            let due = |position: &LogPosition| {
                let idle = sent_at.is_some_and(|at| at.elapsed() < CHECKPOINT_INTERVAL);
                position.syncs > number && (position.revision > sent || !idle)
            };
            let position = self.position.wait_for(due).await.map_err(|_| Reason::Stopping)?.clone();
            if position.incarnation.as_ref() != Some(&self.incarnation) {
                return Err(Reason::CursorTooOld.into());
            }
            // A process that was suspended may resume with an old sync, which must not count as a checkpoint.
            if !self.service.lookup.is_current() {
                self.number = position.syncs;
                continue;
            }
            // The changes that were sent belong to another incarnation of the store.
            if self.sent > position.revision {
                return Err(Reason::CursorTooOld.into());
            }
            self.check_caller().await?;
            let mut entities = Vec::new();
            while self.sent < position.revision && entities.len() < CHANGES_MAX {
                let changes = self.changes(position.revision).await?;
                let last = changes.last().ok_or_else(|| self.missed())?;
                self.sent = last.revision;
                entities.extend(changes.into_iter().filter(is_for_watchers));
            }
            // If changes remain, this is not a checkpoint. The watcher sees that from the full response.
            if self.sent >= position.revision {
                self.number = position.syncs;
                self.caught_up = true;
            }
            self.sent_at = Some(Instant::now());
            return Ok(WatchUpdate {
                changes: entities,
                cursor: encode_cursor(&self.incarnation, self.sent),
                revision: self.sent,
            });
        }
    }

    /// Returns the changes after `sent` up to `end`, from the ring or, if the ring no longer holds them, from the
    /// store.
    async fn changes(&self, end: Revision) -> Result<Vec<Change>> {
        let kept = self.service.change_buffer.changes(&self.incarnation, self.sent, CHANGES_MAX);
        let mut changes = if let Ok(changes) = kept {
            changes
        } else {
            let limit = u32::try_from(CHANGES_MAX).unwrap_or(u32::MAX);
            self.service.store.list_changes(self.sent, limit).await?
        };
        // The store may be ahead of the confirmed revision, and the ring of another incarnation ahead of `sent`.
        changes.retain(|change| change.revision <= end);
        let gapless = changes.first().is_some_and(|first| first.revision.0 == self.sent.0 + 1);
        if gapless { Ok(changes) } else { Err(self.missed()) }
    }

    /// The error of a watcher whose next changes are no longer kept.
    fn missed(&self) -> ServiceError {
        if self.caught_up { Reason::WatcherTooSlow } else { Reason::CursorTooOld }.into()
    }

    /// Checks that the caller is still valid, and notes that it is in use. The Watch ends if the caller was revoked, or
    /// if it or its token has expired.
    async fn check_caller(&mut self) -> Result<()> {
        let snapshot = self.service.lease_snapshot();
        let known = self.known.as_ref().filter(|known| self.service.is_still_known(known));
        if let Some(known) = known.filter(|_| self.service.lease_held_since(snapshot)) {
            self.service.note_caller_use(known, self.address);
            return Ok(());
        }
        let presented = match &self.caller.identity {
            CallerIdentity::Token(digest) => PresentedCaller::Token(*digest),
            CallerIdentity::Certificate(san) => PresentedCaller::Certificate([san.clone()].into()),
        };
        let known = self.service.identify(presented, None).await?;
        // Another caller may have the certificate's name by now.
        if known.caller.id != self.caller.id {
            return Err(Reason::CallerUnknown.into());
        }
        self.service.note_caller_use(&known, self.address);
        if !known.caller.permissions.contains(Permission::Introspect) {
            return Err(Reason::PermissionMissing.into());
        }
        self.caller = Arc::clone(&known.caller);
        self.known = Some(known);
        Ok(())
    }
}

/// Whether watchers receive this change. Caches hold no callers.
fn is_for_watchers(change: &Change) -> bool {
    !matches!(change.entity, ChangedEntity::Caller(_))
}

fn encode_cursor(incarnation: &IncarnationId, revision: Revision) -> String {
    URL_SAFE_NO_PAD.encode(format!("{} {}", revision.0, incarnation.0))
}

/// Decodes a cursor. Returns `None` if it is empty.
fn decode_cursor(cursor: &str) -> Result<Option<(IncarnationId, Revision)>> {
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
        violations.add("cursor", "must be the unchanged cursor of a response, or empty");
        violations.finish()?;
    }
    Ok(parsed)
}
