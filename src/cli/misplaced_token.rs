//! A token that was given in a wrong place, as an argument. Other users of the machine can see it there, and an error
//! that repeated it would take it to logs.

use std::ffi::{OsStr, OsString};

use clap::Command;
use clap::error::{ContextKind, ContextValue, Error, ErrorKind};

use crate::token::redact_tokens;

const MISPLACED: &str = "an argument has a token in it, which is not shown here: other users of this machine can see \
                         arguments, so the token counts as leaked. A token is read from standard input or a file";
const UNEXPECTED: &str = "an argument is unexpected, and not shown here because it may be a token: a token is read from \
                          standard input";

/// Commands that read a token, of any shape if it was imported.
const READERS: [&str; 5] = ["introspect", "explain", "show", "revoke", "leaked"];

/// Refuses arguments with a token of ours in them.
pub(super) fn refuse(words: &[OsString], command: &mut Command) -> clap::error::Result<()> {
    let has_token = |word: &OsString| {
        let text = word.to_string_lossy();
        redact_tokens(&text) != text
    };
    if words.iter().any(has_token) {
        return Err(Error::raw(ErrorKind::ValueValidation, MISPLACED).format(command));
    }
    Ok(())
}

/// Replaces an error that repeats an argument which may be the token of another system.
pub(super) fn hide(error: Error, words: &[OsString], command: &mut Command) -> Error {
    let reads_token =
        || READERS.iter().any(|reader| words.iter().any(|word| word == OsStr::new(reader)));
    match (error.kind(), error.get(ContextKind::InvalidArg)) {
        (ErrorKind::UnknownArgument, Some(ContextValue::String(argument)))
            if !argument.starts_with('-') && reads_token() =>
        {
            Error::raw(ErrorKind::UnknownArgument, UNEXPECTED).format(command)
        }
        _ => error,
    }
}
