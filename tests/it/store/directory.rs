//! Workspaces, users and memberships: put, find, list, delete.

use sophic_auth::model::{Role, User, Workspace};
use sophic_auth::store::{Lock, StoreError, Unique};

use super::samples::{
    acme_and_ada, at, membership, name, slug, user, user_id, workspace, workspace_id, write,
};
use crate::stores::{TestStore, on_every_store};

on_every_store! {
    a_workspace_is_found_by_slug_and_by_id_with_all_its_fields,
    putting_a_workspace_again_changes_all_but_its_create_time,
    a_deleted_workspace_is_found_by_its_row_only,
    a_slug_is_unique_among_workspaces_that_are_not_deleted,
    an_id_comes_before_a_slug_that_looks_like_it,
    a_user_is_found_with_all_fields,
    putting_a_user_again_changes_all_but_their_create_time,
    a_deleted_user_is_found_by_their_row_only,
    a_membership_is_found_and_changed,
    a_membership_needs_its_workspace_and_its_user,
    a_membership_is_deleted_once,
    all_memberships_of_a_workspace_are_deleted_at_once,
    all_memberships_of_a_user_are_deleted_at_once,
}

async fn a_workspace_is_found_by_slug_and_by_id_with_all_its_fields(store: TestStore) {
    let acme = Workspace {
        disabled: true,
        generation: 3,
        generation_time: Some(at(30)),
        ..workspace("acme")
    };
    write(&*store, async |tx| {
        tx.put_workspace(&acme).await.expect("it is put");
        tx.put_workspace(&workspace("other")).await.expect("it is put");
        let by_slug = tx.find_workspace("acme", Lock::Share).await.expect("a read");
        assert_eq!(by_slug.as_ref(), Some(&acme));
    })
    .await;
    assert_eq!(store.find_workspace("acme").await.expect("a read").as_ref(), Some(&acme));
    assert_eq!(store.find_workspace("id-of-acme").await.expect("a read").as_ref(), Some(&acme));
    for nobody in ["ACME", "acm", "acme ", "id-of", "%", "acme' OR 1=1 --", "", "a\u{301}cme"] {
        assert_eq!(store.find_workspace(nobody).await.expect("a read"), None, "{nobody}");
    }
}

async fn putting_a_workspace_again_changes_all_but_its_create_time(store: TestStore) {
    let acme = workspace("acme");
    write(&*store, async |tx| tx.put_workspace(&acme).await.expect("it is put")).await;
    let changed = Workspace {
        slug: slug("acme-2"),
        display_name: name("Acme the Second"),
        disabled: true,
        generation: 1,
        generation_time: Some(at(100)),
        create_time: at(99),
        update_time: at(101),
        delete_time: None,
        ..acme.clone()
    };
    write(&*store, async |tx| tx.put_workspace(&changed).await.expect("it is put")).await;
    let expected = Workspace { create_time: acme.create_time, ..changed };
    assert_eq!(store.find_workspace("acme-2").await.expect("a read"), Some(expected));
    assert_eq!(store.find_workspace("acme").await.expect("a read"), None);
}

async fn a_deleted_workspace_is_found_by_its_row_only(store: TestStore) {
    let gone = Workspace { delete_time: Some(at(50)), generation: 1, ..workspace("acme") };
    write(&*store, async |tx| {
        tx.put_workspace(&gone).await.expect("it is put");
        for name in ["acme", "id-of-acme"] {
            assert_eq!(tx.find_workspace(name, Lock::Update).await.expect("a read"), None);
        }
        let row = tx.find_workspace_row(&gone.id, Lock::Update).await.expect("a read");
        assert_eq!(row.as_ref(), Some(&gone));
        let nobody = workspace_id("nobody");
        assert_eq!(tx.find_workspace_row(&nobody, Lock::Share).await.expect("a read"), None);
    })
    .await;
    assert_eq!(store.find_workspace("acme").await.expect("a read"), None);
    assert_eq!(store.find_workspace("id-of-acme").await.expect("a read"), None);
}

async fn a_slug_is_unique_among_workspaces_that_are_not_deleted(store: TestStore) {
    let gone = Workspace { delete_time: Some(at(50)), ..workspace("acme") };
    let heir = Workspace { id: workspace_id("heir"), ..workspace("acme") };
    write(&*store, async |tx| {
        tx.put_workspace(&gone).await.expect("it is put");
        tx.put_workspace(&heir).await.expect("the slug is free");
    })
    .await;
    let mut tx = store.begin("test").await.expect("a transaction");
    let rival = Workspace { id: workspace_id("rival"), ..workspace("acme") };
    let error = tx.put_workspace(&rival).await.expect_err("the slug is taken");
    assert!(matches!(error, StoreError::Conflict(Unique::WorkspaceSlug)), "{error:?}");
    drop(tx);
    assert_eq!(store.find_workspace("acme").await.expect("a read"), Some(heir));
}

async fn an_id_comes_before_a_slug_that_looks_like_it(store: TestStore) {
    // `service` refuses such a slug. A person with `psql` or `sqlite3` can still insert it.
    let real = Workspace { id: workspace_id("acme"), slug: slug("real"), ..workspace("acme") };
    let impostor = Workspace { id: workspace_id("x"), ..workspace("acme") };
    write(&*store, async |tx| {
        tx.put_workspace(&real).await.expect("it is put");
        tx.put_workspace(&impostor).await.expect("it is put");
    })
    .await;
    assert_eq!(store.find_workspace("acme").await.expect("a read"), Some(real.clone()));
    write(&*store, async |tx| {
        let found = tx.find_workspace("acme", Lock::Update).await.expect("a read");
        assert_eq!(found, Some(real));
    })
    .await;
}

async fn a_user_is_found_with_all_fields(store: TestStore) {
    let ada =
        User { disabled: true, generation: 2, generation_time: Some(at(30)), ..user("Ada_L-1") };
    write(&*store, async |tx| tx.put_user(&ada).await.expect("they are put")).await;
    assert_eq!(store.find_user(&ada.id).await.expect("a read"), Some(ada));
    assert_eq!(store.find_user(&user_id("ada_l-1")).await.expect("a read"), None);
}

async fn putting_a_user_again_changes_all_but_their_create_time(store: TestStore) {
    let ada = user("ada");
    write(&*store, async |tx| tx.put_user(&ada).await.expect("they are put")).await;
    let changed = User {
        display_name: name("Ada King"),
        disabled: true,
        generation: 1,
        generation_time: Some(at(40)),
        create_time: at(41),
        update_time: at(42),
        ..ada.clone()
    };
    write(&*store, async |tx| tx.put_user(&changed).await.expect("they are put")).await;
    let expected = User { create_time: ada.create_time, ..changed };
    assert_eq!(store.find_user(&ada.id).await.expect("a read"), Some(expected));
}

async fn a_deleted_user_is_found_by_their_row_only(store: TestStore) {
    let gone = User { delete_time: Some(at(50)), generation: 1, ..user("ada") };
    write(&*store, async |tx| {
        tx.put_user(&gone).await.expect("they are put");
        let row = tx.find_user_row(&gone.id, Lock::Share).await.expect("a read");
        assert_eq!(row.as_ref(), Some(&gone));
        let nobody = tx.find_user_row(&user_id("nobody"), Lock::Share).await.expect("a read");
        assert_eq!(nobody, None);
    })
    .await;
    assert_eq!(store.find_user(&gone.id).await.expect("a read"), None);
}

async fn a_membership_is_found_and_changed(store: TestStore) {
    let (acme, ada) = acme_and_ada(&*store, Role::Viewer).await;
    let first = membership(&acme, &ada, Role::Viewer);
    let found = store.find_membership(&acme.id, &ada.id).await.expect("a read");
    assert_eq!(found.as_ref(), Some(&first));
    let raised = sophic_auth::model::Membership {
        role: Role::Owner,
        create_time: at(70),
        update_time: at(71),
        ..first.clone()
    };
    write(&*store, async |tx| {
        let found = tx.find_membership(&acme.id, &ada.id, Lock::Update).await.expect("a read");
        assert_eq!(found.as_ref(), Some(&first));
        tx.put_membership(&raised).await.expect("it is put");
    })
    .await;
    let expected = sophic_auth::model::Membership { create_time: first.create_time, ..raised };
    let found = store.find_membership(&acme.id, &ada.id).await.expect("a read");
    assert_eq!(found, Some(expected));
    let nobody = store.find_membership(&acme.id, &user_id("bob")).await.expect("a read");
    assert_eq!(nobody, None);
    let nowhere = store.find_membership(&workspace_id("x"), &ada.id).await.expect("a read");
    assert_eq!(nowhere, None);
}

async fn a_membership_needs_its_workspace_and_its_user(store: TestStore) {
    let (acme, ada) = acme_and_ada(&*store, Role::Viewer).await;
    let strangers = [
        membership(&acme, &user("stranger"), Role::Owner),
        membership(&workspace("nowhere"), &ada, Role::Owner),
    ];
    for stranger in strangers {
        let mut tx = store.begin("test").await.expect("a transaction");
        let error = tx.put_membership(&stranger).await.expect_err("it is refused");
        assert!(matches!(error, StoreError::Refused { .. }), "{error:?}");
        assert!(!error.to_string().contains("stranger"), "{error}");
    }
}

async fn a_membership_is_deleted_once(store: TestStore) {
    let (acme, ada) = acme_and_ada(&*store, Role::Admin).await;
    write(&*store, async |tx| {
        assert!(tx.delete_membership(&acme.id, &ada.id).await.expect("a delete"));
        assert!(!tx.delete_membership(&acme.id, &ada.id).await.expect("a delete"));
        let found = tx.find_membership(&acme.id, &ada.id, Lock::Share).await.expect("a read");
        assert_eq!(found, None);
    })
    .await;
    assert_eq!(store.find_membership(&acme.id, &ada.id).await.expect("a read"), None);
}

async fn all_memberships_of_a_workspace_are_deleted_at_once(store: TestStore) {
    let (acme, ada) = acme_and_ada(&*store, Role::Admin).await;
    let (other, bob) = (workspace("other"), user("bob"));
    write(&*store, async |tx| {
        tx.put_workspace(&other).await.expect("it is put");
        tx.put_user(&bob).await.expect("they are put");
        for (workspace, user) in [(&acme, &bob), (&other, &ada)] {
            let membership = membership(workspace, user, Role::Member);
            tx.put_membership(&membership).await.expect("it is put");
        }
        assert_eq!(tx.delete_memberships_of_workspace(&acme.id).await.expect("a delete"), 2);
        assert_eq!(tx.delete_memberships_of_workspace(&acme.id).await.expect("a delete"), 0);
    })
    .await;
    assert_eq!(store.find_membership(&acme.id, &ada.id).await.expect("a read"), None);
    assert!(store.find_membership(&other.id, &ada.id).await.expect("a read").is_some());
}

async fn all_memberships_of_a_user_are_deleted_at_once(store: TestStore) {
    let (acme, ada) = acme_and_ada(&*store, Role::Admin).await;
    let (other, bob) = (workspace("other"), user("bob"));
    write(&*store, async |tx| {
        tx.put_workspace(&other).await.expect("it is put");
        tx.put_user(&bob).await.expect("they are put");
        for (workspace, user) in [(&acme, &bob), (&other, &ada)] {
            let membership = membership(workspace, user, Role::Member);
            tx.put_membership(&membership).await.expect("it is put");
        }
        assert_eq!(tx.delete_memberships_of_user(&ada.id).await.expect("a delete"), 2);
    })
    .await;
    assert_eq!(store.find_membership(&other.id, &ada.id).await.expect("a read"), None);
    assert!(store.find_membership(&acme.id, &bob.id).await.expect("a read").is_some());
}
