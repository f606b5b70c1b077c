//! What a peer says, frame by frame, noticed as the bytes go by: HTTP/2's preface and SETTINGS, and which of its frames and
//! header blocks are not whole. Nothing is kept and nothing but the headers of frames is looked at.

/// What a client of HTTP/2 says first (RFC 9113 §3.4).
pub(in crate::server) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of a frame before its payload (RFC 9113 §4.1).
pub(in crate::server) const HEAD: usize = 9;
/// The largest payload of a frame: h2 ends a connection that announces more, unless told otherwise.
const PAYLOAD_MAX: usize = 16_384;
/// Types of frames.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
/// No client may send it, and h2 says so only when its block is whole.
const PUSH_PROMISE: u8 = 5;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;
/// Flags of SETTINGS, and of HEADERS and CONTINUATION.
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// The frames of an HTTP/2 connection, behind its preface.
#[derive(Debug, Default)]
pub(in crate::server) struct Frames {
    /// So much of the head of the frame that comes; all of it while its payload does.
    head: [u8; HEAD],
    filled: usize,
    /// Bytes of its payload that are missing.
    missing: usize,
    /// Whether its header block, or that which it goes on with, has no end yet.
    in_block: bool,
    past_first: bool,
    /// It broke the protocol: h2 is about to end it.
    broken: bool,
}

/// What came in.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::server) struct Heard {
    /// Whether the first frame is whole with it, and SETTINGS.
    pub(in crate::server) greeted: bool,
    /// How many of the bytes are of frames, and header blocks, that are whole.
    pub(in crate::server) whole: usize,
}

impl Frames {
    /// Takes what came in.
    pub(in crate::server) fn hear(&mut self, bytes: &[u8]) -> Heard {
        let mut heard = Heard::default();
        let mut at = 0;
        while at < bytes.len() && !self.broken {
            if self.filled < HEAD {
                let taken = (bytes.len() - at).min(HEAD - self.filled);
                self.head[self.filled..self.filled + taken].copy_from_slice(&bytes[at..at + taken]);
                self.filled += taken;
                at += taken;
                if self.filled < HEAD {
                    break;
                }
                self.begin();
            }
            let taken = (bytes.len() - at).min(self.missing);
            self.missing -= taken;
            at += taken;
            if self.missing > 0 {
                break;
            }
            heard.greeted |= self.end();
            if !self.in_block {
                heard.whole = at;
            }
        }
        if self.broken {
            heard.whole = bytes.len();
        }
        heard
    }

    fn length(&self) -> usize {
        u32::from_be_bytes([0, self.head[0], self.head[1], self.head[2]]) as usize
    }

    /// A frame whose head is there.
    fn begin(&mut self) {
        self.missing = self.length();
        let (kind, flags) = (self.head[3], self.head[4]);
        if self.missing > PAYLOAD_MAX || self.in_block && kind != CONTINUATION {
            self.give_up();
        } else if matches!(kind, HEADERS | PUSH_PROMISE) && flags & END_HEADERS == 0 {
            self.in_block = true;
        }
    }

    /// A frame that is whole; whether it is the greeting.
    fn end(&mut self) -> bool {
        let (kind, flags) = (self.head[3], self.head[4]);
        if matches!(kind, HEADERS | PUSH_PROMISE | CONTINUATION) && flags & END_HEADERS != 0 {
            self.in_block = false;
        }
        self.filled = 0;
        let is_first = !std::mem::replace(&mut self.past_first, true);
        is_first && kind == SETTINGS && flags & ACK == 0
    }

    /// Listens no more: it is for h2 to say what is wrong.
    pub(in crate::server) const fn give_up(&mut self) {
        self.broken = true;
        self.in_block = false;
        self.filled = 0;
    }

    /// Whether a header block has begun whose last frame has not: h2 would take it apart, and keep the parts.
    pub(in crate::server) const fn is_in_block(&self) -> bool {
        self.in_block
    }

    /// Whether what came last is not whole. Of DATA, which has bounds of its own, nothing is said.
    pub(in crate::server) fn is_unfinished(&self) -> bool {
        self.in_block || self.unfinished_bytes() > 0
    }

    /// How much of a frame has come that is not whole.
    pub(in crate::server) fn unfinished_bytes(&self) -> usize {
        match self.filled {
            HEAD if self.head[3] == DATA => 0,
            HEAD => HEAD + self.length() - self.missing,
            filled => filled,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        CONTINUATION, DATA, END_HEADERS, Frames, HEADERS, Heard, PAYLOAD_MAX, PUSH_PROMISE,
        SETTINGS,
    };

    const PING: u8 = 6;

    fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
        let announced = u32::try_from(length).expect("short").to_be_bytes();
        let head = [&announced[1..], &[kind, flags, 0, 0, 0, 1]].concat();
        [head, vec![0; length]].concat()
    }

    fn heard(chunks: &[&[u8]]) -> bool {
        let mut frames = Frames::default();
        chunks.iter().any(|chunk| frames.hear(chunk).greeted)
    }

    #[test]
    fn only_all_of_settings_is_a_greeting() {
        for good in [frame(SETTINGS, 0, 0), frame(SETTINGS, 0, 6)] {
            assert!(heard(&[&good]));
            assert!(heard(&[&[good.as_slice(), b"more"].concat()]));
            let bytes: Vec<_> = good.chunks(1).collect();
            assert!(heard(&bytes));
            assert!(!heard(&bytes[..bytes.len() - 1]));
        }
        for bad in [frame(SETTINGS, 1, 0), frame(PING, 0, 8)] {
            assert!(!heard(&[&bad]));
            assert!(!heard(&[&bad, &frame(SETTINGS, 0, 0)]), "it comes too late");
        }
    }

    /// However it is cut, what is whole, what is open and how much of it there is come out the same.
    #[test]
    fn a_block_is_whole_with_its_last_frame_and_no_sooner() {
        for begins in [HEADERS, PUSH_PROMISE] {
            a_block_that_begins_with(begins);
        }
    }

    fn a_block_that_begins_with(kind: u8) {
        let before = [frame(PING, 0, 8), frame(HEADERS, END_HEADERS, 20)].concat();
        let block = [
            frame(kind, 1, 30),
            frame(CONTINUATION, 0, 0),
            frame(CONTINUATION, 0, 400),
            frame(CONTINUATION, END_HEADERS, 7),
        ];
        let (block, after) = (block.concat(), frame(DATA, 0, 50));
        let all = [&before[..], &block, &after].concat();
        for size in 1..=all.len() {
            let (mut frames, mut whole) = (Frames::default(), 0);
            let mut came = 0;
            for chunk in all.chunks(size) {
                let heard = frames.hear(chunk);
                if heard.whole > 0 {
                    whole = came + heard.whole;
                }
                came += chunk.len();
                let in_block =
                    came >= before.len() + super::HEAD && came < before.len() + block.len();
                assert_eq!(frames.is_in_block(), in_block, "{came} in chunks of {size}");
                assert!(!frames.is_in_block() || whole == before.len(), "{came} by {size}");
                assert!(!in_block || frames.is_unfinished());
            }
            assert_eq!(whole, all.len());
            assert!(!frames.is_unfinished());
        }
    }

    #[test]
    fn what_is_not_whole_is_counted_unless_it_is_data() {
        for (kind, counted) in [(HEADERS, true), (SETTINGS, true), (PING, true), (DATA, false)] {
            let bytes = frame(kind, END_HEADERS, 300);
            let mut frames = Frames::default();
            assert!(!frames.is_unfinished());
            let heard = frames.hear(&bytes[..5]);
            assert_eq!((heard, frames.unfinished_bytes()), (Heard::default(), 5));
            frames.hear(&bytes[5..200]);
            assert_eq!(frames.unfinished_bytes(), if counted { 200 } else { 0 });
            assert_eq!(frames.is_unfinished(), counted);
            frames.hear(&bytes[200..]);
            assert!(!frames.is_unfinished());
        }
    }

    #[test]
    fn what_h2_ends_the_connection_for_is_not_kept_from_it() {
        let broken = [
            frame(HEADERS, 0, PAYLOAD_MAX + 1),
            [frame(HEADERS, 0, 3), frame(PING, 0, 8)].concat(),
            [frame(HEADERS, 0, 3), frame(HEADERS, END_HEADERS, 3)].concat(),
        ];
        for bytes in broken {
            let mut frames = Frames::default();
            let heard = frames.hear(&bytes);
            assert_eq!(heard.whole, bytes.len());
            assert!(!frames.is_in_block() && !frames.is_unfinished());
        }
        let mut frames = Frames::default();
        frames.hear(&frame(HEADERS, 0, PAYLOAD_MAX));
        assert!(frames.is_in_block());
    }
}
