//! Transactions: what others see of them, whom they make wait, and what a dropped one leaves behind.

use std::sync::Arc;
use std::time::Duration;

use sophic_auth::model::{Role, User, Workspace};
use sophic_auth::store::{Lock, Store, StoreError};

use super::samples::{acme_and_ada, digest, event, key, name, user, workspace, write};
use crate::stores::{TestStore, on_every_store};
use crate::waits::{cut_short, still_waits, within};

on_every_store! {
    what_is_not_committed_is_seen_by_nobody_else,
    a_dropped_transaction_leaves_nothing_behind,
    a_transaction_that_failed_leaves_nothing_behind,
    a_transaction_sees_what_it_wrote,
    a_reader_never_waits_for_a_writer,
    who_would_change_a_row_waits_and_then_sees_what_came_before,
    names_are_given_by_one_at_a_time,
    a_lock_that_never_comes_free_is_unavailable,
    counting_up_from_many_sides_loses_nothing,
    a_task_that_is_cut_off_leaves_the_store_usable,
    what_is_only_looked_at_holds_up_nobody,
}

/// A look before the locks are taken sees what the transaction wrote, and takes no lock itself.
async fn what_is_only_looked_at_holds_up_nobody(store: TestStore) {
    let (acme, _) = acme_and_ada(&*store, Role::Member).await;
    let made = key(&acme, 1);
    write(&*store, async |tx| {
        tx.insert_credential(&made, &digest(1)).await.expect("it is made");
        assert_eq!(tx.peek_credential(made.id).await.expect("a read"), Some(made.clone()));
    })
    .await;
    if !store.database.is_postgres() {
        // There one writes at a time.
        return;
    }
    let mut one = store.begin("one").await.expect("a transaction");
    assert!(one.peek_credential(made.id).await.expect("a read").is_some());
    let mut other = store.begin("other").await.expect("a transaction");
    assert!(other.find_credential(made.id, Lock::Update).await.expect("the lock").is_some());
}

async fn what_is_not_committed_is_seen_by_nobody_else(store: TestStore) {
    let (acme, ada) = acme_and_ada(&*store, Role::Member).await;
    let revision = store.revision().await.expect("a revision");
    let mut tx = store.begin("test").await.expect("a transaction");
    tx.put_user(&User { disabled: true, ..ada.clone() }).await.expect("they are put");
    tx.delete_membership(&acme.id, &ada.id).await.expect("a delete");
    tx.insert_credential(&key(&acme, 1), &digest(1)).await.expect("it is made");
    assert_eq!(store.find_user(&ada.id).await.expect("a read"), Some(ada.clone()));
    assert!(store.find_membership(&acme.id, &ada.id).await.expect("a read").is_some());
    assert_eq!(store.look_up(&digest(1), None).await.expect("a read").found, None);
    assert_eq!(store.revision().await.expect("a revision"), revision);
    let committed = tx.commit(&event()).await.expect("it commits");
    assert!(committed > revision);
    assert!(store.find_user(&ada.id).await.expect("a read").expect("they are there").disabled);
    assert!(store.look_up(&digest(1), None).await.expect("a read").found.is_some());
}

async fn a_dropped_transaction_leaves_nothing_behind(store: TestStore) {
    let acme = workspace("acme");
    let mut tx = store.begin("test").await.expect("a transaction");
    tx.lock_workspace_names().await.expect("the lock");
    tx.put_workspace(&acme).await.expect("it is put");
    drop(tx);
    // Whatever it held is free, and what it wrote is not there.
    let mut tx = store.begin("test").await.expect("a transaction");
    tx.lock_workspace_names().await.expect("the lock");
    let row = tx.find_workspace_row(&acme.id, Lock::Update).await.expect("a read");
    assert_eq!(row, None);
    drop(tx);
    assert_eq!(store.list_audit_events(&Default::default(), None, 10).await.expect("a page"), []);
    assert_eq!(store.revision().await.expect("a revision").0, 0);
}

async fn a_transaction_that_failed_leaves_nothing_behind(store: TestStore) {
    let acme = workspace("acme");
    let mut tx = store.begin("test").await.expect("a transaction");
    tx.put_workspace(&acme).await.expect("it is put");
    tx.insert_credential(&key(&acme, 1), &digest(1)).await.expect("it is made");
    tx.insert_credential(&key(&acme, 2), &digest(1)).await.expect_err("the digest is taken");
    drop(tx);
    assert_eq!(store.find_workspace("acme").await.expect("a read"), None);
    write(&*store, async |tx| tx.put_workspace(&acme).await.expect("it is put")).await;
    assert_eq!(store.find_workspace("acme").await.expect("a read"), Some(acme));
}

async fn a_transaction_sees_what_it_wrote(store: TestStore) {
    let acme = workspace("acme");
    let mut tx = store.begin("test").await.expect("a transaction");
    tx.put_workspace(&acme).await.expect("it is put");
    let found = tx.find_workspace("acme", Lock::Update).await.expect("a read");
    assert_eq!(found, Some(acme.clone()));
    tx.insert_credential(&key(&acme, 1), &digest(1)).await.expect("it is made");
    let found = tx.find_credential_by_digest(&digest(1), Lock::Update).await.expect("a read");
    assert_eq!(found, Some(key(&acme, 1)));
}

async fn a_reader_never_waits_for_a_writer(store: TestStore) {
    let (acme, ada) = acme_and_ada(&*store, Role::Member).await;
    let mut tx = store.begin("test").await.expect("a transaction");
    tx.lock_workspace_names().await.expect("the lock");
    tx.find_workspace("acme", Lock::Update).await.expect("a read");
    tx.put_user(&User { display_name: name("Changed"), ..ada.clone() }).await.expect("it is put");
    store.look_up(&digest(1), Some("acme")).await.expect("a read");
    assert_eq!(store.find_workspace("acme").await.expect("a read"), Some(acme));
    assert_eq!(store.find_user(&ada.id).await.expect("a read"), Some(ada));
    store.revision().await.expect("a revision");
}

/// Runs this in a task, sees that it waits, commits the transaction that it waits for, and gives what it comes to.
pub(super) async fn waits_for<T: Send + 'static>(
    tx: Box<dyn sophic_auth::store::WriteTx>,
    waiter: impl Future<Output = T> + Send + 'static,
) -> T {
    let mut waiter = tokio::task::spawn(waiter);
    still_waits(Duration::from_millis(150), "it has what another holds", &mut waiter).await;
    tx.commit(&event()).await.expect("it commits");
    within("it goes on", waiter).await.expect("no panic")
}

async fn who_would_change_a_row_waits_and_then_sees_what_came_before(store: TestStore) {
    let (acme, ada) = acme_and_ada(&*store, Role::Member).await;
    write(&*store, async |tx| {
        tx.insert_credential(&key(&acme, 1), &digest(1)).await.expect("it is made");
    })
    .await;
    let mut tx = store.begin("test").await.expect("a transaction");
    tx.find_user_row(&ada.id, Lock::Update).await.expect("a read");
    tx.put_user(&User { disabled: true, ..ada.clone() }).await.expect("they are put");
    let (shared, id) = (store.shared(), ada.id.clone());
    let seen = waits_for(tx, async move {
        let mut tx = shared.begin("test").await.expect("a transaction");
        tx.find_user_row(&id, Lock::Share).await.expect("a read").expect("they are there")
    });
    assert!(seen.await.disabled);

    let mut tx = store.begin("test").await.expect("a transaction");
    let mut found = tx.find_credential_by_digest(&digest(1), Lock::Update).await.expect("a read");
    let found = found.as_mut().expect("it is there");
    found.version = 7;
    tx.update_credential(found).await.expect("it is changed");
    let (shared, id) = (store.shared(), found.id);
    let seen = waits_for(tx, async move {
        let mut tx = shared.begin("test").await.expect("a transaction");
        tx.find_credential(id, Lock::Update).await.expect("a read").expect("it is there")
    });
    assert_eq!(seen.await.version, 7);
}

async fn names_are_given_by_one_at_a_time(store: TestStore) {
    let mut tx = store.begin("test").await.expect("a transaction");
    tx.lock_workspace_names().await.expect("the lock");
    tx.put_workspace(&workspace("acme")).await.expect("it is put");
    let shared = store.shared();
    let holder = waits_for(tx, async move {
        let mut tx = shared.begin("test").await.expect("a transaction");
        tx.lock_workspace_names().await.expect("the lock");
        tx.find_name_holder("acme", super::samples::at(0)).await.expect("a read")
    });
    assert!(holder.await.is_some());
}

async fn a_lock_that_never_comes_free_is_unavailable(store: TestStore) {
    let (_, ada) = acme_and_ada(&*store, Role::Member).await;
    let mut tx = store.begin("test").await.expect("a transaction");
    tx.find_user_row(&ada.id, Lock::Update).await.expect("a read");
    let waited = async {
        let mut second = store.begin("test").await?;
        second.find_user_row(&ada.id, Lock::Update).await
    };
    let error = waited.await.expect_err("the lock is held");
    assert!(matches!(error, StoreError::Busy(_) | StoreError::Unavailable(_)), "{error:?}");
    drop(tx);
    store.ping().await.expect("it goes on");
}

async fn counting_up_from_many_sides_loses_nothing(store: TestStore) {
    let acme = workspace("acme");
    write(&*store, async |tx| tx.put_workspace(&acme).await.expect("it is put")).await;
    let tasks: Vec<_> = (0..6)
        .map(|_| {
            let (store, id) = (store.shared(), acme.id.clone());
            tokio::task::spawn(async move {
                for _ in 0..10 {
                    let mut tx = store.begin("test").await.expect("a transaction");
                    let row = tx.find_workspace_row(&id, Lock::Update).await.expect("a read");
                    let row = row.expect("it is there");
                    let next = Workspace { generation: row.generation + 1, ..row };
                    tx.put_workspace(&next).await.expect("it is put");
                    tx.commit(&event()).await.expect("it commits");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
    let acme = store.find_workspace("acme").await.expect("a read").expect("it is there");
    assert_eq!(acme.generation, 60);
}

/// The bad moment is any moment (CATALOGUE 0.1): futures are dropped at many, and the pool must stay clean.
async fn a_task_that_is_cut_off_leaves_the_store_usable(store: TestStore) {
    let shared: Arc<dyn Store> = store.shared();
    for micros in 0..120 {
        let work = async {
            let mut tx = shared.begin("test").await?;
            tx.put_user(&user("cut-off")).await?;
            tx.find_user_row(&user("cut-off").id, Lock::Update).await?;
            Ok::<_, StoreError>(())
        };
        // Out of time, or dropped without a commit: nothing may stay.
        cut_short(Duration::from_micros(micros * 20), work).await;
    }
    for number in 0..10 {
        let kept = user(&format!("kept-{number}"));
        write(&*store, async |tx| tx.put_user(&kept).await.expect("they are put")).await;
        let second =
            sophic_auth::store::open_existing(&store.database.url()).await.expect("it opens");
        assert!(second.find_user(&kept.id).await.expect("a read").is_some(), "{number}");
        assert!(second.find_user(&user("cut-off").id).await.expect("a read").is_none());
        second.close().await;
    }
    assert_eq!(store.revision().await.expect("a revision").0, 10);
}
