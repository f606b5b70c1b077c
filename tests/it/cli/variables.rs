//! Empty and unknown variables, and flags that contradict or require each other.

use super::program::{command, run, split};

fn with(variables: &[(&str, &str)], words: &str) -> super::program::Ended {
    let mut command = command();
    command.args(split(words)).envs(variables.iter().copied());
    run(command, "")
}

/// Every variable in the help of any command.
fn all() -> Vec<String> {
    let mut names = std::collections::BTreeSet::new();
    for words in ["serve --help", "introspect --help", "key revoke --help", "dev --help"] {
        let mut command = command();
        command.args(split(words)).env("COLUMNS", "500");
        let help = run(command, "").ok();
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        names.extend(help.split("[env: ").skip(1).filter_map(|rest| {
            let name = rest.split(['=', ']']).next()?;
            // The help may break a line here.
            Some(name.split_whitespace().collect::<String>())
        }));
    }
    names.into_iter().collect()
}

#[test]
fn an_empty_variable_counts_as_unset() {
    let names = all();
    assert!(names.len() > 35, "{names:?}");
    let folder = tempfile::TempDir::new().expect("a folder for temporary files");
    let empty: Vec<_> = names.iter().map(|name| (name.as_str(), "")).collect();
    // With all variables empty, the server starts as without any.
    let mut command = command();
    command
        .args(split("serve --no-migrate"))
        .envs(empty.iter().copied())
        .current_dir(folder.path());
    let error = run(command, "").failed(2);
    assert!(error.contains("there is no store") && error.contains("sophic-auth.db"), "{error}");
    for name in &names {
        assert_eq!(with(&[(name, "")], "scanner-regex").ok(), with(&[], "scanner-regex").ok());
    }
}

#[test]
fn an_unknown_variable_is_reported_without_its_value() {
    let variables = [
        ("SOPHIC_AUTH_DATABSE_URL", "postgres://u:hunter2@h/d"),
        ("SOPHIC_AUTH_ZZZ", "hunter2"),
        ("SOPHIC_AUTH_SERVICE_HOST", "10.0.0.1"),
        ("SOPHIC_AUTH_PORT", "tcp://10.0.0.1:50051"),
    ];
    let ended = with(&variables, "scanner-regex");
    assert_eq!(ended.code, Some(0));
    let meant =
        "SOPHIC_AUTH_DATABSE_URL is not a known variable: did you mean SOPHIC_AUTH_DATABASE_URL?";
    assert!(ended.err.contains(meant), "{}", ended.err);
    assert!(ended.err.contains("SOPHIC_AUTH_ZZZ is not a known variable\n"), "{}", ended.err);
    assert_eq!(ended.err.lines().count(), 2, "{}", ended.err);
    assert!(!ended.err.contains("hunter2"), "{}", ended.err);
}

#[test]
fn contradictory_and_incomplete_flags_are_refused_at_start() {
    let refused = [
        ("--tls-cert a.pem", "--tls-cert needs --tls-key"),
        ("--tls-key a.pem", "--tls-key needs --tls-cert"),
        ("--tls-client-ca a.pem", "--tls-client-ca needs --tls-cert"),
        ("--tls-client-certificates required", "needs --tls-client-ca"),
        ("--tls-client-certificates required --tls-client-ca a.pem", "needs --tls-cert"),
        (
            "--tls-client-certificates required --tls-cert a.pem --tls-key a.pem",
            "--tls-client-certificates needs --tls-client-ca",
        ),
        ("--insecure --tls-cert a.pem --tls-key a.pem", "--insecure"),
        ("--issuer http://auth.example --tls-cert a.pem --tls-key a.pem", "--issuer"),
        ("--listen 127.0.0.1:8080", "different ports"),
        ("--listen 0.0.0.0:8080 --insecure", "different ports"),
        ("--overlap-min 2h --overlap-max 1h", "--overlap-min must not be above --overlap-max"),
        ("--overlap-min 10d --key-lifetime-max 1d", "must not be above --key-lifetime-max"),
        ("--overlap-min 10d --pat-lifetime-max 1d", "must not be above --pat-lifetime-max"),
        // A flag that has no effect.
        (
            "--tls-client-certificates optional",
            "needs --tls-client-ca; --tls-client-certificates needs",
        ),
        ("--purge-dead-after 0s --purge-changes-after 0s --purge-every 5m", "--purge-every"),
    ];
    for (flags, text) in refused {
        let error = with(&[], &format!("serve --no-migrate {flags}")).failed(2);
        assert!(error.contains(text), "{flags}: {error}");
        // The same, given by variables.
        let mut variables = Vec::new();
        let mut words = flags.split_whitespace().peekable();
        while let Some(flag) = words.next() {
            let name = flag.trim_start_matches("--").to_uppercase().replace('-', "_");
            let value = words.next_if(|next| !next.starts_with("--")).unwrap_or("true");
            variables.push((format!("SOPHIC_AUTH_{name}"), value));
        }
        let variables: Vec<_> =
            variables.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        let error = with(&variables, "serve --no-migrate").failed(2);
        assert!(error.contains(text), "{variables:?}: {error}");
    }
    // All violations are reported together.
    let error = with(&[], "serve --tls-cert a.pem --overlap-min 2h --overlap-max 1h").failed(2);
    assert!(error.contains("--tls-key") && error.contains("--overlap-min"), "{error}");
    let error = with(&[], "dev --listen 127.0.0.1:9 --http-listen 127.0.0.1:9").failed(2);
    assert!(error.contains("different ports"), "{error}");
}

#[test]
fn surprising_combinations_of_flags_are_warned_of_at_start() {
    let folder = tempfile::TempDir::new().expect("a folder for temporary files");
    let start = |flags: &str| {
        let mut command = command();
        command
            .args(split(&format!("serve --no-migrate --connections-max 100 {flags}")))
            .current_dir(folder.path());
        run(command, "").failed(2)
    };
    assert!(start("--lease 60s").contains("BARRIER_PENDING"));
    assert!(start("--request-timeout 5s").contains("BARRIER_PENDING"));
    assert!(start("--purge-changes-after 1s").contains("--cache-ttl"));
    let quiet = start("");
    assert_eq!(quiet.lines().count(), 1, "{quiet}");
}
