//! How many files the server may have open, which connections are too.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What a server opens beside the connections of its two ports: the store's, logs, the runtime's own.
const OTHERS: u64 = 128;

/// Raises the limit to what the system allows, and says so where that is too little for so many connections on each of the
/// two ports: the kernel would refuse them one by one, much later.
pub(super) fn raise_limit(connections_max: usize) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        let raised = Rlimit { current: maximum, maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(%error, "the limit of open files could not be raised");
        }
    }
    // Nothing: no limit.
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let needed = needed(connections_max);
    if limit < needed {
        tracing::warn!(
            "this process may open {limit} files, and --connections-max {connections_max} on two ports needs {needed}: \
             raise the hard limit (LimitNOFILE= of systemd, ulimit -Hn), or lower --connections-max"
        );
    }
}

/// How many files so many connections on each port may take.
const fn needed(connections_max: usize) -> u64 {
    (connections_max as u64).saturating_mul(2).saturating_add(OTHERS)
}
