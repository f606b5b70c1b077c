//! The flags of `import` and `export`, and the help that has the whole of the format.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::service::Column;

/// Flags of `import`.
#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// The file; '-' reads standard input
    pub(super) file: PathBuf,
    /// How it is written [default: by the name's ending, .csv or .jsonl]
    #[arg(long)]
    pub(super) format: Option<TransferFormatArg>,
    /// Write nothing if any line is bad, and else everything in one transaction, which holds up other writers
    #[arg(long)]
    pub(super) all_or_nothing: bool,
    /// Check everything and write nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Make the users and workspaces that are not there: users by id, workspaces by slug, each named so
    #[arg(long)]
    pub(super) create_missing: bool,
}

/// Flags of `export`.
#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// The file to write, which must not be there yet; '-' writes to standard output
    #[arg(default_value = "-")]
    pub(super) file: PathBuf,
    /// How to write it [default: by the name's ending, .csv or .jsonl; jsonl on standard output]
    #[arg(long)]
    pub(super) format: Option<TransferFormatArg>,
    /// Only keys of this workspace, by slug or id
    #[arg(long, conflicts_with = "user")]
    pub(super) workspace: Option<String>,
    /// Only personal access tokens of this user
    #[arg(long)]
    pub(super) user: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum TransferFormatArg {
    Csv,
    Jsonl,
}

pub(super) const IMPORT_EXAMPLES: &str = "\
Examples:
  sophic-auth import --dry-run legacy.csv
  sophic-auth import --create-missing legacy.csv
  zcat legacy.jsonl.gz | sophic-auth import --format jsonl --all-or-nothing -

Use --help for the format.";

/// The whole of the format.
pub(super) fn import_long_help() -> String {
    use std::fmt::Write as _;
    let mut text = String::from(
        "Format: CSV with a header that names its columns, in any order, or JSON lines: an object for each line. UTF-8. \
         Columns that are not needed may be left out:\n\n",
    );
    for column in Column::ALL {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {:<15} {}", column.as_str(), column.meaning());
    }
    text.push_str(
        "\nEvery line is checked before anything is written. A bad line is reported by its number on standard error and \
         left out; it does not stop the others, but for --all-or-nothing. If a token seems to stand in the clear in any \
         column but `token`, nothing is written at all. Of a credential that is there already, with the same digest and \
         owner, nothing is changed: an import that was interrupted is simply run again.\n\n\
         What lives elsewhere already is taken over as it is: neither the server's policy nor a workspace's is asked, so that \
         an imported credential may live longer, or there may be more of them, than could be made here. The policy holds \
         again when one is rotated. In the audit log each has an event of its own, `credential.import`, and each batch one \
         more with their number.\n\n\
         What was imported from another system is looked up by a server that runs with --accept-imported-tokens.\n\n\
         Exit code 0: every line is in the store now, or was; 1: some are not; 2: wrong usage.\n\n\
         Example:\n  \
         printf 'workspace,name,scopes,token\\nacme,ci,read,9c41f3e08b2d47a69c41f3e08b2d47a6\\n' | \
         sophic-auth import --format csv -",
    );
    text
}
