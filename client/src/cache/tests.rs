//! The rules of the cache, one by one, with the time and the changes made up. Against the real service: `tests/it/client`.

use super::*;
use crate::pb::change::Entity;
use crate::pb::{
    Change, IntrospectResponse, IntrospectedWorkspace, UserPrincipal, WorkspaceKeyPrincipal,
};

const DIGEST: [u8; 32] = [7; 32];
const SECOND: Duration = Duration::from_secs(1);

fn cache(bridge_outage: Duration) -> Cache {
    Cache::new(CacheLimits {
        answers_max: 100,
        checkpoint_max: 3 * SECOND,
        unknown_ttl: SECOND,
        bridge_outage,
    })
}

fn at(seconds: u64) -> Moment {
    Moment(0).plus(Duration::from_secs(1_000 + seconds))
}

fn key() -> KeyRef<'static> {
    KeyRef { digest: &DIGEST, workspace: "acme", scopes: 1, client_ip: None }
}

fn checkpoint(revision: u64, changes: Vec<(Entity, u64)>) -> WatchResponse {
    let changes = changes
        .into_iter()
        .map(|(entity, revision)| Change { entity: Some(entity), revision })
        .collect();
    WatchResponse { changes, cursor: revision.to_string(), revision }
}

fn allowed(revision: u64) -> Introspection {
    let user = UserPrincipal { id: "ada".into(), display_name: "Ada".into() };
    let workspace =
        IntrospectedWorkspace { id: "w".into(), slug: "acme".into(), display_name: String::new() };
    Introspection::new(IntrospectResponse {
        active: true,
        allowed: true,
        principal: Some(Principal::User(user)),
        workspace: Some(workspace),
        cache_ttl: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
        revision,
        ..Default::default()
    })
}

/// A cache that watches since revision 10 at second 0, and knows an answer of that revision.
fn warm(bridge_outage: Duration) -> Cache {
    let cache = cache(bridge_outage);
    cache.take_in(&checkpoint(10, vec![]), at(0), true, at(0));
    cache.keep(key().to_key(), allowed(10), &cache.begin(at(0)));
    assert!(cache.get(&key(), 0, at(0)).is_some());
    cache
}

#[test]
fn nothing_is_answered_before_the_first_checkpoint() {
    let cache = cache(Duration::ZERO);
    cache.keep(key().to_key(), allowed(10), &cache.begin(at(0)));
    assert!(cache.get(&key(), 0, at(0)).is_none());
}

#[test]
fn an_answer_depends_on_all_that_was_asked() {
    let cache = warm(Duration::ZERO);
    let others = [
        KeyRef { digest: &[8; 32], ..key() },
        KeyRef { workspace: "w", ..key() },
        KeyRef { scopes: 2, ..key() },
        KeyRef { client_ip: Some(IpAddr::from([127, 0, 0, 1])), ..key() },
    ];
    for other in others {
        assert!(cache.get(&other, 0, at(0)).is_none(), "{other:?}");
    }
}

#[test]
fn a_change_of_what_it_rests_on_ends_an_answer() {
    let entities = [
        Entity::CredentialDigest(DIGEST.to_vec()),
        Entity::UserId("ada".into()),
        Entity::WorkspaceId("w".into()),
    ];
    for entity in entities {
        let cache = warm(Duration::ZERO);
        cache.take_in(&checkpoint(11, vec![(entity.clone(), 11)]), at(0), false, at(0));
        assert!(cache.get(&key(), 0, at(0)).is_none(), "{entity:?}");
        cache.keep(key().to_key(), allowed(11), &cache.begin(at(0)));
        assert!(cache.get(&key(), 0, at(0)).is_some(), "{entity:?}");
    }
}

#[test]
fn a_change_of_something_else_leaves_it() {
    let cache = warm(Duration::ZERO);
    // By chance one of them could share a place; that 20 do would be a fault.
    let changes: Vec<_> = (11..31).map(|n| (Entity::UserId(format!("user-{n}")), n)).collect();
    let lost = changes.into_iter().filter(|(entity, revision)| {
        let changes = vec![(entity.clone(), *revision)];
        cache.take_in(&checkpoint(*revision, changes), at(0), false, at(0));
        let lost = cache.get(&key(), 0, at(0)).is_none();
        cache.keep(key().to_key(), allowed(*revision), &cache.begin(at(0)));
        lost
    });
    assert!(lost.count() < 3);
}

#[test]
fn an_answer_is_good_for_later_revisions_that_did_not_touch_it() {
    let cache = warm(Duration::ZERO);
    assert!(cache.get(&key(), 12, at(0)).is_none());
    cache.take_in(&checkpoint(12, vec![]), at(0), false, at(0));
    assert!(cache.get(&key(), 12, at(0)).is_some());
}

#[test]
fn a_fill_begun_before_a_change_was_heard_is_not_kept() {
    let cache = cache(Duration::ZERO);
    cache.take_in(&checkpoint(10, vec![]), at(0), true, at(0));
    let begun = cache.begin(at(0));
    let change = (Entity::UserId("ada".into()), 11);
    cache.take_in(&checkpoint(11, vec![change]), at(0), false, at(0));
    // Even if it claims to be of a later revision.
    for revision in [10, 11, 12] {
        cache.keep(key().to_key(), allowed(revision), &begun);
        assert!(cache.get(&key(), 0, at(0)).is_none(), "{revision}");
    }
    assert!(!cache.may_join(&begun, at(0)));
}

#[test]
fn a_fill_of_an_older_revision_than_a_change_heard_is_not_kept() {
    let cache = warm(Duration::ZERO);
    let change = (Entity::WorkspaceId("w".into()), 12);
    cache.take_in(&checkpoint(12, vec![change]), at(0), false, at(0));
    cache.keep(key().to_key(), allowed(11), &cache.begin(at(0)));
    assert!(cache.get(&key(), 0, at(0)).is_none());
}

#[test]
fn a_fill_of_a_state_from_before_the_stream_is_not_kept() {
    let cache = cache(Duration::ZERO);
    cache.take_in(&checkpoint(10, vec![]), at(0), true, at(0));
    cache.keep(key().to_key(), allowed(9), &cache.begin(at(0)));
    assert!(cache.get(&key(), 0, at(0)).is_none());
}

#[test]
fn a_fill_begun_in_another_era_is_not_kept() {
    let cache = cache(Duration::ZERO);
    let before = cache.begin(at(0));
    cache.take_in(&checkpoint(10, vec![]), at(0), true, at(0));
    let during = cache.begin(at(0));
    cache.drop_all();
    let between = cache.begin(at(0));
    cache.take_in(&checkpoint(10, vec![]), at(0), true, at(0));
    for begun in [before, during, between] {
        cache.keep(key().to_key(), allowed(10), &begun);
        assert!(cache.get(&key(), 0, at(0)).is_none());
        assert!(!cache.may_join(&begun, at(0)));
    }
}

#[test]
fn an_old_checkpoint_silences_the_cache() {
    let cache = warm(Duration::ZERO);
    assert!(cache.get(&key(), 0, at(2)).is_some());
    assert!(cache.get(&key(), 0, at(3)).is_none());
    // What comes late counts from when it was proved to be sent after: this one was on its way for 5 s.
    cache.take_in(&checkpoint(11, vec![]), at(0), false, at(5));
    assert!(cache.get(&key(), 0, at(5)).is_none());
}

#[test]
fn silence_drops_everything() {
    let cache = warm(Duration::ZERO);
    assert!(cache.take_in(&checkpoint(10, vec![]), at(4), false, at(4)));
    assert!(cache.get(&key(), 0, at(4)).is_none());
}

#[test]
fn a_stream_that_resumes_in_time_loses_nothing() {
    let cache = warm(Duration::ZERO);
    assert!(!cache.take_in(&checkpoint(11, vec![]), at(2), false, at(2)));
    assert!(cache.get(&key(), 0, at(4)).is_some());
}

#[test]
fn a_stream_that_starts_afresh_or_goes_backwards_drops_everything() {
    for (revision, afresh) in [(10, true), (9, false)] {
        let cache = warm(Duration::ZERO);
        assert!(cache.take_in(&checkpoint(revision, vec![]), at(0), afresh, at(0)));
        assert!(cache.get(&key(), 0, at(0)).is_none());
    }
}

#[test]
fn a_change_without_a_name_drops_everything() {
    let cache = warm(Duration::ZERO);
    let mut response = checkpoint(11, vec![]);
    response.changes.push(Change { entity: None, revision: 11 });
    assert!(cache.take_in(&response, at(0), false, at(0)));
    assert!(cache.get(&key(), 0, at(0)).is_none());
}

#[test]
fn an_answer_is_not_given_past_its_lifetime() {
    let cache = warm(Duration::ZERO);
    for second in 0..=60 {
        cache.take_in(&checkpoint(10, vec![]), at(second), false, at(second));
    }
    assert!(cache.get(&key(), 0, at(59)).is_some());
    assert!(cache.get(&key(), 0, at(60)).is_none());
}

#[test]
fn a_stale_answer_and_one_that_rests_on_nothing_are_not_kept() {
    let cache = cache(Duration::ZERO);
    cache.take_in(&checkpoint(0, vec![]), at(0), true, at(0));
    cache.keep(key().to_key(), allowed(0), &cache.begin(at(0)));
    cache.keep(key().to_key(), allowed(1).bridging(), &cache.begin(at(0)));
    assert!(cache.get(&key(), 0, at(0)).is_none());
}

fn unknown(revision: u64) -> Introspection {
    Introspection::new(IntrospectResponse {
        denial: Denial::TokenUnknown.into(),
        http_status: 401,
        revision,
        ..Default::default()
    })
}

#[test]
fn an_unknown_token_is_remembered_briefly_and_apart() {
    let cache = warm(Duration::ZERO);
    for n in 0..10_000_u32 {
        let mut digest = [0; 32];
        digest[..4].copy_from_slice(&n.to_le_bytes());
        let made_up = KeyRef { digest: &digest, ..key() };
        cache.keep(made_up.to_key(), unknown(10), &cache.begin(at(0)));
    }
    let last = KeyRef { digest: &[9; 32], ..key() };
    cache.keep(last.to_key(), unknown(10), &cache.begin(at(0)));
    assert!(cache.get(&key(), 0, at(0)).is_some(), "a flood of made-up tokens drove it out");
    assert!(cache.get(&last, 0, at(0)).is_some());
    assert!(cache.get(&last, 0, at(1)).is_none());
    cache.keep(last.to_key(), unknown(10), &cache.begin(at(0)));
    let made = (Entity::CredentialDigest(vec![9; 32]), 11);
    cache.take_in(&checkpoint(11, vec![made]), at(0), false, at(0));
    assert!(cache.get(&last, 0, at(0)).is_none(), "it was made meanwhile");
}

#[test]
fn a_refusal_that_tells_nobody_is_remembered_briefly() {
    let cache = warm(Duration::ZERO);
    let other = KeyRef { workspace: "other", ..key() };
    let mut response = allowed(10).response().clone();
    (response.allowed, response.workspace) = (false, None);
    response.denial = Denial::NotAMember.into();
    cache.keep(other.to_key(), Introspection::new(response), &cache.begin(at(0)));
    assert!(cache.get(&other, 0, at(0)).is_some());
    assert!(cache.get(&other, 0, at(1)).is_none());
}

#[test]
fn what_was_not_looked_up_is_never_remembered() {
    let cache = warm(Duration::ZERO);
    let mut response = unknown(10).response().clone();
    response.cache_ttl = allowed(10).response().cache_ttl;
    response.denial = Denial::UnknownTokensTooMany.into();
    response.http_status = 429;
    let answer = Introspection::new(response);
    assert!(!answer.is_allowed() && answer.http_status() == 429);
    let late = KeyRef { digest: &[9; 32], ..key() };
    cache.keep(late.to_key(), answer, &cache.begin(at(0)));
    assert!(cache.get(&late, 0, at(0)).is_none());
}

#[test]
fn a_keys_answer_ends_with_a_change_of_its_workspace() {
    let cache = warm(Duration::ZERO);
    let mut response = allowed(10).response().clone();
    response.principal = Some(Principal::WorkspaceKey(WorkspaceKeyPrincipal {
        workspace_id: "own".into(),
        ..Default::default()
    }));
    (response.workspace, response.allowed) = (None, false);
    response.denial = Denial::WorkspaceMismatch.into();
    let other = KeyRef { workspace: "other", ..key() };
    cache.keep(other.to_key(), Introspection::new(response), &cache.begin(at(0)));
    assert!(cache.get(&other, 0, at(2)).is_some());
    let renamed = (Entity::WorkspaceId("own".into()), 11);
    cache.take_in(&checkpoint(11, vec![renamed]), at(0), false, at(0));
    assert!(cache.get(&other, 0, at(0)).is_none());
}

#[test]
fn an_outage_is_bridged_only_if_asked_to_and_only_for_so_long() {
    let cache = warm(Duration::ZERO);
    assert!(cache.get_bridging(&key(), at(2)).is_none());
    let cache = warm(10 * SECOND);
    assert!(cache.get(&key(), 0, at(12)).is_none());
    let answer = cache.get_bridging(&key(), at(12)).expect("it bridges");
    assert!(answer.is_stale() && answer.is_allowed());
    assert!(cache.get_bridging(&key(), at(13)).is_none());
}

#[test]
fn what_was_missed_in_a_bridged_outage_is_heard_before_anything_is_fresh_again() {
    let cache = warm(10 * SECOND);
    let revoked = (Entity::CredentialDigest(DIGEST.to_vec()), 11);
    assert!(!cache.take_in(&checkpoint(11, vec![revoked]), at(8), false, at(8)));
    assert!(cache.get(&key(), 0, at(8)).is_none());
    assert!(cache.get_bridging(&key(), at(8)).is_none());
}

#[test]
fn a_bridge_never_reaches_past_an_answers_lifetime() {
    let cache = warm(1_000 * SECOND);
    assert!(cache.get_bridging(&key(), at(59)).is_some());
    assert!(cache.get_bridging(&key(), at(60)).is_none());
}

#[test]
fn a_call_is_joined_only_while_its_answer_would_be_fresh() {
    let cache = warm(Duration::ZERO);
    let begun = cache.begin(at(0));
    assert!(cache.may_join(&begun, at(2)));
    assert!(!cache.may_join(&begun, at(3)));
}

#[test]
fn a_slow_call_does_not_bring_back_what_a_later_one_refused() {
    let cache = warm(Duration::ZERO);
    let mut refused = allowed(12).response().clone();
    (refused.allowed, refused.denial) = (false, Denial::InsufficientScope.into());
    cache.keep(key().to_key(), Introspection::new(refused), &cache.begin(at(0)));
    cache.keep(key().to_key(), allowed(11), &cache.begin(at(0)));
    assert!(!cache.get(&key(), 0, at(0)).expect("it is remembered").is_allowed());
}

#[test]
fn a_full_response_is_no_checkpoint() {
    let cache = warm(Duration::ZERO);
    let changes = |n: u64| (0..n).map(|n| (Entity::UserId(format!("user-{n}")), 11)).collect();
    cache.take_in(&checkpoint(11, changes(1_000)), at(2), false, at(2));
    assert_eq!(cache.fresh_until(), at(3));
    cache.take_in(&checkpoint(11, changes(10)), at(2), false, at(2));
    assert_eq!(cache.fresh_until(), at(5));
}
