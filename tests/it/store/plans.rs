//! Query plans of lists: each filter in each order walks an index, in a large store as in a small one. This test writes
//! `docs/query-plans.md`, with measurements: `UPDATE=1 scripts/with-postgres cargo test --test it plans`.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use sophic_auth::model::{CredentialKind, CredentialState, Digest, Scope, Timestamp};
use sophic_auth::store::{CredentialFilter, CredentialOrder, CredentialPosition, UsePosition};

use super::raw;
use super::samples::{credential_id, user_id, workspace_id};
use crate::stores::{TestStore, on_every_store};

on_every_store! {
    no_list_scans_the_whole_table,
}

/// Number of credentials, more than one page examines for any filter.
const ROWS: u32 = 60_000;
/// Numbers of credentials in the small and the large store whose pages are measured.
const MEASURED: [u32; 2] = [1_000, 1_000_000];

/// 2026-01-01T00:00:00Z in seconds. The first row was created then, and each further row one second later.
const START: i64 = 1_767_225_600;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_micros((START + seconds) * 1_000_000).expect("a time of this century")
}

/// Returns SQL for a series of the numbers `x` from 0 to LAST, and for the id and the time that belong to `x`, with `S`
/// for a number of seconds.
const fn dialect(postgres: bool) -> [&'static str; 3] {
    if postgres {
        [
            "generate_series(0, LAST) AS t(x)",
            "('00000000-0000-7000-8000-' || lpad(x::text, 12, '0'))::uuid",
            "(timestamptz '2026-01-01 00:00:00Z' + (S) * interval '1 second')",
        ]
    } else {
        [
            "(WITH RECURSIVE t(x) AS (SELECT 0 UNION ALL SELECT x + 1 FROM t WHERE x < LAST) SELECT x FROM t)",
            "CAST(printf('%016d', x) AS BLOB)",
            "((1767225600 + (S)) * 1000000)",
        ]
    }
}

/// Returns statements that create a thousand workspaces and users. The first of them own half of all credentials.
fn statements(postgres: bool, rows: u32) -> String {
    let [series, id, time] = dialect(postgres);
    let digest =
        if postgres { "sha256(x::text::bytea)" } else { "CAST(printf('%032d', x) AS BLOB)" };
    let series = |last: u32| series.replace("LAST", &last.to_string());
    let time = |seconds: &str| time.replace('S', seconds);
    let silent = if postgres {
        "ALTER TABLE workspaces DISABLE TRIGGER USER; ALTER TABLE users DISABLE TRIGGER USER; \
         ALTER TABLE credentials DISABLE TRIGGER USER;"
    } else {
        "DROP TRIGGER workspaces_insert; DROP TRIGGER users_insert; DROP TRIGGER credentials_insert;"
    };
    let (no, half, cast) =
        if postgres { ("FALSE", "x % 4 < 2", "::text") } else { ("0", "x % 4 < 2", "") };
    let owner =
        |kind: &str| format!("'{kind}' || (CASE WHEN {half} THEN 0 ELSE x % 1000 END){cast}");
    format!(
        "{silent} \
         INSERT INTO workspaces (id, slug, display_name, disabled, create_time, update_time) \
         SELECT 'w' || x, 'slug-' || x, 'W', {no}, {made}, {made} FROM {thousand}; \
         INSERT INTO users (id, display_name, disabled, create_time, update_time) \
         SELECT 'u' || x, 'U', {no}, {made}, {made} FROM {thousand}; \
         INSERT INTO credentials ( \
             id, kind, workspace_id, user_id, max_role, generation, name, hint, digest, scopes, ip_allowlist, \
             annotations, create_time, expire_time, disable_time, revoke_time, last_use_time, creator, family_id, \
             version) \
         SELECT {id}, 1 + x % 2, CASE WHEN x % 2 = 0 THEN {workspace} END, CASE WHEN x % 2 = 1 THEN {user} END, \
             CASE WHEN x % 2 = 1 THEN 4 END, 0, \
             CASE WHEN x % 500 = 7 THEN 'rare-' ELSE 'name-' END || x, 'hint', {digest}, \
             CASE WHEN x % 3 = 0 THEN 5 ELSE 1 END, '', '{{}}', {made}, \
             CASE WHEN x % 3 > 0 THEN {expiry} END, \
             CASE WHEN x % 100 = 0 THEN {made} END, CASE WHEN x % 10 = 0 THEN {made} END, \
             CASE WHEN x % 2 = 0 THEN {made} END, \
             CASE WHEN x % 1000 = 1 THEN 'user:rare' ELSE 'caller:dashboard' END, {id}, 1 \
         FROM {all}; \
         {analyze}",
        // SQLite files are not analyzed in production. Postgres does it automatically.
        analyze = if postgres { "ANALYZE" } else { "" },
        made = time("x"),
        expiry = time("x + 100000000"),
        thousand = series(999),
        all = series(rows - 1),
        workspace = owner("w"),
        user = owner("u"),
    )
}

/// The filters to check, each with a readable name.
fn cases() -> Vec<(&'static str, CredentialFilter)> {
    let none = CredentialFilter::default;
    let workspace = || CredentialFilter { workspace_id: Some(workspace_id("w0")), ..none() };
    let user = || CredentialFilter { user_id: Some(user_id("u1")), ..none() };
    let (by_use, by_expiry) = (CredentialOrder::LastUseTime, CredentialOrder::ExpireTime);
    let newest = CredentialOrder::CreateTimeDesc;
    let text = |text: &str| Some(text.to_owned());
    vec![
        ("everything", none()),
        ("everything, newest first", CredentialFilter { order: newest, ..none() }),
        ("everything, by last use", CredentialFilter { order: by_use, ..none() }),
        ("everything, by expiry", CredentialFilter { order: by_expiry, ..none() }),
        ("a workspace", workspace()),
        ("a workspace's keys", CredentialFilter { kind: Some(CredentialKind::Key), ..workspace() }),
        (
            "a workspace's keys of one creator, by last use",
            CredentialFilter {
                kind: Some(CredentialKind::Key),
                creator: text("caller:dashboard"),
                order: by_use,
                ..workspace()
            },
        ),
        ("a workspace, newest first", CredentialFilter { order: newest, ..workspace() }),
        ("a workspace, by last use", CredentialFilter { order: by_use, ..workspace() }),
        ("a workspace, by expiry", CredentialFilter { order: by_expiry, ..workspace() }),
        ("a user", user()),
        ("a user, by last use", CredentialFilter { order: by_use, ..user() }),
        ("a user, by expiry", CredentialFilter { order: by_expiry, ..user() }),
        ("a kind", CredentialFilter { kind: Some(CredentialKind::Pat), ..none() }),
        ("a creator", CredentialFilter { creator: text("caller:dashboard"), ..none() }),
        (
            "a creator, by expiry",
            CredentialFilter { creator: text("user:rare"), order: by_expiry, ..none() },
        ),
        ("a family", CredentialFilter { family_id: Some(credential_id(1)), ..none() }),
        (
            "a family, by last use",
            CredentialFilter { family_id: Some(credential_id(1)), order: by_use, ..none() },
        ),
        ("active", CredentialFilter { state: Some(CredentialState::Active), ..none() }),
        ("disabled", CredentialFilter { state: Some(CredentialState::Disabled), ..none() }),
        ("revoked", CredentialFilter { state: Some(CredentialState::Revoked), ..none() }),
        ("expired", CredentialFilter { state: Some(CredentialState::Expired), ..none() }),
        ("a scope", CredentialFilter { scope: Some(Scope::Admin), ..none() }),
        ("a scope in a workspace", CredentialFilter { scope: Some(Scope::Admin), ..workspace() }),
        ("a rare name prefix", CredentialFilter { name_prefix: text("rare-"), ..none() }),
        ("a common name prefix", CredentialFilter { name_prefix: text("name-"), ..none() }),
        (
            "a name prefix in a workspace",
            CredentialFilter { name_prefix: text("name-"), ..workspace() },
        ),
        ("expiring soon", CredentialFilter { expires_before: Some(at(100_000_500)), ..none() }),
        (
            "expiring soon, by expiry",
            CredentialFilter { expires_before: Some(at(100_000_500)), order: by_expiry, ..none() },
        ),
        (
            "expiring soon in a workspace, by expiry",
            CredentialFilter {
                expires_before: Some(at(100_030_000)),
                order: by_expiry,
                ..workspace()
            },
        ),
        ("long unused", CredentialFilter { unused_since: Some(at(500)), ..none() }),
        (
            "long unused, by last use",
            CredentialFilter { unused_since: Some(at(500)), order: by_use, ..none() },
        ),
        (
            "active and long unused in a workspace, by last use",
            CredentialFilter {
                state: Some(CredentialState::Active),
                unused_since: Some(at(500)),
                order: by_use,
                ..workspace()
            },
        ),
        ("what a user sees", CredentialFilter { visible_to: Some(user_id("u1")), ..none() }),
    ]
}

/// A position for the second page. The plan does not depend on which.
fn any_position(order: CredentialOrder) -> CredentialPosition {
    let time = match order {
        CredentialOrder::CreateTime | CredentialOrder::CreateTimeDesc => None,
        CredentialOrder::LastUseTime => Some(at(5)),
        CredentialOrder::ExpireTime => Some(at(100_000_005)),
    };
    let id = match order {
        // The SQLite ids of this test are ASCII digits, which sort above all ids of the Postgres store.
        CredentialOrder::CreateTimeDesc => uuid::Uuid::max(),
        _ => uuid::Uuid::from_u128(5),
    };
    CredentialPosition { time, id: sophic_auth::model::CredentialId(id) }
}

async fn no_list_scans_the_whole_table(store: TestStore) {
    let update = std::env::var_os("UPDATE").is_some();
    let postgres = store.database.is_postgres();
    raw::run(&store.database, &statements(postgres, ROWS)).await;
    let mut shown = String::new();
    for (name, filter) in cases() {
        let place = Some(any_position(filter.order));
        let plan = store.explain_credentials(&filter, at(100_000_000), place, 51).await;
        let plan = plan.expect("a plan");
        // The rows of a narrow filter are read by its index and then sorted. Postgres does the same for rows that it
        // estimates to be few.
        let marks = ["MATERIALIZE", "CTE", "Bitmap Index Scan on credentials_"];
        let narrow = plan.iter().any(|line| marks.iter().any(|mark| line.contains(mark)));
        for line in &plan {
            let scans = line.contains("Seq Scan on credentials")
                || (line.starts_with("SCAN c") && !narrow && !line.contains("USING"));
            // Pages in daily use must not sort either. For a rare state, all rows are read by its index.
            let daily = name.starts_with("everything") || name.starts_with("a workspace");
            let sorted = line.contains("Sort") || line.contains("TEMP B-TREE");
            let sorts = daily && sorted && !narrow;
            // SQLite has no statistics, so it might choose the index that leaves more rows.
            let other = !postgres && !narrow && name.contains("workspace");
            let other = other && line.starts_with("SEARCH c") && !line.contains("workspace_id=?");
            assert!(!scans && !sorts && !other, "{name}: {plan:#?}");
        }
        let _ = write!(shown, "\n{name}:\n\n```text\n{}\n```\n", plan.join("\n"));
    }
    let middle = Digest::from_hash([0x80; 32]);
    let plan = store.explain_digests(Some(&middle), 5_000).await.expect("a plan");
    let reads_all = |line: &String| {
        ["Seq Scan", "Sort", "TEMP B-TREE", "SCAN c"].iter().any(|mark| line.contains(mark))
    };
    assert!(!plan.is_empty() && !plan.iter().any(reads_all), "{plan:#?}");
    let plan = plan_of_workspace_pats(&store).await;
    let _ = write!(
        shown,
        "\nthe personal access tokens that have acted in a workspace:\n\n```text\n{plan}\n```\n"
    );
    if update {
        document(&store, postgres, &shown).await;
    }
}

/// Returns the plan of a page of the tokens that have acted in a workspace, of which it reads no more than its own.
async fn plan_of_workspace_pats(store: &TestStore) -> String {
    let postgres = store.database.is_postgres();
    let [series, id, time] = dialect(postgres);
    let (series, time) = (series.replace("LAST", &(ROWS - 1).to_string()), time.replace('S', "x"));
    // Every token has acted in the same workspace.
    let uses = format!(
        "INSERT INTO workspace_uses (workspace_id, generation, credential_id, last_use_time) \
         SELECT 'w0', 0, {id}, {time} FROM {series} WHERE x % 2 = 1; {}",
        if postgres { "ANALYZE workspace_uses" } else { "" }
    );
    raw::run(&store.database, &uses).await;
    let after = UsePosition {
        time: at(i64::from(ROWS / 2)),
        id: sophic_auth::model::CredentialId(uuid::Uuid::max()),
    };
    for after in [None, Some(after)] {
        let page = store.list_workspace_pats(&workspace_id("w0"), 0, after, 51).await;
        let page = page.expect("a page");
        let first = if after.is_some() { ROWS / 2 - 1 } else { ROWS - 1 };
        assert_eq!((page.len(), page[0].last_use_time), (51, Some(at(i64::from(first)))));
    }
    let plan = store.explain_workspace_pats(&workspace_id("w0"), 0, Some(after), 51).await;
    let plan = plan.expect("a plan");
    let walk = plan.iter().find(|line| line.contains("workspace_uses")).expect("it reads them");
    let walks = if postgres {
        // Newest first, and the place is a condition of the index: nothing is read and dropped.
        let place = "ROW(last_use_time, credential_id) <";
        walk.contains("Index Only Scan Backward using workspace_uses_last_use")
            && plan.iter().any(|line| line.contains("Index Cond") && line.contains(place))
    } else {
        let place = "(workspace_id=? AND generation=? AND (last_use_time,credential_id)<(?,?))";
        walk.contains("COVERING INDEX workspace_uses_last_use") && walk.contains(place)
    };
    // There are no memberships here, so Postgres may read them all.
    let large = ["Seq Scan on workspace_uses", "Seq Scan on credentials"];
    let scans = plan.iter().any(|line| large.iter().any(|scan| line.contains(scan)));
    assert!(walks && !scans, "{plan:#?}");
    plan.join("\n")
}

/// Writes the part of the page about this store: the cost of pages at both sizes, and the plans.
async fn document(store: &TestStore, postgres: bool, plans: &str) {
    let mut costs = Vec::new();
    for rows in MEASURED {
        raw::run(
            &store.database,
            "DELETE FROM credentials; DELETE FROM workspaces; DELETE FROM users",
        )
        .await;
        let fill = statements(postgres, rows);
        // The triggers are already dropped.
        let fill =
            if postgres { fill } else { fill[fill.find("INSERT").expect("it")..].to_owned() };
        raw::run(&store.database, &fill).await;
        if postgres {
            raw::run(&store.database, "VACUUM ANALYZE").await;
        }
        let mut of_size = Vec::new();
        for (_, filter) in cases() {
            let mut best = Duration::MAX;
            for _ in 0..5 {
                let begin = Instant::now();
                let page = store.list_credentials(&filter, at(100_000_000), None, 51).await;
                page.expect("a page");
                best = best.min(begin.elapsed());
            }
            of_size.push(best);
        }
        costs.push(of_size);
    }
    let database = if postgres { "Postgres" } else { "SQLite" };
    let mut text = format!(
        "## {database}\n\nThe first page of 50, best of five, milliseconds (a debug build):\n\n\
         | list | 1,000 credentials | 1,000,000 credentials |\n|---|---|---|\n"
    );
    for (index, (name, _)) in cases().iter().enumerate() {
        let ms = |size: usize| costs[size][index].as_secs_f64() * 1_000.0;
        let _ = writeln!(text, "| {name} | {:.2} | {:.2} |", ms(0), ms(1));
    }
    let _ = write!(text, "\nThe plans, of a page behind the first, in a store of {ROWS}:\n{plans}");
    let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let part = format!("query-plans-{}.md", database.to_lowercase());
    std::fs::write(docs.join(part), text).expect("the page is written");
}
