//! Task-local state of the call in flight: its deadline for the first write, and its open transactions. A call with an
//! open transaction must read through it. If calls that hold a connection waited for a second one, they could all wait
//! for each other: a deadlock of the connection pool.

use std::cell::Cell;
use std::ops::Deref;
use std::sync::Arc;

use tokio::time::Instant;

use super::{Reason, Result};
use crate::store::ReadStore;

tokio::task_local! {
    static CURRENT_CALL: CallState;
}

struct CallState {
    /// Time after which the client no longer waits. `None` means no deadline.
    deadline: Option<Instant>,
    /// Whether the call has begun a transaction. From then on it runs to its end, even after the deadline.
    has_written: Cell<bool>,
    /// Whether the call has committed a change.
    has_changed: Cell<bool>,
    /// Number of open transactions of the call.
    open_transactions: Cell<usize>,
}

/// Runs a call with its task-local state.
pub(super) async fn run<F: Future>(deadline: Option<Instant>, call: F) -> F::Output {
    let call_state = CallState {
        deadline,
        has_written: Cell::new(false),
        has_changed: Cell::new(false),
        open_transactions: Cell::new(0),
    };
    CURRENT_CALL.scope(call_state, call).await
}

/// Whether the call has begun a transaction, so that what it decides may depend on what it has read there.
pub(super) fn has_begun() -> bool {
    CURRENT_CALL.try_with(|call| call.has_written.get()).unwrap_or(false)
}

/// Notes that the call has committed a change.
pub(super) fn note_change() {
    // Outside of a call nobody asks.
    let _ = CURRENT_CALL.try_with(|call| call.has_changed.set(true));
}

/// Whether the call has committed a change.
pub(super) fn has_changed() -> bool {
    CURRENT_CALL.try_with(|call| call.has_changed.get()).unwrap_or(false)
}

/// Guard of an open transaction of the call.
pub(super) struct TransactionGuard(());

impl TransactionGuard {
    /// Notes that the call has opened a transaction.
    ///
    /// # Errors
    /// [`Reason::DeadlineExceeded`] if it is the first one and the deadline has passed: the client would not learn the
    /// outcome.
    pub(super) fn enter() -> Result<Self> {
        let opened = CURRENT_CALL.try_with(|call| {
            let late = call.deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if late && !call.has_written.get() {
                return Err(Reason::DeadlineExceeded);
            }
            call.has_written.set(true);
            call.open_transactions.set(call.open_transactions.get() + 1);
            Ok(())
        });
        opened.unwrap_or(Ok(()))?;
        Ok(Self(()))
    }
}

impl Drop for TransactionGuard {
    fn drop(&mut self) {
        let _ = CURRENT_CALL.try_with(|call| {
            call.open_transactions.set(call.open_transactions.get().saturating_sub(1));
        });
    }
}

/// The store for reads outside a transaction. They use another connection of the pool.
pub struct Reads(Arc<dyn ReadStore>);

impl Reads {
    /// Reads from `store`.
    pub(super) fn new(store: Arc<dyn ReadStore>) -> Self {
        Self(store)
    }
}

impl Deref for Reads {
    type Target = dyn ReadStore;

    /// # Panics
    /// With debug assertions, if the call has an open transaction, which must be used instead.
    fn deref(&self) -> &Self::Target {
        if cfg!(debug_assertions) {
            let open = CURRENT_CALL.try_with(|call| call.open_transactions.get()).unwrap_or(0);
            assert_eq!(open, 0, "a second connection was asked for inside a transaction");
        }
        &*self.0
    }
}
