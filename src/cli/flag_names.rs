//! The fields of requests, by the flags of the command that was given: an error of the service names fields, and a person
//! knows the flags.

use std::sync::OnceLock;

use clap::{ArgMatches, Command};

use crate::service::{FieldViolation, ServiceError};

/// Fields whose flag has another name.
const FLAGS_OF_FIELDS: [(&str, &str); 10] = [
    ("display_name", "name"),
    ("end_time", "until"),
    ("family_id", "family"),
    ("granted_workspace_ids", "workspaces"),
    ("granted_workspaces", "workspaces"),
    ("page_size", "limit"),
    ("start_time", "since"),
    ("target_id", "target"),
    ("user_id", "user"),
    ("workspace_id", "workspace"),
];

/// The fields that the command has flags or arguments for, each with its name on the command line.
static NAMES: OnceLock<Vec<(String, String)>> = OnceLock::new();

/// Takes the flags of the command that was given.
pub(super) fn init(command: &Command, matches: &ArgMatches) {
    let (mut command, mut matches) = (command, matches);
    while let Some((name, inner)) = matches.subcommand() {
        let Some(found) = command.find_subcommand(name) else { break };
        (command, matches) = (found, inner);
    }
    // Set once: a process parses one command line.
    let _ = NAMES.set(names(command));
}

fn names(command: &Command) -> Vec<(String, String)> {
    let arguments = command.get_arguments().flat_map(|argument| {
        let id = argument.get_id().as_str();
        let shown = match argument.get_long() {
            Some(long) => format!("--{long}"),
            None => id.to_uppercase(),
        };
        let others = FLAGS_OF_FIELDS.iter().filter(move |(_, flag)| *flag == id);
        let fields = std::iter::once(id).chain(others.map(|(field, _)| *field));
        fields.map(move |field| (field.to_owned(), shown.clone())).collect::<Vec<_>>()
    });
    arguments.collect()
}

/// Returns the flag of a field, such as `credential.scopes` or `scopes[1]`.
pub(super) fn of_field(field: &str) -> Option<&'static str> {
    of(NAMES.get()?, field)
}

fn of<'n>(names: &'n [(String, String)], field: &str) -> Option<&'n str> {
    let last = field.rsplit('.').next().unwrap_or(field);
    let last = last.split('[').next().unwrap_or(last);
    names.iter().find(|(field, _)| field == last).map(|(_, shown)| shown.as_str())
}

/// Returns the error with the flags in place of the fields.
pub(super) fn by_flags(error: &ServiceError) -> ServiceError {
    let names = NAMES.get().map(Vec::as_slice).unwrap_or_default();
    let violations = error.violations.iter().map(|violation| FieldViolation {
        field: of(names, &violation.field).unwrap_or(&violation.field).to_owned(),
        description: description(names, &violation.description),
    });
    ServiceError { violations: violations.collect(), ..error.clone() }
}

/// Names the flags in a description. A field stands in backticks there, or has an underscore.
fn description(names: &[(String, String)], text: &str) -> String {
    let mut shown_text = text.to_owned();
    for (field, shown) in names {
        shown_text = shown_text.replace(&format!("`{field}`"), shown);
    }
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let words = shown_text.split_inclusive(|c| !is_word(c)).map(|part| {
        let word = part.trim_end_matches(|c| !is_word(c));
        let shown = word.contains('_').then(|| of(names, word)).flatten();
        shown.map_or_else(|| part.to_owned(), |shown| part.replacen(word, shown, 1))
    });
    words.collect()
}

#[cfg(test)]
mod tests {
    use super::{description, names, of};

    #[test]
    fn a_field_has_the_name_of_its_flag() {
        let command = crate::cli::command();
        let revoke = command.find_subcommand("credentials").expect("the command");
        let names = names(revoke.find_subcommand("revoke").expect("the command"));
        assert_eq!(of(&names, "family_id"), Some("--family"));
        assert_eq!(of(&names, "filter.created_before"), Some("--created-before"));
        assert_eq!(of(&names, "page_token"), None);
        let text = "one of `workspace`, `creator`, family_id and unused_for: not page_token, of a workspace";
        let expected = "one of --workspace, --creator, --family and --unused-for: not page_token, of a workspace";
        assert_eq!(description(&names, text), expected);
        let put = command.find_subcommand("workspace").expect("the command");
        let names = super::names(put.find_subcommand("put").expect("the command"));
        assert_eq!(of(&names, "workspace.slug"), Some("SLUG"));
        assert_eq!(of(&names, "workspaces[0].display_name"), Some("--name"));
    }
}
