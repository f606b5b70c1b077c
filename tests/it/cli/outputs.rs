//! The output formats of each command: table, JSON, and the token alone.

use super::program::{Program, command, run, split};
use crate::stores::on_every_store;

on_every_store! {
    every_command_prints_a_table_and_json,
    output_token_is_for_create_and_rotate_only,
    a_table_shows_the_new_token,
    introspect_prints_a_summary,
    the_output_format_can_be_set_by_a_variable,
}

const COMMANDS: [(&str, &str); 15] = [
    ("workspace put acme --id w1", "acme"),
    ("user put ada", "ada"),
    ("member put --workspace acme --user ada --role member", "member"),
    ("caller create gateway --permission introspect --permission audit.read", "introspect"),
    ("caller create mesh --permission introspect --certificate-san spiffe://x/y", "spiffe://x/y"),
    ("key create --workspace acme --name ci --scope read", "sophic_key_"),
    ("pat create --user ada --name laptop --scope capture", "sophic_pat_"),
    ("workspace list", "acme"),
    ("user list", "ada"),
    ("member list --user ada", "member"),
    ("caller list", "gateway"),
    ("key list", "ci"),
    ("pat list --user ada", "laptop"),
    ("status --expiring-within 30d", "key_active"),
    ("replica list", "HOST"),
];

async fn every_command_prints_a_table_and_json(p: Program) {
    for (words, shown) in COMMANDS {
        let table = p.run(words).ok();
        assert!(table.contains(shown), "{words}: {table}");
        assert!(!table.contains(['{', '}']), "{words}: {table}");
        for line in table.lines() {
            assert_eq!(line, line.trim_end(), "{words}: no blanks at the end");
        }
        // Only callers need unique names.
        let again = words.replace("gateway", "gateway2").replace("mesh", "mesh2");
        let again = again.replace("spiffe://x/y", "spiffe://x/z");
        let json = p.run(&format!("{again} --output json")).json();
        assert!(json.is_object(), "{words}: {json}");
    }
    let revoked = p.run("caller revoke gateway --output json").json();
    assert!(revoked["revoke_time"].is_string());
    assert!(p.run("caller revoke gateway2").ok().contains("revoke_time"));
    let listed = p.run("caller list").ok();
    let header = listed.lines().next().expect("a header");
    assert!(header.starts_with("ID") && header.contains("PERMISSIONS"), "{header}");
    assert_eq!(listed.lines().count(), 5, "{listed}");
}

async fn output_token_is_for_create_and_rotate_only(p: Program) {
    for (words, _) in COMMANDS {
        let ended = p.run(&format!("{words} --output token"));
        let makes_one = words.contains(" create ") && !words.contains("--certificate-san");
        if makes_one {
            assert!(ended.word().starts_with("sophic_"));
        } else {
            assert!(ended.failed(2).contains("--output token"), "{words}");
            // Refused before anything is written. The next commands need the object, so it is created now.
            p.run(words).ok();
        }
    }
    for words in ["introspect", "key revoke -", "migrate", "serve --listen 127.0.0.1:0", "dev"] {
        assert!(p.run(&format!("{words} --output token")).failed(2).contains("--output token"));
    }
}

async fn a_table_shows_the_new_token(p: Program) {
    p.run("workspace put acme").ok();
    let shown = p.run("key create --workspace acme --name ci --scope read").ok();
    let token = shown.lines().last().expect("a line");
    assert!(token.starts_with("sophic_key_") && token.len() == 49, "{shown}");
    assert!(shown.contains("shown this once"), "{shown}");
    assert!(p.pipe(token, "introspect --scope read").ok().starts_with("ALLOWED"));
    let listed = p.run("key list").ok();
    assert!(!listed.contains(&token[11..43]) && listed.contains(&token[39..43]), "{listed}");
}

async fn introspect_prints_a_summary(p: Program) {
    p.run(r#"workspace put acme --id w1 --name "Acme Inc""#).ok();
    p.run(r#"user put ada --name "Ada Lovelace""#).ok();
    p.run("member put --workspace acme --user ada --role viewer").ok();
    let make = "pat create --user ada --name laptop --scope read --scope capture --output token";
    let pat = p.run(make).word();
    let glance = p.pipe(&pat, "introspect --workspace acme --scope capture --scope admin");
    assert_eq!((glance.code, glance.err.as_str()), (Some(1), ""));
    let expected = [
        "REFUSED     403 INSUFFICIENT_SCOPE: the user's role in this workspace does not allow a required scope",
        "who         user ada (Ada Lovelace)",
        "where       acme (Acme Inc) w1",
        "as          viewer, set by the membership",
        "may         read",
        "lacks       capture admin",
        "            admin: the token was not granted it",
        "            capture admin: the role viewer may not",
    ];
    for line in expected {
        assert!(glance.out.lines().any(|one| one == line), "{line}: {}", glance.out);
    }
    let glance = p.pipe(&pat, "introspect --workspace acme --scope read").ok();
    assert!(glance.starts_with("ALLOWED     200\n"), "{glance}");
    let nobody = p.pipe("nobody's", "introspect");
    let why = "this cannot be a token: a token begins with sophic_key_ or sophic_pat_; one of another system is looked up \
               with --accept-imported-tokens";
    assert_eq!(nobody.out, format!("REFUSED     401: {why}\n"));
    let nothing = p.pipe("", "introspect");
    assert_eq!(nothing.out, "REFUSED     401 TOKEN_MISSING: no token was presented\n");
}

async fn the_output_format_can_be_set_by_a_variable(p: Program) {
    let mut words = p.command(&["user".to_owned(), "list".to_owned()]);
    words.env("SOPHIC_AUTH_OUTPUT", "json");
    assert!(run(words, "").json()["users"].is_array());
}

#[test]
fn scanner_regex_finds_a_token_in_any_text() {
    let mut words = command();
    words.arg("scanner-regex");
    let expression = run(words, "").word();
    assert_eq!(expression, sophic_auth::token::SCANNER_REGEX);
}

#[test]
fn completions_exist_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let mut words = command();
        words.args(["completions", shell]);
        assert!(run(words, "").ok().contains("sophic-auth"), "{shell}");
    }
}

/// Returns the commands without commands below them, each with its words.
fn all_commands(above: &str, command: &clap::Command) -> Vec<(String, clap::Command)> {
    let words = |below: &clap::Command| format!("{above} {}", below.get_name());
    let below = command.get_subcommands().filter(|below| below.get_name() != "help");
    let found = below.flat_map(|below| match below.has_subcommands() {
        true => all_commands(&words(below), below),
        false => vec![(words(below), below.clone())],
    });
    found.collect()
}

#[test]
fn every_command_has_an_example_which_the_program_accepts() {
    let commands = all_commands("sophic-auth", &sophic_auth::cli::command());
    assert!(commands.len() > 40, "{}", commands.len());
    for (words, command) in commands {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(help.starts_with("Example"), "{words}: {help}");
        // Commands that keys and personal access tokens share have one text.
        let verb = command.get_name();
        let shown = help.contains(&words) || help.split_whitespace().any(|word| word == verb);
        assert!(shown, "{words}: {help}");
        let help = help.replace("\\\n", " ");
        for example in help.lines().filter(|line| line.starts_with("  ")) {
            for part in example.split(['|', '&', ';', '#', '>']) {
                let Some(at) = part.find("sophic-auth ").filter(|_| !part.contains("$(")) else {
                    continue;
                };
                let parsed = sophic_auth::cli::command().try_get_matches_from(split(&part[at..]));
                assert!(parsed.is_ok(), "{words}: {part}: {parsed:?}");
            }
        }
    }
}

#[test]
fn help_and_version_go_to_standard_output() {
    for flag in ["--help", "-h", "help"] {
        let mut words = command();
        words.arg(flag);
        let help = run(words, "").ok();
        assert!(help.contains("Usage: sophic-auth"), "{help}");
    }
    let mut words = command();
    words.arg("--version");
    let version = run(words, "").ok();
    assert_eq!(version, format!("sophic-auth {}\n", env!("CARGO_PKG_VERSION")));
    // Help must not show a secret from the environment as a default.
    let mut words = command();
    words.args(["serve", "--help"]);
    words.env("SOPHIC_AUTH_DATABASE_URL", "postgres://u:hunter2@h/d");
    assert!(!run(words, "").ok().contains("hunter2"));
}
