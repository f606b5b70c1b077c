//! What is known of the call under way, in the task that runs it: until when it may begin to write, and whether it has a
//! transaction. Whoever has one reads on its connection: to wait for another connection while holding one, all of them,
//! is to wait for each other.

use std::cell::Cell;
use std::ops::Deref;
use std::sync::Arc;

use tokio::time::Instant;

use super::{Reason, Result};
use crate::store::ReadStore;

tokio::task_local! {
    static UNDER_WAY: Call;
}

struct Call {
    /// Nobody waits for it any longer after this.
    deadline: Option<Instant>,
    /// Whether it has begun to write: what is begun is brought to its end.
    begun: Cell<bool>,
    /// Transactions that it holds.
    open: Cell<usize>,
}

/// Runs a call.
pub(super) async fn run<F: Future>(deadline: Option<Instant>, call: F) -> F::Output {
    let under_way = Call { deadline, begun: Cell::new(false), open: Cell::new(0) };
    UNDER_WAY.scope(under_way, call).await
}

/// That the call has a transaction, until this is dropped.
pub(super) struct Open(());

impl Open {
    /// The call has got a transaction.
    ///
    /// # Errors
    /// [`Reason::DeadlineExceeded`] where it is the first and came too late: nobody would hear of what it does.
    pub(super) fn now() -> Result<Self> {
        let opened = UNDER_WAY.try_with(|call| {
            let late = call.deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if late && !call.begun.get() {
                return Err(Reason::DeadlineExceeded);
            }
            call.begun.set(true);
            call.open.set(call.open.get() + 1);
            Ok(())
        });
        opened.unwrap_or(Ok(()))?;
        Ok(Self(()))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let _ = UNDER_WAY.try_with(|call| call.open.set(call.open.get().saturating_sub(1)));
    }
}

/// The store as use cases read it: on connections of its own, hence not in a transaction.
pub struct Reads(Arc<dyn ReadStore>);

impl Reads {
    /// Of this store.
    pub(super) fn new(store: Arc<dyn ReadStore>) -> Self {
        Self(store)
    }
}

impl Deref for Reads {
    type Target = dyn ReadStore;

    /// # Panics
    /// In a transaction, where assertions are on: there the transaction reads.
    fn deref(&self) -> &Self::Target {
        if cfg!(debug_assertions) {
            let open = UNDER_WAY.try_with(|call| call.open.get()).unwrap_or(0);
            assert_eq!(open, 0, "a second connection was asked for inside a transaction");
        }
        &*self.0
    }
}
