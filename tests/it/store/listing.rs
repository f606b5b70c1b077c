//! Lists: filters, order, and pages that return each item exactly once.

use std::collections::BTreeSet;

use sophic_auth::model::{
    Credential, CredentialId, CredentialKind, CredentialState, Role, User, Workspace,
};
use sophic_auth::store::CredentialFilter;

use super::samples::{
    at, digest, event, key, membership, pat, slug, user, user_id, workspace, workspace_id, write,
};
use crate::stores::{TestStore, on_every_store};
use crate::waits::within;

on_every_store! {
    credentials_are_listed_by_id_page_by_page,
    credentials_are_filtered_by_owner_and_by_kind,
    credentials_are_filtered_by_their_state_at_a_time,
    an_acting_user_sees_their_own_pats_and_the_keys_that_they_manage,
    pages_return_each_credential_once_during_inserts,
    workspaces_are_listed_by_the_bytes_of_their_ids_without_deleted_ones,
    users_are_listed_by_the_bytes_of_their_ids_without_deleted_ones,
    memberships_are_listed_by_workspace_then_user,
}

/// Returns the numbers that the credentials of a page were created with.
fn numbers(credentials: &[Credential]) -> Vec<i64> {
    let origin = at(0).unix_micros();
    credentials.iter().map(|c| (c.create_time.unix_micros() - origin) / 1_000_000).collect()
}

async fn list(store: &TestStore, filter: &CredentialFilter) -> Vec<i64> {
    numbers(
        &store.list_credentials(filter, at(1_000), None, 100).await.expect("a page").credentials,
    )
}

async fn credentials_are_listed_by_id_page_by_page(store: TestStore) {
    let acme = workspace("acme");
    write(&*store, async |tx| {
        tx.put_workspace(&acme).await.expect("it is put");
        for number in [3, 1, 5, 2, 4] {
            tx.insert_credential(&key(&acme, number), &digest(number)).await.expect("it is made");
        }
    })
    .await;
    let filter = CredentialFilter::default();
    let page = async |after: Option<CredentialId>, limit| {
        let after = after.map(Into::into);
        store.list_credentials(&filter, at(0), after, limit).await.expect("a page").credentials
    };
    let first = page(None, 2).await;
    assert_eq!(first, [key(&acme, 1), key(&acme, 2)]);
    let rest = page(Some(first[1].id), 10).await;
    assert_eq!(numbers(&rest), [3, 4, 5]);
    assert_eq!(page(Some(rest[2].id), 10).await, []);
}

async fn credentials_are_filtered_by_owner_and_by_kind(store: TestStore) {
    let (acme, other, ada, bob) = (workspace("acme"), workspace("other"), user("ada"), user("bob"));
    let credentials = [key(&acme, 1), key(&other, 2), pat(&ada, 3), pat(&bob, 4), key(&acme, 5)];
    write(&*store, async |tx| {
        for workspace in [&acme, &other] {
            tx.put_workspace(workspace).await.expect("it is put");
        }
        for user in [&ada, &bob] {
            tx.put_user(user).await.expect("they are put");
        }
        for (credential, number) in credentials.iter().zip(1..) {
            tx.insert_credential(credential, &digest(number)).await.expect("it is made");
        }
    })
    .await;
    let all = CredentialFilter::default();
    let of_acme = CredentialFilter { workspace_id: Some(acme.id), ..all.clone() };
    let of_ada = CredentialFilter { user_id: Some(ada.id), ..all.clone() };
    let keys = CredentialFilter { kind: Some(CredentialKind::Key), ..all.clone() };
    let pats = CredentialFilter { kind: Some(CredentialKind::Pat), ..all.clone() };
    let nothing = CredentialFilter { kind: Some(CredentialKind::Pat), ..of_acme.clone() };
    let stranger = CredentialFilter { user_id: Some(user_id("stranger")), ..all.clone() };
    assert_eq!(list(&store, &all).await, [1, 2, 3, 4, 5]);
    assert_eq!(list(&store, &of_acme).await, [1, 5]);
    assert_eq!(list(&store, &of_ada).await, [3]);
    assert_eq!(list(&store, &keys).await, [1, 2, 5]);
    assert_eq!(list(&store, &pats).await, [3, 4]);
    assert_eq!(list(&store, &nothing).await, [0; 0]);
    assert_eq!(list(&store, &stranger).await, [0; 0]);
}

/// Every combination of the fields that make up a state. The list must agree with `Credential::state` on all of them.
async fn credentials_are_filtered_by_their_state_at_a_time(store: TestStore) {
    let acme = workspace("acme");
    let mut number = 0;
    let mut credentials = Vec::new();
    for revoke_time in [None, Some(at(40))] {
        for expire_time in [None, Some(at(100)), Some(at(101))] {
            for disable_time in [None, Some(at(50))] {
                number += 1;
                let key = key(&acme, number);
                credentials.push(Credential { revoke_time, expire_time, disable_time, ..key });
            }
        }
    }
    let raised = Workspace { generation: 1, generation_time: Some(at(60)), ..acme.clone() };
    let later = Credential { generation: 1, ..key(&raised, 90) };
    write(&*store, async |tx| {
        tx.put_workspace(&acme).await.expect("it is put");
        for (credential, number) in credentials.iter().zip(1..) {
            tx.insert_credential(credential, &digest(number)).await.expect("it is made");
        }
    })
    .await;
    check_states(&store, 12).await;
    write(&*store, async |tx| {
        tx.put_workspace(&raised).await.expect("it is put");
        tx.insert_credential(&later, &digest(90)).await.expect("it is made");
    })
    .await;
    check_states(&store, 13).await;
}

async fn check_states(store: &TestStore, count: usize) {
    use CredentialState::{Active, Disabled, Expired, Revoked};
    let now = at(100);
    let all = store.list_credentials(&CredentialFilter::default(), now, None, 100).await;
    let all = all.expect("a page").credentials;
    assert_eq!(all.len(), count);
    for state in [Active, Disabled, Expired, Revoked] {
        let filter = CredentialFilter { state: Some(state), ..CredentialFilter::default() };
        let listed =
            store.list_credentials(&filter, now, None, 100).await.expect("a page").credentials;
        let expected: Vec<_> = all.iter().filter(|c| c.state(now) == state).cloned().collect();
        assert_eq!(numbers(&listed), numbers(&expected), "{state}");
    }
}

async fn an_acting_user_sees_their_own_pats_and_the_keys_that_they_manage(store: TestStore) {
    let (ada, bob) = (user("ada"), user("bob"));
    let roles = [Role::Viewer, Role::Member, Role::Admin, Role::Owner];
    let workspaces = ["viewed", "joined", "run-by", "owned"].map(workspace);
    let foreign = workspace("foreign");
    write(&*store, async |tx| {
        for user in [&ada, &bob] {
            tx.put_user(user).await.expect("they are put");
        }
        for (workspace, (role, number)) in workspaces.iter().zip(roles.into_iter().zip(1..)) {
            tx.put_workspace(workspace).await.expect("it is put");
            tx.put_membership(&membership(workspace, &ada, role)).await.expect("it is put");
            let key = key(workspace, number);
            tx.insert_credential(&key, &digest(number)).await.expect("it is made");
        }
        tx.put_workspace(&foreign).await.expect("it is put");
        tx.put_membership(&membership(&foreign, &bob, Role::Owner)).await.expect("it is put");
        for (credential, number) in [(key(&foreign, 5), 5), (pat(&ada, 6), 6), (pat(&bob, 7), 7)] {
            tx.insert_credential(&credential, &digest(number)).await.expect("it is made");
        }
    })
    .await;
    let seen_by =
        |user: User| CredentialFilter { visible_to: Some(user.id), ..CredentialFilter::default() };
    assert_eq!(list(&store, &seen_by(ada.clone())).await, [3, 4, 6]);
    assert_eq!(list(&store, &seen_by(bob)).await, [5, 7]);
    assert_eq!(list(&store, &seen_by(user("stranger"))).await, [0; 0]);
    let keys = CredentialFilter { kind: Some(CredentialKind::Key), ..seen_by(ada) };
    assert_eq!(list(&store, &keys).await, [3, 4]);
}

async fn pages_return_each_credential_once_during_inserts(store: TestStore) {
    let acme = workspace("acme");
    write(&*store, async |tx| {
        tx.put_workspace(&acme).await.expect("it is put");
        for number in 1..=1_000 {
            tx.insert_credential(&key(&acme, number), &digest(number)).await.expect("it is made");
        }
    })
    .await;
    let shared = store.shared();
    let others = tokio::task::spawn({
        let acme = acme.clone();
        async move {
            for number in 1_001..=1_030 {
                let mut tx = shared.begin("test").await.expect("a transaction");
                let key = key(&acme, number);
                tx.insert_credential(&key, &digest(number)).await.expect("it is made");
                tx.commit(&event()).await.expect("it commits");
            }
        }
    });
    let mut seen = Vec::new();
    within("all that were made meanwhile are listed", async {
        loop {
            let all_made = others.is_finished();
            let after = seen.last().map(|credential: &Credential| credential.id.into());
            let filter = CredentialFilter::default();
            let page = store
                .list_credentials(&filter, at(0), after, 50)
                .await
                .expect("a page")
                .credentials;
            if page.is_empty() && all_made {
                break;
            }
            seen.extend(page);
        }
    })
    .await;
    others.await.expect("the others are made");
    assert_eq!(numbers(&seen), (1..=1_030).collect::<Vec<_>>());
}

/// In byte order, which differs from the order of every locale.
const IDS: [&str; 7] = ["-", "0", "A", "_", "a", "a-b", "aB"];

async fn workspaces_are_listed_by_the_bytes_of_their_ids_without_deleted_ones(store: TestStore) {
    write(&*store, async |tx| {
        for (number, id) in IDS.into_iter().enumerate().rev() {
            let slug = slug(&format!("slug-{number}"));
            let workspace = Workspace { id: workspace_id(id), slug, ..workspace("acme") };
            tx.put_workspace(&workspace).await.expect("it is put");
        }
        let gone = Workspace {
            id: workspace_id("a0"),
            slug: slug("gone"),
            delete_time: Some(at(9)),
            ..workspace("acme")
        };
        tx.put_workspace(&gone).await.expect("it is put");
    })
    .await;
    let mut ids = Vec::new();
    within("the last page of workspaces", async {
        loop {
            let after = ids.last().map(|id: &String| workspace_id(id));
            let page = store.list_workspaces(after.as_ref(), 3).await.expect("a page");
            if page.is_empty() {
                break;
            }
            ids.extend(page.iter().map(|workspace| workspace.id.to_string()));
        }
    })
    .await;
    assert_eq!(ids, sorted(&IDS));
}

async fn users_are_listed_by_the_bytes_of_their_ids_without_deleted_ones(store: TestStore) {
    write(&*store, async |tx| {
        for id in IDS.into_iter().rev() {
            tx.put_user(&user(id)).await.expect("they are put");
        }
        let gone = User { delete_time: Some(at(9)), ..user("a0") };
        tx.put_user(&gone).await.expect("they are put");
    })
    .await;
    let all = store.list_users(None, 100).await.expect("a page");
    let ids: Vec<_> = all.iter().map(|user| user.id.to_string()).collect();
    assert_eq!(ids, sorted(&IDS));
    let rest = store.list_users(Some(&all[2].id), 2).await.expect("a page");
    assert_eq!(rest, all[3..5]);
}

fn sorted(ids: &[&str]) -> Vec<String> {
    let ids: BTreeSet<String> = ids.iter().map(|id| (*id).to_owned()).collect();
    ids.into_iter().collect()
}

async fn memberships_are_listed_by_workspace_then_user(store: TestStore) {
    let workspaces = ["acme", "beta", "coda"].map(workspace);
    let users = ["Zoe", "ada", "bob"].map(user);
    let mut all = Vec::new();
    write(&*store, async |tx| {
        for workspace in &workspaces {
            tx.put_workspace(workspace).await.expect("it is put");
        }
        for user in &users {
            tx.put_user(user).await.expect("they are put");
        }
        for workspace in &workspaces {
            for user in &users {
                let membership = membership(workspace, user, Role::Member);
                tx.put_membership(&membership).await.expect("it is put");
                all.push(membership);
            }
        }
    })
    .await;
    let (beta, bob) = (&workspaces[1].id, &users[2].id);
    let list = async |workspace, user, after, limit| {
        store.list_memberships(workspace, user, after, limit).await.expect("a page")
    };
    assert_eq!(list(None, None, None, 100).await, all);
    assert_eq!(list(Some(beta), None, None, 100).await, all[3..6]);
    let of_bob = [all[2].clone(), all[5].clone(), all[8].clone()];
    assert_eq!(list(None, Some(bob), None, 100).await, of_bob);
    assert_eq!(list(Some(beta), Some(bob), None, 100).await, all[5..6]);
    let after = Some((beta, &users[1].id));
    assert_eq!(list(None, None, after, 2).await, all[5..7]);
    assert_eq!(list(Some(beta), None, after, 100).await, all[5..6]);
    assert_eq!(list(None, Some(bob), Some((beta, bob)), 100).await, all[8..]);
}
