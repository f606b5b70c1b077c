//! `Watch`: the changes that may turn an answer around, and a checkpoint at least every second.
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
use tonic::Status;

use super::pb;
use crate::cache::{Hub, Position};
use crate::model::{Caller, CallerIdentity, Revision};
use crate::service::{PresentedCaller, Reason, Result, Service, ServiceError, Violations};
use crate::store::{Change, ChangedEntity, Incarnation};

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

/// A stream of responses.
pub(super) type Responses =
    std::pin::Pin<Box<dyn Stream<Item = std::result::Result<pb::WatchResponse, Status>> + Send>>;

/// One who watches.
struct Watcher {
    service: Arc<Service>,
    hub: Arc<Hub>,
    position: watch::Receiver<Position>,
    caller: Arc<Caller>,
    /// What is known of callers was of this when the caller was last found good; nothing: that is still to be asked.
    callers_generation: Option<u64>,
    incarnation: Incarnation,
    /// Everything up to this was sent.
    sent: Revision,
    /// It has had all there was: what it misses from here on, it has missed by reading too slowly.
    caught_up: bool,
    /// The sync that the last response rested on.
    number: u64,
    sent_at: Option<Instant>,
}

/// Begins after `cursor`; empty: now.
pub(super) async fn watch(
    service: Arc<Service>,
    hub: Arc<Hub>,
    caller: Arc<Caller>,
    cursor: &str,
) -> Result<Responses> {
    let mut position = hub.position();
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
    let mut watcher = Watcher {
        service,
        hub,
        position,
        caller,
        callers_generation: None,
        incarnation,
        sent,
        caught_up: false,
        number,
        sent_at: None,
    };
    // What is too old is said at once, as the status of the call.
    let first = watcher.next().await?;
    let rest = futures::stream::unfold(Some(watcher), |watcher| async {
        let mut watcher = watcher?;
        match watcher.next().await {
            Ok(response) => Some((Ok(response), Some(watcher))),
            Err(error) => Some((Err(error.into()), None)),
        }
    });
    let first = futures::stream::once(std::future::ready(Ok(first)));
    Ok(Box::pin(futures::StreamExt::chain(first, rest)))
}

impl Watcher {
    /// Waits until there is something to say.
    async fn next(&mut self) -> Result<pb::WatchResponse> {
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
                entities.extend(changes.iter().filter_map(change));
            }
            // With more to come this is no checkpoint yet: what tells that is that it is full.
            if self.sent >= position.revision {
                self.number = position.number;
                self.caught_up = true;
            }
            self.sent_at = Some(Instant::now());
            return Ok(pb::WatchResponse {
                changes: entities,
                cursor: spell(&self.incarnation, self.sent),
                revision: self.sent.0,
            });
        }
    }

    /// What comes after what was sent, up to `end`: from the ring, or from the store where the ring has it no more.
    async fn changes(&self, end: Revision) -> Result<Vec<Change>> {
        let kept = self.hub.changes(&self.incarnation, self.sent, CHANGES_MAX);
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
        let lookup = &self.service.lookup;
        let (term, generation) = (lookup.term(), lookup.callers_generation());
        let ended = self.service.proof_has_ended(&self.caller);
        if self.callers_generation == Some(generation) && lookup.may_believe(term) && !ended {
            return Ok(());
        }
        let presented = match &self.caller.identity {
            CallerIdentity::Token(digest) => PresentedCaller::Token(*digest),
            CallerIdentity::Certificate(san) => PresentedCaller::Certificate([san.clone()].into()),
        };
        let caller = self.service.authenticate(&presented, None).await?;
        if !caller.permissions.contains(crate::model::Permission::Introspect) {
            return Err(Reason::PermissionMissing.into());
        }
        self.callers_generation = Some(generation);
        self.caller = caller;
        Ok(())
    }
}

/// A change as caches know it; of callers they know nothing.
fn change(change: &Change) -> Option<pb::Change> {
    use pb::change::Entity;
    let entity = match &change.entity {
        ChangedEntity::Credential(digest) => Entity::CredentialDigest(digest.as_bytes().to_vec()),
        ChangedEntity::User(id) => Entity::UserId(id.to_string()),
        ChangedEntity::Workspace(id) => Entity::WorkspaceId(id.to_string()),
        ChangedEntity::UnknownDigests => Entity::UnknownDigests(true),
        ChangedEntity::Caller(_) => return None,
    };
    Some(pb::Change { entity: Some(entity), revision: change.revision.0 })
}

fn spell(incarnation: &Incarnation, revision: Revision) -> String {
    URL_SAFE_NO_PAD.encode(format!("{} {}", revision.0, incarnation.0))
}

/// Nothing for an empty cursor.
fn parse(cursor: &str) -> Result<Option<(Incarnation, Revision)>> {
    if cursor.is_empty() {
        return Ok(None);
    }
    let parsed = || {
        let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
        let text = std::str::from_utf8(&bytes).ok()?;
        let (revision, incarnation) = text.split_once(' ')?;
        let revision = revision.parse().ok()?;
        Some((Incarnation(incarnation.to_owned()), Revision(revision)))
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
