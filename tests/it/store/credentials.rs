//! Keys and personal access tokens: the look-up for introspection, and the lifecycle.

use sophic_auth::model::{
    Credential, CredentialFacts, CredentialId, CredentialKind, DisplayName, IpAllowlist, LastUse,
    Owner, OwnerKind, PrincipalFacts, Role, Scope, ScopeSet, User, UserFacts, Workspace,
};
use sophic_auth::store::{Lock, StoreError, Unique};

use super::samples::{
    acme_and_ada, at, credential_id, digest, key, membership, pat, user, workspace, workspace_id,
    write,
};
use crate::stores::{TestStore, on_every_store};

on_every_store! {
    a_key_is_looked_up_with_all_its_fields_and_its_workspace,
    a_pat_is_looked_up_with_its_user_and_all_their_roles,
    a_pat_is_looked_up_with_the_named_workspace,
    a_key_is_looked_up_without_the_named_workspace,
    an_unknown_digest_returns_only_the_revision,
    a_deleted_owner_is_part_of_the_look_up,
    every_time_and_last_use_is_kept,
    every_kind_is_kept_and_looked_up,
    a_watermark_revokes_credentials_created_before_it,
    a_watermark_raised_by_hand_takes_the_time_of_the_last_change,
    a_digest_is_unique_and_so_is_an_id,
    an_owner_must_exist,
    an_update_changes_only_mutable_fields,
    updating_a_missing_credential_is_an_error,
}

async fn a_key_is_looked_up_with_all_its_fields_and_its_workspace(store: TestStore) {
    let acme = Workspace { disabled: true, ..workspace("acme") };
    // The schema must take the bit of every scope.
    let key = Credential { scopes: ScopeSet::ALL, ..key(&acme, 1) };
    let revision = write(&*store, async |tx| {
        tx.put_workspace(&acme).await.expect("it is put");
        tx.insert_credential(&key, &digest(1)).await.expect("it is made");
    })
    .await;
    let looked_up = store.look_up(&digest(1), None).await.expect("a read");
    let id = looked_up.found.as_ref().expect("it is there").credential.id;
    assert_eq!(store.find_digest(id).await.expect("a read"), Some(digest(1)));
    let nobody = CredentialId(uuid::Uuid::nil());
    assert_eq!(store.find_digest(nobody).await.expect("a read"), None);
    assert_eq!(looked_up.revision, revision);
    let found = looked_up.found.expect("it is there");
    assert_eq!(*found.credential, CredentialFacts::new(digest(1), &key));
    assert_eq!(store.find_credential(key.id).await.expect("a read"), Some(key));
    assert_eq!(found.principal, PrincipalFacts::Workspace(acme.into()));
    assert_eq!(found.named_workspace, None);
}

async fn a_pat_is_looked_up_with_its_user_and_all_their_roles(store: TestStore) {
    let (acme, ada) = acme_and_ada(&*store, Role::Viewer).await;
    let other = workspace("other");
    let pat = pat(&ada, 1);
    write(&*store, async |tx| {
        tx.put_workspace(&other).await.expect("it is put");
        tx.put_membership(&membership(&other, &ada, Role::Owner)).await.expect("it is put");
        tx.put_user(&user("bob")).await.expect("they are put");
        let bobs = membership(&other, &user("bob"), Role::Admin);
        tx.put_membership(&bobs).await.expect("it is put");
        tx.insert_credential(&pat, &digest(1)).await.expect("it is made");
    })
    .await;
    let found = store.look_up(&digest(1), None).await.expect("a read").found.expect("it is there");
    assert_eq!(*found.credential, CredentialFacts::new(digest(1), &pat));
    assert_eq!(store.find_credential(pat.id).await.expect("a read"), Some(pat));
    let PrincipalFacts::User(facts) = found.principal else { panic!("no user") };
    let mut roles = facts.roles.clone();
    roles.sort();
    assert_eq!(facts.user, ada);
    assert_eq!(*roles, [(acme.id, Role::Viewer), (other.id, Role::Owner)]);
}

async fn a_pat_is_looked_up_with_the_named_workspace(store: TestStore) {
    let ada = user("ada");
    let (acme, gone) =
        (workspace("acme"), Workspace { delete_time: Some(at(9)), ..workspace("gone") });
    write(&*store, async |tx| {
        tx.put_user(&ada).await.expect("they are put");
        tx.put_workspace(&acme).await.expect("it is put");
        tx.put_workspace(&gone).await.expect("it is put");
        tx.insert_credential(&pat(&ada, 1), &digest(1)).await.expect("it is made");
    })
    .await;
    let named = async |name| {
        let found = store.look_up(&digest(1), Some(name)).await.expect("a read").found;
        found.expect("it is there").named_workspace
    };
    assert_eq!(named("acme").await.as_deref(), Some(&acme));
    assert_eq!(named("id-of-acme").await.as_deref(), Some(&acme));
    for nothing in ["gone", "id-of-gone", "ACME", "", "%"] {
        assert_eq!(named(nothing).await, None, "{nothing}");
    }
}

async fn a_key_is_looked_up_without_the_named_workspace(store: TestStore) {
    let (acme, other) = (workspace("acme"), workspace("other"));
    write(&*store, async |tx| {
        tx.put_workspace(&acme).await.expect("it is put");
        tx.put_workspace(&other).await.expect("it is put");
        tx.insert_credential(&key(&acme, 1), &digest(1)).await.expect("it is made");
    })
    .await;
    for name in ["acme", "other"] {
        let found = store.look_up(&digest(1), Some(name)).await.expect("a read").found;
        let found = found.expect("it is there");
        assert_eq!(found.named_workspace, None, "{name}");
        assert_eq!(found.principal, PrincipalFacts::Workspace(acme.clone().into()));
    }
}

async fn an_unknown_digest_returns_only_the_revision(store: TestStore) {
    let empty = store.look_up(&digest(1), Some("acme")).await.expect("a read");
    assert_eq!((empty.revision.0, empty.found), (0, None));
    let revision = write(&*store, async |tx| {
        tx.put_workspace(&workspace("acme")).await.expect("it is put");
    });
    let revision = revision.await;
    let looked_up = store.look_up(&digest(1), Some("acme")).await.expect("a read");
    assert_eq!((looked_up.revision, looked_up.found), (revision, None));
}

async fn a_deleted_owner_is_part_of_the_look_up(store: TestStore) {
    let acme = Workspace { delete_time: Some(at(9)), generation: 1, ..workspace("acme") };
    let ada = User { delete_time: Some(at(9)), disabled: true, ..user("ada") };
    write(&*store, async |tx| {
        tx.put_workspace(&acme).await.expect("it is put");
        tx.put_user(&ada).await.expect("they are put");
        tx.insert_credential(&key(&acme, 1), &digest(1)).await.expect("it is made");
        tx.insert_credential(&pat(&ada, 2), &digest(2)).await.expect("it is made");
    })
    .await;
    let key = store.look_up(&digest(1), None).await.expect("a read").found.expect("a key");
    assert_eq!(key.principal, PrincipalFacts::Workspace(acme.into()));
    let pat = store.look_up(&digest(2), None).await.expect("a read").found.expect("a token");
    let nowhere = UserFacts { user: ada, roles: Box::default() };
    assert_eq!(pat.principal, PrincipalFacts::User(nowhere.into()));
}

async fn every_time_and_last_use_is_kept(store: TestStore) {
    let acme = workspace("acme");
    let full = Credential {
        expire_time: Some(at(100)),
        disable_time: Some(at(50)),
        revoke_time: Some(at(60)),
        last_use: Some(LastUse { time: at(40), ip: "2001:db8::1".parse().ok() }),
        predecessor_id: Some(credential_id(77)),
        family_id: credential_id(76),
        scopes: ScopeSet::NONE,
        ip_allowlist: IpAllowlist::default(),
        version: i64::MAX,
        ..key(&acme, 1)
    };
    let no_ip = Credential { last_use: Some(LastUse { time: at(41), ip: None }), ..key(&acme, 2) };
    write(&*store, async |tx| {
        tx.put_workspace(&acme).await.expect("it is put");
        tx.insert_credential(&full, &digest(1)).await.expect("it is made");
        tx.insert_credential(&no_ip, &digest(2)).await.expect("it is made");
        let found = tx.find_credential(full.id, Lock::Share).await.expect("a read");
        assert_eq!(found.as_ref(), Some(&full));
    })
    .await;
    assert_eq!(store.find_credential(full.id).await.expect("a read").as_ref(), Some(&full));
    let looked_up = store.look_up(&digest(1), None).await.expect("a read").found;
    let facts = CredentialFacts::new(digest(1), &full);
    assert_eq!(*looked_up.expect("it is there").credential, facts);
    assert_eq!(store.find_credential(no_ip.id).await.expect("a read"), Some(no_ip));
    assert_eq!(store.find_credential(credential_id(9)).await.expect("a read"), None);
}

/// A new kind without a migration fails here.
async fn every_kind_is_kept_and_looked_up(store: TestStore) {
    let (acme, ada) = acme_and_ada(&*store, Role::Owner).await;
    for (number, kind) in (1..).zip(CredentialKind::ALL) {
        let sample = match kind.owner_kind() {
            OwnerKind::Workspace => key(&acme, number),
            OwnerKind::User => pat(&ada, number),
        };
        let credential = Credential { kind, ..sample };
        write(&*store, async |tx| {
            tx.insert_credential(&credential, &digest(number)).await.expect("it is made");
        })
        .await;
        let found = store.look_up(&digest(number), None).await.expect("a read").found;
        let facts = CredentialFacts::new(digest(number), &credential);
        assert_eq!(*found.expect("it is there").credential, facts);
        let kept = store.find_credential(credential.id).await.expect("a read");
        assert_eq!(kept, Some(credential));
    }
}

async fn a_watermark_revokes_credentials_created_before_it(store: TestStore) {
    let (acme, ada) = acme_and_ada(&*store, Role::Owner).await;
    let (old_key, old_pat) = (key(&acme, 1), pat(&ada, 2));
    let dead = Credential { revoke_time: Some(at(30)), ..key(&acme, 3) };
    let acme =
        Workspace { generation: 1, generation_time: Some(at(200)), update_time: at(300), ..acme };
    let ada = User { generation: 5, generation_time: Some(at(201)), update_time: at(300), ..ada };
    let (new_key, new_pat) = (key(&acme, 4), pat(&ada, 5));
    write(&*store, async |tx| {
        for (credential, number) in [(&old_key, 1), (&old_pat, 2), (&dead, 3)] {
            tx.insert_credential(credential, &digest(number)).await.expect("it is made");
        }
        tx.put_workspace(&acme).await.expect("it is put");
        tx.put_user(&ada).await.expect("they are put");
        for (credential, number) in [(&new_key, 4), (&new_pat, 5)] {
            tx.insert_credential(credential, &digest(number)).await.expect("it is made");
        }
    })
    .await;
    let expected = [
        (&old_key, 1, Some(at(200))),
        (&old_pat, 2, Some(at(201))),
        (&dead, 3, Some(at(30))),
        (&new_key, 4, None),
        (&new_pat, 5, None),
    ];
    for (credential, number, revoke_time) in expected {
        let found = store.find_credential(credential.id).await.expect("a read");
        assert_eq!(found.expect("it is there").revoke_time, revoke_time, "{number}");
        // The look-up does not apply the generation. The decision does.
        let looked_up = store.look_up(&digest(number), None).await.expect("a read").found;
        let looked_up = looked_up.expect("it is there").credential;
        assert_eq!(looked_up.revoke_time, credential.revoke_time, "{number}");
        let mut tx = store.begin("test").await.expect("a transaction");
        let found = tx.find_credential_by_digest(&digest(number), Lock::Update).await;
        let found = found.expect("a read").expect("it is there");
        assert_eq!((found.id, found.revoke_time), (credential.id, revoke_time), "{number}");
    }
    let mut tx = store.begin("test").await.expect("a transaction");
    let nobody = tx.find_credential_by_digest(&digest(9), Lock::Share).await.expect("a read");
    assert_eq!(nobody, None);
}

async fn a_watermark_raised_by_hand_takes_the_time_of_the_last_change(store: TestStore) {
    let acme = workspace("acme");
    let raised = Workspace { generation: 1, update_time: at(44), ..acme.clone() };
    write(&*store, async |tx| {
        tx.put_workspace(&acme).await.expect("it is put");
        tx.insert_credential(&key(&acme, 1), &digest(1)).await.expect("it is made");
        tx.put_workspace(&raised).await.expect("it is put");
    })
    .await;
    let found = store.find_credential(credential_id(1)).await.expect("a read");
    assert_eq!(found.expect("it is there").revoke_time, Some(at(44)));
}

async fn a_digest_is_unique_and_so_is_an_id(store: TestStore) {
    let acme = workspace("acme");
    let dead = Credential { revoke_time: Some(at(9)), ..key(&acme, 1) };
    write(&*store, async |tx| {
        tx.put_workspace(&acme).await.expect("it is put");
        tx.insert_credential(&dead, &digest(1)).await.expect("it is made");
    })
    .await;
    let attempts =
        [(key(&acme, 2), 1, Unique::CredentialDigest), (key(&acme, 1), 2, Unique::CredentialId)];
    for (credential, number, taken) in attempts {
        let mut tx = store.begin("test").await.expect("a transaction");
        match tx.insert_credential(&credential, &digest(number)).await {
            Err(StoreError::Conflict(found)) => assert_eq!(found, taken),
            outcome => panic!("{outcome:?}"),
        }
    }
}

async fn an_owner_must_exist(store: TestStore) {
    for stranger in [key(&workspace("nowhere"), 1), pat(&user("nobody"), 2)] {
        let mut tx = store.begin("test").await.expect("a transaction");
        let error = tx.insert_credential(&stranger, &digest(1)).await.expect_err("no owner");
        assert!(matches!(error, StoreError::Refused { .. }), "{error:?}");
        assert!(!format!("{error:?}").contains("nowhere"), "{error:?}");
    }
}

async fn an_update_changes_only_mutable_fields(store: TestStore) {
    let ada = user("ada");
    let before = Credential { last_use: Some(LastUse { time: at(40), ip: None }), ..pat(&ada, 1) };
    let changed = Credential {
        owner: Owner::User { id: ada.id.clone(), max_role: Role::Viewer },
        name: DisplayName::parse("renamed").expect("a name"),
        hint: "sophic_pat_...zzzz".to_owned(),
        scopes: [Scope::Read].into_iter().collect(),
        ip_allowlist: IpAllowlist::default(),
        annotations: sophic_auth::model::Annotations::default(),
        expire_time: Some(at(500)),
        disable_time: Some(at(501)),
        revoke_time: Some(at(502)),
        version: 2,
        ..before.clone()
    };
    let unchangeable = Credential {
        generation: 99,
        create_time: at(900),
        last_use: None,
        creator: "user:mallory".to_owned(),
        ..changed.clone()
    };
    write(&*store, async |tx| {
        tx.put_user(&ada).await.expect("they are put");
        tx.insert_credential(&before, &digest(1)).await.expect("it is made");
        tx.update_credential(&unchangeable).await.expect("it is changed");
    })
    .await;
    let looked_up = store.look_up(&digest(1), None).await.expect("a read").found;
    let facts = CredentialFacts::new(digest(1), &changed);
    assert_eq!(*looked_up.expect("it is there").credential, facts);
    assert_eq!(store.find_credential(changed.id).await.expect("a read"), Some(changed));
}

async fn updating_a_missing_credential_is_an_error(store: TestStore) {
    let mut tx = store.begin("test").await.expect("a transaction");
    let nowhere = key(&Workspace { id: workspace_id("x"), ..workspace("acme") }, 1);
    let error = tx.update_credential(&nowhere).await.expect_err("there is none");
    assert!(matches!(error, StoreError::RowsAffected { expected: 1, actual: 0 }), "{error:?}");
}
