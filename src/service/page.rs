//! Pages (AIP-158): an opaque token says where the next one begins, and fits only the filter that it was made for.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use super::{Result, Violations};
use crate::model::limits::{PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX, PAGE_TOKEN_BYTES_MAX};

const VERSION: u8 = 1;
const CHECK: usize = 8;

/// Which page is asked for.
#[derive(Debug, Clone, Default)]
pub struct PageRequest {
    /// How many at the most; 0: 50.
    pub size: i32,
    /// The token of the page before; empty: the first.
    pub token: String,
}

/// A page.
#[derive(Debug, Clone)]
pub struct Page<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// Fetches the next; empty: this was the last.
    pub next_token: String,
}

/// A page request that was checked.
pub(super) struct Cursor {
    /// How many items to fetch: one more than go on the page, to see whether there is a next one.
    pub(super) fetch: u32,
    /// The position that the page begins after.
    pub(super) after: Option<String>,
    binding: String,
}

impl Cursor {
    /// Checks size and token; `binding` is all that the token must fit: the RPC, the filter, the acting user.
    pub(super) fn new(page: &PageRequest, binding: String) -> Result<Self> {
        let mut violations = Violations::default();
        let size = match u32::try_from(page.size) {
            Ok(0) => PAGE_SIZE_DEFAULT,
            Ok(size) => size.min(PAGE_SIZE_MAX),
            Err(_) => {
                violations.add("page_size", "must not be negative");
                0
            }
        };
        let after = (!page.token.is_empty()).then(|| decode(&page.token, &binding));
        if after == Some(None) {
            violations
                .add("page_token", "must be a next_page_token, sent back with the same filter");
        }
        violations.finish()?;
        Ok(Self { fetch: size + 1, after: after.flatten(), binding })
    }

    /// The token of what begins after this position.
    pub(super) fn token(&self, position: &str) -> String {
        encode(position, &self.binding)
    }

    /// The page of what was fetched; `position` gives the position of an item.
    pub(super) fn page<T>(self, items: Vec<T>, position: impl Fn(&T) -> String) -> Page<T> {
        self.short_page(items, None, position)
    }

    /// The same, where the page may be short and yet not the last: the next one then begins after `resume`.
    pub(super) fn short_page<T>(
        self,
        mut items: Vec<T>,
        resume: Option<String>,
        position: impl Fn(&T) -> String,
    ) -> Page<T> {
        let size = self.fetch as usize - 1;
        let more = items.len() > size;
        items.truncate(size);
        let last = items.last().filter(|_| more).map(position);
        let next_token = last.or(resume).map(|position| encode(&position, &self.binding));
        Page { items, next_token: next_token.unwrap_or_default() }
    }
}

/// Not a secret and no protection: a forged position shows nothing that the filter would not. It tells slips apart.
fn check(position: &str, binding: &str) -> [u8; CHECK] {
    let mut hash = Sha256::new();
    hash.update([VERSION]);
    hash.update(binding.as_bytes());
    hash.update([0]);
    hash.update(position.as_bytes());
    let mut check = [0; CHECK];
    check.copy_from_slice(&hash.finalize()[..CHECK]);
    check
}

fn encode(position: &str, binding: &str) -> String {
    let mut bytes = vec![VERSION];
    bytes.extend(check(position, binding));
    bytes.extend(position.as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

fn decode(token: &str, binding: &str) -> Option<String> {
    if token.len() > PAGE_TOKEN_BYTES_MAX {
        return None;
    }
    let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
    let (head, position) = bytes.split_at_checked(1 + CHECK)?;
    let position = std::str::from_utf8(position).ok()?;
    let fits = head[0] == VERSION && head[1..] == check(position, binding);
    fits.then(|| position.to_owned())
}
