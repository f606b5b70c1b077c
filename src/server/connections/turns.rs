//! How much a connection reads before the requests in it are looked at. h2 reads on for as long as there is something to
//! read, and meanwhile counts requests that were begun and cancelled, and small pieces of messages that nobody has taken
//! yet: past a number of either it ends the connection (`too_many_resets`, `too_many_data_frames`). On one that many clients
//! of a gateway share any of them could bring that about, and a busy server would by itself, since it reads more slowly than
//! they send. So a connection reads so much in one turn, and no more, however much has come: then it is the turn of its
//! requests, and of other connections.

use std::io::Result;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

use super::writes::passes_writes_on;

/// Bytes of one turn. A call of gRPC that is cancelled takes some 60 at the least (three frames, an empty message), and
/// counts 251 of the 128 KiB that h2 allows for small pieces, half of the connection's window: those of a few turns, and of
/// 256 calls that wait for something, are far below.
const TURN_BYTES: usize = 8 * 1024;
/// More requests than can be begun and cancelled in one turn, at 27 bytes for both at the least (RFC 9113 §4.1).
pub(in crate::server) const CANCELLED_MAX: usize = 2_048;

/// Bytes that were read in this turn.
#[derive(Clone, Default)]
pub(in crate::server) struct Turn(Arc<AtomicUsize>);

/// A connection's stream.
pub(in crate::server) struct InTurns<I> {
    io: I,
    turn: Turn,
}

impl Turn {
    /// Polls what reads from the stream, each time with a turn of its own.
    pub(in crate::server) async fn each<F: Future>(&self, mut reads: Pin<&mut F>) -> F::Output {
        std::future::poll_fn(|context| {
            self.0.store(0, Ordering::Relaxed);
            reads.as_mut().poll(context)
        })
        .await
    }
}

impl<I> InTurns<I> {
    pub(in crate::server) fn new(io: I) -> (Self, Turn) {
        let turn = Turn::default();
        (Self { io, turn: turn.clone() }, turn)
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for InTurns<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        let read = self.turn.0.load(Ordering::Relaxed);
        if read >= TURN_BYTES {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let (before, left) = (buffer.filled().len(), TURN_BYTES - read);
        if buffer.remaining() <= left {
            ready!(Pin::new(&mut self.io).poll_read(context, buffer))?;
        } else {
            let mut rest = ReadBuf::new(buffer.initialize_unfilled_to(left));
            ready!(Pin::new(&mut self.io).poll_read(context, &mut rest))?;
            let more = rest.filled().len();
            buffer.advance(more);
        }
        let read = read + buffer.filled().len() - before;
        self.turn.0.store(read, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

passes_writes_on!(InTurns);

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::pin::{Pin, pin};
    use std::task::Poll;

    use tokio::io::{AsyncRead as _, ReadBuf};

    use super::{InTurns, TURN_BYTES};

    /// Reads all that it is given in each turn, until there is no more.
    #[tokio::test]
    async fn a_turn_is_over_when_enough_was_read_and_the_next_one_comes_by_itself() {
        let all = vec![7; 5 * TURN_BYTES];
        let (mut stream, turn) = InTurns::new(all.as_slice());
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
        turn.each(pin!(reading)).await;
        let turns = turns.into_inner();
        assert_eq!(turns, [TURN_BYTES, TURN_BYTES, TURN_BYTES, TURN_BYTES, TURN_BYTES, 0]);
    }
}
