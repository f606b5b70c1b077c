//! The store that a command uses: it is named in results, and never created or migrated by the way.

use sophic_auth::store;

use super::program::{Ended, Program, command, operator, run, split};
use crate::store::raw;
use crate::stores::{Database, on_every_store};

on_every_store! {
    an_empty_result_names_the_store_without_its_password,
    an_older_schema_is_refused_except_by_migrate_and_serve,
    text_pasted_around_a_token_is_stripped,
    text_that_cannot_be_a_token_is_reported,
    the_audit_log_records_the_user_of_the_operating_system,
}

/// Every command that needs a store and does not create it.
const ASKING: &str = "workspace put acme
workspace list
workspace delete acme
user put ada
user list
user delete ada
member put --workspace acme --user ada --role member
member list --user ada
member delete --workspace acme --user ada
caller create a --permission introspect
caller list
caller update a --name b
caller rotate a
caller revoke a
key create --workspace acme --name ci --scope read
key list
key show 0195f2d4-7c1e-7b3a-9d58-0242ac120002
key update 0195f2d4-7c1e-7b3a-9d58-0242ac120002 --name x
key disable 0195f2d4-7c1e-7b3a-9d58-0242ac120002
key enable 0195f2d4-7c1e-7b3a-9d58-0242ac120002
key rotate 0195f2d4-7c1e-7b3a-9d58-0242ac120002
key revoke 0195f2d4-7c1e-7b3a-9d58-0242ac120002
key revoke -
pat list
credentials list
credentials expiring --within 1d
credentials revoke --workspace acme --dry-run
leaked
audit list
audit export
audit purge --older-than 1d
purge
introspect
explain 0195f2d4-7c1e-7b3a-9d58-0242ac120002
import --format csv -
export
backup copy.db
new-epoch
serve --no-migrate --listen 127.0.0.1:0 --http-listen 127.0.0.1:0";

fn on(url: &str, folder: &std::path::Path, words: &str) -> Ended {
    let mut command = command();
    command.args(split(words)).args(["--database-url", url]).current_dir(folder);
    run(command, "sophic_key_x")
}

#[tokio::test]
async fn no_command_creates_a_missing_store() {
    let folder = tempfile::TempDir::new().expect("a folder for temporary files");
    let empty = Database::empty_postgres().await;
    let file = folder.path().join("typo.db");
    for (url, place) in [
        (format!("sqlite:{}", file.display()), file.display().to_string()),
        (empty.url(), "postgres://".to_owned()),
    ] {
        for words in ASKING.lines() {
            if words.starts_with("backup") && empty.url() == url {
                continue;
            }
            let error = on(&url, folder.path(), words).failed(2);
            assert!(error.contains("there is no store"), "{words}: {error}");
            assert!(error.contains(&place) && error.contains("sophic-auth migrate"), "{error}");
        }
        let pending = on(&url, folder.path(), "migrate --dry-run --output json").json();
        assert_eq!(pending["from_version"], 0);
        assert!(pending["pending"].as_array().is_some_and(|names| names.len() > 10), "{pending}");
        on(&url, folder.path(), "migrate --dry-run").ok();
    }
    // Nor is the default store created.
    let mut words = command();
    words.args(["user", "list"]).current_dir(folder.path());
    assert!(run(words, "").failed(2).contains("sophic-auth.db"));
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
    let left = raw::try_run(
        &empty,
        "SELECT 1 / (SELECT count(*) FROM pg_tables WHERE schemaname = 'public')",
    );
    assert!(left.await.expect_err("there is no table").contains("division by zero"));
    empty.drop_database().await;
}

async fn an_empty_result_names_the_store_without_its_password(p: Program) {
    let place = match p.database.file() {
        Some(file) => format!("sqlite:{}", file.display()),
        None => "postgres://".to_owned(),
    };
    for words in
        ["user list", "key list", "audit list", "caller list", "credentials list --output json"]
    {
        let ended = p.run(words);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.err.contains("nothing found in ") && ended.err.contains(&place), "{ended:?}");
    }
    let unknown = p.pipe("sophic_key_0000000000000000000000000000000032CqhE", "introspect");
    assert_eq!(unknown.code, Some(1));
    assert!(unknown.err.contains(&place), "{unknown:?}");
    let missing = p.run("user delete nobody").failed(1);
    assert!(missing.contains(&place) && missing.lines().count() == 1, "{missing}");
    if p.database.is_postgres() {
        let url = p.database.url();
        let (scheme, rest) = url.split_once("://").expect("a URL");
        let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
        let user = rest.split_once([':', '@']).map_or("postgres", |(user, _)| user);
        let url = format!("{scheme}://{user}:hunter2@{host}");
        let mut words = command();
        words.args(["user", "list", "--database-url", &url]);
        let err = run(words, "").err;
        assert!(err.contains(&format!("{user}@")) && !err.contains("hunter2"), "{err}");
    }
}

async fn an_older_schema_is_refused_except_by_migrate_and_serve(p: Program) {
    p.run("user put ada").ok();
    let url = p.database.url();
    // An older schema. The newest migration can run again because its objects are gone.
    let newest = store::migrate(&p.database.location()).await.expect("the migration succeeds").to;
    raw::run(&p.database, "DELETE FROM _sqlx_migrations WHERE version > 13").await;
    let folder = tempfile::TempDir::new().expect("a folder for temporary files");
    for words in ASKING.lines().filter(|words| !words.starts_with("backup")) {
        let ended = on(&url, folder.path(), words);
        assert!(matches!(ended.code, Some(1 | 2)) && ended.out.is_empty(), "{words}: {ended:?}");
        assert!(ended.err.contains("is at version 13"), "{words}: {}", ended.err);
        assert!(ended.err.contains("run `sophic-auth migrate`"), "{words}: {}", ended.err);
    }
    let pending = p.run("migrate --dry-run --output json").json();
    assert_eq!((&pending["from_version"], &pending["to_version"]), (&13.into(), &newest.into()));
    let names = pending["pending"].as_array().expect("names");
    assert_eq!(names[0], "0014_replica_ends");
    // The migration was not applied.
    assert_eq!(p.run("migrate --dry-run --output json").json(), pending);
    assert!(p.run("user list").failed(1).contains("is at version 13"));
}

async fn text_pasted_around_a_token_is_stripped(p: Program) {
    p.run("workspace put acme").ok();
    let key = p.run("key create --workspace acme --name ci --scope read --output token").word();
    for pasted in [
        format!("{key}\n"),
        format!("  {key}\t\r\n\n"),
        format!("Bearer {key}"),
        format!("bearer   {key}\n"),
        format!("Authorization: Bearer {key}\r\n"),
    ] {
        p.pipe(&pasted, "introspect --workspace acme --scope read").ok();
    }
    p.pipe(&format!("Authorization: Bearer {key}\n"), "key revoke -").ok();
    assert!(p.pipe(&key, "introspect").out.contains("TOKEN_REVOKED"));
}

async fn text_that_cannot_be_a_token_is_reported(p: Program) {
    p.run("workspace put acme").ok();
    let key = p.run("key create --workspace acme --name ci --scope read --output token").word();
    let service = p.run("caller create a --permission introspect --output token").word();
    let misspelt = format!("{}{}", &key[..48], if key.ends_with('a') { 'b' } else { 'a' });
    for (text, why) in [
        ("hunter2", "begins with"),
        (&key[..40], "it has 40 characters"),
        (&misspelt, "mistyped"),
        (&service, "service token"),
    ] {
        let ended = p.pipe(text, "introspect");
        assert_eq!(ended.code, Some(1));
        assert!(ended.out.contains("cannot be a token") && ended.out.contains(why), "{ended:?}");
        assert!(!ended.out.to_lowercase().contains("unknown"), "{ended:?}");
        assert!(!(ended.out + &ended.err).contains(text), "it is not repeated");
        let json = p.pipe(text, "introspect --output json").out;
        assert!(json.contains("cannot_be_a_token") && json.contains(why), "{json}");
    }
    // An imported token may have any shape.
    let ended = p.pipe("hunter2-hunter2", "introspect --accept-imported-tokens");
    assert!(ended.out.contains("TOKEN_UNKNOWN"), "{ended:?}");
}

async fn the_audit_log_records_the_user_of_the_operating_system(p: Program) {
    let known = operator();
    // Returns the caller of an event that is created with these variables and flags.
    let caller = |id: &str, variables: &[(&str, &str)], flags: &str| {
        let mut command = p.command(&split(&format!("user put {id} {flags}")));
        command.envs(variables.iter().copied());
        run(command, "").ok();
        let events = p.run(&format!("audit list --target {id} --output json")).json();
        events["events"][0]["caller"].as_str().expect("a name").to_owned()
    };
    // Variables of the environment do not change the user.
    assert_eq!(caller("u1", &[("USER", "alice"), ("LOGNAME", "alice")], ""), known);
    assert_eq!(caller("u2", &[], "--operator alice"), format!("{known}(alice)"));
    assert_eq!(caller("u3", &[("SOPHIC_AUTH_OPERATOR", "")], ""), known);
    let by_variable = caller("u4", &[("SOPHIC_AUTH_OPERATOR", "a@b.c")], "");
    assert_eq!(by_variable, format!("{known}(a@b.c)"));
    let by_sudo = caller("u5", &[("SUDO_USER", "bob")], "--operator alice");
    if rustix::process::getuid().is_root() {
        assert_eq!(by_sudo, format!("{known}(sudo:bob,alice)"));
        assert_eq!(caller("u6", &[("SUDO_USER", "bob)(")], ""), known);
    } else {
        assert_eq!(by_sudo, format!("{known}(alice)"));
    }
    for forged in ["root)(", "a b", "sudo:bob", "\u{202e}x", "a,b"] {
        let mut command = p.command(&split("user put ada"));
        command.args(["--operator", forged]);
        assert!(run(command, "").failed(2).contains("--operator must be"), "{forged}");
    }
}
