//! Runs every command of `docs/import.md` on a file in the format of that system.

use std::path::Path;

use serde_json::Value;

use crate::cli::program::{Ended, Program, run, split};
use crate::stores::on_every_store;

on_every_store! {
    what_other_systems_export_is_imported_by_the_documented_command,
    a_digest_that_no_token_can_match_is_refused_and_nothing_is_written,
}

/// Returns the directory of the sample files.
fn samples() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/transfer/samples")
}

/// Returns the command below this heading.
fn documented(heading: &str) -> String {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/import.md"));
    let page = page.expect("the page");
    let section = page.split("\n## ").find(|section| section.starts_with(heading));
    let section = section.unwrap_or_else(|| panic!("a section {heading}"));
    let command =
        section.lines().find_map(|line| line.strip_prefix("sophic-auth ")).expect("a command");
    command.to_owned()
}

fn in_samples(p: &Program, words: &str, input: &str) -> Ended {
    let mut command = p.command(&split(words));
    command.current_dir(samples());
    run(command, input)
}

fn tokens() -> Value {
    let text = std::fs::read_to_string(samples().join("tokens.json")).expect("the tokens");
    serde_json::from_str(&text).expect("JSON")
}

fn active(p: &Program, token: &str) -> Value {
    let words = "introspect --accept-imported-tokens --output json";
    serde_json::from_str::<Value>(&p.pipe(token, words).out).expect("JSON")["active"].clone()
}

async fn what_other_systems_export_is_imported_by_the_documented_command(p: Program) {
    p.run("workspace put acme").ok();
    for (heading, name, records) in [
        ("Unkey", "unkey", 2),
        ("better-auth", "better", 1),
        ("The Rust package registry", "crates", 2),
        ("Kong", "kong", 1),
        ("Sentry", "sentry", 1),
    ] {
        let command = documented(heading);
        let token = tokens()[name].as_str().expect("a token").to_owned();
        assert_eq!(active(&p, &token), false, "{name}");
        let check = command.replacen("import ", "import --output json --check-token - ", 1);
        let found = in_samples(&p, &check, &token).json();
        let at = if name == "unkey" { "found_in_elements" } else { "found_on_lines" };
        assert_eq!(found[at].as_array().map(Vec::len), Some(1), "{found}");
        let other = in_samples(&p, &check, "another-token-that-nobody-has");
        assert_eq!(other.code, Some(1), "{}", other.out);
        let written = in_samples(&p, &format!("{command} --output json"), "").json();
        assert_eq!((&written["written"], &written["bad"]), (&records.into(), &0.into()), "{name}");
        assert_eq!(active(&p, &token), true, "{name}");
        let again = in_samples(&p, &format!("{command} --output json"), "").json();
        assert_eq!(again["already_there"], records, "{name}");
    }
    for dead in ["dead", "dead2"] {
        assert_eq!(active(&p, dead), false, "what was dead there is dead here");
    }
    let keys = p.run("key list --workspace acme --output json").json();
    let old =
        keys["credentials"].as_array().expect("a list").iter().find(|key| key["name"] == "old");
    assert_eq!(old.expect("it")["revoke_time"], "2024-06-01T08:30:00Z");
}

async fn a_digest_that_no_token_can_match_is_refused_and_nothing_is_written(p: Program) {
    p.run("workspace put acme").ok();
    for heading in ["GitLab", "Gitea", "django-rest-framework"] {
        let refused = in_samples(&p, &documented(heading), "");
        assert_eq!(refused.code, Some(1), "{}", refused.out);
        assert!(refused.err.contains("no token can match it"), "{}", refused.err);
    }
    // Such values are recognized under any column name.
    let hash = "pbkdf2_sha256$600000$saltsaltsalt$VkXq81kPz0AbVkXq81kPz0AbVkXq81kPz0AbVkXq81k=";
    let gitea = "0123456789".repeat(10);
    for value in [hash, &gitea] {
        let text = format!("workspace,name,scopes,digest\nacme,n,read,{value}\n");
        let refused = p.pipe(&text, "import --format csv -");
        assert_eq!(refused.code, Some(1));
        assert!(refused.err.contains("no token can match it"), "{}", refused.err);
    }
    assert_eq!(p.run("export").ok(), "");
    // The command for crates.io without its `--rename`.
    let command = documented("The Rust package registry").replace("token=digest,", "");
    let refused = in_samples(&p, &command, "");
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("looks like a digest"), "{}", refused.err);
    assert_eq!(p.run("export").ok(), "");
}
