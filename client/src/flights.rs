//! One call for many who ask the same at once. The call runs in a task of its own, so that one who goes away does not take
//! it from the others.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::cache::{Begun, Key, KeyRef};
use crate::error::{Error, ErrorKind};
use crate::introspection::Introspection;

type Outcome = Result<Introspection, Error>;
type Landing = watch::Receiver<Option<Outcome>>;

/// Calls under way.
#[derive(Default)]
pub(crate) struct Flights(Arc<Mutex<HashMap<Key, Flight, RandomState>>>);

struct Flight {
    begun: Begun,
    landing: Landing,
}

/// A place in a call.
pub(crate) enum Boarding {
    /// Another's call.
    Joined(Landing),
    /// A new one.
    Began(Landing),
    /// None: one landed meanwhile, and this is what it brought.
    Landed(Introspection),
}

impl Flights {
    /// Joins the call under way for this key if `may_join` finds that it was begun late enough. If there is none, one may
    /// have ended since memory was asked, so `look_again` asks it once more. Or else begins one.
    pub(crate) fn board(
        &self,
        key: &KeyRef<'_>,
        begun: Begun,
        may_join: impl FnOnce(&Begun) -> bool,
        look_again: impl FnOnce() -> Option<Introspection>,
        call: impl FnOnce() -> CallFuture,
    ) -> Boarding {
        let key = key.to_key();
        let mut flights = self.0.lock();
        if let Some(flight) = flights.get(&key)
            && may_join(&flight.begun)
        {
            return Boarding::Joined(flight.landing.clone());
        }
        // A call is remembered before it is over, and this is under the lock that it is ended under.
        if let Some(answer) = look_again() {
            return Boarding::Landed(answer);
        }
        let (sender, landing) = watch::channel(None);
        flights.insert(key.clone(), Flight { begun, landing: landing.clone() });
        drop(flights);
        let (shared, call) = (Arc::clone(&self.0), call());
        let mine = landing.clone();
        #[expect(
            clippy::disallowed_methods,
            reason = "it ends by itself, at the deadline of the call at the latest"
        )]
        tokio::spawn(async move {
            // Even if the call panics, the flight is over.
            let _over = Over { flights: shared, key, landing: mine };
            let outcome = call.await;
            sender.send_replace(Some(outcome));
        });
        Boarding::Began(landing)
    }
}

pub(crate) type CallFuture = std::pin::Pin<Box<dyn Future<Output = Outcome> + Send>>;

struct Over {
    flights: Arc<Mutex<HashMap<Key, Flight, RandomState>>>,
    key: Key,
    landing: Landing,
}

impl Drop for Over {
    fn drop(&mut self) {
        let mut flights = self.flights.lock();
        // A later call may have taken the place of one that nobody could join any more.
        if flights.get(&self.key).is_some_and(|flight| flight.landing.same_channel(&self.landing)) {
            flights.remove(&self.key);
        }
    }
}

/// What the call brought.
pub(crate) async fn landed(mut landing: Landing) -> Outcome {
    match landing.wait_for(Option::is_some).await {
        Ok(outcome) => outcome.clone().unwrap_or_else(|| Err(broken())),
        Err(_) => Err(broken()),
    }
}

fn broken() -> Error {
    Error::plain(ErrorKind::Internal, "the call ended without an answer")
}
