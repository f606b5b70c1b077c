//! Batches of credentials: finding, revoking and deleting many at once, and recording their last use.

use sophic_auth::model::{Credential, CredentialId, LastUse, User, Workspace};
use sophic_auth::store::{RevokeFilter, Store};

use super::samples::{at, credential_id, digest, event, key, pat, user, workspace, write};
use super::transactions::waits_for;
use crate::stores::{TestStore, on_every_store};

on_every_store! {
    revocable_credentials_are_listed_page_by_page_and_counted,
    revocable_credentials_are_locked_when_found_in_a_transaction,
    credentials_dead_before_the_cutoff_are_listed_whatever_ended_them,
    many_credentials_are_found_revoked_and_deleted_at_once,
    a_batch_is_revoked_whole_or_not_at_all,
    a_later_use_is_written_and_an_earlier_one_is_not,
    further_events_are_committed_only_with_the_transaction,
}

/// Creates five keys of a workspace and two personal access tokens of a user. The seventh credential is used at 50.
async fn seven_credentials(store: &dyn Store) -> (Workspace, User) {
    let (acme, ada) = (workspace("acme"), user("ada"));
    write(store, async |tx| {
        tx.put_workspace(&acme).await.expect("it is put");
        tx.put_user(&ada).await.expect("they are put");
        for number in 1..=5 {
            tx.insert_credential(&key(&acme, number), &digest(number)).await.expect("it is made");
        }
        for number in 6..=7 {
            tx.insert_credential(&pat(&ada, number), &digest(number)).await.expect("it is made");
        }
    })
    .await;
    let used = LastUse { time: at(50), ip: None };
    store.write_last_uses(&[(credential_id(7), used)], &[]).await.expect("it is noted");
    (acme, ada)
}

fn ids(credentials: &[Credential]) -> Vec<CredentialId> {
    credentials.iter().map(|credential| credential.id).collect()
}

fn numbered(numbers: impl IntoIterator<Item = u32>) -> Vec<CredentialId> {
    numbers.into_iter().map(credential_id).collect()
}

async fn revocable_credentials_are_listed_page_by_page_and_counted(store: TestStore) {
    assert_eq!(store.last_credential_id().await.expect("a read"), None);
    let (acme, ada) = seven_credentials(&*store).await;
    assert_eq!(store.last_credential_id().await.expect("a read"), Some(credential_id(7)));
    let none = RevokeFilter::default;
    let cases = [
        (none(), numbered(1..=7)),
        (RevokeFilter { workspace_id: Some(acme.id.clone()), ..none() }, numbered(1..=5)),
        (RevokeFilter { user_id: Some(ada.id.clone()), ..none() }, numbered(6..=7)),
        (RevokeFilter { family_id: Some(credential_id(3)), ..none() }, numbered([3])),
        (RevokeFilter { last_id: Some(credential_id(2)), ..none() }, numbered(1..=2)),
        (RevokeFilter { creator: Some("user:ada".to_owned()), ..none() }, numbered(1..=7)),
        (RevokeFilter { creator: Some("user:ad".to_owned()), ..none() }, numbered([])),
        (RevokeFilter { created_before: Some(at(3)), ..none() }, numbered(1..=2)),
        (RevokeFilter { last_used_before: Some(at(50)), ..none() }, numbered(1..=6)),
        (RevokeFilter { last_used_before: Some(at(51)), ..none() }, numbered(1..=7)),
    ];
    for (filter, expected) in cases {
        let all = store.list_revocable(&filter, None, 100).await.expect("a page");
        assert_eq!(ids(&all), expected, "{filter:?}");
        let count = store.count_revocable(&filter).await.expect("a count");
        assert_eq!(count, expected.len() as u64, "{filter:?}");
    }
    let page = store.list_revocable(&none(), Some(credential_id(2)), 3).await.expect("a page");
    assert_eq!(ids(&page), numbered(3..=5));
    // Credentials that were revoked, themselves or with their owner, are not revocable.
    write(&*store, async |tx| {
        tx.revoke_credentials(&[credential_id(6)], at(60)).await.expect("it is revoked");
        let raised = Workspace { generation: 1, generation_time: Some(at(60)), ..acme };
        tx.put_workspace(&raised).await.expect("it is put");
    })
    .await;
    let left = store.list_revocable(&none(), None, 100).await.expect("a page");
    assert_eq!(ids(&left), numbered([7]));
    assert_eq!(store.count_revocable(&none()).await.expect("a count"), 1);
}

async fn revocable_credentials_are_locked_when_found_in_a_transaction(store: TestStore) {
    let (acme, _) = seven_credentials(&*store).await;
    let keys = RevokeFilter { workspace_id: Some(acme.id.clone()), ..Default::default() };
    let mut tx = store.begin("test").await.expect("a transaction");
    let page = tx.find_revocable(&keys, None, 3).await.expect("a page");
    assert_eq!(ids(&page), numbered(1..=3));
    let rest = tx.find_revocable(&keys, Some(credential_id(3)), 3).await.expect("a page");
    assert_eq!(rest, store.list_revocable(&keys, Some(credential_id(3)), 3).await.expect("a page"));
    tx.revoke_credentials(&numbered([2]), at(60)).await.expect("it is revoked");
    // A concurrent search waits, and then finds it revoked.
    let meanwhile = store.shared();
    let filter = keys.clone();
    let found = waits_for(tx, async move {
        let mut tx = meanwhile.begin("test").await.expect("a transaction");
        let found = tx.find_revocable(&filter, None, 3).await.expect("a page");
        ids(&found)
    });
    let found = found.await;
    assert_eq!(found, numbered([1, 3, 4]), "a page is full where there is more");
    // The same holds for credentials below the generation of their owner.
    write(&*store, async |tx| {
        let raised = Workspace { generation: 1, generation_time: Some(at(60)), ..acme };
        tx.put_workspace(&raised).await.expect("it is put");
        assert_eq!(tx.find_revocable(&keys, None, 10).await.expect("a page"), []);
    })
    .await;
}

async fn credentials_dead_before_the_cutoff_are_listed_whatever_ended_them(store: TestStore) {
    let (acme, ada) = (workspace("acme"), user("ada"));
    let other = workspace("other");
    write(&*store, async |tx| {
        for owner in [&acme, &other] {
            tx.put_workspace(owner).await.expect("it is put");
        }
        tx.put_user(&ada).await.expect("they are put");
        let revoked = Credential { revoke_time: Some(at(100)), ..key(&acme, 1) };
        let expired = Credential { expire_time: Some(at(200)), ..key(&acme, 2) };
        for credential in [revoked, expired, key(&acme, 3), key(&other, 4), pat(&ada, 5)] {
            let number = u32::try_from(credential.create_time.saturating_since(at(0)).as_secs());
            let digest = digest(number.expect("small"));
            tx.insert_credential(&credential, &digest).await.expect("it is made");
        }
        let raised = Workspace { generation: 1, generation_time: Some(at(300)), ..other };
        tx.put_workspace(&raised).await.expect("it is put");
        let raised = User { generation: 1, generation_time: Some(at(400)), ..ada };
        tx.put_user(&raised).await.expect("they are put");
    })
    .await;
    let dead = async |cutoff| {
        let mut dead = store.list_purgeable(at(cutoff), 100).await.expect("ids");
        dead.sort();
        dead
    };
    assert_eq!(dead(100).await, []);
    assert_eq!(dead(101).await, numbered([1]));
    assert_eq!(dead(201).await, numbered([1, 2]));
    assert_eq!(dead(301).await, numbered([1, 2, 4]));
    assert_eq!(dead(401).await, numbered([1, 2, 4, 5]));
    assert_eq!(store.list_purgeable(at(401), 2).await.expect("ids").len(), 2);
}

async fn many_credentials_are_found_revoked_and_deleted_at_once(store: TestStore) {
    seven_credentials(&*store).await;
    write(&*store, async |tx| {
        let unknown = credential_id(99);
        let asked = [credential_id(5), unknown, credential_id(2), credential_id(6)];
        let found = tx.find_credentials(&asked).await.expect("some are there");
        assert_eq!(ids(&found), numbered([2, 5, 6]), "ordered by id, not by the request");
        tx.revoke_credentials(&numbered([2, 6]), at(70)).await.expect("they are revoked");
        tx.delete_credentials(&numbered([5])).await.expect("it is dropped");
        tx.revoke_credentials(&[], at(70)).await.expect("none is fine");
    })
    .await;
    for number in [2, 6] {
        let row = store.find_credential(credential_id(number)).await.expect("a read");
        let row = row.expect("a row");
        assert_eq!((row.revoke_time, row.version), (Some(at(70)), 2));
    }
    assert_eq!(store.find_credential(credential_id(5)).await.expect("a read"), None);
    let row = store.find_credential(credential_id(1)).await.expect("a read").expect("a row");
    assert_eq!((row.revoke_time, row.version), (None, 1));
}

async fn a_batch_is_revoked_whole_or_not_at_all(store: TestStore) {
    seven_credentials(&*store).await;
    write(&*store, async |tx| {
        tx.revoke_credentials(&numbered([3]), at(70)).await.expect("it is revoked");
    })
    .await;
    let mut tx = store.begin("test").await.expect("a transaction");
    let again = tx.revoke_credentials(&numbered([2, 3, 4]), at(80)).await;
    again.expect_err("one of them is revoked already");
    drop(tx);
    let row = store.find_credential(credential_id(2)).await.expect("a read").expect("a row");
    assert_eq!(row.revoke_time, None);
}

async fn a_later_use_is_written_and_an_earlier_one_is_not(store: TestStore) {
    seven_credentials(&*store).await;
    let used = |seconds, ip: &str| LastUse { time: at(seconds), ip: ip.parse().ok() };
    let write = async |uses: &[(CredentialId, LastUse)]| {
        store.write_last_uses(uses, &[]).await.expect("they are written")
    };
    let before = store.revision().await.expect("a revision");
    let (one, seventh, gone) = (credential_id(1), credential_id(7), credential_id(99));
    let uses = [(one, used(40, "192.0.2.1")), (seventh, used(40, "")), (gone, used(40, ""))];
    assert_eq!(write(&uses).await, 1, "of the seventh a later use is known");
    assert_eq!(write(&[(one, used(40, "192.0.2.9"))]).await, 0);
    assert_eq!(write(&[(one, used(41, "2001:db8::1"))]).await, 1);
    assert_eq!(write(&[]).await, 0);
    let row = store.find_credential(one).await.expect("a read").expect("a row");
    assert_eq!((row.last_use, row.version), (Some(used(41, "2001:db8::1")), 1));
    let row = store.find_credential(seventh).await.expect("a read").expect("a row");
    assert_eq!(row.last_use, Some(used(50, "")));
    assert_eq!(store.revision().await.expect("a revision"), before, "no cache is notified");
}

async fn further_events_are_committed_only_with_the_transaction(store: TestStore) {
    let [first, second, last] = [event(), event(), event()];
    let mut tx = store.begin("test").await.expect("a transaction");
    tx.insert_audit_events(&[first.clone(), second.clone()]).await.expect("they are appended");
    drop(tx);
    let all =
        async || store.list_audit_events(&Default::default(), None, 10).await.expect("a page");
    assert_eq!(all().await, []);
    let mut tx = store.begin("test").await.expect("a transaction");
    tx.insert_audit_events(&[first.clone(), second.clone()]).await.expect("they are appended");
    tx.commit(&last).await.expect("it commits");
    assert_eq!(all().await, [first, second, last]);
}
