//! Import and export in the store: many credentials at once with one change for all, and a new epoch.

use std::collections::BTreeMap;

use sophic_auth::model::{
    Annotations, AuditEvent, Credential, CredentialFacts, CredentialId, CredentialKind, Digest,
    DisplayName, EventId, IpAllowlist, LastUse, Owner, Revision, Role, Scope, ScopeSet, Slug,
    Timestamp, User, UserId, Workspace, WorkspaceId,
};
use sophic_auth::store::{
    ChangedEntity, ExportFilter, ImportNames, Lock, Store, StoreError, StoredCredential, Unique,
};
use sqlx::Connection as _;

use crate::stores::{Database, TestStore, on_every_store};
use crate::waits;

on_every_store! {
    credentials_inserted_in_a_batch_are_unchanged_and_logged_as_one_change,
    a_taken_digest_or_id_is_a_conflict_and_rolls_back_the_batch,
    the_names_of_a_batch_are_found_by_slug_id_and_digest,
    an_export_is_paged_by_id_and_omits_deleted_owners,
    a_new_epoch_keeps_the_revision,
    no_bulk_insert_goes_unlogged,
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_micros(1_790_000_000_000_000 + seconds * 1_000_000).expect("a time")
}

fn event(number: u8) -> AuditEvent {
    AuditEvent {
        id: EventId::new(at(0), [number; 10]),
        time: at(0),
        action: "test.write".to_owned(),
        caller: "operator:test".to_owned(),
        acting_user: None,
        target_kind: "store".to_owned(),
        target_id: "credentials".to_owned(),
        remote_address: None,
        before: None,
        after: None,
        reason: None,
        refusal: None,
    }
}

/// Creates a workspace `w` with slug `acme`, and a user `ada`.
async fn put_owners(store: &dyn Store) {
    let mut tx = store.begin("test").await.expect("a transaction");
    tx.put_workspace(&workspace()).await.expect("a workspace");
    tx.put_user(&user()).await.expect("a user");
    tx.commit(&event(0)).await.expect("committed");
}

fn workspace() -> Workspace {
    Workspace {
        id: WorkspaceId::parse("w").expect("an id"),
        slug: Slug::parse("acme").expect("a slug"),
        display_name: DisplayName::parse("Acme").expect("a name"),
        disabled: false,
        pat_policy: sophic_auth::model::PatPolicy::default(),
        generation: 3,
        generation_time: Some(at(-5)),
        create_time: at(-9),
        update_time: at(-5),
        delete_time: None,
    }
}

fn user() -> User {
    User {
        id: UserId::parse("ada").expect("an id"),
        display_name: DisplayName::parse("Ada").expect("a name"),
        disabled: false,
        generation: 0,
        generation_time: None,
        create_time: at(-9),
        update_time: at(-9),
        delete_time: None,
    }
}

/// Returns the nth credential. Even ones are keys with every field set, odd ones personal access tokens with few.
fn stored(n: u8) -> StoredCredential {
    let id = CredentialId::new(at(i64::from(n)), [n; 10]);
    let key = n.is_multiple_of(2);
    let owner = if key {
        Owner::Workspace(WorkspaceId::parse("w").expect("an id"))
    } else {
        Owner::User { id: UserId::parse("ada").expect("an id"), max_role: Role::Admin }
    };
    let text = |text: &str| text.to_owned();
    let entries = BTreeMap::from([(text("team"), text("sé\"ar,ch")), (text("a"), text(""))]);
    let credential = Credential {
        id,
        kind: if key { CredentialKind::Key } else { CredentialKind::Pat },
        owner,
        generation: if key { 3 } else { 0 },
        name: DisplayName::parse("clé 🔑, \"of\" all").expect("a name"),
        hint: "imported".to_owned(),
        scopes: ScopeSet::from_scopes(&[Scope::Read, Scope::Admin]),
        ip_allowlist: if key {
            IpAllowlist::parse(["192.0.2.0/24", "2001:db8::/32"]).expect("networks")
        } else {
            IpAllowlist::default()
        },
        end_at_once: false,
        granted_workspaces: None,
        barred_workspaces: sophic_auth::model::WorkspaceSet::default(),
        annotations: Annotations::parse(if key { entries } else { BTreeMap::new() }).expect("fine"),
        create_time: at(1),
        expire_time: key.then(|| at(1_000_000)),
        disable_time: key.then(|| at(2)),
        revoke_time: (n % 4 == 2).then(|| at(3)),
        last_use: key.then(|| LastUse { time: at(4), ip: "2001:db8::1".parse().ok() }),
        creator: "user:ada".to_owned(),
        predecessor_id: key.then(|| CredentialId::new(at(0), [9; 10])),
        family_id: if key { CredentialId::new(at(0), [9; 10]) } else { id },
        version: 1,
    };
    StoredCredential { credential, digest: Digest::of(&format!("token {n}")) }
}

async fn insert(store: &dyn Store, credentials: &[StoredCredential]) -> Result<(), StoreError> {
    let mut tx = store.begin("test").await.expect("a transaction");
    tx.insert_credentials(credentials).await?;
    tx.commit(&event(1)).await.map(drop)
}

async fn export(store: &dyn Store) -> Vec<StoredCredential> {
    store.export_credentials(&ExportFilter::default(), None, 1_000).await.expect("an export")
}

async fn credentials_inserted_in_a_batch_are_unchanged_and_logged_as_one_change(store: TestStore) {
    put_owners(&*store).await;
    let before = store.revision().await.expect("a revision");
    let credentials: Vec<_> = (0..200).map(stored).collect();
    insert(&*store, &credentials).await.expect("inserted");
    assert_eq!(export(&*store).await, credentials);
    let changes = store.list_changes(before, 10).await.expect("changes");
    let entities: Vec<_> = changes.iter().map(|change| change.entity.clone()).collect();
    assert_eq!(entities, [ChangedEntity::UnknownDigests]);
    assert_eq!(changes[0].revision, Revision(before.0 + 1));
    let found = store.look_up(&credentials[7].digest, None).await.expect("an answer").found;
    let StoredCredential { credential, digest } = &credentials[7];
    let facts = CredentialFacts::new(*digest, credential);
    assert_eq!(*found.expect("it is found").credential, facts);
}

async fn a_taken_digest_or_id_is_a_conflict_and_rolls_back_the_batch(store: TestStore) {
    put_owners(&*store).await;
    insert(&*store, &[stored(1)]).await.expect("inserted");
    let same_digest = StoredCredential { digest: stored(1).digest, ..stored(3) };
    let same_id = StoredCredential { digest: stored(3).digest, ..stored(1) };
    for (taken, unique) in
        [(same_digest, Unique::CredentialDigest), (same_id, Unique::CredentialId)]
    {
        let before = store.revision().await.expect("a revision");
        let refused = insert(&*store, &[stored(2), taken, stored(4)]).await;
        assert!(matches!(refused, Err(StoreError::Conflict(found)) if found == unique));
        assert_eq!(export(&*store).await, [stored(1)]);
        assert_eq!(store.revision().await.expect("a revision"), before);
    }
}

async fn the_names_of_a_batch_are_found_by_slug_id_and_digest(store: TestStore) {
    put_owners(&*store).await;
    insert(&*store, &[stored(1), stored(2), stored(3)]).await.expect("inserted");
    let names = ImportNames {
        workspaces: vec!["acme".to_owned(), "w".to_owned(), "none".to_owned()],
        users: vec![UserId::parse("ada").expect("an id"), UserId::parse("bob").expect("an id")],
        digests: vec![stored(1).digest, stored(9).digest],
        ids: vec![stored(2).credential.id, stored(9).credential.id],
    };
    let mut tx = store.begin("test").await.expect("a transaction");
    let within = tx.find_imported(&names).await.expect("an answer");
    let peeked = tx.peek_imported(&names).await.expect("an answer");
    drop(tx);
    for mut found in [store.find_imported(&names).await.expect("an answer"), within, peeked] {
        assert_eq!(found.workspaces, [workspace()]);
        assert_eq!(found.users, [user()]);
        found.credentials.sort_by_key(|taken| taken.id);
        let found: Vec<_> = found.credentials.into_iter().map(|t| (t.id, t.digest)).collect();
        let wanted = [stored(1), stored(2)].map(|stored| (stored.credential.id, stored.digest));
        assert_eq!(found, wanted);
    }
    let nothing = store.find_imported(&ImportNames::default()).await.expect("an answer");
    assert_eq!(nothing, Default::default());
}

async fn an_export_is_paged_by_id_and_omits_deleted_owners(store: TestStore) {
    put_owners(&*store).await;
    let credentials: Vec<_> = (0..9).map(stored).collect();
    insert(&*store, &credentials).await.expect("inserted");
    let mut seen = Vec::new();
    let mut after = None;
    waits::within("the last page of credentials", async {
        loop {
            let page = store.export_credentials(&ExportFilter::default(), after, 4).await;
            let page = page.expect("a page");
            let Some(last) = page.last() else { break };
            after = Some(last.credential.id);
            seen.extend(page);
        }
    })
    .await;
    assert_eq!(seen, credentials);
    let user_id = Some(UserId::parse("ada").expect("an id"));
    let filter = ExportFilter { user_id, ..ExportFilter::default() };
    let of_ada = store.export_credentials(&filter, None, 100).await.expect("a page");
    assert_eq!(of_ada, [1, 3, 5, 7].map(stored));
    let workspace_id = Some(WorkspaceId::parse("w").expect("an id"));
    let filter = ExportFilter { workspace_id, ..ExportFilter::default() };
    let of_acme = store.export_credentials(&filter, None, 100).await.expect("a page");
    assert_eq!(of_acme, [0, 2, 4, 6, 8].map(stored));

    let mut tx = store.begin("test").await.expect("a transaction");
    tx.put_user(&User { delete_time: Some(at(9)), ..user() }).await.expect("deleted");
    tx.commit(&event(2)).await.expect("committed");
    assert_eq!(export(&*store).await, of_acme);
}

async fn a_new_epoch_keeps_the_revision(store: TestStore) {
    put_owners(&*store).await;
    let revision = store.revision().await.expect("a revision");
    let before = epoch(&store.database).await;
    let mut tx = store.begin("test").await.expect("a transaction");
    tx.renew_epoch(uuid::Uuid::from_u128(7)).await.expect("renewed");
    tx.commit(&event(1)).await.expect("committed");
    assert_ne!(epoch(&store.database).await, before);
    assert_eq!(epoch(&store.database).await, uuid::Uuid::from_u128(7));
    assert_eq!(store.revision().await.expect("a revision"), revision);
}

/// By raw SQL: on Postgres each transaction logs one change, and on SQLite no transaction can commit while `bulk` is
/// open.
async fn no_bulk_insert_goes_unlogged(store: TestStore) {
    put_owners(&*store).await;
    insert(&*store, &[stored(1)]).await.expect("inserted");
    let before = store.revision().await.expect("a revision");
    if store.database.is_postgres() {
        let mut db = sqlx::PgConnection::connect(&store.database.url()).await.expect("connected");
        let session = sqlx::raw_sql("SET sophic_auth.bulk = 'on'").execute(&mut db).await;
        session.expect("set for the session");
        for statement in [
            "INSERT INTO credentials SELECT gen_random_uuid(), kind, workspace_id, user_id, max_role, \
             generation, name, hint, sha256('one'), scopes, ip_allowlist, annotations, create_time, expire_time, \
             disable_time, revoke_time, last_use_time, last_use_ip, creator, predecessor_id, family_id, version \
             FROM credentials LIMIT 1",
            "INSERT INTO credentials SELECT gen_random_uuid(), kind, workspace_id, user_id, max_role, \
             generation, name, hint, sha256('two'), scopes, ip_allowlist, annotations, create_time, expire_time, \
             disable_time, revoke_time, last_use_time, last_use_ip, creator, predecessor_id, family_id, version \
             FROM credentials LIMIT 1",
        ] {
            sqlx::raw_sql(statement).execute(&mut db).await.expect("inserted");
        }
        assert_eq!(store.revision().await.expect("a revision"), Revision(before.0 + 2));
        return;
    }
    let mut db = sqlx::SqliteConnection::connect(&store.database.url()).await.expect("connected");
    let mut tx = db.begin().await.expect("a transaction");
    let open = sqlx::query("UPDATE bulk SET open = 0").execute(&mut *tx).await;
    open.expect("it can be opened");
    tx.commit().await.expect_err("it must be closed before");
    sqlx::query("DELETE FROM bulk").execute(&mut db).await.expect_err("its row stays");
    assert_eq!(store.revision().await.expect("a revision"), before);
}

async fn epoch(database: &Database) -> uuid::Uuid {
    const SQL: &str = "SELECT epoch FROM counter";
    if database.is_postgres() {
        let mut db = sqlx::PgConnection::connect(&database.url()).await.expect("connected");
        sqlx::query_scalar(SQL).fetch_one(&mut db).await.expect("an epoch")
    } else {
        let mut db = sqlx::SqliteConnection::connect(&database.url()).await.expect("connected");
        sqlx::query_scalar(SQL).fetch_one(&mut db).await.expect("an epoch")
    }
}

/// Locking the owners in the transaction of an import blocks changes to them, so no new generation is missed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn owners_are_locked_while_a_batch_is_written() {
    crate::stores::run(Database::postgres().await, async |store: TestStore| {
        put_owners(&*store).await;
        let workspaces = vec!["acme".to_owned()];
        let names = ImportNames { workspaces, ..ImportNames::default() };
        let mut tx = store.begin("test").await.expect("a transaction");
        tx.find_imported(&names).await.expect("an answer");
        let mut other = store.begin("other").await.expect("another");
        let id = WorkspaceId::parse("w").expect("an id");
        let waits = other.find_workspace_row(&id, Lock::Update).await;
        assert!(matches!(waits, Err(StoreError::Busy(_))), "the lock does not become free");
    })
    .await;
}
