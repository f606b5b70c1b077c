//! The rules for spelling and counting, at their edges: what just passes and what just does not.

mod credentials;
mod ids;
mod ip_allowlist;
pub(crate) mod samples;
mod sets;
mod text;
mod time;

use super::Timestamp;

fn micros(micros: i64) -> Timestamp {
    Timestamp::from_unix_micros(micros).expect("the test stays within the years 1 to 9999")
}
