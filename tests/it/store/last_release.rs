//! The statements of the last release on today's schema. While an upgrade is rolled out, servers of the last release
//! and of this one write to one store, and both are asked about the same tokens. So a migration may only expand the
//! schema: what the old program writes must be accepted, and be in the change log. `scripts/rolling-upgrade` checks that
//! with the old program itself, which is not at hand here.
//!
//! The statements are those of commit 7b698ee, release 0.1, with values in place of parameters. They stay as they are
//! until a release that contracts the schema: then those of the release that it requires take their place.

use sophic_auth::store::ChangedEntity;

use super::raw;
use crate::stores::{TestStore, on_every_store};

on_every_store! {
    what_a_server_of_the_last_release_writes_is_accepted_and_in_the_change_log,
}

/// A statement of the last release, and the kinds of what its rows of the change log name.
const STATEMENTS: [(&str, &[&str]); 22] = [
    (
        "INSERT INTO workspaces ( \
         id, slug, display_name, disabled, generation, generation_time, create_time, update_time, delete_time) \
         VALUES ('ws', 'acme', 'Acme', :false, 0, NULL, :time, :time, NULL) \
         ON CONFLICT (id) DO UPDATE \
         SET slug = excluded.slug, display_name = excluded.display_name, disabled = excluded.disabled, \
         generation = excluded.generation, generation_time = excluded.generation_time, \
         update_time = excluded.update_time, delete_time = excluded.delete_time",
        &["workspace"],
    ),
    (
        "INSERT INTO users ( \
         id, display_name, disabled, generation, generation_time, create_time, update_time, delete_time) \
         VALUES ('ada', 'Ada', :false, 0, NULL, :time, :time, NULL) \
         ON CONFLICT (id) DO UPDATE \
         SET display_name = excluded.display_name, disabled = excluded.disabled, \
         generation = excluded.generation, generation_time = excluded.generation_time, \
         update_time = excluded.update_time, delete_time = excluded.delete_time",
        &["user"],
    ),
    (
        "INSERT INTO memberships (user_id, workspace_id, role, create_time, update_time) \
         VALUES ('ada', 'ws', 4, :time, :time) \
         ON CONFLICT (user_id, workspace_id) DO UPDATE \
         SET role = excluded.role, update_time = excluded.update_time",
        &["user"],
    ),
    (
        "INSERT INTO workspace_policies ( \
         workspace_id, key_lifetime_max, key_expiry_required, keys_max, overlap_min, overlap_max) \
         VALUES ('ws', 1, :true, 9, NULL, NULL) \
         ON CONFLICT (workspace_id) DO UPDATE \
         SET key_lifetime_max = excluded.key_lifetime_max, \
         key_expiry_required = excluded.key_expiry_required, keys_max = excluded.keys_max, \
         overlap_min = excluded.overlap_min, overlap_max = excluded.overlap_max",
        &[],
    ),
    (
        "INSERT INTO reserved_slugs (slug, workspace_id, release_time) VALUES ('old', 'ws', :time) \
         ON CONFLICT (slug) DO UPDATE \
         SET workspace_id = excluded.workspace_id, release_time = excluded.release_time",
        &[],
    ),
    (
        "INSERT INTO replicas (replica_id, applied, seq, seen_epoch, heartbeat, host, lease) \
         SELECT :id1, 0, 0, epoch, :time, 'old pid 1', 10000000 FROM counter WHERE id = 1",
        &[],
    ),
    (
        "UPDATE replicas SET applied = 3, seq = 1, heartbeat = :time FROM counter \
         WHERE replica_id = :id1 AND end_time IS NULL AND counter.id = 1",
        &[],
    ),
    (
        "INSERT INTO credentials ( \
         id, kind, workspace_id, user_id, max_role, generation, name, hint, digest, scopes, ip_allowlist, \
         annotations, create_time, expire_time, disable_time, revoke_time, last_use_time, last_use_ip, \
         creator, predecessor_id, family_id, version) \
         VALUES (:id2, 1, 'ws', NULL, NULL, 0, 'key', 'hint', :digest2, 7, '', '{}', :time, NULL, NULL, NULL, NULL, \
         NULL, 'caller:x', NULL, :id2, 1)",
        &["credential"],
    ),
    (
        "INSERT INTO credentials ( \
         id, kind, workspace_id, user_id, max_role, generation, name, hint, digest, scopes, ip_allowlist, \
         annotations, create_time, expire_time, disable_time, revoke_time, last_use_time, last_use_ip, \
         creator, predecessor_id, family_id, version) \
         VALUES (:id3, 2, NULL, 'ada', 4, 0, 'pat', 'hint', :digest3, 7, '', '{}', :time, NULL, NULL, NULL, NULL, \
         NULL, 'user:ada', NULL, :id3, 1)",
        &["credential"],
    ),
    (
        "UPDATE credentials \
         SET max_role = 1, name = 'new', hint = 'hint', scopes = 1, ip_allowlist = '', annotations = '{}', \
         expire_time = NULL, disable_time = :time, revoke_time = NULL, version = 2 \
         WHERE id = :id3",
        &["credential"],
    ),
    // It is known by its old digest no more, and by its new one from now on.
    ("UPDATE credentials SET digest = :digest4 WHERE id = :id3", &["credential", "credential"]),
    (
        "UPDATE credentials SET last_use_time = :time, last_use_ip = '192.0.2.1' \
         WHERE id = :id3 AND (last_use_time IS NULL OR last_use_time < :time)",
        &[],
    ),
    (
        "UPDATE credentials SET revoke_time = :time, version = version + 1 \
         WHERE id = :id2 AND revoke_time IS NULL",
        &["credential"],
    ),
    (
        "INSERT INTO callers (id, name, permissions, digest, certificate_san, hint, create_time, revoke_time, \
         previous_digest, previous_expire_time, rotation_id) \
         VALUES (:id5, 'gateway', 255, :digest5, NULL, 'hint', :time, NULL, NULL, NULL, NULL)",
        &["caller"],
    ),
    (
        "UPDATE callers \
         SET name = 'gateway', permissions = 1, digest = :digest6, certificate_san = NULL, hint = 'hint', \
         revoke_time = NULL, previous_digest = :digest5, previous_expire_time = :time, rotation_id = :id6 \
         WHERE id = :id5",
        &["caller"],
    ),
    (
        "INSERT INTO requests (requester, request_id, fingerprint, credential_id, create_time) \
         VALUES ('caller:x', :id7, :digest7, :id2, :time)",
        &[],
    ),
    (
        "INSERT INTO audit_events (id, time, action, caller, acting_user, target_kind, target_id, remote_address, \
         before, after, reason, refusal) \
         VALUES (:id8, :time, 'key.create', 'x', NULL, 'credential', 'c', '192.0.2.1', NULL, '{}', NULL, NULL)",
        &[],
    ),
    (
        "INSERT INTO untold ( \
         id, workspace_id, user_id, generation, revoke_time, caller, remote_address, reason, told_id, told_count) \
         VALUES (:id9, 'ws', NULL, 1, :time, 'x', NULL, 'r', :id1, 0) \
         ON CONFLICT (id) DO UPDATE SET told_id = excluded.told_id, told_count = excluded.told_count",
        &[],
    ),
    ("DELETE FROM memberships WHERE user_id = 'ada' AND workspace_id = 'ws'", &["user"]),
    ("DELETE FROM credentials WHERE id = :id2", &["credential"]),
    (
        "UPDATE replicas SET end_time = :time WHERE replica_id = :id1 AND seq = 1 AND end_time IS NULL",
        &[],
    ),
    ("DELETE FROM replicas WHERE end_time < :later", &[]),
];

/// Returns the statement in the dialect of the store.
fn in_dialect(store: &TestStore, statement: &str) -> String {
    let postgres = store.database.is_postgres();
    let (time, later, yes, no) = if postgres {
        ("'2026-06-01T00:00:00Z'", "'2026-06-02T00:00:00Z'", "true", "false")
    } else {
        ("1780272000000000", "1780358400000000", "1", "0")
    };
    let mut text = statement.replace(":time", time).replace(":later", later);
    text = text.replace(":true", yes).replace(":false", no);
    for number in 1..=9 {
        let (id, digest) = (format!("{number:032x}"), format!("{number:064x}"));
        let (id, digest) = if postgres {
            (format!("'{id}'"), format!("'\\x{digest}'"))
        } else {
            (format!("x'{id}'"), format!("x'{digest}'"))
        };
        text = text.replace(&format!(":id{number}"), &id);
        text = text.replace(&format!(":digest{number}"), &digest);
    }
    text
}

async fn what_a_server_of_the_last_release_writes_is_accepted_and_in_the_change_log(
    store: TestStore,
) {
    for (statement, expected) in STATEMENTS {
        let before = store.revision().await.expect("a revision");
        raw::run(&store.database, &in_dialect(&store, statement)).await;
        let changes = store.list_changes(before, 100).await.expect("a page");
        let kinds = changes.iter().map(|change| match &change.entity {
            ChangedEntity::Credential(_) => "credential",
            ChangedEntity::User(_) => "user",
            ChangedEntity::Workspace(_) => "workspace",
            ChangedEntity::Caller(_) => "caller",
            ChangedEntity::UnknownDigests => "unknown digests",
        });
        assert_eq!(kinds.collect::<Vec<_>>(), expected, "{statement}");
    }
}
