//! Pages of credentials: every filter in every order returns the same as a naive implementation, page by page.

use std::collections::BTreeSet;

use sophic_auth::model::{
    Credential, CredentialKind, CredentialState, LastUse, Role, Scope, Timestamp, User, Workspace,
};
use sophic_auth::store::{CredentialFilter, CredentialOrder, CredentialPosition, WriteTx};

use super::samples::{
    acme_and_ada, at, credential_id, digest, key, membership, name, pat, user, user_id, workspace,
    workspace_id, write,
};
use crate::stores::{TestStore, on_every_store};
use crate::waits::within;

on_every_store! {
    every_filter_in_every_order_matches_a_naive_implementation,
    the_credentials_visible_to_a_user_are_one_list_in_every_order,
    the_credentials_of_an_earlier_owner_are_hidden_in_every_order,
    a_prefix_is_matched_literally,
    credentials_never_used_come_first_by_last_use,
}

const ORDERS: [CredentialOrder; 4] = [
    CredentialOrder::CreateTime,
    CredentialOrder::CreateTimeDesc,
    CredentialOrder::LastUseTime,
    CredentialOrder::ExpireTime,
];

/// The value of `now` in these tests.
fn now() -> Timestamp {
    at(1_000)
}

/// Creates sixty credentials of two workspaces and two users. Every filter matches some and rejects some.
async fn fill(store: &TestStore) -> Vec<Credential> {
    let (acme, ada) = acme_and_ada(&**store, Role::Admin).await;
    let (other, bob) = (workspace("other"), user("bob"));
    let mut made = Vec::new();
    for number in 1..=60 {
        let mut credential = match number % 4 {
            0 => key(&acme, number),
            1 => key(&other, number),
            2 => pat(&ada, number),
            _ => pat(&bob, number),
        };
        credential.name =
            name(["ci", "ci-main", "Ci", "cj", "c", "%", "c_", "ci%"][number as usize % 8]);
        credential.creator = ["user:ada", "caller:dash"][number as usize % 2].to_owned();
        let scopes = [&[Scope::Read][..], &[Scope::Admin], &[Scope::Read, Scope::Capture]];
        credential.scopes = scopes[number as usize % 3].iter().copied().collect();
        // Twelve of them expire at the same instant, so that the id decides their order.
        credential.expire_time = match number % 5 {
            0 => None,
            1 => Some(at(2_000)),
            rest => Some(at(i64::from(rest) * 400 + i64::from(number) * 3)),
        };
        credential.disable_time = (number % 7 == 0).then(|| at(500));
        credential.revoke_time = (number % 11 == 0).then(|| at(600));
        let used = [None, None, Some(at(700)), Some(at(700 + i64::from(number)))];
        credential.last_use = used[number as usize % 4].map(|time| LastUse { time, ip: None });
        if number > 40 {
            credential.family_id = credential_id(number % 3 + 1);
            credential.predecessor_id = Some(credential_id(number - 3));
        }
        made.push(credential);
    }
    write(&**store, async |tx: &mut dyn WriteTx| {
        tx.put_workspace(&other).await.expect("it is put");
        tx.put_user(&bob).await.expect("they are put");
        tx.put_membership(&membership(&other, &bob, Role::Member)).await.expect("it is put");
        for (number, credential) in (1..).zip(&made) {
            tx.insert_credential(credential, &digest(number)).await.expect("it is made");
        }
    })
    .await;
    made
}

/// Naive implementation of a filter.
fn matches_filter(credential: &Credential, filter: &CredentialFilter) -> bool {
    use sophic_auth::model::Owner;
    let (workspace, user) = match &credential.owner {
        Owner::Workspace(id) => (Some(id), None),
        Owner::User { id, .. } => (None, Some(id)),
    };
    let dead =
        matches!(credential.state(now()), CredentialState::Expired | CredentialState::Revoked);
    filter.workspace_id.as_ref().is_none_or(|id| workspace == Some(id))
        && filter.user_id.as_ref().is_none_or(|id| user == Some(id))
        && filter.kind.is_none_or(|kind| credential.kind == kind)
        && filter.state.is_none_or(|state| credential.state(now()) == state)
        && filter.creator.as_ref().is_none_or(|creator| credential.creator == *creator)
        && filter.scope.is_none_or(|scope| credential.scopes.contains(scope))
        && filter
            .expires_before
            .is_none_or(|time| !dead && credential.expire_time.is_some_and(|own| own < time))
        && filter
            .unused_since
            .is_none_or(|time| credential.last_use.is_none_or(|last_use| last_use.time < time))
        && filter
            .name_prefix
            .as_ref()
            .is_none_or(|prefix| credential.name.as_str().starts_with(&**prefix))
        && filter.family_id.is_none_or(|family| credential.family_id == family)
        && (filter.order != CredentialOrder::ExpireTime || credential.expire_time.is_some())
}

/// Returns what the naive implementation finds, in order.
fn expected(all: &[Credential], filter: &CredentialFilter) -> Vec<Credential> {
    let mut fitting: Vec<_> =
        all.iter().filter(|one| matches_filter(one, filter)).cloned().collect();
    let place = |one: &Credential| CredentialPosition::of(one, filter.order);
    fitting.sort_by(|one, other| filter.order.compare(place(one), place(other)));
    fitting
}

/// Returns what the store finds in pages of this size.
async fn listed(store: &TestStore, filter: &CredentialFilter, limit: u32) -> Vec<Credential> {
    let (mut found, mut after) = (Vec::<Credential>::new(), None);
    within("the last page of credentials", async {
        loop {
            let page = store.list_credentials(filter, now(), after, limit).await.expect("a page");
            assert!(page.credentials.len() <= limit as usize);
            let full = page.credentials.len() == limit as usize;
            found.extend(page.credentials);
            let last = found.last().map(|last| CredentialPosition::of(last, filter.order));
            after = if full { last } else { page.resume };
            if after.is_none() || (!full && page.resume.is_none()) {
                return found;
            }
        }
    })
    .await
}

fn filters() -> Vec<CredentialFilter> {
    let none = CredentialFilter::default;
    let families =
        (1..=3).map(|number| CredentialFilter { family_id: Some(credential_id(number)), ..none() });
    let owners = [
        none(),
        CredentialFilter { workspace_id: Some(workspace_id("id-of-acme")), ..none() },
        CredentialFilter { user_id: Some(user_id("bob")), ..none() },
        CredentialFilter { kind: Some(CredentialKind::Pat), ..none() },
        CredentialFilter { creator: Some("user:ada".to_owned()), ..none() },
    ];
    let mut filters: Vec<_> = families.collect();
    for whose in owners {
        let with = |change: &dyn Fn(&mut CredentialFilter)| {
            let mut filter = whose.clone();
            change(&mut filter);
            filter
        };
        for state in [
            CredentialState::Active,
            CredentialState::Disabled,
            CredentialState::Expired,
            CredentialState::Revoked,
        ] {
            filters.push(with(&|filter| filter.state = Some(state)));
        }
        filters.push(with(&|_| {}));
        filters.push(with(&|filter| filter.scope = Some(Scope::Capture)));
        filters.push(with(&|filter| filter.expires_before = Some(at(1_700))));
        filters.push(with(&|filter| filter.unused_since = Some(at(720))));
        filters.push(with(&|filter| filter.name_prefix = Some("ci".to_owned())));
        filters.push(with(&|filter| {
            filter.scope = Some(Scope::Read);
            filter.expires_before = Some(at(5_000));
            filter.unused_since = Some(at(900));
        }));
    }
    filters
}

async fn every_filter_in_every_order_matches_a_naive_implementation(store: TestStore) {
    let all = fill(&store).await;
    let mut found_some = 0;
    for filter in filters() {
        for order in ORDERS {
            let filter = CredentialFilter { order, ..filter.clone() };
            let expected = expected(&all, &filter);
            found_some += usize::from(!expected.is_empty());
            for limit in [7, 100] {
                let listed = listed(&store, &filter, limit).await;
                assert_eq!(listed, expected, "{filter:?} by {limit}");
            }
        }
    }
    assert!(found_some > 150, "the filters find something: {found_some}");
    let impossible = [
        CredentialFilter {
            workspace_id: Some(workspace_id("id-of-acme")),
            user_id: Some(user_id("ada")),
            ..CredentialFilter::default()
        },
        CredentialFilter {
            user_id: Some(user_id("ada")),
            kind: Some(CredentialKind::Key),
            ..CredentialFilter::default()
        },
    ];
    for filter in impossible {
        assert_eq!(listed(&store, &filter, 10).await, []);
    }
}

async fn the_credentials_visible_to_a_user_are_one_list_in_every_order(store: TestStore) {
    let all = fill(&store).await;
    // Ada is an admin of acme and not a member of other. Bob is a member of other, who cannot manage keys.
    let sees = [("ada", &["id-of-acme"][..]), ("bob", &[]), ("eve", &[])];
    for (viewer, workspaces) in sees {
        let owned: BTreeSet<_> = all
            .iter()
            .filter(|one| match &one.owner {
                sophic_auth::model::Owner::Workspace(id) => workspaces.contains(&id.as_str()),
                sophic_auth::model::Owner::User { id, .. } => id.as_str() == viewer,
            })
            .map(|one| one.id)
            .collect();
        for filter in filters() {
            for order in ORDERS {
                let visible_to = Some(user_id(viewer));
                let filter = CredentialFilter { order, visible_to, ..filter.clone() };
                let mut expected = expected(&all, &filter);
                expected.retain(|one| owned.contains(&one.id));
                for limit in [4, 100] {
                    let listed = listed(&store, &filter, limit).await;
                    assert_eq!(listed, expected, "{filter:?} by {limit}");
                }
            }
        }
    }
}

async fn the_credentials_of_an_earlier_owner_are_hidden_in_every_order(store: TestStore) {
    fill(&store).await;
    // Each of Ada and acme was deleted and created again, and has one credential since.
    let acme = Workspace { generation: 1, ..workspace("acme") };
    let ada = User { generation: 1, ..user("ada") };
    let used = LastUse { time: at(800), ip: None };
    let since = [key(&acme, 61), pat(&ada, 62)].map(|made| Credential {
        expire_time: Some(at(2_000)),
        last_use: Some(used),
        ..made
    });
    write(&*store, async |tx: &mut dyn WriteTx| {
        tx.put_workspace(&acme).await.expect("it is put");
        tx.put_user(&ada).await.expect("they are put");
        for (number, credential) in (61..).zip(&since) {
            tx.insert_credential(credential, &digest(number)).await.expect("it is made");
        }
    })
    .await;
    for filter in filters() {
        for order in ORDERS {
            let visible_to = Some(ada.id.clone());
            let filter = CredentialFilter { order, visible_to, ..filter.clone() };
            let expected = expected(&since, &filter);
            for limit in [1, 100] {
                let listed = listed(&store, &filter, limit).await;
                assert_eq!(listed, expected, "{filter:?} by {limit}");
            }
        }
    }
}

async fn a_prefix_is_matched_literally(store: TestStore) {
    let all = fill(&store).await;
    for prefix in ["c", "ci", "Ci", "%", "c_", "ci%", "_", "cI", "", "\u{10FFFF}", "ci-main"] {
        let name_prefix = Some(prefix.to_owned());
        let filter = CredentialFilter { name_prefix, ..CredentialFilter::default() };
        assert_eq!(listed(&store, &filter, 100).await, expected(&all, &filter), "{prefix}");
    }
}

async fn credentials_never_used_come_first_by_last_use(store: TestStore) {
    fill(&store).await;
    let order = CredentialOrder::LastUseTime;
    let filter = CredentialFilter { order, ..CredentialFilter::default() };
    let listed = listed(&store, &filter, 7).await;
    let times: Vec<_> =
        listed.iter().map(|one| one.last_use.map(|last_use| last_use.time)).collect();
    assert!(times.is_sorted() && times[0].is_none() && times[59].is_some());
}
