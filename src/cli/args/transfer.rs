//! Flags of `import` and `export`, and the help text that describes the file format.

#![expect(clippy::doc_markdown, reason = "these comments are help texts, read in a terminal")]

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::cli::UsageError;
use crate::service::{Column, ColumnOptions};

/// Flags of `import`.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a separate flag")]
pub(in crate::cli) struct ImportArgs {
    /// File to import. '-' reads standard input
    pub(in crate::cli) file: PathBuf,
    /// Format of the file [default: by its extension: .csv, .jsonl or .json]
    #[arg(long)]
    pub(in crate::cli) format: Option<TransferFormatArg>,
    /// Write everything in one transaction, or nothing if any line is bad. Other writers wait for the transaction
    #[arg(long)]
    pub(in crate::cli) all_or_nothing: bool,
    /// Check the file and write nothing
    #[arg(long)]
    pub(in crate::cli) dry_run: bool,
    /// Create missing users, by id, and missing workspaces, by slug, but not deleted ones
    #[arg(long)]
    pub(in crate::cli) create_missing: bool,
    /// Map columns of the file to columns of the format, such as user_id=user,created_at=create_time
    #[arg(long, value_delimiter = ',', value_name = "FROM=TO", value_parser = rename)]
    pub(in crate::cli) rename: Vec<(String, Column)>,
    /// Default value of a column for records that leave it empty, such as scopes=read. Repeatable
    #[arg(long, value_name = "COLUMN=TEXT", value_parser = preset)]
    pub(in crate::cli) set: Vec<(Column, String)>,
    /// Columns of the file to ignore. 'all' ignores every unknown column
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    pub(in crate::cli) ignore_columns: Vec<String>,
    /// Accept values in the column `token` that look like digests, as tokens
    #[arg(long)]
    pub(in crate::cli) tokens_look_like_digests: bool,
    /// Read a known token from this file ('-' is standard input), print the line that has its digest, and write nothing. This
    /// checks that the file's digests were computed as expected
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) check_token: Option<PathBuf>,
}

fn rename(text: &str) -> Result<(String, Column), String> {
    let (from, to) = text.split_once('=').ok_or("must be FROM=TO, such as user_id=user")?;
    Ok((from.to_owned(), column(to)?))
}

fn preset(text: &str) -> Result<(Column, String), String> {
    let (column_name, text) =
        text.split_once('=').ok_or("must be COLUMN=TEXT, such as scopes=read")?;
    let column = column(column_name)?;
    if matches!(column, Column::Token | Column::Digest | Column::Id) {
        return Err(format!("{column_name} is different in each record, so it has no default"));
    }
    Ok((column, text.to_owned()))
}

fn column(name: &str) -> Result<Column, String> {
    Column::parse(name).ok_or_else(|| {
        let names = Column::ALL.map(Column::as_str).join(", ");
        format!("there is no column {name}. The columns are {names}")
    })
}

/// Flags of `export`.
#[derive(Debug, Args)]
pub(in crate::cli) struct ExportArgs {
    /// File to write. It must not exist. '-' writes to standard output
    #[arg(default_value = "-")]
    pub(in crate::cli) file: PathBuf,
    /// Format of the file [default: by its extension, .csv or .jsonl; jsonl on standard output]
    #[arg(long)]
    pub(in crate::cli) format: Option<TransferFormatArg>,
    /// Export the whole deployment as JSON lines: workspaces with their policies, users, memberships, credentials and callers.
    /// Omits the audit log and everything that was deleted
    #[arg(long, conflicts_with_all = ["user", "workspace"])]
    pub(in crate::cli) all: bool,
    /// Only keys of this workspace, by slug or id
    #[arg(long, conflicts_with = "user")]
    pub(in crate::cli) workspace: Option<String>,
    /// Only personal access tokens of this user, by id
    #[arg(long)]
    pub(in crate::cli) user: Option<String>,
}

impl ImportArgs {
    /// Refuses flags that have no meaning for a deployment, whose format is fixed.
    pub(in crate::cli) fn refuse_for_deployment(&self) -> Result<(), UsageError> {
        let given = [
            ("--create-missing", self.create_missing),
            ("--rename", !self.rename.is_empty()),
            ("--set", !self.set.is_empty()),
            ("--ignore-columns", !self.ignore_columns.is_empty()),
            ("--tokens-look-like-digests", self.tokens_look_like_digests),
            ("--check-token", self.check_token.is_some()),
        ];
        match given.into_iter().find(|(_, given)| *given) {
            Some((flag, _)) => {
                Err(UsageError(format!("{flag} cannot be used to import a whole deployment")))
            }
            None => Ok(()),
        }
    }

    /// Returns how to read the file's columns.
    pub(in crate::cli) fn columns(&self) -> ColumnOptions {
        let (all, named) =
            self.ignore_columns.iter().cloned().partition::<Vec<_>, _>(|name| name == "all");
        ColumnOptions {
            renamed: self.rename.clone(),
            preset: self.set.clone(),
            ignored: named,
            ignore_unknown: !all.is_empty(),
            tokens_look_like_digests: self.tokens_look_like_digests,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum TransferFormatArg {
    Csv,
    /// JSON lines. An import also accepts a JSON array
    #[value(alias = "json")]
    Jsonl,
}

pub(in crate::cli) const IMPORT_EXAMPLES: &str = "\
Examples:
  sophic-auth import --dry-run legacy.csv
  printf '%s' \"$TOKEN\" | sophic-auth import --check-token - legacy.csv
  sophic-auth import --rename user_id=user,hash=digest --set scopes=read --ignore-columns all dump.csv
  sophic-auth import --create-missing legacy.csv
  zcat legacy.jsonl.gz | sophic-auth import --format jsonl --all-or-nothing -

Use --help for the format.";

/// Returns the description of the file format.
pub(in crate::cli) fn import_long_help() -> String {
    use std::fmt::Write as _;
    let mut text = String::from(
        "Format: CSV (RFC 4180) with a header of column names, in any order, or JSON, as one object per line or one array of \
         objects. The encoding is UTF-8. Optional columns may be left out. Other columns are an error, unless --rename or \
         --ignore-columns names them. docs/import.md has commands for several systems.\n\n",
    );
    for column in Column::ALL {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {:<15} {}", column.as_str(), column.meaning());
    }
    text.push_str(
        "\nThe same command imports the output of `export --all`, in one transaction. Objects that exist and are the same are \
         left unchanged. If an existing object differs, the import reports it and writes nothing.\n\n\
         A time is one of: RFC 3339; the format of Postgres, such as 2027-01-31 12:00:00.5+00, in UTC if it has no zone; a \
         date, which means its start in UTC; or a number of seconds, milliseconds or microseconds since 1970, which has 10, \
         13 or 16 digits. In CSV from other systems, \\N means empty. In JSON, times, users and workspaces may be numbers, \
         and revoked and enabled may be true or false.\n\n\
         A file that is not valid CSV or JSON is refused as a whole, and the error names the line on which the record \
         begins. A file whose tokens look like digests is refused too.\n\n\
         Every line is checked before anything is written. A bad line is reported by its number on standard error and \
         skipped, unless --all-or-nothing is given. If a column other than `token` seems to contain a token, nothing is \
         written. A credential that exists with the same digest and owner is left unchanged, so an interrupted import can \
         be repeated.\n\n\
         Policies do not apply to an import: neither the server's policy nor a workspace's limits the lifetime or the number \
         of imported credentials. They apply when an imported credential is rotated. The audit log has an event \
         `credential.import` for each credential, and one event for each batch.\n\n\
         A server looks up tokens that were imported from another system only with --accept-imported-tokens.\n\n\
         Exit code 0: every line is in the store; 1: some lines are not; 2: wrong usage.\n\n\
         Example:\n  \
         printf 'workspace,name,scopes,token\\nacme,ci,read,9c41f3e08b2d47a69c41f3e08b2d47a6\\n' | \
         sophic-auth import --format csv -",
    );
    text
}
