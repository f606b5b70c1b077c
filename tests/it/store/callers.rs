//! Callers: creating, finding by token or certificate, changing, revoking.

use sophic_auth::model::{Caller, LastUse, Permission, PreviousToken, RotationId};
use sophic_auth::store::{Lock, StoreError, Unique};

use super::samples::{at, caller, caller_with_certificate, digest, write};
use crate::stores::{TestStore, on_every_store};

on_every_store! {
    a_caller_is_found_by_the_digest_of_its_token_revoked_or_not,
    a_caller_is_found_by_its_certificate_unless_revoked,
    a_caller_is_found_by_id_and_by_name_in_a_transaction,
    an_update_of_a_caller_changes_only_mutable_fields,
    a_rotated_caller_is_found_by_both_of_its_tokens,
    updating_a_missing_caller_is_an_error,
    callers_are_listed_page_by_page_including_revoked_ones,
    a_name_is_taken_until_its_caller_is_revoked,
    a_certificate_is_taken_until_its_caller_is_revoked,
    a_token_is_taken_for_ever,
    a_caller_is_found_by_its_last_rotation,
    a_use_of_a_caller_is_kept_unless_a_later_one_is,
}

async fn a_caller_is_found_by_the_digest_of_its_token_revoked_or_not(store: TestStore) {
    let gateway = caller("gateway", 1);
    let dead = Caller { revoke_time: Some(at(9)), ..caller("dead", 2) };
    write(&*store, async |tx| {
        tx.insert_caller(&gateway).await.expect("it is made");
        tx.insert_caller(&dead).await.expect("it is made");
    })
    .await;
    let found = store.find_caller_by_digest(&digest(1)).await.expect("a read");
    assert_eq!(found, Some(gateway));
    assert_eq!(store.find_caller_by_digest(&digest(2)).await.expect("a read"), Some(dead));
    assert_eq!(store.find_caller_by_digest(&digest(3)).await.expect("a read"), None);
}

async fn a_caller_is_found_by_its_certificate_unless_revoked(store: TestStore) {
    let gateway = caller_with_certificate("gateway", 1, "spiffe://sophic/gateway");
    let dead =
        Caller { revoke_time: Some(at(9)), ..caller_with_certificate("dead", 2, "dead.internal") };
    write(&*store, async |tx| {
        tx.insert_caller(&gateway).await.expect("it is made");
        tx.insert_caller(&dead).await.expect("it is made");
    })
    .await;
    let found = store.find_caller_by_san("spiffe://sophic/gateway").await.expect("a read");
    assert_eq!(found, Some(gateway));
    for nobody in ["dead.internal", "SPIFFE://sophic/gateway", "", "%"] {
        assert_eq!(store.find_caller_by_san(nobody).await.expect("a read"), None, "{nobody}");
    }
}

async fn a_caller_is_found_by_id_and_by_name_in_a_transaction(store: TestStore) {
    let gateway = caller("gateway", 1);
    let dead = Caller { revoke_time: Some(at(9)), ..caller("dead", 2) };
    write(&*store, async |tx| {
        tx.insert_caller(&gateway).await.expect("it is made");
        tx.insert_caller(&dead).await.expect("it is made");
        let by_id = tx.find_caller(gateway.id, Lock::Update).await.expect("a read");
        assert_eq!(by_id.as_ref(), Some(&gateway));
        let by_name = tx.peek_caller_by_name("gateway").await.expect("a read");
        assert_eq!(by_name.as_ref(), Some(&gateway));
        let dead_by_id = tx.find_caller(dead.id, Lock::Share).await.expect("a read");
        assert_eq!(dead_by_id.as_ref(), Some(&dead));
        for nobody in ["dead", "Gateway", "nobody"] {
            let found = tx.peek_caller_by_name(nobody).await.expect("a read");
            assert_eq!(found, None, "{nobody}");
        }
        let nobody = tx.find_caller(caller("x", 3).id, Lock::Share).await.expect("a read");
        assert_eq!(nobody, None);
    })
    .await;
}

async fn an_update_of_a_caller_changes_only_mutable_fields(store: TestStore) {
    let gateway = caller("gateway", 1);
    let changed = Caller {
        permissions: [Permission::AuditRead].into_iter().collect(),
        revoke_time: Some(at(10)),
        create_time: at(11),
        expire_time: Some(at(12)),
        last_use: Some(LastUse { time: at(12), ip: None }),
        creator: "caller:other".to_owned(),
        version: 7,
        ..caller("edge", 1)
    };
    write(&*store, async |tx| {
        tx.insert_caller(&gateway).await.expect("it is made");
        tx.update_caller(&changed).await.expect("it is changed");
    })
    .await;
    let Caller { create_time, creator, .. } = gateway;
    let expected = Caller { create_time, creator, last_use: None, ..changed };
    let found = store.find_caller_by_digest(&digest(1)).await.expect("a read");
    assert_eq!(found, Some(expected));
}

async fn a_rotated_caller_is_found_by_both_of_its_tokens(store: TestStore) {
    let gateway = caller("gateway", 1);
    let rotated = Caller {
        previous: Some(PreviousToken { digest: digest(1), expire_time: at(30) }),
        rotation: Some(RotationId::new(at(20), [3; 10])),
        ..caller("gateway", 2)
    };
    let (id, create_time, version) = (gateway.id, gateway.create_time, gateway.version + 1);
    let rotated = Caller { id, create_time, version, ..rotated };
    write(&*store, async |tx| {
        tx.insert_caller(&gateway).await.expect("it is made");
        tx.insert_caller(&caller("other", 5)).await.expect("it is made");
        tx.update_caller(&rotated).await.expect("it is changed");
    })
    .await;
    for number in [1, 2] {
        let found = store.find_caller_by_digest(&digest(number)).await.expect("a read");
        assert_eq!(found.as_ref(), Some(&rotated));
    }
    let ended = Caller { previous: None, version: version + 1, ..rotated };
    write(&*store, async |tx| tx.update_caller(&ended).await.expect("it is changed")).await;
    assert_eq!(store.find_caller_by_digest(&digest(1)).await.expect("a read"), None);
    // The replaced token of another caller cannot become this caller's.
    let mut tx = store.begin("test").await.expect("a transaction");
    let previous = Some(PreviousToken { digest: digest(7), expire_time: at(30) });
    tx.update_caller(&Caller { previous, ..ended }).await.expect("it is changed");
    let taken = tx.insert_caller(&Caller { previous, ..caller("third", 3) }).await;
    let error = taken.expect_err("it is taken");
    assert!(matches!(error, StoreError::Conflict(Unique::CallerPreviousDigest)), "{error:?}");
}

async fn updating_a_missing_caller_is_an_error(store: TestStore) {
    let mut tx = store.begin("test").await.expect("a transaction");
    let error = tx.update_caller(&caller("nobody", 1)).await.expect_err("there is none");
    assert!(matches!(error, StoreError::RowsAffected { expected: 1, actual: 0 }), "{error:?}");
}

async fn callers_are_listed_page_by_page_including_revoked_ones(store: TestStore) {
    let mut callers: Vec<_> = (1..=5).map(|n| caller(&format!("c{n}"), n)).collect();
    callers[2].revoke_time = Some(at(20));
    write(&*store, async |tx| {
        for caller in callers.iter().rev() {
            tx.insert_caller(caller).await.expect("it is made");
        }
    })
    .await;
    let first = store.list_callers(None, 3).await.expect("a page");
    assert_eq!(first, callers[..3]);
    let rest = store.list_callers(Some(first[2].id), 3).await.expect("a page");
    assert_eq!(rest, callers[3..]);
    assert_eq!(store.list_callers(Some(rest[1].id), 3).await.expect("a page"), []);
}

/// Inserts two callers, and returns the uniqueness error of the second insert, if any.
async fn second_insert(store: &TestStore, first: Caller, second: &Caller) -> Option<Unique> {
    write(&**store, async |tx| tx.insert_caller(&first).await.expect("it is made")).await;
    let mut tx = store.begin("test").await.expect("a transaction");
    match tx.insert_caller(second).await {
        Ok(()) => None,
        Err(StoreError::Conflict(taken)) => Some(taken),
        Err(error) => panic!("{error:?}"),
    }
}

async fn a_name_is_taken_until_its_caller_is_revoked(store: TestStore) {
    let live = second_insert(&store, caller("live", 1), &caller("live", 2)).await;
    assert_eq!(live, Some(Unique::CallerName));
    let first = Caller { revoke_time: Some(at(5)), ..caller("dead", 3) };
    assert_eq!(second_insert(&store, first, &caller("dead", 4)).await, None);
}

async fn a_certificate_is_taken_until_its_caller_is_revoked(store: TestStore) {
    let live = second_insert(
        &store,
        caller_with_certificate("a", 1, "live"),
        &caller_with_certificate("b", 2, "live"),
    )
    .await;
    assert_eq!(live, Some(Unique::CallerCertificateSan));
    let first = Caller { revoke_time: Some(at(5)), ..caller_with_certificate("c", 3, "dead") };
    assert_eq!(second_insert(&store, first, &caller_with_certificate("d", 4, "dead")).await, None);
}

async fn a_token_is_taken_for_ever(store: TestStore) {
    let first = Caller { revoke_time: Some(at(5)), ..caller("a", 1) };
    let same_token = Caller { identity: first.identity.clone(), ..caller("b", 2) };
    assert_eq!(second_insert(&store, first, &same_token).await, Some(Unique::CallerDigest));
    let same_id = Caller { id: same_token.id, ..caller("d", 4) };
    let taken = second_insert(&store, caller("c", 2), &same_id).await;
    assert_eq!(taken, Some(Unique::CallerId));
}

async fn a_caller_is_found_by_its_last_rotation(store: TestStore) {
    let [first, second] = [20, 21].map(|time| RotationId::new(at(time), [3; 10]));
    let rotated = Caller { rotation: Some(first), ..caller("gateway", 1) };
    let again = Caller { rotation: Some(second), ..rotated.clone() };
    write(&*store, async |tx| {
        tx.insert_caller(&rotated).await.expect("it is made");
        tx.insert_caller(&caller("other", 2)).await.expect("it is made");
        let found = tx.peek_caller_by_rotation(first).await.expect("a read");
        assert_eq!(found.as_ref(), Some(&rotated));
        tx.update_caller(&again).await.expect("it is changed");
        let found = tx.peek_caller_by_rotation(first).await.expect("a read");
        assert_eq!(found, None, "it was rotated again");
    })
    .await;
}

async fn a_use_of_a_caller_is_kept_unless_a_later_one_is(store: TestStore) {
    let used = Caller {
        last_use: Some(LastUse { time: at(5), ip: "2001:db8::1".parse().ok() }),
        ..caller("used", 1)
    };
    let fresh = caller("fresh", 2);
    write(&*store, async |tx| {
        tx.insert_caller(&used).await.expect("it is made");
        tx.insert_caller(&fresh).await.expect("it is made");
    })
    .await;
    let uses = |time| {
        let last_use = LastUse { time: at(time), ip: "192.0.2.1".parse().ok() };
        [(used.id, last_use), (fresh.id, last_use), (caller("nobody", 3).id, last_use)]
    };
    for (time, count) in [(4, 1), (4, 0), (6, 2)] {
        let written = store.write_caller_uses(&uses(time)).await.expect("they are written");
        assert_eq!(written, count, "{time}");
    }
    let last_use = Some(LastUse { time: at(6), ip: "192.0.2.1".parse().ok() });
    let expected = [Caller { last_use, ..used }, Caller { last_use, ..fresh }];
    assert_eq!(store.list_callers(None, 9).await.expect("a list"), expected);
}
