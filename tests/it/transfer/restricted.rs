//! Restrictions of personal access tokens to workspaces move with them: an export loses none, and an import widens none.

use std::sync::Arc;

use sophic_auth::decision::Denial;
use sophic_auth::model::{
    DisplayName, PatPolicyChange, Role, Scope, ScopeSet, Slug, UserId, WorkspaceId, WorkspaceName,
};
use sophic_auth::service::{
    Column, ColumnOptions, Context, ImportOptions, IntrospectionRequest, PutWorkspace,
    TransferFormat,
};

use super::{ALL_OR_NOTHING, EACH, Over, legacy};
use crate::cli::program::Program;
use crate::stores::{Database, Fixture as _, on_every_store};

on_every_store! {
    a_file_restricts_tokens_to_workspaces,
    a_restriction_that_makes_no_sense_is_a_bad_line,
    a_workspace_that_does_not_exist_is_created_only_if_that_is_wanted,
    an_entry_of_a_workspace_that_was_deleted_is_left_out_and_the_limit_stays,
    a_preset_widens_no_limit,
    a_successor_is_imported_even_if_its_predecessor_was_restricted_later,
}

async fn put_workspace(over: &Over, id: &str, slug: &str) {
    let put = PutWorkspace {
        id: WorkspaceId::parse(id).expect("an id"),
        slug: Some(Slug::parse(slug).expect("a slug")),
        display_name: Some(DisplayName::parse(slug).expect("a name")),
        disabled: None,
        policy: None,
        pat_policy: None,
    };
    over.service.put_workspace(Context::operator("test"), put).await.expect("a workspace");
    let (name, user) = (WorkspaceName::parse(slug), UserId::parse("ada"));
    let (name, user) = (name.expect("a name"), user.expect("an id"));
    let put = over.service.put_membership(Context::operator("test"), name, user, Role::Owner).await;
    put.expect("a membership");
}

/// Adds the workspaces `globex` and `initech`. Ada is a member of all three.
async fn prepare(over: &Over) {
    for (id, slug) in [("w", "acme"), ("g", "globex"), ("i", "initech")] {
        put_workspace(over, id, slug).await;
    }
}

/// Returns why the token may not read in this workspace.
async fn denial(over: &Over, token: &str, workspace: &str) -> Option<Denial> {
    let request = IntrospectionRequest {
        token,
        workspace,
        required_scopes: ScopeSet::from_scopes(&[Scope::Read]),
        client_ip: None,
        fresh: true,
        at_least_revision: 0,
        caller_id: None,
    };
    over.service.introspect(&request).await.expect("an answer").decision.denial
}

const HEADER: &str = "user,name,scopes,token,limited,granted_workspaces,barred_workspaces\n";

/// Returns tokens of ada with these columns, numbered from 0.
fn tokens(columns: &[&str]) -> String {
    let lines = columns.iter().enumerate();
    let lines = lines.map(|(n, rest)| format!("ada,token {n},read,{},{rest}\n", legacy(n)));
    format!("{HEADER}{}", lines.collect::<String>())
}

/// Limited by a flag, by names, to nothing, barred, both, and neither.
const RESTRICTED: [&str; 6] =
    ["true,acme g,", ",globex,", "true,,", ",,acme i", "t,\"acme,globex\",w", ",,"];

/// What each of them may do in acme, globex and initech.
async fn assert_restricted(over: &Over) {
    use Denial::{PatNotPermitted, WorkspaceNotGranted};
    let (nowhere, barred) = (Some(WorkspaceNotGranted), Some(PatNotPermitted));
    let expected = [
        [None, None, nowhere],
        [nowhere, None, nowhere],
        [nowhere, nowhere, nowhere],
        [barred, None, barred],
        [barred, None, nowhere],
        [None, None, None],
    ];
    for (n, expected) in expected.into_iter().enumerate() {
        for (workspace, expected) in ["acme", "globex", "initech"].into_iter().zip(expected) {
            let denied = denial(over, &legacy(n), workspace).await;
            assert_eq!(denied, expected, "{n} in {workspace}");
        }
    }
}

async fn a_file_restricts_tokens_to_workspaces(over: Over) {
    prepare(&over).await;
    let (report, recorded) = over.import_csv(&tokens(&RESTRICTED)).await;
    assert_eq!((report.written, recorded.bad), (6, vec![]));
    assert_restricted(&over).await;
    let exported = over.export(TransferFormat::Jsonl).await;
    assert!(exported.contains(r#""limited":true,"granted_workspaces":["g","w"]"#), "{exported}");
    assert!(exported.contains(r#""barred_workspaces":["i","w"]"#), "{exported}");
    // Even a file that would widen them changes nothing here.
    let (report, _) = over.import_csv(&tokens(&[",,"; 6])).await;
    assert_eq!((report.written, report.existing), (0, 6));
    assert_restricted(&over).await;
}

async fn round_trip(from: Database, to: Database) {
    let (one, other) = (Over::set_up(Arc::new(from)).await, Over::set_up(Arc::new(to)).await);
    for over in [&one, &other] {
        prepare(over).await;
    }
    one.import_csv(&tokens(&RESTRICTED)).await;
    for format in [TransferFormat::Jsonl, TransferFormat::Csv] {
        let exported = one.export(format).await;
        let (report, recorded) = other.import(&exported, format, EACH).await;
        assert_eq!((report.expect("a report").lines, recorded.bad), (6, vec![]));
        assert_eq!(other.export(format).await, exported);
    }
    assert_restricted(&other).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restrictions_move_from_sqlite_to_postgres() {
    round_trip(Database::sqlite(), Database::postgres().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restrictions_move_from_postgres_to_sqlite() {
    round_trip(Database::postgres().await, Database::sqlite()).await;
}

async fn a_restriction_that_makes_no_sense_is_a_bad_line(over: Over) {
    prepare(&over).await;
    let many = vec!["acme"; 65].join(" ");
    let bad = [
        ("false,acme,", "limited: contradicts granted_workspaces"),
        ("maybe,,", "limited: must be true or false"),
        (",nowhere,", "names a workspace that does not exist here"),
        ("true,acme nowhere,", "names a workspace that does not exist here"),
        (",,nowhere", "names a workspace that does not exist here"),
        (",no/name,", "granted_workspaces: "),
        // Only separators are not an empty list, which would be no limit.
        (",\" , \",", "granted_workspaces: must have an entry"),
        (",,\",\"", "barred_workspaces: must have an entry"),
        (&format!(",{many},"), "granted_workspaces: must have at most 64"),
    ];
    let columns: Vec<_> = bad.iter().map(|(columns, _)| *columns).collect();
    let (report, recorded) = over.import_csv(&tokens(&columns)).await;
    assert_eq!((report.written, recorded.bad.len()), (0, bad.len()), "{:?}", recorded.bad);
    for ((columns, expected), (_, reason)) in bad.iter().zip(&recorded.bad) {
        assert!(reason.contains(expected), "{columns}: {reason}");
        assert!(!reason.contains("nowhere"), "{reason}");
    }
    let keys =
        [("true,,", "limited"), (",acme,", "granted_workspaces"), (",,w", "barred_workspaces")];
    for (columns, column) in keys {
        let header = HEADER.replace("user", "workspace");
        let text = format!("{header}acme,key,read,{},{columns}\n", legacy(9));
        let (report, recorded) = over.import_csv(&text).await;
        assert_eq!(report.written, 0);
        let expected = format!("{column}: does not go with a key");
        assert_eq!(recorded.bad[0].1, expected);
    }
    // A token in the place of a workspace exposes it.
    let (report, _) = over.import_csv(&tokens(&[&format!(",{},", legacy(0))])).await;
    assert!(report.nothing_written.is_some_and(|why| why.contains("token in the clear")));
}

async fn a_workspace_that_does_not_exist_is_created_only_if_that_is_wanted(over: Over) {
    let text = tokens(&["true,later acme,", ",,other"]);
    let (report, _) = over.import_csv(&text).await;
    assert_eq!((report.written, report.bad), (0, 2));
    let options = ImportOptions { create_missing: true, ..EACH };
    let unspelled = tokens(&[",Not_A_Slug,"]);
    let (_, recorded) = over.import(&unspelled, TransferFormat::Csv, options).await;
    assert!(recorded.bad[0].1.contains("workspace put SLUG --id ID"), "{:?}", recorded.bad);
    let (report, recorded) = over.import(&text, TransferFormat::Csv, options).await;
    assert_eq!((report.expect("a report").written, recorded.bad), (2, vec![]));
    assert_eq!(denial(&over, &legacy(0), "later").await, Some(Denial::NotAMember));
    put_workspace(&over, "later", "later").await;
    put_workspace(&over, "other", "other").await;
    put_workspace(&over, "w", "acme").await;
    assert_eq!(denial(&over, &legacy(0), "later").await, None);
    assert_eq!(denial(&over, &legacy(0), "acme").await, None);
    assert_eq!(denial(&over, &legacy(0), "other").await, Some(Denial::WorkspaceNotGranted));
    assert_eq!(denial(&over, &legacy(1), "other").await, Some(Denial::PatNotPermitted));
}

async fn an_entry_of_a_workspace_that_was_deleted_is_left_out_and_the_limit_stays(over: Over) {
    prepare(&over).await;
    over.import_csv(&tokens(&["true,globex,", "true,globex acme,", ",,globex"])).await;
    let name = WorkspaceName::parse("globex").expect("a name");
    let deleted = over.service.delete_workspace(Context::operator("test"), name, false).await;
    deleted.expect("it is deleted");
    put_workspace(&over, "g", "globex").await;
    let csv = over.export(TransferFormat::Csv).await;
    // Ids of one moment are in no particular order.
    let mut lines: Vec<_> = csv.lines().skip(1).collect();
    lines.sort_by_key(|line| line.split(',').nth(5));
    let ends: Vec<_> = lines.iter().map(|line| line.split(',').skip(20).collect()).collect();
    let ends: Vec<Vec<&str>> = ends;
    assert_eq!(ends, [["true", "", ""], ["true", "w", ""], ["", "", ""]], "{csv}");
    // The workspace of that name is another one.
    let other = Over::set_up(Arc::new(Database::sqlite())).await;
    prepare(&other).await;
    let (report, _) = other.import(&csv, TransferFormat::Csv, ALL_OR_NOTHING).await;
    assert_eq!(report.expect("a report").written, 3);
    for over in [&over, &other] {
        for n in [0, 1] {
            let denied = denial(over, &legacy(n), "globex").await;
            assert_eq!(denied, Some(Denial::WorkspaceNotGranted), "{n}");
        }
        assert_eq!(denial(over, &legacy(2), "globex").await, None);
    }
}

async fn a_preset_widens_no_limit(over: Over) {
    prepare(&over).await;
    let columns = || ColumnOptions {
        preset: vec![
            (Column::Limited, "true".to_owned()),
            (Column::GrantedWorkspaces, "acme".to_owned()),
        ],
        ..ColumnOptions::default()
    };
    let text = tokens(&["true,,", ",,", ",globex,"]);
    let (report, _) = over.import_as(&text, TransferFormat::Csv, EACH, columns()).await;
    assert_eq!(report.expect("a report").written, 3);
    let nowhere = Some(Denial::WorkspaceNotGranted);
    for (n, expected) in [[nowhere, nowhere], [None, nowhere], [nowhere, None]].iter().enumerate() {
        for (workspace, expected) in ["acme", "globex"].iter().zip(expected) {
            assert_eq!(denial(&over, &legacy(n), workspace).await, *expected, "{n} {workspace}");
        }
    }
}

async fn a_successor_is_imported_even_if_its_predecessor_was_restricted_later(over: Over) {
    prepare(&over).await;
    let (old, new) =
        ("01890a5d-ac96-774b-bcce-b302099a8055", "01890a5d-ac96-774b-bcce-b302099a8056");
    let text = format!(
        "id,user,name,scopes,token,predecessor_id,family_id,granted_workspaces,barred_workspaces\n\
         {old},ada,old,read,{},,{old},acme,w\n{new},ada,new,read,{},{old},{old},,\n",
        legacy(1),
        legacy(2),
    );
    let (report, recorded) = over.import_csv(&text).await;
    assert_eq!((report.written, recorded.bad), (2, vec![]));
    assert_eq!(denial(&over, &legacy(1), "acme").await, Some(Denial::PatNotPermitted));
    assert_eq!(denial(&over, &legacy(2), "globex").await, None);
}

/// Exports a deployment with a limited token and a policy, and returns the file.
fn deployment(p: &Program) -> (String, String) {
    for slug in ["acme", "globex"] {
        p.run(&format!("workspace put {slug} --id id-of-{slug}")).ok();
    }
    p.run("user put ada").ok();
    for slug in ["acme", "globex"] {
        p.run(&format!("member put --workspace {slug} --user ada --role owner")).ok();
    }
    let made = "pat create --user ada --name n --scope read --workspace acme --workspace globex";
    let token = p.run(&format!("{made} --output token")).word();
    (token, p.run("export --all -").ok())
}

fn denied(p: &Program, token: &str, workspace: &str) -> String {
    let asked =
        p.pipe(token, &format!("introspect --scope read --workspace {workspace} --output json"));
    let answer: serde_json::Value = serde_json::from_str(&asked.out).expect("JSON");
    answer["denial"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_moves_with_its_limits_and_policies_and_restores_no_right() {
    let program = |database| Program { database: Arc::new(database) };
    let (from, to) = (program(Database::sqlite()), program(Database::postgres().await));
    for p in [&from, &to] {
        p.run("migrate").ok();
    }
    let (token, before) = deployment(&from);
    let policy = PatPolicyChange { expiry_required: Some(true), ..PatPolicyChange::default() };
    put_policy(&from, policy).await;
    let text = from.run("export --all -").ok();
    assert!(text.contains(r#""pat_policy":{"forbidden":false,"expiry_required":true}"#), "{text}");
    to.pipe(&text, "import --format jsonl -").ok();
    for p in [&from, &to] {
        assert_eq!(denied(p, &token, "acme"), "");
        assert_eq!(denied(p, &token, "globex"), "PAT_NOT_PERMITTED");
    }
    let rest = |text: &str| text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(rest(&to.run("export --all -").ok()), rest(&text));
    // A different policy is a conflict, in either direction.
    let refused = to.pipe(&before, "import --format jsonl -");
    assert!(refused.err.contains("differs in pat_policy"), "{}", refused.err);
    // A limit that is narrower here stays, and is reported. One that is narrower in the file is a conflict.
    let id = to.pipe(&token, "introspect --output json --workspace acme").out;
    let id: serde_json::Value = serde_json::from_str(&id).expect("JSON");
    let id = id["credential"]["id"].as_str().expect("an id").to_owned();
    to.run(&format!("pat update {id} --workspace globex")).ok();
    let again = to.pipe(&text, "import --format jsonl -");
    let said = format!("credential {id} is limited to fewer workspaces here");
    assert!(again.code == Some(0) && again.err.contains(&said), "{}", again.err);
    assert_eq!(denied(&to, &token, "acme"), "WORKSPACE_NOT_GRANTED");
    let narrower = to.run("export --all -").ok();
    let refused = from.pipe(&narrower, "import --format jsonl -");
    let said = "it is limited to fewer workspaces in the file but not here";
    assert!(refused.code == Some(1) && refused.err.contains(said), "{}", refused.err);
}

async fn put_policy(p: &Program, policy: PatPolicyChange) {
    let location = p.database.location();
    let service = sophic_auth::server::open_uncached_service(&location, Default::default()).await;
    let service = service.expect("it opens");
    let put = PutWorkspace {
        id: WorkspaceId::parse("id-of-globex").expect("an id"),
        slug: Some(Slug::parse("globex").expect("a slug")),
        display_name: None,
        disabled: None,
        policy: None,
        pat_policy: Some(policy),
    };
    service.put_workspace(Context::operator("test"), put).await.expect("it is put");
    service.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_has_the_restrictions() {
    let over = Over::set_up(Arc::new(Database::sqlite())).await;
    prepare(&over).await;
    over.import_csv(&tokens(&RESTRICTED)).await;
    let folder = tempfile::TempDir::new().expect("a folder");
    let path = folder.path().join("copy.db");
    let words = ["backup", path.to_str().expect("UTF-8")];
    let done = super::program::run(&over.database, &words, "");
    assert_eq!(done.status.code(), Some(0));
    let copied = sophic_auth::store::Location::Sqlite(path);
    let service = sophic_auth::server::open_uncached_service(
        &copied,
        sophic_auth::service::Options { accept_imported_tokens: true, ..Default::default() },
    );
    let copy =
        Over { database: Arc::clone(&over.database), service: service.await.expect("it opens") };
    assert_restricted(&copy).await;
    copy.service.close().await;
}
