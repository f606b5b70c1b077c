//! Limits on requests, with their units. Limits of the transport are in `server::Config`.

use std::time::Duration;

pub use sophic_auth_protocol::token::TOKEN_BYTES_MAX;

/// Characters in a name, counted as a person does: extended grapheme clusters.
pub const NAME_CHARACTERS_MAX: usize = 256;
/// Bytes in a name: enough for 256 family emoji.
pub const NAME_BYTES_MAX: usize = 8 * 1024;
/// Minimum length of an imported token, in bytes: about 119 bits of randomness if it is base62.
pub const IMPORTED_TOKEN_BYTES_MIN: usize = 20;
/// Bytes in a line of an import.
pub const IMPORT_LINE_BYTES_MAX: usize = 128 * 1024;
/// Bytes in a CSV record. A longer one suggests that a quote is not closed, so the whole file is refused.
pub const IMPORT_RECORD_BYTES_MAX: usize = 1024 * 1024;
/// Lines of an import that are looked up and written together.
pub const IMPORT_LINES_PER_BATCH: u16 = 1_000;
/// Tolerated clock skew of the system that an import comes from.
pub const IMPORT_CLOCK_SKEW: Duration = Duration::from_mins(5);
/// Bytes in a hint.
pub const HINT_BYTES_MAX: usize = 32;
/// Bytes in the hint of a caller, as an export of a deployment has it.
pub const CALLER_HINT_BYTES_MAX: usize = 64;
/// CIDRs in an IP allowlist.
pub const IP_ALLOWLIST_MAX: usize = 64;
/// Workspaces to which one personal access token can be limited.
pub const WORKSPACE_SET_MAX: usize = 64;
/// Entries of annotations.
pub const ANNOTATIONS_MAX: usize = 32;
/// Bytes in the key of an annotation.
pub const ANNOTATION_KEY_BYTES_MAX: usize = 63;
/// Bytes in the value of an annotation.
pub const ANNOTATION_VALUE_BYTES_MAX: usize = 1024;
/// Characters in a reason.
pub const REASON_CHARACTERS_MAX: usize = 256;
/// Scopes in one request. Repetitions are allowed and count.
pub const SCOPES_MAX: usize = 32;
/// Items on a page if the request gives no page size.
pub const PAGE_SIZE_DEFAULT: u32 = 50;
/// Maximum number of items on a page. A larger page size in a request is reduced to it.
pub const PAGE_SIZE_MAX: u32 = 1_000;
/// Bytes of the items of a page, unless one item alone is larger. A page with fewer items than asked for has a next
/// page. A client of gRPC accepts 4 MiB by default, and items have a little more than is counted.
pub const PAGE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Bytes in a page token.
pub const PAGE_TOKEN_BYTES_MAX: usize = 512;
/// How long a request id is remembered. A later call with the same id is a new request.
pub const REQUEST_ID_RETENTION: Duration = Duration::from_hours(24);
/// Age up to which a retry of the call that created a credential may replace its token.
pub const REPLAY_AGE_MAX: Duration = Duration::from_mins(10);
/// Default time for which a caller's previous token stays valid after a rotation.
pub const CALLER_OVERLAP_DEFAULT: Duration = Duration::from_mins(10);
/// Longest time for which a caller's previous token may stay valid after a rotation.
pub const CALLER_OVERLAP_MAX: Duration = Duration::from_hours(7 * 24);
/// Time for which the previous token stays valid at most if the rotation is to end it at once, and the process fails
/// between the two steps.
pub const IMMEDIATE_END_MAX: Duration = Duration::from_mins(1);
/// Credentials that are scanned for one page of a list. If fewer than the page size match, the page is short and the
/// next one continues after them (AIP-158). A page thus costs the same in a store of any size.
pub const LIST_SCAN_MAX: u32 = 20_000;
/// How long the slug of a renamed or deleted workspace stays reserved, resolving to nothing.
pub const SLUG_RESERVATION: Duration = Duration::from_hours(30 * 24);
/// Bytes in the name of a creator.
pub const CREATOR_BYTES_MAX: usize = 512;
/// Candidates in one call of `RevokeLeaked`.
pub const LEAKED_TOKENS_MAX: usize = 1_000;
/// Bytes of a text that is searched for leaked tokens.
pub const LEAKED_TEXT_BYTES_MAX: usize = 16 * 1024;
/// Bytes in the URL at which a token was found.
pub const URL_BYTES_MAX: usize = 2_048;
/// Pause after each batch of long-running work. Other processes wait for the store's lock without a queue, and would
/// otherwise rarely get it.
pub const BATCH_PAUSE: Duration = Duration::from_millis(10);
/// Workspaces put in one transaction.
pub const WORKSPACES_PUT_MAX: usize = 100;
/// Introspections in one batch.
pub const BATCH_INTROSPECTIONS_MAX: usize = 1_000;
/// Callers whose look-ups of unknown tokens are counted. Beyond that, the least recently active are forgotten.
pub const COUNTED_CALLERS_MAX: usize = 10_000;
/// Networks whose unknown service tokens are counted, clients whose unknown tokens are counted, and tokens whose
/// workspaces are counted. Beyond that, the least recently active are forgotten.
pub const COUNTED_PEERS_MAX: usize = 10_000;
/// Bytes of large requests and responses in flight, for all callers together. One caller may have half of it.
pub const LARGE_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Watch streams that one caller may have open: one for each replica of a service, and as many again during a rolling
/// restart.
pub const WATCHES_MAX: usize = 2_048;

/// Number of rows of a table, and of credentials that expire soon, at which `GetStatus` stops counting.
pub const COUNT_MAX: u32 = 1_000_000;
/// Time for which a server keeps what `GetStatus` has counted.
pub const COUNT_INTERVAL: Duration = Duration::from_secs(10);
/// Longest time within which `GetStatus` counts the credentials that expire.
pub const EXPIRING_WITHIN_MAX: Duration = Duration::from_hours(366 * 24);
