//! A connection whose peer is listened to: whether it has said what a client must say first, since when headers have been
//! coming that are not whole, and how many bytes they are. hyper leaves two of these open: HTTP/2's have all the time in the
//! world, and each connection may have as much of them as any.

use std::io::{Error, ErrorKind, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncReadExt as _, ReadBuf};

use super::greeting::{Frames, PREFACE};
use super::header_room::{HeaderRoom, Reserved};
use super::writes::passes_writes_on;
use crate::service::Activity;

/// What is read of HTTP/1 at once: so much, and no more, of a next request may be held behind one that is whole.
const HTTP1_READ_MAX: u64 = 4 * 1024;
/// The largest header block that is waited for; h2 takes no more CONTINUATIONs than this has.
const BLOCK_MAX: usize = 128 * 1024;

/// The connection.
pub(in crate::server) struct Listened<I> {
    io: I,
    speech: Speech,
    held: Held,
    reserved: Reserved,
    activity: Arc<Activity>,
}

/// What is spoken on it.
enum Speech {
    /// So much of HTTP/2's preface.
    Preface(usize),
    Http2(Frames),
    Http1(Head),
}

/// Bytes of HTTP/1 that hyper may hold.
struct Head {
    bytes: usize,
    /// The last read.
    last: usize,
    /// When a request began or ended last, as far as is known.
    asked: Instant,
}

/// An HTTP/2 header block that is not whole, and what came behind it. h2 is not given it before: it would take it apart and
/// keep the parts, which are many times as large where they refer to its table.
#[derive(Default)]
struct Held {
    bytes: Vec<u8>,
    /// So many of them may be handed on, of which so many were.
    ready: usize,
    handed_on: usize,
}

impl<I> Listened<I> {
    pub(in crate::server) fn new(io: I, activity: Arc<Activity>, room: &Arc<HeaderRoom>) -> Self {
        let (speech, held) = (Speech::Preface(0), Held::default());
        Self { io, speech, held, reserved: room.reserve(), activity }
    }

    /// Listens to what came into the buffer behind `before`, and takes out of it what h2 is not to have yet.
    fn hear(&mut self, buffer: &mut ReadBuf<'_>, before: usize) -> Result<()> {
        let mut from = before;
        if let Speech::Preface(matched) = &mut self.speech {
            let bytes = &buffer.filled()[before..];
            let compared = bytes.len().min(PREFACE.len() - *matched);
            if bytes[..compared] != PREFACE[*matched..*matched + compared] {
                let asked = self.activity.last();
                self.speech = Speech::Http1(Head { bytes: *matched, last: 0, asked });
            } else if *matched + compared < PREFACE.len() {
                *matched += compared;
                return Ok(());
            } else {
                self.speech = Speech::Http2(Frames::default());
                from += compared;
            }
        }
        match &mut self.speech {
            Speech::Http1(head) => head.hear(buffer.filled().len() - from, &self.activity),
            Speech::Http2(frames) => {
                let was_unfinished = frames.is_unfinished();
                let heard = frames.hear(&buffer.filled()[from..]);
                if heard.greeted {
                    self.activity.establish();
                }
                if !frames.is_unfinished() {
                    if was_unfinished {
                        self.activity.end_headers();
                    }
                } else if !was_unfinished || heard.whole > 0 {
                    self.activity.begin_headers();
                }
                self.held.take(buffer, from, heard.whole, frames);
            }
            Speech::Preface(_) => {}
        }
        self.count()
    }

    /// Has what is held of headers counted.
    fn count(&mut self) -> Result<()> {
        let bytes = match &self.speech {
            Speech::Preface(_) => 0,
            Speech::Http1(head) => head.bytes,
            Speech::Http2(frames) if frames.is_in_block() => self.held.bytes.len(),
            Speech::Http2(frames) => self.held.bytes.len() + frames.unfinished_bytes(),
        };
        if self.reserved.resize(bytes, || self.activity.is_known()) {
            return Ok(());
        }
        let all = "too much is held of headers that are not whole";
        Err(Error::new(ErrorKind::QuotaExceeded, all))
    }
}

impl Head {
    /// So much more came.
    fn hear(&mut self, more: usize, activity: &Activity) {
        let asked = activity.last();
        // With the last read a request was whole; what is left of that is of the next.
        if asked != self.asked || activity.is_busy() {
            self.bytes = self.last;
        }
        self.bytes += more;
        (self.last, self.asked) = (more, asked);
    }
}

impl Held {
    /// Takes out of the buffer, from there on, what is of a block that is not whole, or behind one that is held.
    fn take(&mut self, buffer: &mut ReadBuf<'_>, from: usize, whole: usize, frames: &mut Frames) {
        let in_block = frames.is_in_block();
        if self.bytes.is_empty() && !in_block {
            return;
        }
        let came = buffer.filled().len() - from;
        if self.bytes.is_empty() {
            self.bytes.extend_from_slice(&buffer.filled()[from + whole..]);
            buffer.set_filled(from + whole);
        } else {
            let ready = if in_block { whole } else { came };
            if ready > 0 {
                self.ready = self.bytes.len() + ready;
            }
            self.bytes.extend_from_slice(&buffer.filled()[from..]);
            buffer.set_filled(from);
        }
        if self.bytes.len() - self.ready > BLOCK_MAX {
            frames.give_up();
            self.ready = self.bytes.len();
        }
    }

    /// Hands on what may be; no if that is nothing.
    fn hand_on(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        if self.ready == 0 {
            return false;
        }
        let count = buffer.remaining().min(self.ready - self.handed_on);
        buffer.put_slice(&self.bytes[self.handed_on..self.handed_on + count]);
        self.handed_on += count;
        if self.handed_on == self.ready {
            self.bytes = self.bytes.split_off(self.ready);
            (self.ready, self.handed_on) = (0, 0);
        }
        true
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Listened<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        loop {
            if this.held.hand_on(buffer) {
                return Poll::Ready(this.count());
            }
            let io = &mut this.io;
            ready!(match this.speech {
                Speech::Http1(_) =>
                    Pin::new(&mut io.take(HTTP1_READ_MAX)).poll_read(context, buffer),
                _ => Pin::new(io).poll_read(context, buffer),
            })?;
            if buffer.filled().len() == before {
                return Poll::Ready(Ok(()));
            }
            this.hear(buffer, before)?;
            if buffer.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

passes_writes_on!(Listened);

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::sync::Arc;

    use futures::FutureExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::{BLOCK_MAX, Listened, PREFACE};
    use crate::server::connections::header_room::{BYTES_MAX, FREE, HeaderRoom, Reserved};
    use crate::service::Activity;

    struct Talk {
        peer: DuplexStream,
        listened: Listened<DuplexStream>,
        activity: Arc<Activity>,
        _full: Option<Reserved>,
    }

    impl Talk {
        /// Where there is room for nothing more than each has in any case, if it is `full`.
        fn new(full: bool) -> Self {
            let (peer, io) = duplex(1 << 20);
            let (activity, room) = (Arc::<Activity>::default(), Arc::<HeaderRoom>::default());
            let mut reserved = room.reserve();
            assert!(!full || reserved.resize(FREE + BYTES_MAX, || false));
            let full = full.then_some(reserved);
            let listened = Listened::new(io, Arc::clone(&activity), &room);
            Self { peer, listened, activity, _full: full }
        }

        /// What is handed on of it, in reads of so many bytes.
        fn say(&mut self, bytes: &[u8], size: usize) -> std::io::Result<Vec<u8>> {
            let said = self.peer.write_all(bytes).now_or_never();
            said.expect("there is room").expect("it is sent");
            let (mut heard, mut buffer) = (Vec::new(), vec![0; size]);
            while let Some(read) = self.listened.read(&mut buffer).now_or_never() {
                heard.extend_from_slice(&buffer[..read?]);
            }
            Ok(heard)
        }
    }

    fn frame(kind: u8, flags: u8, length: u8) -> Vec<u8> {
        let head = [0, 0, length, kind, flags, 0, 0, 0, 1];
        [&head[..], &vec![kind; usize::from(length)]].concat()
    }

    #[test]
    fn a_block_is_handed_on_when_it_is_whole_and_all_else_at_once() {
        let before = [PREFACE, &frame(4, 0, 6), &frame(6, 0, 8), &frame(1, 4, 20)].concat();
        let block = [frame(1, 1, 90), frame(9, 0, 0), frame(9, 0, 200), frame(9, 4, 7)].concat();
        let all = [&before[..], &block, &frame(0, 0, 50), &block, &block, &frame(0, 1, 9)].concat();
        let ends = before.len() + block.len();
        for said in 1..=all.len() {
            for read in [1, 7, 8_192] {
                let (mut talk, mut came, mut heard) = (Talk::new(false), 0, Vec::new());
                for chunk in all.chunks(said) {
                    came += chunk.len();
                    heard.extend(talk.say(chunk, read).expect("it is handed on"));
                    if came <= before.len() {
                        assert_eq!(heard.len(), came);
                    } else if came < ends {
                        assert!(heard.len() < before.len() + 9, "{came} in chunks of {said}");
                    }
                }
                assert_eq!(heard, all, "in chunks of {said}, read by {read}");
                assert!(talk.activity.is_established());
            }
        }
    }

    #[test]
    fn a_block_that_is_longer_than_any_is_handed_on_for_h2_to_refuse() {
        let mut talk = Talk::new(false);
        let begun = [PREFACE, &frame(4, 0, 0), &frame(1, 0, 9)].concat();
        talk.say(&begun, 8_192).expect("it is handed on");
        let more = frame(9, 0, 200).repeat(BLOCK_MAX / 209);
        assert_eq!(talk.say(&more, 8_192).expect("it is kept"), b"");
        let heard = talk.say(&frame(9, 0, 200), 8_192).expect("it is handed on");
        assert!(heard.len() > BLOCK_MAX);
        assert_eq!(talk.say(b"anything", 8_192).expect("it is handed on"), b"anything");
    }

    #[test]
    fn what_is_not_whole_takes_room_and_what_is_whole_takes_none() {
        let mut talk = Talk::new(true);
        let request = [b"GET / HTTP/1.1\r\nx-long: ".to_vec(), vec![b'a'; 3_000]].concat();
        for _ in 0..20 {
            // In the same read with its beginning, the next may be there.
            assert_eq!(talk.say(&request, 8_192).expect("it is short"), request);
            drop(talk.activity.begin());
        }
        let error = talk.say(&request.repeat(3), 8_192).map(drop).expect_err("it is too long");
        assert_eq!(error.kind(), ErrorKind::QuotaExceeded);

        let mut talk = Talk::new(true);
        let greeting = [PREFACE, &frame(4, 0, 0)].concat();
        talk.say(&greeting, 8_192).expect("it is handed on");
        for _ in 0..200 {
            talk.say(&[frame(1, 0, 200), frame(9, 4, 200)].concat(), 8_192).expect("it is whole");
        }
        let block = [frame(1, 0, 200), frame(9, 0, 200).repeat(50)].concat();
        let error = talk.say(&block, 8_192).map(drop).expect_err("it is too long");
        assert_eq!(error.kind(), ErrorKind::QuotaExceeded);
    }
}
