//! Uses of personal access tokens in workspaces, and bars.

use sophic_auth::model::{
    Credential, LastUse, Role, Workspace, WorkspaceEntry, WorkspaceSet, WorkspaceUse,
};
use sophic_auth::store::{ChangedEntity, Store, UsePosition};

use super::samples::{
    at, credential_id, digest, key, membership, pat, user, workspace, workspace_id, write,
};
use super::transactions::waits_for;
use crate::stores::{TestStore, on_every_store};

on_every_store! {
    a_use_in_a_workspace_is_written_if_it_is_later_and_both_rows_exist,
    tokens_of_a_workspace_are_listed_by_their_latest_use_there,
    uses_are_deleted_with_their_credential,
    a_family_includes_the_successor_of_a_rotation_that_was_running,
    a_bar_is_a_change_of_the_credential,
}

/// Creates a workspace, of which Ada is an admin, with a key and three tokens of hers with the numbers 2 to 4.
async fn acme_with_tokens(store: &dyn Store) -> Workspace {
    let (acme, ada) = (workspace("acme"), user("ada"));
    write(store, async |tx| {
        tx.put_workspace(&acme).await.expect("it is put");
        tx.put_user(&ada).await.expect("they are put");
        tx.put_membership(&membership(&acme, &ada, Role::Admin)).await.expect("it is put");
        tx.insert_credential(&key(&acme, 1), &digest(1)).await.expect("it is made");
        for number in 2..=4 {
            tx.insert_credential(&pat(&ada, number), &digest(number)).await.expect("it is made");
        }
    })
    .await;
    acme
}

fn used(workspace: &Workspace, number: u32, seconds: i64) -> WorkspaceUse {
    WorkspaceUse {
        credential_id: credential_id(number),
        workspace_id: workspace.id.clone(),
        generation: workspace.generation,
        time: at(seconds),
    }
}

async fn note(store: &dyn Store, uses: &[WorkspaceUse]) {
    store.write_last_uses(&[], uses).await.expect("they are written");
}

/// Returns the listed ids with the times of their last uses.
async fn listed(store: &dyn Store, of: &Workspace) -> Vec<(u32, Option<i64>)> {
    let pats = store.list_workspace_pats(&of.id, of.generation, None, 100).await.expect("a page");
    let number = |credential: &Credential| {
        (1..100).find(|number| credential_id(*number) == credential.id).expect("a known id")
    };
    let seconds = |time| (0..100).find(|seconds| Some(at(*seconds)) == time);
    pats.iter().map(|pat| (number(&pat.credential), seconds(pat.last_use_time))).collect()
}

async fn a_use_in_a_workspace_is_written_if_it_is_later_and_both_rows_exist(store: TestStore) {
    let acme = acme_with_tokens(&*store).await;
    let gone = Workspace { id: workspace_id("gone"), ..workspace("gone") };
    let before = store.revision().await.expect("a revision");
    let uses = [used(&acme, 1, 10), used(&acme, 2, 10), used(&acme, 99, 10), used(&gone, 2, 10)];
    let last_use = LastUse { time: at(10), ip: None };
    let written = store.write_last_uses(&[(credential_id(2), last_use)], &uses).await;
    assert_eq!(written.expect("it is written"), 1);
    assert_eq!(listed(&*store, &acme).await, [(2, Some(10))], "no key, and nothing that is gone");
    note(&*store, &[used(&acme, 2, 9)]).await;
    assert_eq!(listed(&*store, &acme).await, [(2, Some(10))]);
    note(&*store, &[used(&acme, 2, 11)]).await;
    assert_eq!(listed(&*store, &acme).await, [(2, Some(11))]);
    // A use of a newer generation replaces it, and one of an older generation does not come back.
    let newer = Workspace { generation: 1, ..acme.clone() };
    assert_eq!(listed(&*store, &newer).await, []);
    note(&*store, &[used(&newer, 2, 8)]).await;
    note(&*store, &[used(&acme, 2, 12)]).await;
    assert_eq!(listed(&*store, &newer).await, [(2, Some(8))]);
    assert_eq!(listed(&*store, &acme).await, []);
    assert_eq!(store.revision().await.expect("a revision"), before, "no cache is notified");
}

async fn tokens_of_a_workspace_are_listed_by_their_latest_use_there(store: TestStore) {
    let (acme, other) = (acme_with_tokens(&*store).await, workspace("other"));
    write(&*store, async |tx| tx.put_workspace(&other).await.expect("it is put")).await;
    note(&*store, &[used(&acme, 2, 20), used(&acme, 3, 30), used(&acme, 4, 20)]).await;
    note(&*store, &[used(&other, 2, 40)]).await;
    assert_eq!(listed(&*store, &acme).await, [(3, Some(30)), (4, Some(20)), (2, Some(20))]);
    assert_eq!(listed(&*store, &other).await, [(2, Some(40))]);
    let all = store.list_workspace_pats(&acme.id, 0, None, 100).await.expect("a page");
    assert!(all.iter().all(|pat| pat.role == Some(Role::Admin) && pat.user == user("ada")));
    let found = store.find_credential(credential_id(3)).await.expect("a read");
    assert_eq!(Some(&all[0].credential), found.as_ref());
    let others = store.list_workspace_pats(&other.id, 0, None, 100).await.expect("a page");
    assert_eq!(others[0].role, None);
    let mut after = None;
    for expected in [3, 4, 2] {
        let page = store.list_workspace_pats(&acme.id, 0, after, 1).await.expect("a page");
        assert_eq!(page[0].credential.id, credential_id(expected));
        let time = page[0].last_use_time.expect("it was used");
        after = Some(UsePosition { time, id: credential_id(expected) });
    }
    assert_eq!(store.list_workspace_pats(&acme.id, 0, after, 1).await.expect("a page"), []);
    write(&*store, async |tx| {
        let mut find = async |number, generation| {
            let id = credential_id(number);
            tx.find_workspace_pat(&acme.id, generation, id).await.expect("a read")
        };
        assert_eq!(find(3, 0).await.as_ref(), Some(&all[0]));
        assert_eq!(find(3, 1).await.expect("a token").last_use_time, None);
        assert_eq!(find(1, 0).await, None, "a key");
        assert_eq!(find(99, 0).await, None);
    })
    .await;
}

async fn uses_are_deleted_with_their_credential(store: TestStore) {
    let acme = acme_with_tokens(&*store).await;
    note(&*store, &[used(&acme, 2, 20), used(&acme, 3, 30)]).await;
    write(&*store, async |tx| {
        tx.delete_credentials(&[credential_id(3)]).await.expect("it is deleted");
    })
    .await;
    assert_eq!(listed(&*store, &acme).await, [(2, Some(20))]);
}

async fn a_family_includes_the_successor_of_a_rotation_that_was_running(store: TestStore) {
    use sophic_auth::store::Lock;
    acme_with_tokens(&*store).await;
    let mut tx = store.begin("test").await.expect("a transaction");
    let first = tx.find_credential(credential_id(2), Lock::Update).await.expect("a read");
    let first = first.expect("a row");
    let successor = Credential {
        predecessor_id: Some(first.id),
        family_id: first.family_id,
        ..pat(&user("ada"), 5)
    };
    tx.insert_credential(&successor, &digest(5)).await.expect("it is made");
    let meanwhile = store.shared();
    let family = waits_for(tx, async move {
        let mut tx = meanwhile.begin("test").await.expect("a transaction");
        let family = tx.find_pat_family(credential_id(2)).await.expect("a read");
        family.iter().map(|credential| credential.id).collect::<Vec<_>>()
    });
    assert_eq!(family.await, [credential_id(2), credential_id(5)]);
}

async fn a_bar_is_a_change_of_the_credential(store: TestStore) {
    let acme = acme_with_tokens(&*store).await;
    let before = store.revision().await.expect("a revision");
    let entry = WorkspaceEntry { id: acme.id.clone(), generation: 0 };
    let bars = WorkspaceSet::new([entry]);
    write(&*store, async |tx| {
        let mut barred = Vec::new();
        for number in [2, 3] {
            let family = tx.find_pat_family(credential_id(number)).await.expect("a read");
            barred.extend(family);
        }
        for credential in &mut barred {
            credential.barred_workspaces = bars.clone();
            credential.version += 1;
        }
        tx.write_bars(&barred).await.expect("they are written");
        tx.write_bars(&[]).await.expect("none is fine");
    })
    .await;
    let changes = store.list_changes(before, 100).await.expect("a page");
    let changes: Vec<_> = changes.into_iter().map(|change| change.entity).collect();
    assert_eq!(changes, [2, 3].map(|number| ChangedEntity::Credential(digest(number))));
    for (number, expected) in [(2, Some(&bars)), (4, None)] {
        let row = store.find_credential(credential_id(number)).await.expect("a read");
        let row = row.expect("a row");
        assert_eq!(Some(&row.barred_workspaces).filter(|set| !set.is_empty()), expected);
        assert_eq!(row.version, if expected.is_some() { 2 } else { 1 });
    }
}
