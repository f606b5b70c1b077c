//! What a client of HTTP/2 has to say first, its preface and its SETTINGS, noticed as the bytes go by: hyper itself
//! gives a connection that never says them all the time in the world.

use std::io::{IoSlice, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::service::Activity;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The preface, and the header of the frame behind it (RFC 9113 §3.4, §4.1).
const HEAD: usize = 24 + 9;
/// The type of SETTINGS, and its flag of an acknowledgement.
const SETTINGS: u8 = 4;
const ACK: u8 = 1;

/// A connection whose peer's first words are listened to.
pub(super) struct Greeted<I> {
    io: I,
    greeting: Greeting,
    activity: Arc<Activity>,
}

/// How far it has come.
enum Greeting {
    /// So much of the head.
    Head([u8; HEAD], usize),
    /// Bytes of SETTINGS that are missing.
    Settings(usize),
    /// Nothing more is listened to: it is whole, or none.
    Over,
}

impl<I> Greeted<I> {
    pub(super) const fn new(io: I, activity: Arc<Activity>) -> Self {
        Self { io, greeting: Greeting::Head([0; HEAD], 0), activity }
    }
}

impl Greeting {
    /// Takes what came in; whether the greeting is whole with it.
    fn hear(&mut self, mut bytes: &[u8]) -> bool {
        if let Self::Head(head, filled) = self {
            let taken = bytes.len().min(HEAD - *filled);
            head[*filled..*filled + taken].copy_from_slice(&bytes[..taken]);
            *filled += taken;
            bytes = &bytes[taken..];
            if *filled < HEAD {
                return false;
            }
            let (preface, frame) = head.split_at(PREFACE.len());
            let is_settings = frame[3] == SETTINGS && frame[4] & ACK == 0;
            let length = u32::from_be_bytes([0, frame[0], frame[1], frame[2]]) as usize;
            *self =
                if preface == PREFACE && is_settings { Self::Settings(length) } else { Self::Over };
        }
        let Self::Settings(missing) = self else { return false };
        *missing = missing.saturating_sub(bytes.len());
        let whole = *missing == 0;
        if whole {
            *self = Self::Over;
        }
        whole
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Greeted<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(context, buffer))?;
        let this = &mut *self;
        if !matches!(this.greeting, Greeting::Over)
            && this.greeting.hear(&buffer.filled()[before..])
        {
            this.activity.establish();
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Greeted<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::{Greeting, HEAD, PREFACE};

    fn heard(chunks: &[&[u8]]) -> bool {
        let mut greeting = Greeting::Head([0; HEAD], 0);
        let mut whole = false;
        for chunk in chunks {
            whole |= greeting.hear(chunk);
        }
        whole
    }

    #[test]
    fn only_a_preface_and_all_of_settings_are_a_greeting() {
        let empty = [PREFACE, &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat();
        let one = [PREFACE, &[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 9]].concat();
        for good in [&empty, &one] {
            assert!(heard(&[good]));
            assert!(heard(&[&[good.as_slice(), b"more"].concat()]));
            let bytes: Vec<_> = good.chunks(1).collect();
            assert!(heard(&bytes));
            assert!(!heard(&bytes[..bytes.len() - 1]));
        }
        let bad = [
            [PREFACE, &[0, 0, 0, 4, 1, 0, 0, 0, 0]].concat(),
            [PREFACE, &[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]].concat(),
            b"GET / HTTP/1.1\r\nhost: x\r\nuser-agent: some client\r\n\r\n".to_vec(),
        ];
        for bad in bad {
            assert!(!heard(&[&bad]));
        }
    }
}
