//! Tracks the frames of an HTTP/2 connection as bytes arrive: whether the first SETTINGS frame is complete, and whether a
//! frame or header block is incomplete. It reads frame headers only and stores no payload.

/// Connection preface of an HTTP/2 client (RFC 9113 §3.4).
pub(in crate::server) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Length of a frame header (RFC 9113 §4.1), in bytes.
pub(in crate::server) const FRAME_HEADER_BYTES: usize = 9;
/// Maximum payload of a frame, in bytes. By default h2 closes a connection that announces more.
const PAYLOAD_MAX: usize = 16_384;
/// Frame types.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
/// A client must not send this, but h2 rejects it only once its header block is complete.
const PUSH_PROMISE: u8 = 5;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;
/// Flag of SETTINGS, and flag of HEADERS and CONTINUATION.
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// Tracks the frames that follow the connection preface.
#[derive(Debug, Default)]
pub(in crate::server) struct FrameTracker {
    /// Header of the current frame. The first `filled` bytes have arrived.
    header: [u8; FRAME_HEADER_BYTES],
    filled: usize,
    /// Bytes of the current payload that have not arrived yet.
    remaining: usize,
    /// Whether a header block has begun and its `END_HEADERS` flag has not arrived.
    in_header_block: bool,
    seen_first: bool,
    /// Whether tracking stopped because the peer broke the protocol. h2 then closes the connection.
    broken: bool,
}

/// What [`FrameTracker::receive`] found in the bytes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::server) struct Received {
    /// Whether these bytes complete the first frame and that frame is SETTINGS.
    pub(in crate::server) settings: bool,
    /// Number of bytes up to the end of the last complete frame or header block.
    pub(in crate::server) complete: usize,
}

impl FrameTracker {
    /// Processes received bytes.
    pub(in crate::server) fn receive(&mut self, bytes: &[u8]) -> Received {
        let mut received = Received::default();
        let mut at = 0;
        while at < bytes.len() && !self.broken {
            if self.filled < FRAME_HEADER_BYTES {
                let taken = (bytes.len() - at).min(FRAME_HEADER_BYTES - self.filled);
                self.header[self.filled..self.filled + taken]
                    .copy_from_slice(&bytes[at..at + taken]);
                self.filled += taken;
                at += taken;
                if self.filled < FRAME_HEADER_BYTES {
                    break;
                }
                self.begin_frame();
            }
            let taken = (bytes.len() - at).min(self.remaining);
            self.remaining -= taken;
            at += taken;
            if self.remaining > 0 {
                break;
            }
            received.settings |= self.end_frame();
            if !self.in_header_block {
                received.complete = at;
            }
        }
        if self.broken {
            received.complete = bytes.len();
        }
        received
    }

    fn length(&self) -> usize {
        u32::from_be_bytes([0, self.header[0], self.header[1], self.header[2]]) as usize
    }

    /// Handles a complete frame header.
    fn begin_frame(&mut self) {
        self.remaining = self.length();
        let (kind, flags) = (self.header[3], self.header[4]);
        if self.remaining > PAYLOAD_MAX || self.in_header_block && kind != CONTINUATION {
            self.stop_tracking();
        } else if matches!(kind, HEADERS | PUSH_PROMISE) && flags & END_HEADERS == 0 {
            self.in_header_block = true;
        }
    }

    /// Handles the end of a frame. Returns whether it is the first frame and SETTINGS.
    fn end_frame(&mut self) -> bool {
        let (kind, flags) = (self.header[3], self.header[4]);
        if matches!(kind, HEADERS | PUSH_PROMISE | CONTINUATION) && flags & END_HEADERS != 0 {
            self.in_header_block = false;
        }
        self.filled = 0;
        let is_first = !std::mem::replace(&mut self.seen_first, true);
        is_first && kind == SETTINGS && flags & ACK == 0
    }

    /// Stops tracking, and leaves it to h2 to report the error.
    pub(in crate::server) const fn stop_tracking(&mut self) {
        self.broken = true;
        self.in_header_block = false;
        self.filled = 0;
    }

    /// Whether a header block is incomplete. h2 would decode such a block and keep the decoded headers.
    pub(in crate::server) const fn is_in_header_block(&self) -> bool {
        self.in_header_block
    }

    /// Whether a header block or frame is incomplete. DATA frames do not count, because flow control limits them.
    pub(in crate::server) fn is_incomplete(&self) -> bool {
        self.in_header_block || self.incomplete_bytes() > 0
    }

    /// Number of bytes of the incomplete frame that have arrived. 0 for DATA.
    pub(in crate::server) fn incomplete_bytes(&self) -> usize {
        match self.filled {
            FRAME_HEADER_BYTES if self.header[3] == DATA => 0,
            FRAME_HEADER_BYTES => FRAME_HEADER_BYTES + self.length() - self.remaining,
            filled => filled,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        CONTINUATION, DATA, END_HEADERS, FrameTracker, HEADERS, PAYLOAD_MAX, PUSH_PROMISE,
        Received, SETTINGS,
    };

    const PING: u8 = 6;

    fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
        let announced = u32::try_from(length).expect("short").to_be_bytes();
        let head = [&announced[1..], &[kind, flags, 0, 0, 0, 1]].concat();
        [head, vec![0; length]].concat()
    }

    fn settings_received(chunks: &[&[u8]]) -> bool {
        let mut frames = FrameTracker::default();
        chunks.iter().any(|chunk| frames.receive(chunk).settings)
    }

    #[test]
    fn only_a_complete_settings_frame_completes_the_handshake() {
        for good in [frame(SETTINGS, 0, 0), frame(SETTINGS, 0, 6)] {
            assert!(settings_received(&[&good]));
            assert!(settings_received(&[&[good.as_slice(), b"more"].concat()]));
            let bytes: Vec<_> = good.chunks(1).collect();
            assert!(settings_received(&bytes));
            assert!(!settings_received(&bytes[..bytes.len() - 1]));
        }
        for bad in [frame(SETTINGS, 1, 0), frame(PING, 0, 8)] {
            assert!(!settings_received(&[&bad]));
            assert!(
                !settings_received(&[&bad, &frame(SETTINGS, 0, 0)]),
                "SETTINGS must come first"
            );
        }
    }

    /// The result does not depend on how the bytes are split into chunks.
    #[test]
    fn a_header_block_is_complete_only_with_its_last_frame() {
        for begins in [HEADERS, PUSH_PROMISE] {
            check_header_block(begins);
        }
    }

    fn check_header_block(kind: u8) {
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
            let (mut frames, mut complete) = (FrameTracker::default(), 0);
            let mut came = 0;
            for chunk in all.chunks(size) {
                let received = frames.receive(chunk);
                if received.complete > 0 {
                    complete = came + received.complete;
                }
                came += chunk.len();
                let in_header_block = came >= before.len() + super::FRAME_HEADER_BYTES
                    && came < before.len() + block.len();
                assert_eq!(
                    frames.is_in_header_block(),
                    in_header_block,
                    "{came} in chunks of {size}"
                );
                assert!(
                    !frames.is_in_header_block() || complete == before.len(),
                    "{came} by {size}"
                );
                assert!(!in_header_block || frames.is_incomplete());
            }
            assert_eq!(complete, all.len());
            assert!(!frames.is_incomplete());
        }
    }

    #[test]
    fn incomplete_frames_are_counted_except_data() {
        for (kind, counted) in [(HEADERS, true), (SETTINGS, true), (PING, true), (DATA, false)] {
            let bytes = frame(kind, END_HEADERS, 300);
            let mut frames = FrameTracker::default();
            assert!(!frames.is_incomplete());
            let received = frames.receive(&bytes[..5]);
            assert_eq!((received, frames.incomplete_bytes()), (Received::default(), 5));
            frames.receive(&bytes[5..200]);
            assert_eq!(frames.incomplete_bytes(), if counted { 200 } else { 0 });
            assert_eq!(frames.is_incomplete(), counted);
            frames.receive(&bytes[200..]);
            assert!(!frames.is_incomplete());
        }
    }

    #[test]
    fn a_protocol_error_is_passed_on_to_h2() {
        let broken = [
            frame(HEADERS, 0, PAYLOAD_MAX + 1),
            [frame(HEADERS, 0, 3), frame(PING, 0, 8)].concat(),
            [frame(HEADERS, 0, 3), frame(HEADERS, END_HEADERS, 3)].concat(),
        ];
        for bytes in broken {
            let mut frames = FrameTracker::default();
            let received = frames.receive(&bytes);
            assert_eq!(received.complete, bytes.len());
            assert!(!frames.is_in_header_block() && !frames.is_incomplete());
        }
        let mut frames = FrameTracker::default();
        frames.receive(&frame(HEADERS, 0, PAYLOAD_MAX));
        assert!(frames.is_in_header_block());
    }
}
