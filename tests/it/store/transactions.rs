//! Transactions: their isolation, their locks, and what a dropped one leaves behind.

use std::sync::Arc;
use std::time::Duration;

use sophic_auth::model::{Role, User, Workspace};
use sophic_auth::store::{Lock, Store, StoreError};

use super::samples::{acme_and_ada, digest, event, key, name, user, workspace, write};
use crate::stores::{TestStore, on_every_store};
use crate::waits::{drop_after, stays_pending, within};

on_every_store! {
    uncommitted_writes_are_not_visible_outside,
    a_dropped_transaction_leaves_nothing_behind,
    a_transaction_that_failed_leaves_nothing_behind,
    a_transaction_sees_what_it_wrote,
    a_reader_never_waits_for_a_writer,
    a_lock_waits_and_then_sees_the_earlier_write,
    workspace_names_are_assigned_by_one_transaction_at_a_time,
    a_lock_that_is_never_released_is_unavailable,
    concurrent_increments_lose_nothing,
    a_cancelled_task_leaves_the_store_usable,
    a_peek_takes_no_lock,
}

/// `peek_credential` sees the writes of its transaction, and takes no lock.
async fn a_peek_takes_no_lock(store: TestStore) {
    let (acme, _) = acme_and_ada(&*store, Role::Member).await;
    let made = key(&acme, 1);
    write(&*store, async |tx| {
        tx.insert_credential(&made, &digest(1)).await.expect("it is made");
        assert_eq!(tx.peek_credential(made.id).await.expect("a read"), Some(made.clone()));
    })
    .await;
    if !store.database.is_postgres() {
        // SQLite allows one writer at a time.
        return;
    }
    let mut one = store.begin("one").await.expect("a transaction");
    assert!(one.peek_credential(made.id).await.expect("a read").is_some());
    let mut other = store.begin("other").await.expect("a transaction");
    assert!(other.find_credential(made.id, Lock::Update).await.expect("the lock").is_some());
}

async fn uncommitted_writes_are_not_visible_outside(store: TestStore) {
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
    // All of its locks are released, and its writes are gone.
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

/// Runs `work` in a task, checks that it waits for `tx`, commits `tx`, and returns the result of `work`.
pub(super) async fn waits_for<T: Send + 'static>(
    tx: Box<dyn sophic_auth::store::WriteTx>,
    waiter: impl Future<Output = T> + Send + 'static,
) -> T {
    let mut waiter = tokio::task::spawn(waiter);
    stays_pending(Duration::from_millis(150), "it has what another holds", &mut waiter).await;
    tx.commit(&event()).await.expect("it commits");
    within("it continues", waiter).await.expect("no panic")
}

async fn a_lock_waits_and_then_sees_the_earlier_write(store: TestStore) {
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

async fn workspace_names_are_assigned_by_one_transaction_at_a_time(store: TestStore) {
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

async fn a_lock_that_is_never_released_is_unavailable(store: TestStore) {
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
    store.ping().await.expect("it continues");
}

async fn concurrent_increments_lose_nothing(store: TestStore) {
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

/// A future can be dropped at any moment. This drops one at many moments, and the pool must stay clean.
async fn a_cancelled_task_leaves_the_store_usable(store: TestStore) {
    let shared: Arc<dyn Store> = store.shared();
    for micros in 0..120 {
        let work = async {
            let mut tx = shared.begin("test").await?;
            tx.put_user(&user("cut-off")).await?;
            tx.find_user_row(&user("cut-off").id, Lock::Update).await?;
            Ok::<_, StoreError>(())
        };
        // Cancelled or dropped before the commit, so nothing may remain.
        drop_after(Duration::from_micros(micros * 20), work).await;
    }
    for number in 0..10 {
        let kept = user(&format!("kept-{number}"));
        write(&*store, async |tx| tx.put_user(&kept).await.expect("they are put")).await;
        let second =
            sophic_auth::store::open_existing(&store.database.location()).await.expect("it opens");
        assert!(second.find_user(&kept.id).await.expect("a read").is_some(), "{number}");
        assert!(second.find_user(&user("cut-off").id).await.expect("a read").is_none());
        second.close().await;
    }
    assert_eq!(store.revision().await.expect("a revision").0, 10);
}
