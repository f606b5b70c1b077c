//! A TCP proxy that can be told to misbehave: to hold up, to delay, to cut, to lead elsewhere.

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

/// How it behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Passes on what comes.
    Pass,
    /// Passes on what comes, so much later, in both directions.
    Delay(Duration),
    /// Keeps connections open and passes on nothing; what came meanwhile is passed on when this is over.
    Stall,
    /// As that, but only of what the server sends.
    StallAnswers,
    /// Takes no new connection.
    Refuse,
}

/// A running proxy; it ends when it is dropped.
pub(crate) struct Proxy {
    /// Where it listens.
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
    /// In front of this.
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

    /// Its URL, in the clear.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many connections it has refused.
    pub(crate) fn refused(&self) -> u32 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Behaves so from now on.
    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Resets every connection.
    pub(crate) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Keeps every connection that there is open, and passes on nothing more: the way is forgotten. New ones work.
    pub(crate) fn freeze(&self) {
        self.freezes.send_modify(|freezes| *freezes += 1);
    }

    /// Leads new connections there.
    pub(crate) fn lead_to(&self, target: SocketAddr) {
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
                // Whether it is cut, or the proxy is gone.
                _ = cut.changed() => {
                    reset(to_client.as_ref());
                    reset(to_server.as_ref());
                }
            }
        });
    }
}

/// With a reset in place of a farewell.
fn reset(stream: &TcpStream) {
    // A socket that refuses is closed already.
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
