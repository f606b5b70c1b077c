//! A token in a wrong place of the command line is never repeated.

use clap::Command;
use tempfile::TempDir;

use super::program::{Ended, command, run};

/// A token by its shape. No part of its body may be printed.
const TOKEN: &str = "sophic_pat_Zx7Qm2Lk9Vb4Nc1Xs8Wd3Fg6Hj5Rt0Yp2Ua3Bc4";
const BODY: &str = "Zx7Qm2Lk9Vb4";
/// A token of another system, which cannot be told from other text.
const LEGACY: &str = "legacy-000001-5f2c9a71d03b4e86";

/// Runs the program in an empty directory.
fn ended(words: &[&str], variables: &[(&str, &str)]) -> Ended {
    let folder = TempDir::new().expect("a folder");
    let mut command = command();
    command.args(words).envs(variables.iter().copied()).current_dir(folder.path());
    run(command, "")
}

/// Every command, with its words.
fn commands<'c>(command: &'c Command, words: &[&'c str]) -> Vec<(Vec<&'c str>, &'c Command)> {
    let mut found = vec![(words.to_vec(), command)];
    for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
        let mut words = words.to_vec();
        words.push(inner.get_name());
        found.extend(commands(inner, &words));
    }
    found
}

fn refused(words: &[&str]) {
    let ended = ended(words, &[]);
    assert_eq!(ended.code, Some(2), "{words:?}: {}", ended.err);
    assert_eq!(ended.out, "", "{words:?}");
    assert!(!ended.err.contains(BODY), "{words:?}: {}", ended.err);
    assert!(ended.err.contains("standard input or a file"), "{words:?}: {}", ended.err);
}

#[test]
fn no_command_repeats_a_token_that_was_given_as_an_argument() {
    let all = sophic_auth::cli::command();
    let all = commands(&all, &[]);
    assert!(all.len() > 50, "{}", all.len());
    for (words, command) in all {
        refused(&[&words[..], &[TOKEN]].concat());
        // An id, a name, or the value of any other flag.
        for argument in command.get_arguments() {
            let Some(flag) = argument.get_long() else { continue };
            let (flag, both) = (format!("--{flag}"), format!("--{flag}={TOKEN}"));
            if flag.len() % 2 == 0 {
                refused(&[&words[..], &[&flag, TOKEN]].concat());
            } else {
                refused(&[&words[..], &[&both]].concat());
            }
        }
    }
    let pasted = format!("Authorization: Bearer {TOKEN}");
    refused(&["introspect", &pasted]);
    refused(&["introspect", "--output", "json", TOKEN]);
    refused(&["key", "show", "--output=json", "--", TOKEN]);
}

#[test]
fn a_token_in_a_variable_is_not_repeated() {
    for words in [
        &["serve", "--output", "table"][..],
        &["serve", "--output", "json"],
        &["serve", "--help"],
        &["serve", "--help", "--output", "json"],
    ] {
        for name in ["SOPHIC_AUTH_LISTEN", "SOPHIC_AUTH_REQUESTS_MAX"] {
            let ended = ended(words, &[(name, TOKEN)]);
            let help = words.contains(&"--help");
            assert_eq!(ended.code, Some(if help { 0 } else { 2 }), "{name}: {}", ended.err);
            assert!(!ended.err.contains(BODY) && !ended.out.contains(BODY), "{}", ended.err);
            assert_eq!(ended.out.contains("--listen"), help, "help is for standard output");
        }
    }
    let by_operator = ended(&["user", "put", "ada"], &[("SOPHIC_AUTH_OPERATOR", TOKEN)]);
    assert_eq!(by_operator.code, Some(2), "{}", by_operator.err);
    assert!(!by_operator.err.contains(BODY), "{}", by_operator.err);
    let ended_by_format = ended(&["user", "list"], &[("SOPHIC_AUTH_OUTPUT", TOKEN)]);
    assert_eq!(ended_by_format.code, Some(2), "{}", ended_by_format.err);
    assert!(!ended_by_format.err.contains(BODY), "{}", ended_by_format.err);
    let url = format!("mysql://{TOKEN}@db/{TOKEN}");
    let ended = ended(&["user", "list"], &[("SOPHIC_AUTH_DATABASE_URL", &url)]);
    assert!(ended.code == Some(2) && !ended.err.contains(BODY), "{}", ended.err);
}

#[test]
fn a_command_that_reads_a_token_does_not_repeat_text_that_may_be_one() {
    for words in [
        &["introspect", LEGACY][..],
        &["introspect", "--accept-imported-tokens", LEGACY],
        &["introspect", "--workspace", "acme", LEGACY, "--output", "json"],
        &["explain", "-", LEGACY],
        &["explain", LEGACY],
        &["key", "show", LEGACY],
        &["pat", "show", "-", LEGACY],
        &["key", "revoke", LEGACY],
        &["pat", "revoke", "-", LEGACY],
        &["leaked", "-", LEGACY],
    ] {
        let ended = ended(words, &[]);
        assert_eq!(ended.code, Some(2), "{words:?}: {}", ended.err);
        assert!(!ended.err.contains("5f2c9a71"), "{words:?}: {}", ended.err);
    }
    // A command that reads no token says what is wrong, whatever its arguments are called.
    let said = ended(&["user", "delete", "revoke", "extra"], &[]).err;
    assert!(said.contains("'extra'") && said.contains("user delete"), "{said}");
    let said = ended(&["introspect", LEGACY], &[]).err;
    assert!(said.contains("a token is read from standard input"), "{said}");
}
