//! Wrong usage and failures: scripts get an exit code, and people one line with advice.

use super::program::{Ended, Program, command, run, split};
use crate::stores::on_every_store;
use crate::waits;

on_every_store! {
    missing_objects_are_reported,
    invalid_arguments_are_wrong_usage,
    taken_names_are_refused,
    an_error_names_the_flags_of_the_command,
    standard_input_that_is_not_a_token_is_refused,
}

async fn missing_objects_are_reported(p: Program) {
    p.run("user put ada").ok();
    let lines = [
        ("member put --workspace nowhere --user ada --role viewer", "no such workspace"),
        ("key create --workspace nowhere --name ci --scope read", "no such workspace"),
        ("pat create --user nobody --name ci --scope read", "no such user"),
        ("key list --workspace nowhere", "no such workspace"),
        ("member list --workspace nowhere", "no such workspace"),
        ("user delete nobody", "no such user"),
        ("caller revoke nobody", "no such caller"),
        ("key revoke 0195f2d4-7c1e-7b3a-9d58-0242ac120002", "no such credential"),
    ];
    for (words, text) in lines {
        let error = p.run(words).failed(1);
        assert!(error.starts_with("error: ") && error.contains(text), "{words}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    // `key` does not find a personal access token.
    let pat = p.run("pat create --user ada --name ci --scope read --output json").json();
    let id = pat["credential"]["id"].as_str().expect("an id");
    assert!(p.run(&format!("key revoke {id}")).failed(1).contains("no such credential"));
    p.run(&format!("pat revoke {id}")).ok();
}

async fn invalid_arguments_are_wrong_usage(p: Program) {
    p.run("workspace put acme").ok();
    let lines = [
        "",
        "nonsense",
        "workspace",
        "workspace put",
        "workspace put Acme",
        "workspace put acme --id a/b",
        "workspace put acme --nonsense",
        r#"workspace put acme --name " ""#,
        "user put \"no id\"",
        "member list",
        "member put --workspace acme --user ada --role king",
        "member put --workspace acme --user ada",
        "caller create a",
        "caller create a --permission everything",
        "caller create Gateway --permission introspect",
        "key create --workspace acme --name ci",
        "key create --workspace acme --scope read",
        "key create --workspace acme --name ci --scope write",
        "key create --workspace acme --name ci --scope read --ttl soon",
        "key create --workspace acme --name ci --scope read --ttl 0s",
        "key create --workspace acme --name ci --scope read --ttl -1d",
        "key create --workspace acme --name ci --scope read --expire-time tomorrow",
        "key create --workspace acme --name ci --scope read --expire-time 2001-01-01T00:00:00Z",
        "key create --workspace acme --name ci --scope read --ttl 1d --expire-time 2099-01-01T00:00:00Z",
        "key create --workspace acme --name ci --scope read --allow-ip 10.0.0.0/99",
        "key create --workspace acme --name ci --scope read --annotation nonsense",
        "key revoke",
        "key revoke nonsense",
        "introspect --client-ip nonsense",
        "introspect --scope everything",
        "serve --listen nonsense",
        "serve --listen 127.0.0.1:99999",
        "serve --tls-cert a.pem",
        "serve --tls-client-ca a.pem",
        "serve --request-timeout forever",
        "serve --reflection perhaps",
        "serve --log \"sophic_auth=nonsense=x\"",
        "serve --log inof",
        "user list --log warn,dbug",
        "completions tcsh",
    ];
    for words in lines {
        let error = p.run(words).failed(2);
        assert!(!error.is_empty(), "{words}");
        assert!(!error.contains("panicked"), "{error}");
    }
}

async fn an_error_names_the_flags_of_the_command(p: Program) {
    p.run("workspace put acme").ok();
    p.run("user put ada").ok();
    let lines = [
        (
            "credentials revoke",
            "--workspace: at least one of --workspace, --user, --family, --creator, --created-before, \
             --last-used-before and --unused-for is required",
        ),
        (
            "credentials revoke --acting-user ada --unused-for 90d",
            "--workspace: on behalf of an acting user, --workspace or --user is required",
        ),
        (
            "credentials revoke --acting-user ada --user ada --workspace acme",
            "--user: on behalf of an acting user, cannot be set together with --workspace",
        ),
        ("credentials revoke --unused-for 0s", "--unused-for: must be positive"),
        ("credentials revoke --acting-user ? --user ada", "--acting-user: must be"),
        ("key create --workspace acme --name \" \" --scope read", "--name: must not"),
        ("key create --workspace acme --name ci --scope read --ttl 0s", "--ttl: must be"),
        (
            "key create --workspace acme --name ci --scope read --expire-time 2001-01-01T00:00:00Z",
            "--expire-time: must be",
        ),
        ("key create --workspace acme --name ci --scope read --allow-ip x", "--allow-ip"),
        ("key create --workspace acme --name ci --scope read --request-id x", "--request-id: must"),
        ("workspace put acme --name \" \"", "--name"),
        ("caller create Gateway --permission introspect", "NAME: must"),
    ];
    for (words, text) in lines {
        let error = p.run(words).failed(2);
        assert!(error.contains(text), "{words}: {error}");
        let fields = ["_id", "_user", "_for", "_before", "_time", "`"];
        assert!(!fields.iter().any(|field| error.contains(field)), "{words}: {error}");
    }
    // Programs get the name of the field too.
    let error = p.run("credentials revoke --unused-for 0s --output json").failed(2);
    let error: serde_json::Value = serde_json::from_str(&error).expect("JSON");
    let expected = serde_json::json!([
        {"field": "unused_for", "flag": "--unused-for", "description": "must be positive"}
    ]);
    assert_eq!(error["error"]["field_violations"], expected);
}

async fn taken_names_are_refused(p: Program) {
    p.run("workspace put acme --id first").ok();
    assert!(p.run("workspace put first --id second").failed(1).contains("slug"));
    assert!(p.run("workspace put other --id acme").failed(1).contains("id"));
    p.run("caller create a --permission introspect").ok();
    assert!(p.run("caller create a --permission introspect").failed(1).contains("name"));
}

async fn standard_input_that_is_not_a_token_is_refused(p: Program) {
    assert_eq!(p.pipe(&"x".repeat(100_000), "introspect").code, Some(1));
    let mut words = p.command(&split("introspect"));
    words.stdin(std::process::Stdio::piped());
    let mut child = words
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("the process starts");
    let mut input = child.stdin.take().expect("its input");
    std::io::Write::write_all(&mut input, &[0xff, 0xfe]).expect("the program reads it");
    drop(input);
    let output = waits::output(child);
    // Not an answer.
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("UTF-8"));
}

fn on(url: &str, words: &str) -> Ended {
    let mut command = command();
    command.args(split(words)).args(["--database-url", url]);
    run(command, "")
}

#[test]
fn an_unusable_store_is_reported() {
    let folder = tempfile::TempDir::new().expect("a folder for temporary files");
    let path = |name: &str| format!("sqlite:{}", folder.path().join(name).display());
    std::fs::write(folder.path().join("notes"), "x".repeat(5_000)).expect("a file");
    let urls = [
        (path("missing/store.db"), "does not exist", 2),
        (path("notes"), "not an SQLite database", 1),
        (path(""), "is a directory", 2),
        ("postgres://sophic:hunter2@127.0.0.1:1/auth".to_owned(), "unavailable", 1),
        ("mysql://sophic:hunter2@localhost/auth".to_owned(), "must begin with", 2),
    ];
    for (url, text, code) in urls {
        let serve = "serve --listen 127.0.0.1:0 --http-listen 127.0.0.1:0";
        // Only a server waits for a Postgres that is unreachable. `store_wait.rs` tests that.
        let waits = |words: &str| words == serve && url.starts_with("postgres");
        for words in ["user list", serve, "migrate"].into_iter().filter(|words| !waits(words)) {
            let error = on(&url, words).failed(code);
            assert!(error.contains(text) && error.contains("error: "), "{words} {url}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        // Not an answer.
        let error = on(&url, "introspect").failed(2);
        assert!(error.contains("could not tell") && error.contains(text), "{error}");
    }
}

#[test]
fn variables_are_checked_as_flags_are() {
    let variables = [
        ("SOPHIC_AUTH_LISTEN", "nonsense"),
        ("SOPHIC_AUTH_HTTP_LISTEN", "localhost"),
        ("SOPHIC_AUTH_OUTPUT", "xml"),
        ("SOPHIC_AUTH_LOG_FORMAT", "xml"),
        ("SOPHIC_AUTH_INSECURE", "perhaps"),
        ("SOPHIC_AUTH_REQUESTS_MAX", "-1"),
        ("SOPHIC_AUTH_STREAMS_MAX", "99999999999"),
        ("SOPHIC_AUTH_CACHE_TTL", "NaN"),
        ("SOPHIC_AUTH_SHUTDOWN_GRACE", "\u{feff}5s"),
        ("SOPHIC_AUTH_TLS_CERT", "a.pem"),
    ];
    for (name, value) in variables {
        let mut command = command();
        command.arg("serve").env(name, value);
        let error = run(command, "").failed(2);
        let flag = name.trim_start_matches("SOPHIC_AUTH_").to_lowercase().replace('_', "-");
        assert!(error.contains(&flag) || error.contains("--tls-key"), "{name}: {error}");
    }
}
