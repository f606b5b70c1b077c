//! The change log as the methods of the store write it: one row for each change that may affect an answer, with gapless
//! revisions in the order of commits.

use sophic_auth::model::{
    Caller, Credential, LastUse, PreviousToken, Revision, Role, User, Workspace,
};
use sophic_auth::store::{ChangedEntity, Store, WriteTx};

use super::raw;
use super::samples::{
    acme_and_ada, at, caller, digest, event, key, membership, pat, user, workspace, write,
};
use crate::stores::{TestStore, on_every_store};
use crate::waits::within;

on_every_store! {
    every_method_that_may_change_an_answer_appends_a_change,
    a_write_that_affects_no_answer_appends_no_change,
    deleting_many_memberships_logs_each_user,
    a_dropped_transaction_leaves_no_gap,
    revisions_are_gapless_and_in_commit_order_under_concurrent_commits,
    a_revision_above_the_maximum_has_no_changes_after_it,
    changes_are_listed_page_by_page,
}

/// Returns what the transaction appended. Checks that the revisions follow `before` without a gap and end with that of
/// the commit.
async fn appended(
    store: &dyn Store,
    work: impl AsyncFnOnce(&mut dyn WriteTx),
) -> Vec<ChangedEntity> {
    let before = store.revision().await.expect("a revision");
    let committed = write(store, work).await;
    let changes = store.list_changes(before, 100).await.expect("a page");
    let numbers: Vec<_> = changes.iter().map(|change| change.revision.0).collect();
    assert_eq!(numbers, (before.0 + 1..=committed.0).collect::<Vec<_>>());
    assert_eq!(store.revision().await.expect("a revision"), committed);
    changes.into_iter().map(|change| change.entity).collect()
}

async fn every_method_that_may_change_an_answer_appends_a_change(store: TestStore) {
    let (acme, ada) = (workspace("acme"), user("ada"));
    let of_acme = [ChangedEntity::Workspace(acme.id.clone())];
    let of_ada = [ChangedEntity::User(ada.id.clone())];
    let put = appended(&*store, async |tx| tx.put_workspace(&acme).await.expect("it is put"));
    assert_eq!(put.await, of_acme);
    let put = appended(&*store, async |tx| tx.put_user(&ada).await.expect("they are put"));
    assert_eq!(put.await, of_ada);
    for role in [Role::Viewer, Role::Owner] {
        let membership = membership(&acme, &ada, role);
        let put = appended(&*store, async |tx| {
            tx.put_membership(&membership).await.expect("it is put");
        });
        assert_eq!(put.await, of_ada);
    }
    let gone = appended(&*store, async |tx| {
        assert!(tx.delete_membership(&acme.id, &ada.id).await.expect("a delete"));
    });
    assert_eq!(gone.await, of_ada);
    for (credential, number) in [(key(&acme, 1), 1), (pat(&ada, 2), 2)] {
        let of_it = [ChangedEntity::Credential(digest(number))];
        let made = appended(&*store, async |tx| {
            tx.insert_credential(&credential, &digest(number)).await.expect("it is made");
        });
        assert_eq!(made.await, of_it);
        let revoked = Credential { revoke_time: Some(at(9)), version: 2, ..credential };
        let changed = appended(&*store, async |tx| {
            tx.update_credential(&revoked).await.expect("it is changed");
        });
        assert_eq!(changed.await, of_it);
    }
    let gateway = caller("gateway", 1);
    let of_gateway = [ChangedEntity::Caller(gateway.id)];
    let made = appended(&*store, async |tx| tx.insert_caller(&gateway).await.expect("it is made"));
    assert_eq!(made.await, of_gateway);
    let previous = PreviousToken { digest: digest(2), expire_time: at(30) };
    let gateway = Caller { previous: Some(previous), ..gateway };
    let given =
        appended(&*store, async |tx| tx.update_caller(&gateway).await.expect("it is changed"));
    assert_eq!(given.await, of_gateway);
    let earlier = PreviousToken { expire_time: at(20), ..previous };
    let gateway = Caller { previous: Some(earlier), ..gateway };
    let ended =
        appended(&*store, async |tx| tx.update_caller(&gateway).await.expect("it is changed"));
    assert_eq!(ended.await, of_gateway);
    let gateway = Caller { expire_time: Some(at(40)), ..gateway };
    let expiring =
        appended(&*store, async |tx| tx.update_caller(&gateway).await.expect("it is changed"));
    assert_eq!(expiring.await, of_gateway);
    let revoked = Caller { revoke_time: Some(at(9)), ..gateway };
    let ended =
        appended(&*store, async |tx| tx.update_caller(&revoked).await.expect("it is changed"));
    assert_eq!(ended.await, of_gateway);
    let raised = Workspace { generation: 1, generation_time: Some(at(9)), ..acme };
    let put = appended(&*store, async |tx| tx.put_workspace(&raised).await.expect("it is put"));
    assert_eq!(put.await, of_acme);
    let disabled = User { disabled: true, ..ada };
    let put = appended(&*store, async |tx| tx.put_user(&disabled).await.expect("they are put"));
    assert_eq!(put.await, of_ada);
}

async fn a_write_that_affects_no_answer_appends_no_change(store: TestStore) {
    let (acme, ada) = acme_and_ada(&*store, Role::Member).await;
    write(&*store, async |tx| {
        tx.insert_credential(&key(&acme, 1), &digest(1)).await.expect("it is made");
    })
    .await;
    let nothing = appended(&*store, async |tx| {
        let touched = Workspace { update_time: at(900), ..acme.clone() };
        tx.put_workspace(&touched).await.expect("it is put");
        tx.put_user(&User { update_time: at(900), ..ada.clone() }).await.expect("they are put");
        let same = membership(&acme, &ada, Role::Member);
        tx.put_membership(&same).await.expect("it is put");
        tx.update_credential(&key(&acme, 1)).await.expect("it is written as it is");
        let slug = super::samples::slug("reserved");
        tx.reserve_slug(&slug, &acme.id, at(9)).await.expect("it is reserved");
        tx.release_slug(&slug).await.expect("it is released");
    });
    assert_eq!(nothing.await, []);
    // Last use is written in batches and bypasses all caches.
    let before = store.revision().await.expect("a revision");
    let used = if store.database.is_postgres() {
        "UPDATE credentials SET last_use_time = now(), last_use_ip = '192.0.2.1'"
    } else {
        "UPDATE credentials SET last_use_time = 1767225600000000, last_use_ip = '192.0.2.1'"
    };
    raw::run(&store.database, used).await;
    assert_eq!(store.revision().await.expect("a revision"), before);
    let found = store.find_credential(key(&acme, 1).id).await.expect("a read");
    let last_use: Option<LastUse> = found.expect("it is there").last_use;
    assert_eq!(last_use.and_then(|last_use| last_use.ip), "192.0.2.1".parse().ok());
}

async fn deleting_many_memberships_logs_each_user(store: TestStore) {
    let (acme, ada) = acme_and_ada(&*store, Role::Member).await;
    let bob = user("bob");
    write(&*store, async |tx| {
        tx.put_user(&bob).await.expect("they are put");
        tx.put_membership(&membership(&acme, &bob, Role::Owner)).await.expect("it is put");
    })
    .await;
    let mut dropped = appended(&*store, async |tx| {
        tx.delete_memberships_of_workspace(&acme.id).await.expect("a delete");
    })
    .await;
    dropped.sort_by_key(|entity| format!("{entity:?}"));
    assert_eq!(dropped, [ChangedEntity::User(ada.id), ChangedEntity::User(bob.id)]);
}

async fn a_dropped_transaction_leaves_no_gap(store: TestStore) {
    let mut tx = store.begin("test").await.expect("a transaction");
    tx.put_workspace(&workspace("dropped")).await.expect("it is put");
    drop(tx);
    let revision =
        write(&*store, async |tx| tx.put_workspace(&workspace("kept")).await.expect("it is put"));
    assert_eq!(revision.await, Revision(1));
}

/// Eight writers commit while a reader follows the log. The reader must never see a revision before the one below it,
/// nor a revision whose change is not visible yet.
async fn revisions_are_gapless_and_in_commit_order_under_concurrent_commits(store: TestStore) {
    const WRITERS: u64 = 8;
    const COMMITS: u64 = 15;
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = store.shared();
            tokio::task::spawn(async move {
                let mut last = Revision(0);
                for commit in 0..COMMITS {
                    let user = user(&format!("u{writer}-{commit}"));
                    let mut tx = store.begin("test").await.expect("a transaction");
                    tx.put_user(&user).await.expect("they are put");
                    let revision = tx.commit(&event()).await.expect("it commits");
                    assert!(revision > last, "a later commit has a higher number");
                    last = revision;
                }
            })
        })
        .collect();
    let mut followed = Revision(0);
    within("all changes are listed", async {
        while followed.0 < WRITERS * COMMITS {
            for change in store.list_changes(followed, 100).await.expect("a page") {
                assert_eq!(change.revision.0, followed.0 + 1, "no gap, ever");
                followed = change.revision;
                let ChangedEntity::User(id) = change.entity else { panic!("not a user") };
                assert!(store.find_user(&id).await.expect("a read").is_some(), "{id}");
            }
        }
    })
    .await;
    for writer in writers {
        writer.await.expect("no writer fails");
    }
    assert_eq!(store.revision().await.expect("a revision").0, WRITERS * COMMITS);
}

async fn a_revision_above_the_maximum_has_no_changes_after_it(store: TestStore) {
    acme_and_ada(&*store, Role::Member).await;
    for revision in [u64::MAX, i64::MAX.unsigned_abs(), i64::MAX.unsigned_abs() + 1] {
        let changes = store.list_changes(Revision(revision), 10).await.expect("a page");
        assert_eq!(changes, [], "{revision}");
    }
}

async fn changes_are_listed_page_by_page(store: TestStore) {
    for number in 1..=5 {
        let user = user(&format!("u{number}"));
        write(&*store, async |tx| tx.put_user(&user).await.expect("they are put")).await;
    }
    let first = store.list_changes(Revision(0), 2).await.expect("a page");
    let rest = store.list_changes(Revision(2), 10).await.expect("a page");
    let numbers: Vec<_> = first.iter().chain(&rest).map(|change| change.revision.0).collect();
    assert_eq!((first.len(), numbers), (2, vec![1, 2, 3, 4, 5]));
}
