//! Limits on the headers that a connection receives. Tracks whether the peer has completed its handshake, since when a
//! header block has been incomplete, and how many bytes it has. hyper has no time limit for HTTP/2 headers, and no limit
//! on the headers of all connections together.

use std::io::{Error, ErrorKind, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncReadExt as _, ReadBuf};

use super::delegate_writes::delegate_writes;
use super::frames::{FrameTracker, PREFACE};
use super::header_budget::{HeaderBudget, HeaderReservation};
use crate::service::Activity;

/// Maximum size of one HTTP/1 read, in bytes. It bounds how much of the next request is held behind a complete one.
const HTTP1_READ_BYTES_MAX: u64 = 4 * 1024;
/// Maximum size of a header block that is held back, in bytes. h2 rejects more CONTINUATION frames than fit in it.
const BLOCK_BYTES_MAX: usize = 128 * 1024;

/// A stream that tracks and limits the headers it reads.
pub(in crate::server) struct HeaderLimitedStream<I> {
    io: I,
    state: State,
    held_block: HeldBlock,
    reserved: HeaderReservation,
    activity: Arc<Activity>,
}

/// Protocol of the connection, and the state of its parser.
enum State {
    /// Number of bytes of the HTTP/2 preface that have matched so far.
    Preface(usize),
    Http2(FrameTracker),
    Http1(Http1Headers),
}

/// Estimate of the HTTP/1 bytes that hyper holds.
struct Http1Headers {
    bytes: usize,
    /// Bytes of the last read.
    last: usize,
    /// When a request last began or ended, as of the last read.
    last_request: Instant,
}

/// An incomplete HTTP/2 header block, and the bytes behind it. They are held back until the block is complete, because h2
/// would decode the block at once. Decoded headers that refer to the HPACK table are many times as large.
#[derive(Default)]
struct HeldBlock {
    bytes: Vec<u8>,
    /// Number of bytes that may be released, and number of those that were.
    ready: usize,
    released: usize,
}

impl<I> HeaderLimitedStream<I> {
    pub(in crate::server) fn new(
        io: I,
        activity: Arc<Activity>,
        budget: &Arc<HeaderBudget>,
    ) -> Self {
        let (state, held_block) = (State::Preface(0), HeldBlock::default());
        Self { io, state, held_block, reserved: budget.reserve(), activity }
    }

    /// Processes the bytes of the buffer from `before` on, and removes those that h2 must not see yet.
    fn inspect(&mut self, buffer: &mut ReadBuf<'_>, before: usize) -> Result<()> {
        let mut from = before;
        if let State::Preface(matched) = &mut self.state {
            let bytes = &buffer.filled()[before..];
            let compared = bytes.len().min(PREFACE.len() - *matched);
            if bytes[..compared] != PREFACE[*matched..*matched + compared] {
                let last_request = self.activity.last_active();
                self.state = State::Http1(Http1Headers { bytes: *matched, last: 0, last_request });
            } else if *matched + compared < PREFACE.len() {
                *matched += compared;
                return Ok(());
            } else {
                self.state = State::Http2(FrameTracker::default());
                from += compared;
            }
        }
        match &mut self.state {
            State::Http1(headers) => headers.add(buffer.filled().len() - from, &self.activity),
            State::Http2(frames) => {
                let was_incomplete = frames.is_incomplete();
                let received = frames.receive(&buffer.filled()[from..]);
                if received.settings {
                    self.activity.establish();
                }
                if !frames.is_incomplete() {
                    if was_incomplete {
                        self.activity.end_headers();
                    }
                } else if !was_incomplete || received.complete > 0 {
                    self.activity.begin_headers();
                }
                self.held_block.take(buffer, from, received.complete, frames);
            }
            State::Preface(_) => {}
        }
        self.update_reservation()
    }

    /// Updates the reservation to the bytes of incomplete headers.
    fn update_reservation(&mut self) -> Result<()> {
        let bytes = match &self.state {
            State::Preface(_) => 0,
            State::Http1(headers) => headers.bytes,
            State::Http2(frames) if frames.is_in_header_block() => self.held_block.bytes.len(),
            State::Http2(frames) => self.held_block.bytes.len() + frames.incomplete_bytes(),
        };
        if self.reserved.resize(bytes, || self.activity.is_authenticated()) {
            return Ok(());
        }
        let text = "the memory budget for incomplete headers is exhausted";
        Err(Error::new(ErrorKind::QuotaExceeded, text))
    }
}

impl Http1Headers {
    /// Counts `more` received bytes.
    fn add(&mut self, more: usize, activity: &Activity) {
        let last_request = activity.last_active();
        // The last read completed a request, so hyper holds at most the bytes of that read.
        if last_request != self.last_request || activity.is_busy() {
            self.bytes = self.last;
        }
        self.bytes += more;
        (self.last, self.last_request) = (more, last_request);
    }
}

impl HeldBlock {
    /// Moves bytes of an incomplete block, or behind a held one, from the buffer into `self`. Looks at the buffer from `from` on.
    fn take(
        &mut self,
        buffer: &mut ReadBuf<'_>,
        from: usize,
        complete: usize,
        frames: &mut FrameTracker,
    ) {
        let in_block = frames.is_in_header_block();
        if self.bytes.is_empty() && !in_block {
            return;
        }
        let received = buffer.filled().len() - from;
        if self.bytes.is_empty() {
            self.bytes.extend_from_slice(&buffer.filled()[from + complete..]);
            buffer.set_filled(from + complete);
        } else {
            let ready = if in_block { complete } else { received };
            if ready > 0 {
                self.ready = self.bytes.len() + ready;
            }
            self.bytes.extend_from_slice(&buffer.filled()[from..]);
            buffer.set_filled(from);
        }
        if self.bytes.len() - self.ready > BLOCK_BYTES_MAX {
            frames.stop_tracking();
            self.ready = self.bytes.len();
        }
    }

    /// Moves bytes that may be released into the buffer. Returns whether there were any.
    fn release(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        if self.ready == 0 {
            return false;
        }
        let count = buffer.remaining().min(self.ready - self.released);
        buffer.put_slice(&self.bytes[self.released..self.released + count]);
        self.released += count;
        if self.released == self.ready {
            self.bytes = self.bytes.split_off(self.ready);
            (self.ready, self.released) = (0, 0);
        }
        true
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for HeaderLimitedStream<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        loop {
            if this.held_block.release(buffer) {
                return Poll::Ready(this.update_reservation());
            }
            let io = &mut this.io;
            ready!(match this.state {
                State::Http1(_) =>
                    Pin::new(&mut io.take(HTTP1_READ_BYTES_MAX)).poll_read(context, buffer),
                _ => Pin::new(io).poll_read(context, buffer),
            })?;
            if buffer.filled().len() == before {
                return Poll::Ready(Ok(()));
            }
            this.inspect(buffer, before)?;
            if buffer.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

delegate_writes!(HeaderLimitedStream);

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::sync::Arc;

    use futures::FutureExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::{BLOCK_BYTES_MAX, HeaderLimitedStream, PREFACE};
    use crate::server::connections::header_budget::{
        BYTES_MAX, HeaderBudget, HeaderReservation, UNCOUNTED_BYTES,
    };
    use crate::service::Activity;

    struct TestConnection {
        peer: DuplexStream,
        stream: HeaderLimitedStream<DuplexStream>,
        activity: Arc<Activity>,
        _filler: Option<HeaderReservation>,
    }

    impl TestConnection {
        /// If `full`, the header budget is exhausted.
        fn new(full: bool) -> Self {
            let (peer, io) = duplex(1 << 20);
            let (activity, budget) = (Arc::<Activity>::default(), Arc::<HeaderBudget>::default());
            let mut reserved = budget.reserve();
            assert!(!full || reserved.resize(UNCOUNTED_BYTES + BYTES_MAX, || false));
            let filler = full.then_some(reserved);
            let stream = HeaderLimitedStream::new(io, Arc::clone(&activity), &budget);
            Self { peer, stream, activity, _filler: filler }
        }

        /// Sends bytes and returns what the stream releases, in reads of `size` bytes.
        fn send(&mut self, bytes: &[u8], size: usize) -> std::io::Result<Vec<u8>> {
            let sent = self.peer.write_all(bytes).now_or_never();
            sent.expect("the pipe has room").expect("the bytes are sent");
            let (mut received, mut buffer) = (Vec::new(), vec![0; size]);
            while let Some(read) = self.stream.read(&mut buffer).now_or_never() {
                received.extend_from_slice(&buffer[..read?]);
            }
            Ok(received)
        }
    }

    fn frame(kind: u8, flags: u8, length: u8) -> Vec<u8> {
        let head = [0, 0, length, kind, flags, 0, 0, 0, 1];
        [&head[..], &vec![kind; usize::from(length)]].concat()
    }

    #[test]
    fn a_header_block_is_released_when_it_is_complete_and_all_else_at_once() {
        let before = [PREFACE, &frame(4, 0, 6), &frame(6, 0, 8), &frame(1, 4, 20)].concat();
        let block = [frame(1, 1, 90), frame(9, 0, 0), frame(9, 0, 200), frame(9, 4, 7)].concat();
        let all = [&before[..], &block, &frame(0, 0, 50), &block, &block, &frame(0, 1, 9)].concat();
        let ends = before.len() + block.len();
        for sent in 1..=all.len() {
            for read in [1, 7, 8_192] {
                let (mut connection, mut came, mut received) =
                    (TestConnection::new(false), 0, Vec::new());
                for chunk in all.chunks(sent) {
                    came += chunk.len();
                    received.extend(connection.send(chunk, read).expect("the bytes are released"));
                    if came <= before.len() {
                        assert_eq!(received.len(), came);
                    } else if came < ends {
                        assert!(received.len() < before.len() + 9, "{came} in chunks of {sent}");
                    }
                }
                assert_eq!(received, all, "in chunks of {sent}, read by {read}");
                assert!(connection.activity.is_established());
            }
        }
    }

    #[test]
    fn a_too_long_header_block_is_released_for_h2_to_refuse() {
        let mut connection = TestConnection::new(false);
        let incomplete = [PREFACE, &frame(4, 0, 0), &frame(1, 0, 9)].concat();
        connection.send(&incomplete, 8_192).expect("the bytes are released");
        let more = frame(9, 0, 200).repeat(BLOCK_BYTES_MAX / 209);
        assert_eq!(connection.send(&more, 8_192).expect("the block is held back"), b"");
        let received = connection.send(&frame(9, 0, 200), 8_192).expect("the bytes are released");
        assert!(received.len() > BLOCK_BYTES_MAX);
        assert_eq!(
            connection.send(b"anything", 8_192).expect("the bytes are released"),
            b"anything"
        );
    }

    #[test]
    fn only_incomplete_headers_count_toward_the_budget() {
        let mut connection = TestConnection::new(true);
        let request = [b"GET / HTTP/1.1\r\nx-long: ".to_vec(), vec![b'a'; 3_000]].concat();
        for _ in 0..20 {
            // One read may have the end of a request and the beginning of the next.
            assert_eq!(connection.send(&request, 8_192).expect("the request fits"), request);
            drop(connection.activity.begin_request());
        }
        let error = connection
            .send(&request.repeat(3), 8_192)
            .map(drop)
            .expect_err("the budget is exhausted");
        assert_eq!(error.kind(), ErrorKind::QuotaExceeded);

        let mut connection = TestConnection::new(true);
        let greeting = [PREFACE, &frame(4, 0, 0)].concat();
        connection.send(&greeting, 8_192).expect("the bytes are released");
        for _ in 0..200 {
            connection
                .send(&[frame(1, 0, 200), frame(9, 4, 200)].concat(), 8_192)
                .expect("the block is complete");
        }
        let block = [frame(1, 0, 200), frame(9, 0, 200).repeat(50)].concat();
        let error = connection.send(&block, 8_192).map(drop).expect_err("the budget is exhausted");
        assert_eq!(error.kind(), ErrorKind::QuotaExceeded);
    }
}
