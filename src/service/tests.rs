//! Tests of page tokens, and of the codes of reasons.

use super::page::Cursor;
use super::page_item::{PageItem, fitting};
use super::{PageRequest, Reason};
use crate::model::limits::PAGE_BYTES_MAX;

impl PageItem for &str {
    fn text_bytes(&self) -> usize {
        self.len()
    }
}

fn page(size: i32, token: &str) -> PageRequest {
    PageRequest { size, token: token.to_owned() }
}

fn next_token(binding: &str) -> String {
    let cursor = Cursor::new(&page(1, ""), binding.to_owned()).expect("a first page");
    cursor.page(vec!["a", "b"], |item| (*item).to_owned()).next_token
}

#[test]
fn a_page_token_leads_to_its_position() {
    let cursor = Cursor::new(&page(1, &next_token("x")), "x".to_owned()).expect("its own token");
    assert_eq!(cursor.after.as_deref(), Some("a"));
}

#[test]
fn a_last_page_has_no_token() {
    let cursor = Cursor::new(&page(2, ""), "x".to_owned()).expect("a first page");
    assert_eq!(cursor.page(vec!["a", "b"], |item| (*item).to_owned()).next_token, "");
}

#[test]
fn a_page_ends_before_it_is_too_large_and_has_at_least_one_item() {
    let half = "x".repeat(PAGE_BYTES_MAX / 2 - 256);
    let (half, more, whole) = (&*half, &*format!("{half}x"), &*"x".repeat(PAGE_BYTES_MAX));
    assert_eq!(fitting::<&str>(&[]), 0);
    assert_eq!(fitting(&[whole, whole]), 1);
    assert_eq!(fitting(&[half, half]), 2);
    assert_eq!(fitting(&[half, half, "x"]), 2);
    assert_eq!(fitting(&[half, more]), 1);
    // Cut by its bytes, the page has a next one, which begins after the last item of this one.
    let cursor = Cursor::new(&page(3, ""), "x".to_owned()).expect("a first page");
    let cut = cursor.page(vec![half, half, "c"], |item| item.len().to_string());
    assert_eq!(cut.items.len(), 2);
    let next = Cursor::new(&page(3, &cut.next_token), "x".to_owned()).expect("its own token");
    assert_eq!(next.after, Some(half.len().to_string()));
    // Also if it was short because few items matched.
    let cursor = Cursor::new(&page(3, ""), "x".to_owned()).expect("a first page");
    let cut = cursor.short_page(vec![whole, "c"], Some("9".to_owned()), |_| "1".to_owned());
    let next = Cursor::new(&page(3, &cut.next_token), "x".to_owned()).expect("its own token");
    assert_eq!((cut.items.len(), next.after.as_deref()), (1, Some("1")));
}

#[test]
fn a_page_token_of_another_filter_and_a_malformed_one_are_refused() {
    let token = next_token("x");
    let spellings = [
        token.as_str(),
        &token[..token.len() - 1],
        &format!("{token}A"),
        "garbage",
        "%",
        &"A".repeat(513),
    ];
    for (i, spelling) in spellings.into_iter().enumerate() {
        let binding = if i == 0 { "y" } else { "x" };
        let refused = Cursor::new(&page(1, spelling), binding.to_owned()).err();
        assert_eq!(refused.map(|error| error.reason), Some(Reason::ArgumentInvalid), "case {i}");
    }
}

#[test]
fn page_sizes_have_a_default_and_a_maximum_and_may_not_be_negative() {
    let fetch = |size| Cursor::new(&page(size, ""), String::new()).map(|cursor| cursor.fetch);
    assert_eq!(fetch(0), Ok(51));
    assert_eq!(fetch(i32::MAX), Ok(1_001));
    assert!(fetch(-1).is_err());
}

#[test]
fn every_reason_has_a_unique_code() {
    let mut codes: Vec<_> = Reason::ALL.iter().map(|reason| reason.code()).collect();
    codes.sort_unstable();
    codes.dedup();
    assert_eq!(codes.len(), Reason::ALL.len());
}
