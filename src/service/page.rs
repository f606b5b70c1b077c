//! Pagination (AIP-158). A page token is opaque, holds the position at which the next page begins, and is valid only
//! for the filter that it was created with.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use super::page_item::{PageItem, fitting};
use super::{Result, Violations};
use crate::model::limits::{PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX, PAGE_TOKEN_BYTES_MAX};

const VERSION: u8 = 1;
const CHECK: usize = 8;

/// The requested page.
#[derive(Debug, Clone, Default)]
pub struct PageRequest {
    /// Maximum number of items. 0 means 50.
    pub size: i32,
    /// `next_token` of the previous page. Empty for the first page.
    pub token: String,
}

/// One page of a list.
#[derive(Debug, Clone)]
pub struct Page<T> {
    /// The items of the page.
    pub items: Vec<T>,
    /// Token of the next page. Empty on the last page.
    pub next_token: String,
}

/// A validated page request.
pub(super) struct Cursor {
    /// Number of items to fetch: one more than the page holds, to find out whether there is a next page.
    pub(super) fetch: u32,
    /// Position after which the page begins. `None` for the first page.
    pub(super) after: Option<String>,
    binding: String,
}

impl Cursor {
    /// Validates size and token. `binding` is the text that the token must match: the RPC, the filter and the acting
    /// user.
    pub(super) fn new(page: &PageRequest, binding: String) -> Result<Self> {
        let mut violations = Violations::default();
        let size = page_size(&mut violations, page.size);
        let after = (!page.token.is_empty()).then(|| decode(&page.token, &binding));
        if after == Some(None) {
            violations
                .add("page_token", "must be a next_page_token, sent back with the same filter");
        }
        violations.finish()?;
        Ok(Self { fetch: size + 1, after: after.flatten(), binding })
    }

    /// Returns the token of the page that begins after `position`.
    pub(super) fn token(&self, position: &str) -> String {
        encode(position, &self.binding)
    }

    /// Builds the page from the fetched items, of which it has as many as fit. `position` returns an item's position.
    pub(super) fn page<T: PageItem>(
        self,
        items: Vec<T>,
        position: impl Fn(&T) -> String,
    ) -> Page<T> {
        self.short_page(items, None, position)
    }

    /// Builds the page from the fetched items, of which there may be few although more follow. Then `resume` is the
    /// position after which the next page begins.
    pub(super) fn short_page<T: PageItem>(
        self,
        mut items: Vec<T>,
        resume: Option<String>,
        position: impl Fn(&T) -> String,
    ) -> Page<T> {
        let size = fitting(&items).min(self.fetch as usize - 1);
        let more = items.len() > size;
        items.truncate(size);
        let last = items.last().filter(|_| more).map(position);
        let next_token = last.or(resume).map(|position| encode(&position, &self.binding));
        Page { items, next_token: next_token.unwrap_or_default() }
    }
}

/// Returns the number of items of a page for the requested size.
pub(super) fn page_size(violations: &mut Violations, requested: i32) -> u32 {
    match u32::try_from(requested) {
        Ok(0) => PAGE_SIZE_DEFAULT,
        Ok(size) => size.min(PAGE_SIZE_MAX),
        Err(_) => {
            violations.add("page_size", "must not be negative");
            0
        }
    }
}

/// Checksum that detects a token used with another filter. It does not protect against forgery, and need not: a forged
/// position reveals nothing that the filter does not.
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

/// Makes the token of a position, for the list that `binding` describes.
pub(super) fn encode(position: &str, binding: &str) -> String {
    let mut bytes = vec![VERSION];
    bytes.extend(check(position, binding));
    bytes.extend(position.as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Returns the position of a token. `None` if it is not one of the list that `binding` describes.
pub(super) fn decode(token: &str, binding: &str) -> Option<String> {
    if token.len() > PAGE_TOKEN_BYTES_MAX {
        return None;
    }
    let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
    let (head, position) = bytes.split_at_checked(1 + CHECK)?;
    let position = std::str::from_utf8(position).ok()?;
    let fits = head[0] == VERSION && head[1..] == check(position, binding);
    fits.then(|| position.to_owned())
}
