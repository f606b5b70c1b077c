//! The single path of every write. A use case begins and commits its transactions here. Before it reads anything, it
//! declares the [`Effect`] that its call has on answers. The wait for replicas follows from that, and happens here,
//! even if the call changes nothing.
//!
//! The types enforce it. A use case's store cannot begin a transaction, and [`Transaction`] has no `commit` method. The
//! value that a call returns is wrapped in a [`Done`], which only a [`Committed`] creates and only this file unwraps.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::call_context::{self, TransactionGuard};
use super::{Attempt, Context, Kind, Reads, Reason, Requester, Result, Service, ServiceError};
use crate::cache::{Barrier, BarrierError, BarrierStatus};
use crate::model::{AuditEvent, ReplicaId, Revision};
use crate::store::{Store, WriteTx};

/// Longest wait for replicas. Longer than any sensible lease.
const BARRIER_PATIENCE: Duration = Duration::from_mins(2);
/// Time before a request's deadline at which it stops waiting for replicas.
const BARRIER_HEADWAY: Duration = Duration::from_millis(50);

/// Effect of a call on introspection answers. It follows from the request, not from the state that the call finds: a
/// call that finds nothing to change may be the retry of one that timed out while it waited for replicas. There is one
/// exception: a retry that revokes the token of its first try. See [`Done::narrowing`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// May take access away. When the call returns, no replica gives the old answer any more.
    Narrows,
    /// Only grants access. This process applies the change before the call returns, or shortly after. The other
    /// replicas follow with their next sync.
    Widens,
    /// Affects no cached answer.
    Neutral,
}

impl Effect {
    /// Returns [`Self::Narrows`] if `asked`, which says that the request may take access away. Otherwise
    /// [`Self::Widens`].
    pub(super) const fn narrows_if(asked: bool) -> Self {
        if asked { Self::Narrows } else { Self::Widens }
    }
}

/// The writable store and the revocation barrier. Only this file uses them.
pub struct Commits {
    store: Arc<dyn Store>,
    barrier: Barrier,
    /// Revision of the last commit of a change by this process. 0 before the first.
    last: AtomicU64,
    newest_wait: Mutex<ReplicaWait>,
}

/// The newest wait for replicas of this process. For the command line, which makes one call at a time.
#[derive(Debug, Clone)]
pub struct ReplicaWait {
    /// Why the call waits.
    pub cause: WaitCause,
    /// Whether the wait is over, and no replica answers from an older state any more.
    pub has_passed: bool,
}

/// Why a call waits for replicas.
#[derive(Debug, Clone)]
pub enum WaitCause {
    /// It has committed a change.
    Change,
    /// It found nothing to change. An earlier try may have changed it.
    NoChange,
    /// It was refused and changed nothing. An earlier try may have caused the refusal.
    Refusal(ServiceError),
}

impl Commits {
    /// Commits to `store` and waits by `barrier`.
    pub fn new(store: Arc<dyn Store>, barrier: Barrier) -> Self {
        let newest_wait = ReplicaWait { cause: WaitCause::NoChange, has_passed: false };
        Self { store, barrier, last: AtomicU64::new(0), newest_wait: Mutex::new(newest_wait) }
    }

    /// Returns the same store for reading.
    pub(super) fn reads(&self) -> Reads {
        Reads::new(Arc::clone(&self.store) as _)
    }

    /// Stops the barrier's background work. Call it when no call is in flight any more.
    pub(super) async fn stop(&self) {
        self.barrier.stop().await;
    }
}

/// An open transaction. It is committed by [`Service::commit`] and rolled back when dropped.
pub(super) struct Transaction {
    tx: Box<dyn WriteTx>,
    guard: TransactionGuard,
}

impl Deref for Transaction {
    type Target = dyn WriteTx;

    fn deref(&self) -> &Self::Target {
        &*self.tx
    }
}

impl DerefMut for Transaction {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut *self.tx
    }
}

/// Proof that one or several transactions were committed, or that there was nothing to commit.
#[must_use = "wrap the call's result with `done`"]
#[derive(Debug, Clone, Copy)]
pub(super) struct Committed {
    revision: Revision,
    /// Whether one of the transactions changed something.
    changed: bool,
}

impl Committed {
    /// The newest revision, which includes everything that the call committed or found unchanged.
    pub(super) const fn revision(self) -> Revision {
        self.revision
    }

    /// Combines this with a later commit of the same call.
    pub(super) fn and(self, later: Self) -> Self {
        Self { revision: self.revision.max(later.revision), changed: self.changed || later.changed }
    }

    /// Wraps the value that the call returns once its effect has taken place.
    pub(super) const fn done<T>(self, value: T) -> Done<T> {
        Done { value, committed: self, narrows: false, pending: None }
    }
}

/// Return value of a call, withheld until the call's effect has taken place.
#[must_use = "return it from the call"]
pub(super) struct Done<T> {
    value: T,
    committed: Committed,
    narrows: bool,
    pending: Option<fn(&mut T)>,
}

impl<T> Done<T> {
    /// Marks the call as one that took access away, although the request did not show it.
    pub(super) fn narrowing(self) -> Self {
        Self { narrows: true, ..self }
    }

    /// If the wait times out, returns the value, changed by `note`, instead of an error. For values that
    /// are returned only once, such as a token.
    pub(super) fn or_pending(self, note: fn(&mut T)) -> Self {
        Self { pending: Some(note), ..self }
    }

    /// Changes the value.
    pub(super) fn with(mut self, change: impl FnOnce(&mut T)) -> Self {
        change(&mut self.value);
        self
    }

    /// Adds a later commit of the same call, and changes the value.
    pub(super) fn also(self, later: Committed, change: impl FnOnce(&mut T)) -> Self {
        let committed = self.committed.and(later);
        Self { committed, ..self }.with(change)
    }

    /// Converts the value. Drops the note of [`Self::or_pending`], which is for the old type.
    pub(super) fn map<U>(self, make: impl FnOnce(T) -> U) -> Done<U> {
        let Self { value, committed, narrows, pending: _ } = self;
        Done { value: make(value), committed, narrows, pending: None }
    }
}

impl Service {
    /// Begins a transaction. `name` is for traces. Until it ends, all reads of the call must go through it: see
    /// `call_context.rs`.
    ///
    /// # Errors
    /// [`Reason::DeadlineExceeded`] if it is the call's first transaction and the deadline has passed.
    pub(super) async fn begin(&self, name: &'static str) -> Result<Transaction> {
        let tx = self.commits.store.begin(name).await?;
        Ok(Transaction { tx, guard: TransactionGuard::enter()? })
    }

    /// Commits the transaction together with its audit event.
    pub(super) async fn commit(&self, tx: Transaction, event: &AuditEvent) -> Result<Committed> {
        let Committed { revision, .. } = self.commit_event(tx, event).await?;
        self.commits.last.fetch_max(revision.0, Ordering::Relaxed);
        call_context::note_change();
        Ok(Committed { revision, changed: true })
    }

    /// Commits a transaction that changes nothing and only has an audit event.
    pub(super) async fn commit_event(
        &self,
        tx: Transaction,
        event: &AuditEvent,
    ) -> Result<Committed> {
        let Transaction { tx, guard } = tx;
        let revision = tx.commit(event).await?;
        drop(guard);
        Ok(Committed { revision, changed: false })
    }

    /// Stands in for a commit in a call that had nothing to write. Returns the store's current revision.
    pub(super) async fn nothing_to_commit(&self) -> Result<Committed> {
        Ok(Committed { revision: self.store.revision().await?, changed: false })
    }

    /// Runs a management call in a separate task. The task runs to its end even if the client disconnects, and holds the
    /// request's share until then. A refusal is recorded before it is returned. Otherwise the call's effect on answers
    /// is awaited.
    pub(super) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        attempt: Attempt,
        effect: Effect,
        work: impl Future<Output = Result<Done<T>>> + Send + 'static,
    ) -> Result<T> {
        let (sender, receiver) = oneshot::channel();
        let call = Arc::clone(self).call(attempt, effect, Box::pin(work)).in_current_span();
        let task = self.tasks.spawn(call, |outcome| {
            // Fails if the client has disconnected.
            let _ = sender.send(outcome);
        });
        if let Ok(outcome) = receiver.await {
            return outcome;
        }
        let panic = task.await.err().map(|error| error.to_string());
        Err(ServiceError::internal(&panic.unwrap_or_default()))
    }

    async fn call<T: Send + 'static>(
        self: Arc<Self>,
        attempt: Attempt,
        effect: Effect,
        work: BoxFuture<'static, Result<Done<T>>>,
    ) -> Result<T> {
        call_context::run(attempt.context().deadline, async {
            // Without this, a call would wait for network timeouts while the store is unreachable. The outcome of a
            // commit in flight is then unknown: as after any lost connection, the caller retries.
            let worked = tokio::select! {
                biased;
                worked = work => worked,
                error = self.store.until_unreachable() => Err(error.into()),
            };
            let error = match worked {
                Ok(done) => return self.settle(attempt.context(), effect, done).await,
                Err(error) => error,
            };
            // Before the refusal is recorded, which begins a transaction too.
            // Whoever is refused takes that as final. So the changes of a call of several steps are waited for, too.
            let changed = effect == Effect::Narrows
                && error.reason.kind().is_refusal()
                && call_context::has_changed();
            let waits = changed || may_be_caused_by_earlier_try(effect, error.reason);
            self.record_refusal(&attempt, error.reason).await;
            if waits {
                let head = self.nothing_to_commit().await?.revision();
                // A call of several steps may be refused after it has committed something.
                let cause = if call_context::has_changed() {
                    WaitCause::Change
                } else {
                    WaitCause::Refusal(error.clone())
                };
                let mut context = attempt.context().clone();
                if let Requester::Operator(_) = context.requester {
                    // The command line sets a deadline only to show a new token early, and here is none.
                    context.deadline = None;
                }
                self.wait_for(head, cause, &context).await?;
            }
            Err(error)
        })
        .await
    }

    /// Returns a call's value after its effect has taken place. For [`Self::run`], and for commands of the command line
    /// that run without a task.
    ///
    /// # Errors
    /// [`Reason::BarrierPending`] if a replica could still give the old answer when the time ran out. The change is
    /// committed nevertheless.
    pub(super) async fn settle<T>(
        &self,
        context: &Context,
        effect: Effect,
        done: Done<T>,
    ) -> Result<T> {
        let Done { mut value, committed: Committed { revision, changed }, narrows, pending } = done;
        match if narrows { Effect::Narrows } else { effect } {
            Effect::Narrows => {
                let cause = if changed { WaitCause::Change } else { WaitCause::NoChange };
                if let Err(error) = self.wait_for(revision, cause, context).await {
                    pending.ok_or(error)?(&mut value);
                }
            }
            Effect::Widens => self.commits.barrier.wait_locally(revision).await,
            Effect::Neutral => {}
        }
        Ok(value)
    }

    /// Returns the revision of the last change that this process has committed, if any.
    pub fn last_commit(&self) -> Option<Revision> {
        Some(self.commits.last.load(Ordering::Relaxed)).filter(|last| *last > 0).map(Revision)
    }

    /// Returns the revision and the replicas that calls of this process currently wait for, if any.
    pub fn waiting(&self) -> Option<BarrierStatus> {
        self.commits.barrier.status()
    }

    /// Returns the newest wait for replicas of this process.
    pub fn newest_wait(&self) -> ReplicaWait {
        self.commits.newest_wait.lock().clone()
    }

    /// Returns the name of the host that a replica runs on, if it is known.
    ///
    /// # Errors
    /// If the store is unreachable.
    pub async fn replica_host(&self, id: ReplicaId) -> Result<Option<String>> {
        Ok(self.store.find_replica_host(id).await?)
    }

    /// Waits until every replica has applied everything that is committed now. For a caller that received
    /// [`Reason::BarrierPending`].
    ///
    /// # Errors
    /// [`Reason::BarrierPending`] if the time ran out first.
    pub async fn wait_for_replicas(&self, context: &Context) -> Result<()> {
        let head = self.nothing_to_commit().await?.revision();
        self.wait_for(head, WaitCause::Change, context).await
    }

    /// The revocation barrier (docs/protocol.md): waits until no replica answers from a state older than the committed
    /// `revision`.
    async fn wait_for(
        &self,
        revision: Revision,
        cause: WaitCause,
        context: &Context,
    ) -> Result<()> {
        *self.commits.newest_wait.lock() = ReplicaWait { cause: cause.clone(), has_passed: false };
        let latest = Instant::now() + BARRIER_PATIENCE;
        // Ends shortly before the client's deadline, so that the client still receives the answer.
        let deadline = context.deadline.map(|deadline| deadline - BARRIER_HEADWAY);
        let deadline = deadline.map_or(latest, |deadline| deadline.min(latest));
        let pending = || {
            let pending = match cause {
                WaitCause::Change | WaitCause::NoChange => Reason::BarrierPending.into(),
                WaitCause::Refusal(refusal) => refusal.into_pending(),
            };
            pending.with("revision", revision.0.to_string())
        };
        match tokio::time::timeout_at(deadline, self.commits.barrier.wait(revision)).await {
            Ok(Ok(())) => {
                self.commits.newest_wait.lock().has_passed = true;
                Ok(())
            }
            Ok(Err(BarrierError::IncarnationChanged)) | Err(_) => Err(pending()),
            Ok(Err(BarrierError::CommitNotVisible)) => {
                Err(ServiceError::internal(&"a commit that the store does not show"))
            }
        }
    }
}

/// Whether an earlier try of this call may be why it is refused. That try may have timed out while it waited for
/// replicas, and the caller takes the refusal as final, so this call has to wait for them first. Every refusal that
/// depends on the state of the store counts: which ones a change can cause is easily misjudged.
fn may_be_caused_by_earlier_try(effect: Effect, reason: Reason) -> bool {
    // A creation becomes narrowing when a retry replaces a token.
    if effect != Effect::Narrows && reason != Reason::RequestReplayed {
        return false;
    }
    match reason.kind() {
        Kind::NotFound | Kind::AlreadyExists | Kind::Aborted | Kind::FailedPrecondition => true,
        // Fields are checked by themselves before the transaction, and against the state in it. So is what a caller may
        // change of another caller: a lifetime from now on may have been a shorter one when it was first asked for.
        Kind::Invalid => call_context::has_begun(),
        Kind::PermissionDenied
            if matches!(reason, Reason::PermissionNotHeld | Reason::LifetimeNotHeld) =>
        {
            call_context::has_begun()
        }
        // The first four say nothing about the object: no call takes rights from its own acting user. After the others
        // the outcome is unknown or pending, so the caller sends the call again.
        Kind::Unauthenticated
        | Kind::PermissionDenied
        | Kind::OutOfRange
        | Kind::Unimplemented
        | Kind::Exhausted
        | Kind::Misconfigured
        | Kind::DeadlineExceeded
        | Kind::Unavailable
        | Kind::Internal => false,
    }
}
