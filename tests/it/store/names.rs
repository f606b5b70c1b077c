//! The shared namespace of workspace ids and slugs.

use sophic_auth::model::Workspace;
use sophic_auth::store::NameHolder;

use super::samples::{at, slug, workspace, workspace_id, write};
use crate::stores::{TestStore, on_every_store};

on_every_store! {
    a_name_is_held_as_an_id_and_as_a_slug,
    a_deleted_workspace_keeps_its_id_but_not_its_slug,
    a_reserved_slug_is_held_until_its_release,
    a_reservation_moves_with_the_slug,
    a_released_slug_is_free,
}

fn holder(id: &str, reserved_until: Option<i64>) -> Option<NameHolder> {
    Some(NameHolder { workspace_id: workspace_id(id), release_time: reserved_until.map(at) })
}

async fn a_name_is_held_as_an_id_and_as_a_slug(store: TestStore) {
    write(&*store, async |tx| {
        tx.lock_workspace_names().await.expect("the lock");
        tx.put_workspace(&workspace("acme")).await.expect("it is put");
        for name in ["acme", "id-of-acme"] {
            let found = tx.find_name_holder(name, at(0)).await.expect("a read");
            assert_eq!(found, holder("id-of-acme", None), "{name}");
        }
        assert_eq!(tx.find_name_holder("free", at(0)).await.expect("a read"), None);
    })
    .await;
}

async fn a_deleted_workspace_keeps_its_id_but_not_its_slug(store: TestStore) {
    let gone = Workspace { delete_time: Some(at(5)), ..workspace("acme") };
    write(&*store, async |tx| {
        tx.put_workspace(&gone).await.expect("it is put");
        assert_eq!(tx.find_name_holder("acme", at(9)).await.expect("a read"), None);
        let found = tx.find_name_holder("id-of-acme", at(9)).await.expect("a read");
        assert_eq!(found, holder("id-of-acme", None));
    })
    .await;
}

async fn a_reserved_slug_is_held_until_its_release(store: TestStore) {
    let acme = workspace("acme");
    write(&*store, async |tx| {
        tx.put_workspace(&acme).await.expect("it is put");
        tx.reserve_slug(&slug("old"), &acme.id, at(100)).await.expect("it is reserved");
        let before = tx.find_name_holder("old", at(99)).await.expect("a read");
        assert_eq!(before, holder("id-of-acme", Some(100)));
        assert_eq!(tx.find_name_holder("old", at(100)).await.expect("a read"), None);
        assert_eq!(tx.find_name_holder("old", at(101)).await.expect("a read"), None);
    })
    .await;
    assert_eq!(store.find_workspace("old").await.expect("a read"), None);
}

async fn a_reservation_moves_with_the_slug(store: TestStore) {
    let (acme, other) = (workspace("acme"), workspace("other"));
    write(&*store, async |tx| {
        tx.put_workspace(&acme).await.expect("it is put");
        tx.put_workspace(&other).await.expect("it is put");
        tx.reserve_slug(&slug("old"), &acme.id, at(100)).await.expect("it is reserved");
        tx.reserve_slug(&slug("old"), &other.id, at(200)).await.expect("it is reserved");
        let found = tx.find_name_holder("old", at(150)).await.expect("a read");
        assert_eq!(found, holder("id-of-other", Some(200)));
    })
    .await;
}

async fn a_released_slug_is_free(store: TestStore) {
    let acme = workspace("acme");
    write(&*store, async |tx| {
        tx.put_workspace(&acme).await.expect("it is put");
        tx.reserve_slug(&slug("old"), &acme.id, at(100)).await.expect("it is reserved");
        tx.release_slug(&slug("old")).await.expect("it is released");
        tx.release_slug(&slug("never-reserved")).await.expect("nothing to release is no error");
        assert_eq!(tx.find_name_holder("old", at(0)).await.expect("a read"), None);
    })
    .await;
}
