//! Output that fails: the error and the exit code say so, and no token stays valid that was never shown.

use std::fs::File;
use std::io::{BufReader, Read as _};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use sophic_auth::model::{Caller, CallerIdentity, Digest};
use sqlx::Connection as _;

use super::KilledOnDrop;
use crate::cli::program::{Ended, Program, command, split};
use crate::stores::on_every_store;
use crate::waits::{self, eventually};

on_every_store! {
    a_command_whose_output_cannot_be_printed_fails,
    a_closed_pipe_ends_a_command_quietly,
    a_token_that_cannot_be_printed_is_revoked,
    a_caller_rotation_whose_token_was_not_printed_is_undone,
    a_token_that_dev_cannot_print_is_revoked,
    a_token_sent_to_a_null_or_read_only_output_is_revoked,
}

/// Runs a command whose standard output cannot be written to.
fn to_a_full_disk(mut command: Command) -> Ended {
    let full = File::options().write(true).open("/dev/full").expect("there is one");
    ended(command.stdin(Stdio::null()).stdout(full).stderr(Stdio::piped()))
}

/// Runs a command whose standard output is closed by its reader.
fn to_closed_pipe(mut command: Command) -> Ended {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    ended(command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped()))
}

fn ended(command: &mut Command) -> Ended {
    let output = waits::output(command.spawn().expect("it runs"));
    let err = String::from_utf8(output.stderr).expect("UTF-8");
    Ended { code: output.status.code(), out: String::new(), err }
}

const COMMANDS: [(&str, i32); 12] = [
    ("workspace list", 1),
    ("user list --output json", 1),
    ("member list --workspace acme", 1),
    ("caller list", 1),
    ("key list", 1),
    ("credentials expiring --within 1d", 2),
    ("audit list", 1),
    ("audit export", 1),
    ("export - --format csv", 1),
    ("introspect", 2),
    ("purge", 1),
    ("workspace put acme", 1),
];

async fn a_command_whose_output_cannot_be_printed_fails(p: Program) {
    p.run("workspace put acme").ok();
    for (words, code) in COMMANDS {
        let err = to_a_full_disk(p.command(&split(words))).failed(code);
        assert!(err.contains("standard output cannot be written"), "{words}: {err}");
    }
    for words in ["scanner-regex", "completions bash", "--help", "--version"] {
        let mut bare = command();
        bare.args(split(words));
        assert_ne!(to_a_full_disk(bare).code, Some(0), "{words}");
    }
}

async fn a_closed_pipe_ends_a_command_quietly(p: Program) {
    p.run("workspace put acme").ok();
    for (words, code) in COMMANDS {
        let ended = to_closed_pipe(p.command(&split(words)));
        // A command that answers by its exit code must not report success.
        let quiet = ended.err.is_empty() || ended.err.contains("nothing found in ");
        let quietly = code == 1 && ended.code == Some(0) && quiet;
        assert!(quietly || (code, ended.code) == (2, Some(2)), "{words}: {ended:?}");
    }
}

async fn a_token_that_cannot_be_printed_is_revoked(p: Program) {
    p.run("workspace put acme").ok();
    p.run("user put ada").ok();
    let makers = [
        "key create --workspace acme --name ci --scope read",
        "pat create --user ada --name laptop --scope read",
        "caller create gateway --permission introspect",
    ];
    for words in makers {
        for output in ["token", "json", "table"] {
            let words = format!("{words} --output {output}");
            let err = to_a_full_disk(p.command(&split(&words))).failed(1);
            assert!(err.contains("was revoked"), "{words}: {err}");
        }
        let err = to_closed_pipe(p.command(&split(words))).failed(1);
        assert!(err.contains("was revoked"), "{words}: {err}");
    }
    for list in ["key list", "pat list", "caller list"] {
        let listed = p.run(&format!("{list} --output json")).json();
        let items = listed.as_object().expect("an object").values().next().expect("a list");
        for item in items.as_array().expect("a list") {
            assert!(item["revoke_time"].is_string(), "{list}: {item}");
        }
    }
    // After a rotation, the old token is the one that remains. It can be rotated again.
    let made = p.run("key create --workspace acme --name two --scope read --output json").json();
    let id = made["credential"]["id"].as_str().expect("an id").to_owned();
    let err = to_a_full_disk(p.command(&split(&format!("key rotate {id} --overlap 1h")))).failed(1);
    assert!(err.contains("was revoked") && err.contains("is accepted until"), "{err}");
    let old = made["token"].as_str().expect("a token");
    assert!(p.pipe(old, "introspect --scope read").ok().starts_with("ALLOWED"));
    let new = p.run(&format!("key rotate {id} --overlap 1h --output token")).word();
    assert!(p.pipe(&new, "introspect --scope read").ok().starts_with("ALLOWED"));
}

/// Runs a command without a standard output.
fn closed(command: &Command) -> Ended {
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec \"$0\" \"$@\" >&-"]).arg(command.get_program());
    shell.args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    ended(shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()))
}

/// Returns the caller from the store, and whether this token is its only one.
async fn has_only(p: &Program, token: &str) -> (Caller, bool) {
    let store = sophic_auth::store::open_existing(&p.database.location()).await.expect("it opens");
    let callers = store.list_callers(None, 10).await.expect("callers");
    store.close().await;
    let [caller] = <[Caller; 1]>::try_from(callers).expect("one caller");
    let only = caller.identity == CallerIdentity::Token(Digest::of(token));
    let only = only && caller.previous.is_none();
    (caller, only)
}

async fn a_caller_rotation_whose_token_was_not_printed_is_undone(p: Program) {
    let old = p.run("caller create proxy --permission introspect --output token").word();
    let (before, _) = has_only(&p, &old).await;
    let rotate = |flags: &str| p.command(&split(&format!("caller rotate proxy {flags}")));
    let undone = [
        to_a_full_disk(rotate("--output token")),
        to_a_full_disk(rotate("--overlap 1h --output json")),
        closed(&rotate("--output token")),
        to_closed_pipe(rotate("")),
    ];
    for ended in undone {
        let err = ended.failed(1);
        assert!(err.contains("was revoked") && err.contains("is still valid"), "{err}");
        let (after, only) = has_only(&p, &old).await;
        assert!(only && after.hint == before.hint && after.rotation.is_none(), "{after:?}");
    }
    // It can be rotated again, with an overlap for the old token.
    let new = p.run("caller rotate proxy --output token").word();
    let (after, _) = has_only(&p, &new).await;
    assert_eq!(after.previous.map(|previous| previous.digest), Some(Digest::of(&old)));
    // A retry whose token is lost revokes only that token. The token that the rotation replaced stays valid.
    let id = "--request-id 0195f2d4-7c1e-7b3a-9d58-0242ac120002 --overlap 1h";
    p.run(&format!("caller rotate proxy {id} --output token")).word();
    to_a_full_disk(rotate(id)).failed(1);
    assert!(has_only(&p, &new).await.1);
    assert!(p.run(&format!("caller rotate proxy {id}")).failed(1).contains("rotate it again"));
    // Without an overlap the old token has expired for good.
    let err = to_a_full_disk(rotate("--overlap 0s")).failed(1);
    assert!(err.contains("was revoked") && err.contains("has expired"), "{err}");
    let (after, only) = has_only(&p, &new).await;
    assert!(!only && after.previous.is_none() && after.hint.is_empty(), "{after:?}");
    assert!(p.run("audit export").ok().contains("caller.undo_rotation"));
    p.run("caller rotate proxy --output token").word();
}

async fn a_token_that_dev_cannot_print_is_revoked(p: Program) {
    let dev = "dev --listen 127.0.0.1:0 --http-listen 127.0.0.1:0 --database-url";
    let dev = split(&format!("{dev} {}", p.database.url()));
    for output in ["json", "table"] {
        let mut command = p.command(&dev);
        command.args(["--output", output]);
        let err = to_a_full_disk(command).failed(1);
        assert!(err.contains("was revoked"), "{err}");
    }
    for list in ["credentials list", "caller list"] {
        let listed = p.run(&format!("{list} --output json")).json();
        let items = listed.as_object().expect("an object").values().next().expect("a list").clone();
        let items = items.as_array().expect("a list");
        assert!(!items.is_empty() && items.iter().all(|item| item["revoke_time"].is_string()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_that_is_interrupted_leaves_no_file() {
    // On SQLite, a blocked writer would already block the opening of the store.
    crate::stores::run(crate::stores::Database::postgres().await, interrupted).await;
}

async fn interrupted(p: Program) {
    p.run("workspace put acme").ok();
    p.run("key create --workspace acme --name ci --scope read --output token").word();
    let folder = tempfile::TempDir::new().expect("a folder");
    let entries = || std::fs::read_dir(folder.path()).expect("a folder").count();
    let signals =
        [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129), (Signal::QUIT, 131)];
    for (signal, code) in signals {
        // The export writes everything, and blocks where it records the audit event.
        let mut held = sqlx::PgConnection::connect(&p.database.url()).await.expect("it answers");
        let lock = "BEGIN; LOCK TABLE audit_events IN EXCLUSIVE MODE";
        sqlx::raw_sql(lock).execute(&mut held).await.expect("the lock");
        let file = folder.path().join("all.csv");
        let mut export = p.command(&["export".to_owned(), file.display().to_string()]);
        export.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut export = KilledOnDrop(export.spawn().expect("it starts"));
        eventually("a file is written", async || {
            let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND database = \
                (SELECT oid FROM pg_database WHERE datname = current_database())";
            let row = sqlx::raw_sql(waiting).fetch_one(&mut held).await.expect("it answers");
            sqlx::Row::get::<i64, _>(&row, 0) == 1
        })
        .await;
        kill_process(Pid::from_child(&export.0), signal).expect("it is there");
        assert_eq!(waits::wait_for_exit(&mut export.0).code(), Some(code), "{signal:?}");
        assert_eq!(entries(), 0, "{signal:?}");
    }
}

async fn a_token_sent_to_a_null_or_read_only_output_is_revoked(p: Program) {
    p.run("workspace put acme").ok();
    let words = split("key create --workspace acme --name ci --scope read --output token");
    let read_only = File::open("/dev/zero").expect("there is one");
    for out in [Stdio::null(), Stdio::from(read_only)] {
        let mut command = p.command(&words);
        let ended = ended(command.stdin(Stdio::null()).stdout(out).stderr(Stdio::piped()));
        assert!(ended.failed(1).contains("was revoked"));
    }
    let listed = p.run("key list --output json").json();
    let listed = listed["credentials"].as_array().expect("a list").clone();
    assert_eq!(listed.len(), 2);
    assert!(listed.iter().all(|key| key["state"] == "revoked"), "{listed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_being_created_at_ctrl_c_is_still_shown() {
    // On SQLite, a blocked writer would already block the opening of the store.
    crate::stores::run(crate::stores::Database::postgres().await, shown_first).await;
}

async fn shown_first(p: Program) {
    p.run("workspace put acme").ok();
    let mut held = sqlx::PgConnection::connect(&p.database.url()).await.expect("it answers");
    let lock = "BEGIN; LOCK TABLE audit_events IN EXCLUSIVE MODE";
    sqlx::raw_sql(lock).execute(&mut held).await.expect("the lock");
    let words = "key create --workspace acme --name ci --scope read --output token";
    let mut create = p.command(&split(words));
    create.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut create = KilledOnDrop(create.spawn().expect("it starts"));
    eventually("it is held up", async || {
        let waiting = "SELECT 1 FROM pg_locks WHERE NOT granted AND database = \
                       (SELECT oid FROM pg_database WHERE datname = current_database())";
        sqlx::query(waiting).fetch_optional(&mut held).await.expect("locks").is_some()
    })
    .await;
    kill_process(Pid::from_child(&create.0), Signal::INT).expect("it is there");
    let err = create.0.stderr.take().expect("its errors");
    let said = waits::read_line(create.0.id(), &mut BufReader::new(err));
    assert!(said.contains("once it is shown"), "{said}");
    sqlx::raw_sql("ROLLBACK").execute(&mut held).await.expect("it lets go");
    let mut token = String::new();
    let mut out = create.0.stdout.take().expect("its output");
    waits::while_child_runs("a token", create.0.id(), || out.read_to_string(&mut token))
        .expect("text");
    waits::wait_for_exit(&mut create.0);
    assert!(p.pipe(token.trim_end(), "introspect --scope read").ok().starts_with("ALLOWED"));
}
