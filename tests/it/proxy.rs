//! A TCP proxy that simulates network faults: stalls, delays, resets and redirections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::AsyncReadExt as _;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::waits::let_time_pass_until;

/// The behaviour of the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Forwards everything.
    Pass,
    /// Forwards everything after this delay, in both directions.
    Delay(Duration),
    /// Keeps connections open and forwards nothing. Once this mode ends, forwards what has arrived meanwhile.
    Stall,
    /// Stalls only the server's side.
    StallAnswers,
    /// Refuses new connections.
    Refuse,
}

/// A running proxy. It stops on drop.
pub(crate) struct Proxy {
    /// Address on which it listens.
    pub(crate) address: SocketAddr,
    mode: watch::Sender<Mode>,
    cuts: watch::Sender<u64>,
    freezes: watch::Sender<u64>,
    target: watch::Sender<SocketAddr>,
    refused: Arc<AtomicU32>,
    accepting: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Proxy {
    /// Starts a proxy in front of this address.
    pub(crate) async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it has an address");
        let (mode, modes) = watch::channel(Mode::Pass);
        let (cuts, cut) = watch::channel(0);
        let (freezes, freeze) = watch::channel(0);
        let (target, targets) = watch::channel(target);
        let refused = Arc::<AtomicU32>::default();
        let accept = accept(listener, modes, [cut, freeze], targets, Arc::clone(&refused));
        #[expect(clippy::disallowed_methods, reason = "it is aborted with the proxy")]
        let accepting = tokio::spawn(accept);
        Self { address, mode, cuts, freezes, target, refused, accepting }
    }

    /// Returns its URL, which is plaintext.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the number of connections that it has refused.
    pub(crate) fn refused(&self) -> u32 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Sets the mode.
    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Resets every connection.
    pub(crate) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Keeps all existing connections open, but forwards nothing more on them, as after a lost route. New connections
    /// work.
    pub(crate) fn freeze(&self) {
        self.freezes.send_modify(|freezes| *freezes += 1);
    }

    /// Forwards new connections to this address.
    pub(crate) fn redirect_to(&self, target: SocketAddr) {
        self.target.send_replace(target);
    }
}

async fn accept(
    listener: TcpListener,
    modes: watch::Receiver<Mode>,
    [cut, freeze]: [watch::Receiver<u64>; 2],
    targets: watch::Receiver<SocketAddr>,
    refused: Arc<AtomicU32>,
) {
    while let Ok((client, _)) = listener.accept().await {
        if *modes.borrow() == Mode::Refuse {
            reset(&client);
            refused.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let (modes, mut cut, target) = (modes.clone(), cut.clone(), *targets.borrow());
        let mut freeze = freeze.clone();
        cut.mark_unchanged();
        freeze.mark_unchanged();
        #[expect(
            clippy::disallowed_methods,
            reason = "it ends with either side, or when it is cut"
        )]
        tokio::spawn(async move {
            let Ok(server) = TcpStream::connect(target).await else {
                reset(&client);
                return;
            };
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            let both = async {
                tokio::join!(
                    pump(from_client, &to_server, modes.clone(), false),
                    pump(from_server, &to_client, modes.clone(), true)
                )
            };
            tokio::select! {
                _ = both => {}
                Ok(()) = freeze.changed() => {
                    let _ = cut.changed().await;
                }
                // The connections were reset, or the proxy was dropped.
                _ = cut.changed() => {
                    reset(to_client.as_ref());
                    reset(to_server.as_ref());
                }
            }
        });
    }
}

/// Makes the stream end with a reset in place of a regular close.
fn reset(stream: &TcpStream) {
    // A socket that refuses is already closed.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

async fn pump(
    mut from: OwnedReadHalf,
    to: &OwnedWriteHalf,
    mut modes: watch::Receiver<Mode>,
    answers: bool,
) {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let read = async move {
        loop {
            let mut chunk = vec![0; 16 * 1024];
            match from.read(&mut chunk).await {
                Ok(0) | Err(_) => break,
                Ok(length) => {
                    chunk.truncate(length);
                    if sender.send((Instant::now(), chunk)).is_err() {
                        break;
                    }
                }
            }
        }
    };
    let write = async {
        while let Some((came, chunk)) = receiver.recv().await {
            let passes = |mode: &Mode| match mode {
                Mode::Stall => false,
                Mode::StallAnswers => !answers,
                Mode::Pass | Mode::Delay(_) | Mode::Refuse => true,
            };
            let Ok(mode) = modes.wait_for(passes).await.map(|mode| *mode) else { break };
            if let Mode::Delay(delay) = mode {
                let_time_pass_until("as slow as this network is", came + delay).await;
            }
            if write_all(to, &chunk).await.is_err() {
                break;
            }
        }
        let _ = SockRef::from(to.as_ref()).shutdown(std::net::Shutdown::Write);
    };
    tokio::join!(read, write);
}

async fn write_all(to: &OwnedWriteHalf, mut chunk: &[u8]) -> std::io::Result<()> {
    while !chunk.is_empty() {
        to.writable().await?;
        match to.try_write(chunk) {
            Ok(written) => chunk = &chunk[written..],
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
