//! Tests of the limits of each type: the longest valid value and the shortest invalid one.

mod credentials;
mod ids;
mod ip_allowlist;
pub(crate) mod samples;
mod sets;
mod text;
mod time;
mod workspace_set;

use super::Timestamp;

fn micros(micros: i64) -> Timestamp {
    Timestamp::from_unix_micros(micros).expect("the test stays within the years 1 to 9999")
}
