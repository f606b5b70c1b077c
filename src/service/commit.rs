//! The one exit from every write. A use case begins here, commits here, and says before it reads anything what its call
//! does to answers; what has to be waited for then is waited for here, whether the call found something to change or not.
//!
//! None can forget it: the store that a use case has cannot begin a transaction, [`Transaction`] has no commit of its own,
//! and what a call gives is locked up in a [`Done`], which only a [`Committed`] makes and only this file opens.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::Instrument as _;

use super::under_way::{self, Open};
use super::{Attempt, Context, Kind, Reads, Reason, Result, Service, ServiceError};
use crate::cache::{Barrier, BarrierError, Waiting};
use crate::model::{AuditEvent, ReplicaId, Revision};
use crate::store::{Store, WriteTx};

/// The longest that a change waits for replicas: more than the longest lease that is sensible.
const BARRIER_PATIENCE: Duration = Duration::from_mins(2);
/// How much earlier than the deadline of a request it gives up waiting.
const BARRIER_HEADWAY: Duration = Duration::from_millis(50);

/// What a call does to answers. It follows from what is asked, never from what is found: a call that finds the state as
/// asked may be the retry of one that did not see the end of its wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// It may take something away: when it returns, no replica answers as before.
    Narrows,
    /// It only gives: the others hear of it in their time, and this process before it returns, or nearly.
    Widens,
    /// No answer that anybody remembers rests on it.
    Neutral,
}

impl Effect {
    /// Of a call that gives, unless what is asked may take something away.
    pub(super) const fn narrows_if(asked: bool) -> Self {
        if asked { Self::Narrows } else { Self::Widens }
    }
}

/// The store as it is written to, and what waits for replicas: for this file only.
pub struct Commits {
    store: Arc<dyn Store>,
    barrier: Barrier,
}

impl Commits {
    /// To this store, waiting by this barrier.
    pub fn new(store: Arc<dyn Store>, barrier: Barrier) -> Self {
        Self { store, barrier }
    }

    /// The same store, for reading.
    pub(super) fn reads(&self) -> Reads {
        Reads::new(Arc::clone(&self.store) as _)
    }

    /// Ends what the barrier does on its own. To be called when no call is under way any more.
    pub(super) async fn stop(&self) {
        self.barrier.stop().await;
    }
}

/// A transaction, whose verbs are the store's, and whose exit is [`Service::commit`]. Dropping it undoes it.
pub(super) struct Transaction {
    tx: Box<dyn WriteTx>,
    open: Open,
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

/// That a transaction, or several, were committed.
#[must_use = "what a call gives is made of it, by `done`"]
#[derive(Debug, Clone, Copy)]
pub(super) struct Committed(Revision);

impl Committed {
    /// The newest revision: it contains all that was committed, and what was found as asked.
    pub(super) const fn revision(self) -> Revision {
        self.0
    }

    /// This and a later one, of the same call.
    pub(super) fn and(self, later: Self) -> Self {
        Self(self.0.max(later.0))
    }

    /// What the call gives once it has had its effect.
    pub(super) const fn done<T>(self, value: T) -> Done<T> {
        Done { value, committed: self, narrows: false, pending: None }
    }
}

/// What a call gives, to be given once it has had its effect.
#[must_use = "a call gives it back"]
pub(super) struct Done<T> {
    value: T,
    committed: Committed,
    narrows: bool,
    pending: Option<fn(&mut T)>,
}

impl<T> Done<T> {
    /// It took something away, though that could not be told from what was asked.
    pub(super) fn narrowing(self) -> Self {
        Self { narrows: true, ..self }
    }

    /// With it something is given that is given this once: where the wait cannot be waited to its end, the answer says
    /// that by `note`, and is no error.
    pub(super) fn or_pending(self, note: fn(&mut T)) -> Self {
        Self { pending: Some(note), ..self }
    }

    /// With this changed.
    pub(super) fn with(mut self, change: impl FnOnce(&mut T)) -> Self {
        change(&mut self.value);
        self
    }

    /// With one more that was committed, and what it changed.
    pub(super) fn also(self, later: Committed, change: impl FnOnce(&mut T)) -> Self {
        let committed = self.committed.and(later);
        Self { committed, ..self }.with(change)
    }

    /// Makes another answer of it, which cannot say yet that anything is pending.
    pub(super) fn map<U>(self, make: impl FnOnce(T) -> U) -> Done<U> {
        let Self { value, committed, narrows, pending: _ } = self;
        Done { value: make(value), committed, narrows, pending: None }
    }
}

impl Service {
    /// Begins to write. `name` is for traces. Until the transaction has ended, it reads too: see `under_way.rs`.
    ///
    /// # Errors
    /// [`Reason::DeadlineExceeded`] for a call's first one, if it came when nobody waited any longer.
    pub(super) async fn begin(&self, name: &'static str) -> Result<Transaction> {
        let tx = self.commits.store.begin(name).await?;
        Ok(Transaction { tx, open: Open::now()? })
    }

    /// Commits, with the audit event.
    pub(super) async fn commit(&self, tx: Transaction, event: &AuditEvent) -> Result<Committed> {
        let Transaction { tx, open } = tx;
        let revision = tx.commit(event).await?;
        drop(open);
        Ok(Committed(revision))
    }

    /// For a call that had nothing to write: it gives what is there now.
    pub(super) async fn nothing_to_commit(&self) -> Result<Committed> {
        Ok(Committed(self.store.revision().await?))
    }

    /// Runs a management call in a task of its own, to its end, whether or not anybody still waits for it; records its
    /// refusal before that is answered, and waits for what it does to answers.
    pub(super) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        attempt: Attempt,
        effect: Effect,
        work: impl Future<Output = Result<Done<T>>> + Send + 'static,
    ) -> Result<T> {
        let this = Arc::clone(self);
        let deadline = attempt.context().deadline;
        let work = async move {
            // What waits for a store that is away would wait for the network's time limits. Of a commit that was under
            // way nobody knows then: as after any lost connection, the call is to be sent again.
            let worked = tokio::select! {
                biased;
                worked = work => worked,
                error = this.store.until_unreachable() => Err(error.into()),
            };
            let error = match worked {
                Ok(done) => return this.settle(attempt.context(), effect, done).await,
                Err(error) => error,
            };
            this.record_refusal(&attempt, error.reason).await;
            if effect == Effect::Narrows && tells_of_an_end(error.reason) {
                let gone = this.nothing_to_commit().await?;
                this.wait_for(gone.revision(), attempt.context()).await?;
            }
            Err(error)
        };
        let task = self.tasks.spawn(under_way::run(deadline, work.in_current_span()));
        task.await.unwrap_or_else(|error| Err(ServiceError::internal(&error)))
    }

    /// Gives what a call gives, after it has had its effect: for [`Self::run`], and for what runs in the future of the
    /// command line.
    ///
    /// # Errors
    /// [`Reason::BarrierPending`] if the time was over before no replica answered as before: it is committed all the same.
    pub(super) async fn settle<T>(
        &self,
        context: &Context,
        effect: Effect,
        done: Done<T>,
    ) -> Result<T> {
        let Done { mut value, committed: Committed(revision), narrows, pending } = done;
        match if narrows { Effect::Narrows } else { effect } {
            Effect::Narrows => {
                if let Err(error) = self.wait_for(revision, context).await {
                    pending.ok_or(error)?(&mut value);
                }
            }
            Effect::Widens => self.commits.barrier.settle_here(revision).await,
            Effect::Neutral => {}
        }
        Ok(value)
    }

    /// What is committed and waited for now, if anything is: for who watches a call of this process from outside it.
    pub fn waiting(&self) -> Option<Waiting> {
        self.commits.barrier.waiting()
    }

    /// The name of the host that a replica runs on, if it has one.
    ///
    /// # Errors
    /// If the store is out of reach.
    pub async fn replica_host(&self, id: ReplicaId) -> Result<Option<String>> {
        Ok(self.store.find_replica_host(id).await?)
    }

    /// Waits until no replica answers from before all that is committed now: for a caller that was told that the end of
    /// something is pending.
    ///
    /// # Errors
    /// [`Reason::BarrierPending`] if the time was over first.
    pub async fn wait_for_replicas(&self, context: &Context) -> Result<()> {
        let head = self.nothing_to_commit().await?;
        self.wait_for(head.revision(), context).await
    }

    /// Waits until no replica answers from before `revision`, which is committed: the revocation barrier (DESIGN §6,
    /// point 9).
    async fn wait_for(&self, revision: Revision, context: &Context) -> Result<()> {
        let latest = Instant::now() + BARRIER_PATIENCE;
        // A little before the client goes away, so that it hears what has happened.
        let deadline = context.deadline.map(|deadline| deadline - BARRIER_HEADWAY);
        let deadline = deadline.map_or(latest, |deadline| deadline.min(latest));
        let pending =
            || ServiceError::from(Reason::BarrierPending).with("revision", revision.0.to_string());
        match tokio::time::timeout_at(deadline, self.commits.barrier.wait(revision)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(BarrierError::AnotherLife)) | Err(_) => Err(pending()),
            Ok(Err(BarrierError::NotSeen)) => {
                Err(ServiceError::internal(&"a commit that the store does not show"))
            }
        }
    }
}

/// Whether who asked to take something away may take this refusal for the news that it is gone. An earlier call of theirs
/// may have ended it, and not have seen the end of its wait.
fn tells_of_an_end(reason: Reason) -> bool {
    match reason {
        Reason::CredentialRevoked | Reason::CallerRevoked => true,
        reason => reason.kind() == Kind::NotFound,
    }
}
