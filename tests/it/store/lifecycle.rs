//! The lifecycle of a credential: successors, counts, request ids, policies.

use std::time::Duration;

use sophic_auth::model::{
    Credential, CredentialFacts, Digest, Owner, RequestId, Role, Timestamp, Workspace,
    WorkspacePolicy,
};
use sophic_auth::store::{ClaimedRequest, Lock};
use uuid::Uuid;

use super::samples::{
    acme_and_ada, at, credential_id, digest, event, key, pat, workspace, workspace_id, write,
};
use crate::stores::{TestStore, on_every_store};

on_every_store! {
    only_an_active_successor_is_found,
    live_credentials_are_counted_up_to_a_bound,
    a_replaced_digest_is_no_longer_found,
    a_request_is_claimed_once_until_it_expires,
    a_second_claim_of_a_request_waits_for_the_first,
    expired_requests_are_deleted_by_later_claims,
    a_policy_is_put_replaced_listed_and_deleted,
}

async fn only_an_active_successor_is_found(store: TestStore) {
    let (acme, _) = acme_and_ada(&*store, Role::Admin).await;
    let first = key(&acme, 1);
    let after = |number, change: &dyn Fn(&mut Credential)| {
        let mut successor = Credential {
            predecessor_id: Some(first.id),
            family_id: first.id,
            ..key(&acme, number)
        };
        change(&mut successor);
        successor
    };
    let revoked = after(2, &|one| one.revoke_time = Some(at(5)));
    let expired = after(3, &|one| one.expire_time = Some(at(10)));
    let disabled = after(4, &|one| one.disable_time = Some(at(5)));
    write(&*store, async |tx| {
        tx.insert_credential(&first, &digest(1)).await.expect("it is made");
        tx.insert_credential(&revoked, &digest(2)).await.expect("it is made");
        tx.insert_credential(&expired, &digest(3)).await.expect("it is made");
        assert_eq!(tx.find_successor(first.id, at(10)).await.expect("a read"), None);
        let found = tx.find_successor(first.id, at(9)).await.expect("a read");
        assert_eq!(found.as_ref(), Some(&expired));
        tx.insert_credential(&disabled, &digest(4)).await.expect("it is made");
        let found = tx.find_successor(first.id, at(10)).await.expect("a read");
        assert_eq!(found.as_ref(), Some(&disabled));
        // The owner's generation revokes it too.
        let raised = Workspace { generation: 1, generation_time: Some(at(20)), ..acme.clone() };
        tx.put_workspace(&raised).await.expect("it is put");
        assert_eq!(tx.find_successor(first.id, at(10)).await.expect("a read"), None);
    })
    .await;
}

async fn live_credentials_are_counted_up_to_a_bound(store: TestStore) {
    let (acme, ada) = acme_and_ada(&*store, Role::Admin).await;
    write(&*store, async |tx| {
        for number in 1..=5 {
            tx.insert_credential(&key(&acme, number), &digest(number)).await.expect("it is made");
            let pat = pat(&ada, number + 10);
            tx.insert_credential(&pat, &digest(number + 10)).await.expect("it is made");
        }
        let dead = Credential { revoke_time: Some(at(1)), ..key(&acme, 21) };
        tx.insert_credential(&dead, &digest(21)).await.expect("it is made");
        let dying = Credential { expire_time: Some(at(50)), ..key(&acme, 22) };
        tx.insert_credential(&dying, &digest(22)).await.expect("it is made");
        let keys = Owner::Workspace(acme.id.clone());
        let pats = Owner::User { id: ada.id.clone(), max_role: Role::Viewer };
        let cases = [
            (&keys, 0, 49, 10, 6),
            (&keys, 0, 50, 10, 5),
            (&keys, 0, 50, 3, 3),
            (&keys, 1, 49, 10, 0),
            (&pats, 0, 49, 10, 5),
        ];
        for (owner, generation, now, most, expected) in cases {
            let counted = tx.count_live_credentials(owner, generation, at(now), most).await;
            assert_eq!(counted.expect("a count"), expected, "{owner:?} {generation} {now} {most}");
        }
    })
    .await;
}

async fn a_replaced_digest_is_no_longer_found(store: TestStore) {
    let (acme, _) = acme_and_ada(&*store, Role::Admin).await;
    let key = key(&acme, 1);
    write(&*store, async |tx| {
        tx.insert_credential(&key, &digest(1)).await.expect("it is made");
    })
    .await;
    let before = store.revision().await.expect("a revision");
    write(&*store, async |tx| {
        tx.replace_digest(key.id, &digest(2)).await.expect("it is replaced");
    })
    .await;
    assert_eq!(store.look_up(&digest(1), None).await.expect("a read").found, None);
    let found = store.look_up(&digest(2), None).await.expect("a read").found;
    let facts = CredentialFacts::new(digest(2), &key);
    assert_eq!(*found.expect("it is known").credential, facts);
    assert_eq!(store.find_credential(key.id).await.expect("a read"), Some(key));
    // The change log names both digests, so that caches evict both.
    let changes = store.list_changes(before, 10).await.expect("the log");
    assert_eq!(changes.len(), 2, "{changes:?}");
}

fn request(number: u128, body: &str, time: Timestamp) -> ClaimedRequest {
    ClaimedRequest {
        requester: "caller:x".to_owned(),
        request_id: RequestId(Uuid::from_u128(number)),
        fingerprint: Digest::of(body),
        credential_id: credential_id(1),
        create_time: time,
    }
}

async fn a_request_is_claimed_once_until_it_expires(store: TestStore) {
    let first = request(1, "a", at(100));
    write(&*store, async |tx| {
        assert_eq!(tx.claim_request(&first, at(0)).await.expect("a claim"), None);
    })
    .await;
    let second = request(1, "b", at(200));
    let elsewhere = ClaimedRequest { requester: "caller:y".to_owned(), ..second.clone() };
    write(&*store, async |tx| {
        let earlier = tx.claim_request(&second, at(99)).await.expect("a claim");
        assert_eq!(earlier.as_ref(), Some(&first));
        assert_eq!(tx.claim_request(&elsewhere, at(99)).await.expect("a claim"), None);
        assert_eq!(tx.claim_request(&second, at(100)).await.expect("a claim"), None);
        let earlier = tx.claim_request(&first, at(100)).await.expect("a claim");
        assert_eq!(earlier.as_ref(), Some(&second));
    })
    .await;
}

async fn a_second_claim_of_a_request_waits_for_the_first(store: TestStore) {
    for commits in [true, false] {
        let first = request(u128::from(commits), "a", at(100));
        let second = ClaimedRequest { credential_id: credential_id(2), ..first.clone() };
        let mut tx = store.begin("test").await.expect("a transaction");
        assert_eq!(tx.claim_request(&first, at(0)).await.expect("a claim"), None);
        let shared = store.shared();
        let waiting = tokio::spawn(async move {
            let mut tx = shared.begin("test").await.expect("a transaction");
            let earlier = tx.claim_request(&second, at(0)).await.expect("a claim");
            tx.commit(&event()).await.expect("it commits");
            earlier
        });
        if commits {
            tx.commit(&event()).await.expect("it commits");
            assert_eq!(waiting.await.expect("it ends"), Some(first));
        } else {
            drop(tx);
            assert_eq!(waiting.await.expect("it ends"), None);
        }
    }
}

async fn expired_requests_are_deleted_by_later_claims(store: TestStore) {
    write(&*store, async |tx| {
        for number in 0..150 {
            let old = request(number, "a", at(i64::try_from(number).expect("few")));
            assert_eq!(tx.claim_request(&old, at(-1)).await.expect("a claim"), None);
        }
        for number in 1_000..1_002 {
            let new = request(number, "a", at(1_000));
            assert_eq!(tx.claim_request(&new, at(500)).await.expect("a claim"), None);
        }
    })
    .await;
    // Each claim deletes a hundred rows, so two claims have deleted all old ones.
    for number in 0..150 {
        let again = request(number, "b", at(1_000));
        write(&*store, async |tx| {
            // If the row still existed, it would not have expired at this time.
            assert_eq!(tx.claim_request(&again, at(-1)).await.expect("a claim"), None);
        })
        .await;
    }
}

async fn a_policy_is_put_replaced_listed_and_deleted(store: TestStore) {
    let workspaces = ["aaa", "bbb", "ccc"].map(workspace);
    let policy = WorkspacePolicy {
        key_lifetime_max: Some(Duration::from_micros(1_500_001)),
        key_expiry_required: true,
        keys_max: Some(u32::MAX),
        overlap_min: Some(Duration::ZERO),
        overlap_max: Some(Duration::from_hours(24)),
    };
    let less = WorkspacePolicy { keys_max: Some(0), ..WorkspacePolicy::default() };
    let [first, second, third] = &workspaces;
    write(&*store, async |tx| {
        for workspace in &workspaces {
            tx.put_workspace(workspace).await.expect("it is put");
        }
        tx.put_workspace_policy(&first.id, &policy).await.expect("it is put");
        tx.put_workspace_policy(&third.id, &policy).await.expect("it is put");
        let found = tx.find_workspace_policy(&first.id, Lock::Update).await.expect("a read");
        assert_eq!(found, Some(policy));
        tx.put_workspace_policy(&third.id, &less).await.expect("it is put");
    })
    .await;
    assert_eq!(store.find_workspace_policy(&second.id).await.expect("a read"), None);
    assert_eq!(store.find_workspace_policy(&third.id).await.expect("a read"), Some(less));
    let all = store.list_workspace_policies(&first.id, &third.id).await.expect("a list");
    assert_eq!(all, [(first.id.clone(), policy), (third.id.clone(), less)]);
    let end = store.list_workspace_policies(&second.id, &workspace_id("zzz")).await;
    assert_eq!(end.expect("a list").len(), 1);
    // No answer depends on a policy, so the change log does not mention one.
    let revision = store.revision().await.expect("a revision");
    write(&*store, async |tx| {
        tx.delete_workspace_policy(&first.id).await.expect("it is deleted");
        tx.delete_workspace_policy(&second.id).await.expect("there is none");
    })
    .await;
    assert_eq!(store.find_workspace_policy(&first.id).await.expect("a read"), None);
    assert_eq!(store.revision().await.expect("a revision"), revision);
}
