//! The limit of open files, which also limits connections.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::server::defaults::CONNECTIONS_MAX;

/// Number of ports.
const PORTS: u64 = 2;
/// Files that a server opens apart from client connections: for the store, logs and the runtime.
const OTHERS: u64 = 128;

/// Raises the limit of open files to its hard limit, and returns the maximum number of connections per port. Keeps a
/// requested number, but warns if the limit is too low for it, since otherwise connections would fail only under load.
pub(in crate::cli) fn connections_max(requested: Option<usize>) -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        let raised = Rlimit { current: maximum, maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(%error, "could not raise the limit of open files");
        }
    }
    // `None` means no limit.
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let Some(requested) = requested else {
        let fitting = connections_that_fit(limit);
        if fitting < CONNECTIONS_MAX {
            tracing::info!(
                "each of the two ports takes {fitting} connections at once, since this process may open {limit} files"
            );
        }
        return fitting;
    };
    let needed = files_needed(requested);
    if limit < needed {
        tracing::warn!(
            "this process may open {limit} files, and --connections-max {requested} on two ports needs {needed}: \
             raise the hard limit (LimitNOFILE= of systemd, ulimit -Hn), or lower --connections-max"
        );
    }
    requested
}

/// Returns how many connections per port fit into this limit of open files, up to the default.
fn connections_that_fit(limit: u64) -> usize {
    let fitting = limit.saturating_sub(OTHERS) / PORTS;
    // At least 1, because 0 would mean no limit.
    usize::try_from(fitting).map_or(CONNECTIONS_MAX, |fitting| fitting.clamp(1, CONNECTIONS_MAX))
}

/// Returns how many files this many connections per port need.
const fn files_needed(connections_max: usize) -> u64 {
    (connections_max as u64).saturating_mul(PORTS).saturating_add(OTHERS)
}

#[cfg(test)]
mod tests {
    use super::{CONNECTIONS_MAX, connections_that_fit, files_needed};

    #[test]
    fn the_default_number_of_connections_fits_into_the_limit_of_open_files() {
        for limit in [256, 1_024, 20_000, 20_127] {
            assert!(
                files_needed(connections_that_fit(limit)) <= limit
                    && connections_that_fit(limit) < CONNECTIONS_MAX,
                "{limit}"
            );
        }
        assert_eq!(
            (connections_that_fit(0), connections_that_fit(20_128), connections_that_fit(u64::MAX)),
            (1, CONNECTIONS_MAX, CONNECTIONS_MAX)
        );
    }
}
