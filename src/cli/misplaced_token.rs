//! A token that was given in a wrong place, as an argument. Other users of the machine can see it there, and an error
//! that repeated it would take it to logs.

use std::ffi::OsString;

use clap::Command;
use clap::error::{ContextKind, ContextValue, Error, ErrorKind};

use crate::token::redact_tokens;

const MISPLACED: &str = "an argument or SOPHIC_AUTH_OPERATOR has a token in it, which is not shown here: other users of \
                         this machine can see arguments, so the token counts as leaked. A token is read from standard \
                         input or a file";
const UNEXPECTED: &str = "an argument is unexpected, and not shown here because it may be a token: a token is read from \
                          standard input";

/// The variable whose value the audit log keeps.
const OPERATOR: &str = "SOPHIC_AUTH_OPERATOR";

/// Refuses a token of ours in the arguments, or in the name of the operator.
pub(super) fn refuse(words: &[OsString], command: &mut Command) -> clap::error::Result<()> {
    let operator = std::env::var_os(OPERATOR);
    let has_token = |word: &OsString| {
        let text = word.to_string_lossy();
        redact_tokens(&text) != text
    };
    if words.iter().chain(&operator).any(has_token) {
        return Err(Error::raw(ErrorKind::ValueValidation, MISPLACED).format(command));
    }
    Ok(())
}

/// Replaces an error that repeats an argument which may be the token of another system.
pub(super) fn hide(error: Error, words: &[OsString], command: &mut Command) -> Error {
    let is_positional = match (error.kind(), error.get(ContextKind::InvalidArg)) {
        (ErrorKind::UnknownArgument, Some(ContextValue::String(argument))) => {
            !argument.starts_with('-')
        }
        _ => false,
    };
    command.build();
    let (path, given) = given(words, command);
    if is_positional && reads_token(&path) {
        Error::raw(ErrorKind::UnknownArgument, UNEXPECTED).format(&mut given.clone())
    } else {
        error
    }
}

/// Returns the command that the words name, with its path.
fn given<'c>(words: &[OsString], root: &'c Command) -> (Vec<&'c str>, &'c Command) {
    let (mut path, mut command) = (Vec::new(), root);
    for word in words.iter().skip(1) {
        if let Some(found) = command.find_subcommand(word) {
            path.push(found.get_name());
            command = found;
        }
    }
    (path, command)
}

/// Whether this command reads a token, which may be an imported one and have any shape.
fn reads_token(path: &[&str]) -> bool {
    matches!(
        path,
        ["introspect" | "explain" | "leaked"] | ["key" | "pat" | "credentials", "show" | "revoke"]
    )
}
