//! Third-party programs, started on a free port and ended with the test. Their tests are never skipped, since
//! `scripts/test` installs them.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::waits::eventually;

/// A running program that listens.
pub(crate) struct Process {
    pub(crate) address: SocketAddr,
    child: Child,
    log: PathBuf,
    /// Deleted with this value.
    _folder: TempDir,
}

impl Process {
    /// Starts the program with its output in a file, and waits until it accepts connections on this address.
    pub(crate) async fn start(mut command: Command, folder: TempDir, address: SocketAddr) -> Self {
        let log = folder.path().join("log");
        let output = std::fs::File::create(&log).expect("a file for its output");
        let errors = output.try_clone().expect("a file for its errors");
        let child = command
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{command:?} does not start: {error}: run scripts/test, which installs it")
            });
        let mut process = Self { address, child, log, _folder: folder };
        eventually(&format!("{command:?} accepts"), async || {
            if let Ok(Some(status)) = process.child.try_wait() {
                panic!("it ended with {status}:\n{}", process.log());
            }
            TcpStream::connect(address).await.is_ok()
        })
        .await;
        process
    }

    /// The output so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// An address on which no program listens at the moment.
pub(crate) fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("it has an address")
}

/// A program of the system.
pub(crate) fn program(name: &str, folders: &[&str]) -> PathBuf {
    let found =
        folders.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("no {name} in {folders:?}: run scripts/test, which installs it"))
}

/// The Python environment that `scripts/venv` makes.
pub(crate) fn venv() -> PathBuf {
    let path = std::env::var("SOPHIC_AUTH_TEST_VENV");
    path.expect("no SOPHIC_AUTH_TEST_VENV: run scripts/test, which makes it").into()
}

/// The Node modules that `scripts/node-modules` installs.
pub(crate) fn node_modules() -> PathBuf {
    let path = std::env::var("SOPHIC_AUTH_TEST_NODE_MODULES");
    path.expect("no SOPHIC_AUTH_TEST_NODE_MODULES: run scripts/test, which installs them").into()
}
