//! The rules of the cache, one by one, with made-up times and changes. Tests against a real service are in
//! `tests/it/client`.

use super::*;
use crate::Scopes;
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

fn at_second(seconds: u64) -> BootInstant {
    BootInstant(0).plus(Duration::from_secs(1_000 + seconds))
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

/// An answer to the question of `key`.
fn answer(response: IntrospectResponse) -> Introspection {
    Introspection::new(response, Scopes::READ)
}

fn allowed(revision: u64) -> Introspection {
    let user = UserPrincipal { id: "ada".into(), display_name: "Ada".into() };
    let workspace =
        IntrospectedWorkspace { id: "w".into(), slug: "acme".into(), display_name: String::new() };
    answer(IntrospectResponse {
        active: true,
        allowed: true,
        principal: Some(Principal::User(user)),
        workspace: Some(workspace),
        cache_ttl: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
        revision,
        ..Default::default()
    })
}

/// A cache that has followed changes since revision 10 at second 0, and holds an answer of that revision.
fn warm(bridge_outage: Duration) -> Cache {
    let cache = cache(bridge_outage);
    cache.apply(&checkpoint(10, vec![]), at_second(0), true, at_second(0));
    cache.insert(key().to_key(), allowed(10), &cache.begin_fill(at_second(0)));
    assert!(cache.get(&key(), 0, at_second(0)).is_some());
    cache
}

#[test]
fn nothing_is_answered_before_the_first_checkpoint() {
    let cache = cache(Duration::ZERO);
    cache.insert(key().to_key(), allowed(10), &cache.begin_fill(at_second(0)));
    assert!(cache.get(&key(), 0, at_second(0)).is_none());
}

#[test]
fn every_part_of_the_question_is_part_of_the_key() {
    let cache = warm(Duration::ZERO);
    let others = [
        KeyRef { digest: &[8; 32], ..key() },
        KeyRef { workspace: "w", ..key() },
        KeyRef { scopes: 2, ..key() },
        KeyRef { client_ip: Some(IpAddr::from([127, 0, 0, 1])), ..key() },
    ];
    for other in others {
        assert!(cache.get(&other, 0, at_second(0)).is_none(), "{other:?}");
    }
}

#[test]
fn a_change_of_an_entity_ends_the_answers_that_depend_on_it() {
    let entities = [
        Entity::CredentialDigest(DIGEST.to_vec()),
        Entity::UserId("ada".into()),
        Entity::WorkspaceId("w".into()),
    ];
    for entity in entities {
        let cache = warm(Duration::ZERO);
        cache.apply(&checkpoint(11, vec![(entity.clone(), 11)]), at_second(0), false, at_second(0));
        assert!(cache.get(&key(), 0, at_second(0)).is_none(), "{entity:?}");
        cache.insert(key().to_key(), allowed(11), &cache.begin_fill(at_second(0)));
        assert!(cache.get(&key(), 0, at_second(0)).is_some(), "{entity:?}");
    }
}

#[test]
fn a_change_of_another_entity_keeps_the_answer() {
    let cache = warm(Duration::ZERO);
    // One of them could share a slot by chance. Several would be a bug.
    let changes: Vec<_> = (11..31).map(|n| (Entity::UserId(format!("user-{n}")), n)).collect();
    let lost = changes.into_iter().filter(|(entity, revision)| {
        let changes = vec![(entity.clone(), *revision)];
        cache.apply(&checkpoint(*revision, changes), at_second(0), false, at_second(0));
        let lost = cache.get(&key(), 0, at_second(0)).is_none();
        cache.insert(key().to_key(), allowed(*revision), &cache.begin_fill(at_second(0)));
        lost
    });
    assert!(lost.count() < 3);
}

#[test]
fn an_answer_is_good_for_later_revisions_that_did_not_touch_it() {
    let cache = warm(Duration::ZERO);
    assert!(cache.get(&key(), 12, at_second(0)).is_none());
    cache.apply(&checkpoint(12, vec![]), at_second(0), false, at_second(0));
    assert!(cache.get(&key(), 12, at_second(0)).is_some());
}

#[test]
fn a_fill_started_before_a_change_arrived_is_not_kept() {
    let cache = cache(Duration::ZERO);
    cache.apply(&checkpoint(10, vec![]), at_second(0), true, at_second(0));
    let started = cache.begin_fill(at_second(0));
    let change = (Entity::UserId("ada".into()), 11);
    cache.apply(&checkpoint(11, vec![change]), at_second(0), false, at_second(0));
    // Even if it claims to be of a later revision.
    for revision in [10, 11, 12] {
        cache.insert(key().to_key(), allowed(revision), &started);
        assert!(cache.get(&key(), 0, at_second(0)).is_none(), "{revision}");
    }
    assert!(!cache.may_join(&started, at_second(0)));
}

#[test]
fn a_fill_older_than_a_received_change_is_not_kept() {
    let cache = warm(Duration::ZERO);
    let change = (Entity::WorkspaceId("w".into()), 12);
    cache.apply(&checkpoint(12, vec![change]), at_second(0), false, at_second(0));
    cache.insert(key().to_key(), allowed(11), &cache.begin_fill(at_second(0)));
    assert!(cache.get(&key(), 0, at_second(0)).is_none());
}

#[test]
fn a_fill_older_than_the_start_of_the_stream_is_not_kept() {
    let cache = cache(Duration::ZERO);
    cache.apply(&checkpoint(10, vec![]), at_second(0), true, at_second(0));
    cache.insert(key().to_key(), allowed(9), &cache.begin_fill(at_second(0)));
    assert!(cache.get(&key(), 0, at_second(0)).is_none());
}

#[test]
fn a_fill_started_in_another_era_is_not_kept() {
    let cache = cache(Duration::ZERO);
    let before = cache.begin_fill(at_second(0));
    cache.apply(&checkpoint(10, vec![]), at_second(0), true, at_second(0));
    let during = cache.begin_fill(at_second(0));
    cache.drop_all();
    let between = cache.begin_fill(at_second(0));
    cache.apply(&checkpoint(10, vec![]), at_second(0), true, at_second(0));
    for started in [before, during, between] {
        cache.insert(key().to_key(), allowed(10), &started);
        assert!(cache.get(&key(), 0, at_second(0)).is_none());
        assert!(!cache.may_join(&started, at_second(0)));
    }
}

#[test]
fn nothing_is_answered_once_the_last_checkpoint_is_too_old() {
    let cache = warm(Duration::ZERO);
    assert!(cache.get(&key(), 0, at_second(2)).is_some());
    assert!(cache.get(&key(), 0, at_second(3)).is_none());
    // A late checkpoint counts from the instant that it was certainly sent after. This one was delayed by 5 s.
    cache.apply(&checkpoint(11, vec![]), at_second(0), false, at_second(5));
    assert!(cache.get(&key(), 0, at_second(5)).is_none());
}

#[test]
fn a_checkpoint_that_comes_after_the_limit_drops_everything() {
    let cache = warm(Duration::ZERO);
    assert!(cache.apply(&checkpoint(10, vec![]), at_second(4), false, at_second(4)));
    assert!(cache.get(&key(), 0, at_second(4)).is_none());
}

#[test]
fn a_stream_that_resumes_in_time_loses_nothing() {
    let cache = warm(Duration::ZERO);
    assert!(!cache.apply(&checkpoint(11, vec![]), at_second(2), false, at_second(2)));
    assert!(cache.get(&key(), 0, at_second(4)).is_some());
}

#[test]
fn a_stream_that_restarts_or_goes_backwards_drops_everything() {
    for (revision, restarted) in [(10, true), (9, false)] {
        let cache = warm(Duration::ZERO);
        assert!(cache.apply(&checkpoint(revision, vec![]), at_second(0), restarted, at_second(0)));
        assert!(cache.get(&key(), 0, at_second(0)).is_none());
    }
}

#[test]
fn a_change_of_an_unknown_entity_drops_everything() {
    let cache = warm(Duration::ZERO);
    let mut response = checkpoint(11, vec![]);
    response.changes.push(Change { entity: None, revision: 11 });
    assert!(cache.apply(&response, at_second(0), false, at_second(0)));
    assert!(cache.get(&key(), 0, at_second(0)).is_none());
}

#[test]
fn an_answer_is_not_given_past_its_lifetime() {
    let cache = warm(Duration::ZERO);
    for second in 0..=60 {
        cache.apply(&checkpoint(10, vec![]), at_second(second), false, at_second(second));
    }
    assert!(cache.get(&key(), 0, at_second(59)).is_some());
    assert!(cache.get(&key(), 0, at_second(60)).is_none());
}

#[test]
fn a_stale_answer_and_one_of_revision_0_are_not_kept() {
    let cache = cache(Duration::ZERO);
    cache.apply(&checkpoint(0, vec![]), at_second(0), true, at_second(0));
    cache.insert(key().to_key(), allowed(0), &cache.begin_fill(at_second(0)));
    cache.insert(key().to_key(), allowed(1).into_stale(), &cache.begin_fill(at_second(0)));
    assert!(cache.get(&key(), 0, at_second(0)).is_none());
}

fn unknown(revision: u64) -> Introspection {
    answer(IntrospectResponse {
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
        cache.insert(made_up.to_key(), unknown(10), &cache.begin_fill(at_second(0)));
    }
    let last = KeyRef { digest: &[9; 32], ..key() };
    cache.insert(last.to_key(), unknown(10), &cache.begin_fill(at_second(0)));
    assert!(cache.get(&key(), 0, at_second(0)).is_some(), "a flood of made-up tokens drove it out");
    assert!(cache.get(&last, 0, at_second(0)).is_some());
    assert!(cache.get(&last, 0, at_second(1)).is_none());
    cache.insert(last.to_key(), unknown(10), &cache.begin_fill(at_second(0)));
    let made = (Entity::CredentialDigest(vec![9; 32]), 11);
    cache.apply(&checkpoint(11, vec![made]), at_second(0), false, at_second(0));
    assert!(cache.get(&last, 0, at_second(0)).is_none(), "it was made meanwhile");
}

#[test]
fn a_refusal_that_names_no_entity_is_remembered_briefly() {
    let cache = warm(Duration::ZERO);
    let other = KeyRef { workspace: "other", ..key() };
    let mut response = allowed(10).response().clone();
    (response.allowed, response.workspace) = (false, None);
    response.denial = Denial::NotAMember.into();
    cache.insert(other.to_key(), answer(response), &cache.begin_fill(at_second(0)));
    assert!(cache.get(&other, 0, at_second(0)).is_some());
    assert!(cache.get(&other, 0, at_second(1)).is_none());
}

#[test]
fn a_refusal_because_of_a_known_workspace_ends_with_a_change_of_it() {
    for denial in [Denial::WorkspaceNotGranted, Denial::PatNotPermitted] {
        let mut response = allowed(10).response().clone();
        (response.allowed, response.denial) = (false, denial.into());
        let cache = warm(Duration::ZERO);
        let other = KeyRef { workspace: "other", ..key() };
        let started = cache.begin_fill(at_second(0));
        cache.insert(other.to_key(), answer(response.clone()), &started);
        assert!(cache.get(&other, 0, at_second(2)).is_some(), "{denial:?}");
        let permitted = (Entity::WorkspaceId("w".into()), 11);
        cache.apply(&checkpoint(11, vec![permitted]), at_second(2), false, at_second(2));
        assert!(cache.get(&other, 0, at_second(2)).is_none(), "{denial:?}");
        // Without the workspace, nothing shows which change would end it.
        (response.workspace, response.revision) = (None, 11);
        cache.insert(other.to_key(), answer(response), &cache.begin_fill(at_second(2)));
        assert!(cache.get(&other, 0, at_second(2)).is_some(), "{denial:?}");
        assert!(cache.get(&other, 0, at_second(3)).is_none(), "{denial:?}");
    }
}

#[test]
fn a_denial_that_this_version_does_not_know_is_a_refusal_and_never_remembered() {
    let cache = warm(Duration::ZERO);
    let mut response = allowed(10).response().clone();
    // A newer service would say that it is not allowed. Even if it contradicted itself, it is a refusal.
    for allowed in [false, true] {
        (response.allowed, response.denial, response.http_status) = (allowed, 9_999, 403);
        let answer = answer(response.clone());
        assert!(!answer.is_allowed());
        assert_eq!((answer.denial(), answer.http_status()), (Some(Denial::Unspecified), 403));
        let other = KeyRef { workspace: "other", ..key() };
        cache.insert(other.to_key(), answer, &cache.begin_fill(at_second(0)));
        assert!(cache.get(&other, 0, at_second(0)).is_none());
    }
}

#[test]
fn an_answer_about_the_identity_allows_nothing_whatever_the_service_says() {
    let response = |identity_only| IntrospectResponse {
        identity_only,
        http_status: 200,
        ..allowed(10).response().clone()
    };
    // A service of 0.1 does not say that it is about the identity only.
    for identity_only in [false, true] {
        let answer = Introspection::new(response(identity_only), Scopes::NONE);
        assert!(answer.is_identity_only() && !answer.is_allowed());
        assert_eq!((answer.denial(), answer.http_status()), (None, 200));
    }
    let answer = Introspection::new(response(false), Scopes::READ);
    assert!(!answer.is_identity_only() && answer.is_allowed());
    // It has decided another request.
    let answer = Introspection::new(response(true), Scopes::READ);
    assert!(!answer.is_allowed());
    assert_eq!((answer.denial(), answer.http_status()), (Some(Denial::Unspecified), 403));
}

#[test]
fn a_token_that_was_not_looked_up_is_never_remembered() {
    let cache = warm(Duration::ZERO);
    let mut response = unknown(10).response().clone();
    response.cache_ttl = allowed(10).response().cache_ttl;
    response.denial = Denial::UnknownTokensTooMany.into();
    response.http_status = 429;
    let answer = self::answer(response);
    assert!(!answer.is_allowed() && answer.http_status() == 429);
    let late = KeyRef { digest: &[9; 32], ..key() };
    cache.insert(late.to_key(), answer, &cache.begin_fill(at_second(0)));
    assert!(cache.get(&late, 0, at_second(0)).is_none());
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
    cache.insert(other.to_key(), answer(response), &cache.begin_fill(at_second(0)));
    assert!(cache.get(&other, 0, at_second(2)).is_some());
    let renamed = (Entity::WorkspaceId("own".into()), 11);
    cache.apply(&checkpoint(11, vec![renamed]), at_second(0), false, at_second(0));
    assert!(cache.get(&other, 0, at_second(0)).is_none());
}

#[test]
fn an_outage_is_bridged_only_if_configured_and_only_for_that_time() {
    let cache = warm(Duration::ZERO);
    assert!(cache.get_bridging(&key(), at_second(2)).is_none());
    let cache = warm(10 * SECOND);
    assert!(cache.get(&key(), 0, at_second(12)).is_none());
    let answer = cache.get_bridging(&key(), at_second(12)).expect("it bridges");
    assert!(answer.is_stale() && answer.is_allowed());
    assert!(cache.get_bridging(&key(), at_second(13)).is_none());
}

#[test]
fn changes_during_a_bridged_outage_are_applied_before_any_answer_is_fresh_again() {
    let cache = warm(10 * SECOND);
    let revoked = (Entity::CredentialDigest(DIGEST.to_vec()), 11);
    assert!(!cache.apply(&checkpoint(11, vec![revoked]), at_second(8), false, at_second(8)));
    assert!(cache.get(&key(), 0, at_second(8)).is_none());
    assert!(cache.get_bridging(&key(), at_second(8)).is_none());
}

#[test]
fn a_bridge_never_reaches_past_an_answers_lifetime() {
    let cache = warm(1_000 * SECOND);
    assert!(cache.get_bridging(&key(), at_second(59)).is_some());
    assert!(cache.get_bridging(&key(), at_second(60)).is_none());
}

#[test]
fn a_call_is_joined_only_while_its_answer_would_be_fresh() {
    let cache = warm(Duration::ZERO);
    let started = cache.begin_fill(at_second(0));
    assert!(cache.may_join(&started, at_second(2)));
    assert!(!cache.may_join(&started, at_second(3)));
}

#[test]
fn a_slow_call_does_not_replace_a_newer_answer() {
    let cache = warm(Duration::ZERO);
    let mut refused = allowed(12).response().clone();
    (refused.allowed, refused.denial) = (false, Denial::InsufficientScope.into());
    cache.insert(key().to_key(), answer(refused), &cache.begin_fill(at_second(0)));
    cache.insert(key().to_key(), allowed(11), &cache.begin_fill(at_second(0)));
    assert!(!cache.get(&key(), 0, at_second(0)).expect("it is remembered").is_allowed());
}

#[test]
fn a_full_response_is_not_a_checkpoint() {
    let cache = warm(Duration::ZERO);
    let changes = |n: u64| (0..n).map(|n| (Entity::UserId(format!("user-{n}")), 11)).collect();
    cache.apply(&checkpoint(11, changes(1_000)), at_second(2), false, at_second(2));
    assert_eq!(cache.fresh_until(), at_second(3));
    cache.apply(&checkpoint(11, changes(10)), at_second(2), false, at_second(2));
    assert_eq!(cache.fresh_until(), at_second(5));
}
