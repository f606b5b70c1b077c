//! Every limit on what callers send, in one place, with its unit. Limits of the transport stand with `server::Config`.

use std::time::Duration;

pub use sophic_auth_protocol::token::TOKEN_BYTES_MAX;

/// Characters (extended grapheme clusters, as a person counts them) in a name.
pub const NAME_CHARACTERS_MAX: usize = 256;
/// Bytes in a name: 256 family emoji and then some.
pub const NAME_BYTES_MAX: usize = 8 * 1024;
/// Bytes that a token from elsewhere has at the least: some 119 bits, were it base62.
pub const IMPORTED_TOKEN_BYTES_MIN: usize = 20;
/// Bytes in a line of an import.
pub const IMPORT_LINE_BYTES_MAX: usize = 128 * 1024;
/// Bytes in a record of CSV at the very most: with one that is longer the whole file is refused, since a quote may not be closed.
pub const IMPORT_RECORD_BYTES_MAX: usize = 1024 * 1024;
/// Lines of an import that are looked up, and written, at once.
pub const IMPORT_BATCH: u16 = 1_000;
/// How far ahead the clock of the system that an import comes from may be.
pub const IMPORT_CLOCK_SKEW: Duration = Duration::from_mins(5);
/// Bytes in a hint.
pub const HINT_BYTES_MAX: usize = 32;
/// CIDRs in an IP allowlist.
pub const IP_ALLOWLIST_MAX: usize = 64;
/// Entries of annotations.
pub const ANNOTATIONS_MAX: usize = 32;
/// Bytes in the key of an annotation.
pub const ANNOTATION_KEY_BYTES_MAX: usize = 63;
/// Bytes in the value of an annotation.
pub const ANNOTATION_VALUE_BYTES_MAX: usize = 1024;
/// Characters in a reason.
pub const REASON_CHARACTERS_MAX: usize = 256;
/// Scopes in one request; each may stand more than once, within reason.
pub const SCOPES_MAX: usize = 32;
/// Items on a page where none are asked for.
pub const PAGE_SIZE_DEFAULT: u32 = 50;
/// Items on a page, however many are asked for.
pub const PAGE_SIZE_MAX: u32 = 1_000;
/// Bytes in a page token.
pub const PAGE_TOKEN_BYTES_MAX: usize = 512;
/// How long a request id is remembered (DESIGN §4); after that the same id is a new request.
pub const REQUEST_ID_RETENTION: Duration = Duration::from_hours(24);
/// How old a credential may be for a retry of the call that made it to be given a fresh token.
pub const REPLAY_AGE_MAX: Duration = Duration::from_mins(10);
/// How long a caller's token from before a rotation lives on, if nothing else is asked for.
pub const CALLER_OVERLAP_DEFAULT: Duration = Duration::from_mins(10);
/// How long it may live on.
pub const CALLER_OVERLAP_MAX: Duration = Duration::from_hours(7 * 24);
/// How long a token that is to end with its rotation lives on at the most, should the service die between the two.
pub const ENDING_MAX: Duration = Duration::from_mins(1);
/// Credentials that one page of a list looks at, at the most: where fewer fit than are asked for, the page is short and
/// the next one begins behind them (AIP-158), so that a page costs the same in a store of any size.
pub const LIST_SCAN_MAX: u32 = 20_000;
/// How long the slug of a renamed or deleted workspace resolves to nothing (DESIGN §5).
pub const SLUG_RESERVATION: Duration = Duration::from_hours(30 * 24);
/// Bytes in the text that names a creator.
pub const CREATOR_BYTES_MAX: usize = 512;
/// Candidates in one call that ends leaked tokens.
pub const LEAKED_TOKENS_MAX: usize = 1_000;
/// Bytes of a text in which leaked tokens are looked for.
pub const LEAKED_TEXT_BYTES_MAX: usize = 16 * 1024;
/// Bytes in the URL at which a token was found.
pub const URL_BYTES_MAX: usize = 2_048;
/// After each batch of long work, for those who wait at the store's own lock: another process has no place in this one's
/// queue.
pub const BATCH_PAUSE: Duration = Duration::from_millis(10);
/// Workspaces that are put in one call.
pub const WORKSPACES_PUT_MAX: usize = 100;
/// Introspections in one batch.
pub const BATCH_MAX: usize = 1_000;
/// Callers whose unknown tokens are counted; of more, those that have been quiet are forgotten.
pub const COUNTED_CALLERS_MAX: usize = 10_000;
/// Networks whose unknown service tokens, clients whose unknown tokens, and tokens whose workspaces are counted; as above.
pub const COUNTED_PEERS_MAX: usize = 10_000;
/// Bytes of large messages and answers that are not over, of all callers; one has half of it at the most.
pub const LARGE_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Watches that one caller may have open: one for each replica of a service, and as many again while they are replaced.
pub const WATCHES_MAX: usize = 2_048;
