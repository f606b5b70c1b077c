//! How long `primary.rs` waits for answers, searches and pauses.

use std::time::Duration;

/// Time limit for closing the connection of a search.
pub(super) const SEARCH_CLOSE_TIMEOUT: Duration = Duration::from_millis(100);
/// Pause after a search before another one starts.
pub(super) const SEARCH_PAUSE: Duration = Duration::from_millis(50);
/// Time to wait for a connection before asking the other hosts whether one of them is the primary.
pub(super) const OTHER_HOSTS_DELAY: Duration = Duration::from_millis(200);
/// Pause between two such searches.
pub(super) const OTHER_HOSTS_PAUSE: Duration = Duration::from_secs(1);
/// Time that the feed waits for an answer before it probes the store on a new connection.
pub(super) const FEED_PROBE_DELAY: Duration = Duration::from_millis(300);
/// Time limit for a search. It bounds the time until an unresponsive store counts as unreachable.
pub(super) const SEARCH_TIMEOUT: Duration = Duration::from_millis(1_500);

/// Time limit for the answer to a BEGIN, which waits for no lock.
pub(super) const FIRST_ANSWER: Duration = Duration::from_secs(2);
/// Time behind a pooler, where BEGIN waits for a server connection, before checking whether the pooler serves others.
pub(super) const FIRST_ANSWER_POOLED: Duration = Duration::from_secs(3);
/// Time after the server's own limit until an answer counts as lost: the peer of the connection is gone.
pub(super) const ANSWER_MARGIN: Duration = Duration::from_millis(500);
/// Time to wait for a write on a connection that has been discarded.
pub(super) const DISCARDED_WRITE_GRACE: Duration = Duration::from_secs(3);
/// Time for which a repeated discard for the same reason is logged at debug level only.
pub(super) const REPEAT_WINDOW: Duration = Duration::from_secs(10);
/// Shortest and longest pause of the feed after repeated discards for the same reason.
pub(super) const BACKOFF: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(2)];
