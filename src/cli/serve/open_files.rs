//! How many files the server may have open, which connections are too.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Connections on each port, where nobody says how many and there is room for them.
const CONNECTIONS_MAX: usize = 10_000;
/// Ports, each with its own connections: one file each.
const PORTS: u64 = 2;
/// What a server opens beside the connections of its two ports: the store's, logs, the runtime's own.
const OTHERS: u64 = 128;

/// How many connections each port may have. The limit of open files is raised to what the system allows. As many as were
/// requested for are not made fewer, but it is said where that limit has no room for them: the kernel would refuse them one by
/// one, much later.
pub(in crate::cli) fn connections_max(requested: Option<usize>) -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        let raised = Rlimit { current: maximum, maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(%error, "the limit of open files could not be raised");
        }
    }
    // Nothing: no limit.
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

/// How many connections on each port so many files are enough for, up to the default.
fn connections_that_fit(limit: u64) -> usize {
    let fitting = limit.saturating_sub(OTHERS) / PORTS;
    // Not 0, which would be no limit.
    usize::try_from(fitting).map_or(CONNECTIONS_MAX, |fitting| fitting.clamp(1, CONNECTIONS_MAX))
}

/// How many files so many connections on each port may take.
const fn files_needed(connections_max: usize) -> u64 {
    (connections_max as u64).saturating_mul(PORTS).saturating_add(OTHERS)
}

#[cfg(test)]
mod tests {
    use super::{CONNECTIONS_MAX, connections_that_fit, files_needed};

    #[test]
    fn what_there_is_room_for_is_never_too_many() {
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
