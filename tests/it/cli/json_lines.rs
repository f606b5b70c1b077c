//! With `--output json`, every line on standard output and standard error is JSON, and every failure has a reason code and
//! its exit code, as the table in `docs/command-line.md` says.

use std::process::{Command, Stdio};

use serde_json::Value;
use sophic_auth::service::Reason;

use super::program::{Ended, Program, command, run, split};
use crate::stores::on_every_store;
use crate::waits;

on_every_store! {
    every_line_of_every_command_is_json,
    every_failure_has_a_reason_and_its_exit_code,
    log_lines_and_notes_are_json_too,
}

/// Parses each line as JSON.
fn lines(what: &str, ended: &Ended) -> Vec<Value> {
    let lines = ended.out.lines().chain(ended.err.lines());
    let parse =
        |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{what}: {error}: {line}"));
    lines.map(parse).collect()
}

const GOOD: [&str; 26] = [
    "migrate",
    "migrate --dry-run",
    "workspace put acme --id w1",
    "user put ada",
    "member put --workspace acme --user ada --role member",
    "caller create gateway --permission introspect",
    "caller rotate gateway",
    "key create --workspace acme --name ci --scope read",
    "pat create --user ada --name laptop --scope read",
    "workspace list",
    "user list",
    "member list --user ada",
    "caller list",
    "key list",
    "credentials list --state revoked",
    "credentials revoke --workspace acme --dry-run",
    "audit list --limit 1",
    "audit export",
    "export",
    "export --all",
    "purge",
    "status",
    "replica list",
    "caller revoke gateway",
    "scanner-regex",
    "completions bash",
];

async fn every_line_of_every_command_is_json(p: Program) {
    for words in GOOD {
        let ended = p.run(&format!("{words} --output json"));
        assert_eq!(ended.code, Some(0), "{words}: {}", ended.err);
        assert!(!lines(words, &ended).is_empty(), "{words}");
    }
    for words in ["--help", "key create --help", "--version"] {
        let ended = p.run(&format!("--output json {words}"));
        assert_eq!((ended.code, lines(words, &ended).len()), (Some(0), 1), "{words}");
    }
    // A refusal is an answer, not an error.
    for words in ["introspect", "leaked"] {
        let ended = p.pipe("nobody", &format!("{words} --output json"));
        assert_eq!(ended.code, Some(1), "{words}");
        lines(words, &ended);
    }
}

/// Command, exit code, and reason.
const BAD: [(&str, i32, &str); 24] = [
    ("", 2, "USAGE"),
    ("nonsense", 2, "USAGE"),
    ("key revoke", 2, "USAGE"),
    ("user list --nonsense", 2, "USAGE"),
    ("user put \"b b\"", 2, "USAGE"),
    ("user put bob --disabled --enabled", 2, "USAGE"),
    ("caller create a --permission everything", 2, "USAGE"),
    ("user list --log \"sophic_auth=nonsense=x\"", 2, "USAGE"),
    ("user list --operator \"a b\"", 2, "USAGE"),
    ("user list --database-url mysql://u@h/d", 2, "USAGE"),
    ("user list --database-url postgres://u@h/d?channel_binding=require", 2, "USAGE"),
    ("user list --database-url sqlite:/nowhere/a.db", 2, "USAGE"),
    ("migrate --database-url sqlite:/nowhere/a.db", 2, "USAGE"),
    ("user list --database-url sqlite:/tmp/no-such-sophic-auth.db", 2, "STORE_MISSING"),
    ("user list --database-url postgres://u@127.0.0.1:1/d", 1, "STORE_UNAVAILABLE"),
    ("import /nowhere/a.csv", 2, "USAGE"),
    ("import --format csv /tmp", 2, "USAGE"),
    ("import --format csv -", 1, "INPUT_INVALID"),
    ("leaked /nowhere/a.json", 2, "USAGE"),
    ("export /nowhere/a.csv", 2, "USAGE"),
    ("export --format csv -", 2, "USAGE"),
    ("key create --workspace acme --name ci --scope read --allow-ip x", 2, "ARGUMENT_INVALID"),
    ("key revoke 0195f2d4-7c1e-7b3a-9d58-0242ac120002", 1, "CREDENTIAL_NOT_FOUND"),
    ("workspace put other --id acme", 1, "WORKSPACE_ID_TAKEN"),
];

async fn every_failure_has_a_reason_and_its_exit_code(p: Program) {
    p.run("workspace put acme --id w1").ok();
    for (words, code, reason) in BAD {
        assert_failure(words, &p.run(&format!("{words} --output json")), code, reason);
    }
    let cannot_tell = "introspect --database-url sqlite:/nowhere/a.db --output json";
    assert_failure("introspect", &p.pipe("x", cannot_tell), 2, "USAGE");
    let none = p.pipe("sophic_key_x", "key revoke - --output json");
    assert_failure("key revoke -", &none, 1, "CREDENTIAL_NOT_FOUND");
    let mut full = p.command(&split("key create --workspace acme --name ci --scope read"));
    assert_failure(
        "/dev/full",
        &to_a_full_disk(full.args(["--output", "json"])),
        1,
        "TOKEN_NOT_SHOWN",
    );
    let mut full = p.command(&split("user list --output json"));
    assert_failure("/dev/full", &to_a_full_disk(&mut full), 1, "OUTPUT_FAILED");
    let mut words = command();
    words.args(split("migrate --output json")).env("SOPHIC_AUTH_LOG_FORMAT", "xml");
    assert_failure("a variable", &run(words, ""), 2, "USAGE");
}

fn to_a_full_disk(command: &mut Command) -> Ended {
    let full = std::fs::File::options().write(true).open("/dev/full").expect("there is one");
    let command = command.stdin(Stdio::null()).stdout(full).stderr(Stdio::piped());
    let output = waits::output(command.spawn().expect("the program runs"));
    let err = String::from_utf8(output.stderr).expect("UTF-8");
    Ended { code: output.status.code(), out: String::new(), err }
}

/// Asserts that the last line has this exit code and reason.
fn assert_failure(what: &str, ended: &Ended, code: i32, reason: &str) {
    let said = lines(what, ended);
    let error = &said.last().unwrap_or_else(|| panic!("{what}: nothing is said"))["error"];
    assert_eq!((ended.code, &error["exit_code"]), (Some(code), &code.into()), "{what}: {error}");
    assert_eq!(error["reason"], reason, "{what}: {error}");
    assert!(error["message"].is_string(), "{what}: {error}");
    let page = include_str!("../../../docs/command-line.md");
    let row = format!("| {code} | ");
    let mut table = page.lines().skip_while(|line| !line.starts_with("| exit code |"));
    let row = table.find(|line| line.starts_with(&row)).expect("a row of the table");
    let named = row.contains(&format!("`{reason}`"));
    let of_the_service = Reason::ALL.iter().any(|known| known.code() == reason);
    assert!(named || (of_the_service && code == 1), "{reason}: {row}");
}

async fn log_lines_and_notes_are_json_too(p: Program) {
    p.run("workspace put acme").ok();
    let mut words = p.command(&split("user list --output json --log debug --log-format text"));
    words.env("SOPHIC_AUTH_OUTPUTS", "json");
    let ended = run(words, "");
    let said = lines("a log", &ended);
    let warned = |line: &Value| {
        line["level"] == "WARN" && line["message"].to_string().contains("SOPHIC_AUTH_OUTPUTS")
    };
    assert!(said.iter().any(warned), "{}", ended.err);
    assert!(said.iter().any(|line| line["note"]["message"].is_string()), "{}", ended.err);
    // Bad lines of an import have line numbers.
    let text =
        "workspace,name,scopes,token\nacme,n,read\nnowhere,n,read,legacy-0-5f2c9a71d03b4e86\n";
    let ended = p.pipe(text, "import --format csv --output json -");
    let said = lines("import", &ended);
    assert_eq!(ended.code, Some(1));
    for line in [2, 3] {
        assert!(said.iter().any(|said| said["note"]["line"] == line), "{}", ended.err);
    }
}
