//! Sets of workspaces, and the policy of a workspace for personal access tokens.

use std::time::Duration;

use super::super::*;
use super::micros;

fn entry(id: &str, generation: i64) -> WorkspaceEntry {
    WorkspaceEntry { id: WorkspaceId::parse(id).expect("a good id"), generation }
}

fn set(entries: &[(&str, i64)]) -> WorkspaceSet {
    WorkspaceSet::new(entries.iter().map(|(id, generation)| entry(id, *generation)))
}

#[test]
fn a_set_is_ordered_and_has_the_newest_generation_of_each_workspace() {
    let mixed = set(&[("ws_b", 2), ("ws_a", 1), ("ws_b", 5), ("ws_b", 3)]);
    assert_eq!(mixed, set(&[("ws_a", 1), ("ws_b", 5)]));
    assert_eq!(mixed.with(entry("ws_a", 4)), set(&[("ws_a", 4), ("ws_b", 5)]));
    assert_eq!(mixed.without(&entry("ws_a", 0).id), set(&[("ws_b", 5)]));
    assert_eq!(mixed.find(&entry("ws_b", 0).id), Some(&entry("ws_b", 5)));
}

#[test]
fn the_text_of_the_store_is_read_back() {
    for entries in [&[][..], &[("a", 0)], &[("A-b_9", 7), ("ws_1", i64::MAX)]] {
        let set = set(entries);
        assert_eq!(WorkspaceSet::from_text(&set.to_text()), Ok(set));
    }
    assert_eq!(set(&[("ws_b", 2), ("ws_a", 1)]).to_text(), "ws_a=1,ws_b=2");
    for wrong in ["ws_a", "ws_a=", "=1", "ws_a=1;ws_b=2", "ws a=1", "ws_a=x"] {
        assert!(WorkspaceSet::from_text(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_request_may_name_64_workspaces() {
    assert!(WorkspaceSet::check_count(64).is_ok());
    assert!(WorkspaceSet::check_count(65).is_err());
}

#[test]
fn a_policy_permits_tokens_by_their_expiry() {
    let expiring = PatPolicy { expiry_required: true, ..PatPolicy::default() };
    let forbidden = PatPolicy { forbidden: true, ..PatPolicy::default() };
    assert!(!expiring.permits(micros(0), None) && expiring.permits(micros(0), Some(micros(1))));
    assert!(!forbidden.permits(micros(0), None) && !forbidden.permits(micros(0), Some(micros(1))));
}

#[test]
fn a_change_of_a_policy_leaves_what_it_does_not_name_and_removes_what_is_zero() {
    let most = Duration::from_hours(1);
    let change = PatPolicyChange { lifetime_max: Some(most), ..PatPolicyChange::default() };
    let limited = change.apply_to(PatPolicy { forbidden: true, ..PatPolicy::default() });
    let expected = PatPolicy { forbidden: true, expiry_required: false, lifetime_max: Some(most) };
    assert_eq!(limited, expected);
    let removal = PatPolicyChange {
        forbidden: Some(false),
        expiry_required: Some(false),
        lifetime_max: Some(Duration::ZERO),
    };
    assert_eq!(removal.apply_to(limited), PatPolicy::default());
    assert_eq!(PatPolicyChange::default().apply_to(limited), limited);
}
