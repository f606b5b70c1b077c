//! Limit on how much a connection reads before its requests are processed.
//!
//! h2 reads for as long as there is input. Meanwhile it counts cancelled requests, and small DATA frames that no request
//! has consumed. If there are too many of either, it closes the connection (`too_many_resets`, `too_many_data_frames`). On
//! a connection that a gateway shares among its clients, any client could cause that. A busy server would also cause it,
//! because it reads more slowly than they send. A connection therefore reads at most [`READ_BYTES_MAX`] per poll, and then
//! yields to its requests and to other connections.

use std::io::Result;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

use super::delegate_writes::delegate_writes;

/// Maximum number of bytes read per poll. A cancelled gRPC call takes at least some 60 bytes (three frames, an empty
/// message). It uses 251 of the 128 KiB that h2 allows for small frames, which is half of the connection's window. A few
/// polls, and 256 calls in flight, stay far below that.
const READ_BYTES_MAX: usize = 8 * 1024;
/// Maximum number of cancelled requests that h2 queues. More than fit in one poll, because a request and its cancellation
/// take at least 27 bytes (RFC 9113 §4.1).
pub(in crate::server) const CANCELLED_REQUESTS_MAX: usize = 2_048;

/// Number of bytes read in this poll.
#[derive(Clone, Default)]
pub(in crate::server) struct ReadBudget(Arc<AtomicUsize>);

/// A stream that reads at most [`READ_BYTES_MAX`] per poll.
pub(in crate::server) struct ReadLimitedStream<I> {
    io: I,
    budget: ReadBudget,
}

impl ReadBudget {
    /// Runs the future that reads the stream, with a new budget for each poll.
    pub(in crate::server) async fn refill_each_poll<F: Future>(
        &self,
        mut reads: Pin<&mut F>,
    ) -> F::Output {
        std::future::poll_fn(|context| {
            self.0.store(0, Ordering::Relaxed);
            reads.as_mut().poll(context)
        })
        .await
    }
}

impl<I> ReadLimitedStream<I> {
    pub(in crate::server) fn new(io: I) -> (Self, ReadBudget) {
        let budget = ReadBudget::default();
        (Self { io, budget: budget.clone() }, budget)
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for ReadLimitedStream<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        let read = self.budget.0.load(Ordering::Relaxed);
        if read >= READ_BYTES_MAX {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let (before, left) = (buffer.filled().len(), READ_BYTES_MAX - read);
        if buffer.remaining() <= left {
            ready!(Pin::new(&mut self.io).poll_read(context, buffer))?;
        } else {
            let mut rest = ReadBuf::new(buffer.initialize_unfilled_to(left));
            ready!(Pin::new(&mut self.io).poll_read(context, &mut rest))?;
            let more = rest.filled().len();
            buffer.advance(more);
        }
        let read = read + buffer.filled().len() - before;
        self.budget.0.store(read, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

delegate_writes!(ReadLimitedStream);

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::pin::{Pin, pin};
    use std::task::Poll;

    use tokio::io::{AsyncRead as _, ReadBuf};

    use super::{READ_BYTES_MAX, ReadLimitedStream};

    #[tokio::test]
    async fn a_poll_reads_a_bounded_amount_and_wakes_itself_for_the_rest() {
        let all = vec![7; 5 * READ_BYTES_MAX];
        let (mut stream, budget) = ReadLimitedStream::new(all.as_slice());
        let turns = RefCell::new(Vec::new());
        let reading = std::future::poll_fn(|context| {
            let mut read = 0;
            let over = loop {
                let mut room = [0; 1_000];
                let mut buffer = ReadBuf::new(&mut room);
                let polled = Pin::new(&mut stream).poll_read(context, &mut buffer);
                read += buffer.filled().len();
                if polled.is_pending() || buffer.filled().is_empty() {
                    break polled.is_ready();
                }
            };
            turns.borrow_mut().push(read);
            if over { Poll::Ready(()) } else { Poll::Pending }
        });
        budget.refill_each_poll(pin!(reading)).await;
        let turns = turns.into_inner();
        assert_eq!(
            turns,
            [READ_BYTES_MAX, READ_BYTES_MAX, READ_BYTES_MAX, READ_BYTES_MAX, READ_BYTES_MAX, 0]
        );
    }
}
