//! The part of HTTP/2 that a cheap gRPC client needs (RFC 9113, RFC 7541). Frames are encoded once and then copied, and
//! answers are read without decoding their headers.
//!
//! The first request of a connection adds the header fields to the dynamic table, so those of each later one take eight
//! bytes. The trailers of an answer are not decoded: a unary gRPC call that fails has no message, and messages are
//! checked.

use crate::tokens;

/// Path of the call.
const PATH: &str = "/sophic.auth.v1.AuthService/Introspect";
/// Length of a frame header in bytes.
const HEAD: usize = 9;
/// `:method POST`, `:scheme http`, then path, authority, te, content-type, authorization and user-agent, as indexed by
/// the first request.
const INDEXED: [u8; 8] = [0x83, 0x86, 0xc3, 0xc2, 0xc1, 0xc0, 0xbf, 0xbe];
/// Offset of the DATA frame in an encoded request.
const DATA_AT: usize = HEAD + INDEXED.len();

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Flow-control window for the server. It is refilled long before it is exhausted.
const WINDOW: u32 = (1 << 31) - 1;
const TOP_UP: u32 = 1 << 29;

/// Returns the connection preface, with settings that disable push and widen the windows.
pub(crate) fn preface() -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    frame_head(&mut bytes, 12, SETTINGS, 0, 0);
    bytes.extend([0, 2, 0, 0, 0, 0]);
    bytes.extend([0, 4]);
    bytes.extend((1_u32 << 20).to_be_bytes());
    window_update(&mut bytes, WINDOW - 65_535);
    bytes
}

fn window_update(out: &mut Vec<u8>, by: u32) {
    frame_head(out, 4, 8, 0, 0);
    out.extend(by.to_be_bytes());
}

fn frame_head(out: &mut Vec<u8>, length: usize, kind: u8, flags: u8, stream: u32) {
    let length = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    out.extend(&length[1..]);
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
}

/// Returns the header block of a connection's first request.
pub(crate) fn first_block(authority: &str, service_token: &str) -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    let mut literal = |name: &[u8], value: &str| {
        block.extend(name);
        // Every value is shorter than 127 bytes, so its length takes one byte.
        block.push(tokens::byte(value.len()));
        block.extend(value.as_bytes());
    };
    literal(&[0x44], PATH);
    literal(&[0x41], authority);
    literal(&[0x40, 2, b't', b'e'], "trailers");
    literal(&[0x5f], "application/grpc");
    literal(&[0x57], &format!("Bearer {service_token}"));
    literal(&[0x7a], "bench");
    block
}

/// Encoded requests of equal length, back to back.
pub(crate) struct Encoded {
    bytes: Vec<u8>,
    stride: usize,
}

impl Encoded {
    /// Encodes the requests with these indexes.
    pub(crate) fn of(indexes: impl Iterator<Item = u64>) -> Self {
        let mut bytes = Vec::new();
        let mut stride = 0;
        for index in indexes {
            let before = bytes.len();
            encode(&mut bytes, index);
            stride = bytes.len() - before;
        }
        Self { bytes, stride }
    }

    /// Returns the request at this position.
    pub(crate) fn get(&self, place: usize) -> &[u8] {
        &self.bytes[place * self.stride..(place + 1) * self.stride]
    }

    /// Returns the number of requests.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len().checked_div(self.stride).unwrap_or_default()
    }
}

/// Appends one request in the form for an open connection.
pub(crate) fn encode(out: &mut Vec<u8>, index: u64) {
    frame_head(out, INDEXED.len(), HEADERS, END_HEADERS, 0);
    out.extend(INDEXED);
    let message = tokens::request(index);
    frame_head(out, 5 + message.len(), DATA, END_STREAM, 0);
    out.push(0);
    out.extend(u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend(message);
}

/// Appends an encoded request on this stream. `first` is the full header block, for the first request of a connection.
pub(crate) fn send(out: &mut Vec<u8>, encoded: &[u8], stream: u32, first: Option<&[u8]>) {
    let data = match first {
        None => {
            let at = out.len();
            out.extend_from_slice(&encoded[..DATA_AT]);
            out[at + 5..at + HEAD].copy_from_slice(&stream.to_be_bytes());
            &encoded[DATA_AT..]
        }
        Some(block) => {
            frame_head(out, block.len(), HEADERS, END_HEADERS, stream);
            out.extend_from_slice(block);
            &encoded[DATA_AT..]
        }
    };
    let at = out.len();
    out.extend_from_slice(data);
    out[at + 5..at + HEAD].copy_from_slice(&stream.to_be_bytes());
}

/// Returns the token in an encoded request.
pub(crate) fn token_of(encoded: &[u8]) -> Option<[u8; tokens::TOKEN]> {
    let at = DATA_AT + HEAD + 5 + 2;
    encoded.get(at..at + tokens::TOKEN)?.try_into().ok()
}

/// An event from the server.
#[derive(Debug)]
pub(crate) enum Event<'a> {
    /// A gRPC message, and whether it ends the stream.
    Data(u32, &'a [u8], bool),
    /// The server ended a stream.
    End(u32),
    /// The server reset a stream.
    Reset(u32),
    /// The server gave up the connection.
    GoAway,
}

/// The reading half: takes bytes and returns events.
#[derive(Default)]
pub(crate) struct Reader {
    received: u32,
}

impl Reader {
    /// Reads all whole frames and returns how many bytes they took. Replies that HTTP/2 requires are appended to `out`.
    pub(crate) fn read(
        &mut self,
        input: &[u8],
        out: &mut Vec<u8>,
        mut event: impl FnMut(Event<'_>),
    ) -> usize {
        let mut at = 0;
        while let Some(head) = input.get(at..at + HEAD) {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let Some(payload) = input.get(at + HEAD..at + HEAD + length) else { break };
            let (kind, flags) = (head[3], head[4]);
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & (WINDOW);
            let ends = flags & END_STREAM != 0;
            match kind {
                DATA => {
                    self.received += u32::try_from(length).unwrap_or_default();
                    event(Event::Data(stream, payload, ends));
                }
                HEADERS if ends => event(Event::End(stream)),
                RST_STREAM => event(Event::Reset(stream)),
                SETTINGS if flags & ACK == 0 => frame_head(out, 0, SETTINGS, ACK, 0),
                PING if flags & ACK == 0 => {
                    frame_head(out, 8, PING, ACK, 0);
                    out.extend_from_slice(payload);
                }
                GOAWAY => event(Event::GoAway),
                _ => {}
            }
            at += HEAD + length;
        }
        if self.received >= TOP_UP {
            window_update(out, self.received);
            self.received = 0;
        }
        at
    }
}
