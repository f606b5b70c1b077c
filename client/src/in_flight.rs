//! One call in flight for concurrent requests with the same question. The call runs in its own task, so that a
//! cancelled request does not cancel it for the others.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::cache::{FillStart, Key, KeyRef};
use crate::error::{Error, ErrorKind};
use crate::introspection::Introspection;

type Outcome = Result<Introspection, Error>;
type OutcomeReceiver = watch::Receiver<Option<Outcome>>;

/// Calls in flight, by question.
#[derive(Default)]
pub(crate) struct InFlightCalls(Arc<Mutex<HashMap<Key, InFlightCall, RandomState>>>);

struct InFlightCall {
    started: FillStart,
    receiver: OutcomeReceiver,
}

/// How a request gets its answer.
pub(crate) enum JoinOutcome {
    /// It waits for a call in flight.
    Joined(OutcomeReceiver),
    /// It waits for a call that it started.
    Started(OutcomeReceiver),
    /// It has the answer of a call that ended in the meantime.
    Answered(Introspection),
}

impl InFlightCalls {
    /// Joins the call in flight for this key if `may_join` allows it. Otherwise a call may have ended since the cache
    /// was last read, so `look_up_again` reads it once more. If it has no answer, starts a call.
    pub(crate) fn join_or_start(
        &self,
        key: &KeyRef<'_>,
        started: FillStart,
        may_join: impl FnOnce(&FillStart) -> bool,
        look_up_again: impl FnOnce() -> Option<Introspection>,
        call: impl FnOnce() -> CallFuture,
    ) -> JoinOutcome {
        let key = key.to_key();
        let mut calls = self.0.lock();
        if let Some(call) = calls.get(&key)
            && may_join(&call.started)
        {
            return JoinOutcome::Joined(call.receiver.clone());
        }
        // A call fills the cache before it is removed under this lock, so its answer cannot be missed.
        if let Some(answer) = look_up_again() {
            return JoinOutcome::Answered(answer);
        }
        let (sender, receiver) = watch::channel(None);
        calls.insert(key.clone(), InFlightCall { started, receiver: receiver.clone() });
        drop(calls);
        let (shared, call) = (Arc::clone(&self.0), call());
        let own_receiver = receiver.clone();
        #[expect(
            clippy::disallowed_methods,
            reason = "it ends at the deadline of the call at the latest"
        )]
        tokio::spawn(async move {
            // Removes the call even if it panics.
            let _guard = InFlightGuard { calls: shared, key, receiver: own_receiver };
            let outcome = call.await;
            sender.send_replace(Some(outcome));
        });
        JoinOutcome::Started(receiver)
    }
}

pub(crate) type CallFuture = std::pin::Pin<Box<dyn Future<Output = Outcome> + Send>>;

struct InFlightGuard {
    calls: Arc<Mutex<HashMap<Key, InFlightCall, RandomState>>>,
    key: Key,
    receiver: OutcomeReceiver,
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        let mut calls = self.calls.lock();
        // The entry may belong to a later call, which replaced one that could no longer be joined.
        if calls.get(&self.key).is_some_and(|call| call.receiver.same_channel(&self.receiver)) {
            calls.remove(&self.key);
        }
    }
}

/// Waits for the outcome of a call.
pub(crate) async fn await_outcome(mut receiver: OutcomeReceiver) -> Outcome {
    match receiver.wait_for(Option::is_some).await {
        Ok(outcome) => outcome.clone().unwrap_or_else(|| Err(broken())),
        Err(_) => Err(broken()),
    }
}

fn broken() -> Error {
    Error::plain(ErrorKind::Internal, "the call ended without an answer")
}
