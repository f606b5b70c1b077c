//! `import` and `export`.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use super::args::transfer::{ExportArgs, ImportArgs, TransferFormatArg};
use super::args::{Global, Output};
use super::new_file::NewFile;
use super::output::PrintError;
use super::progress::Progress;
use super::token_input::{read_token_from, read_token_from_stdin};
use super::{
    Outcome, UsageError, files, flag, open_service, operator, output, refuse_token_output,
};
use crate::model::{UserId, WorkspaceName};
use crate::service::{
    ColumnOptions, DEPLOYMENT_BEGINS, Import, ImportObserver, ImportOptions, ImportPhase,
    TransferError, TransferFormat, find_token,
};
use crate::store::ExportFilter;
use anyhow::Context as _;

pub(super) async fn import(global: &Global, args: ImportArgs) -> anyhow::Result<Outcome> {
    refuse_token_output(global)?;
    let format = format(args.format, &args.file)?;
    let from_stdin = args.file.as_os_str() == "-";
    if from_stdin && args.check_token.as_deref().is_some_and(|path| path.as_os_str() == "-") {
        let text =
            "the token and the file cannot both be standard input: put one of them into a file";
        return Err(UsageError(text.to_owned()).into());
    }
    let (mut input, bytes): (Box<dyn BufRead + Send>, _) = if from_stdin {
        (Box::new(BufReader::new(std::io::stdin())), None)
    } else {
        let file = files::open(&args.file)?;
        let metadata = file.metadata().ok().filter(std::fs::Metadata::is_file);
        let bytes = metadata.map(|metadata| metadata.len());
        (Box::new(BufReader::new(file)), bytes)
    };
    files::refuse_binary(&mut input)?;
    let is_deployment = format == TransferFormat::Jsonl
        && begins_a_deployment(input.fill_buf().context("the input cannot be read")?);
    if is_deployment {
        args.refuse_for_deployment()?;
    }
    let columns = args.columns();
    if let Some(token) = &args.check_token {
        return check_token(global, token, input, format, columns);
    }
    let options = ImportOptions {
        all_or_nothing: args.all_or_nothing,
        dry_run: args.dry_run,
        create_missing: args.create_missing,
    };
    let service = open_service(global).await?;
    let mut reporter = ImportReporter { progress: Progress::new(), bytes };
    let outcome = if is_deployment {
        service.import_deployment(&operator(), input, args.dry_run, &mut reporter).await
    } else {
        let import = Import { input, format, columns, options };
        service.import(&operator(), import, &mut reporter).await
    };
    reporter.progress.finish();
    service.close().await;
    let report = outcome?;
    let mut shown = serde_json::json!({
        "lines": report.lines,
        "written": report.written,
        "already_there": report.existing,
        "bad": report.bad,
    });
    if is_deployment {
        shown["narrower_here"] = report.kept.into();
    }
    if let Some(reason) = report.nothing_written {
        shown["nothing_written"] = reason.into();
    }
    output::item(global.output, &shown)?;
    // A deployment may be empty. Its last line confirms that it is complete.
    let is_empty = report.lines == 0 && !is_deployment;
    if is_empty {
        output::note("the file has no records: nothing was imported");
    }
    Ok(if report.bad == 0 && !is_empty { Outcome::Done } else { Outcome::Refused })
}

/// Whether the input begins like an exported deployment, after an optional byte order mark.
fn begins_a_deployment(first: &[u8]) -> bool {
    first.strip_prefix("\u{feff}".as_bytes()).unwrap_or(first).starts_with(DEPLOYMENT_BEGINS)
}

/// Prints the lines that have this token's digest. Does not use the store.
fn check_token(
    global: &Global,
    token: &Path,
    input: Box<dyn BufRead + Send>,
    format: TransferFormat,
    columns: ColumnOptions,
) -> anyhow::Result<Outcome> {
    let token = if token.as_os_str() == "-" {
        read_token_from_stdin()?
    } else {
        read_token_from(files::open(token)?).context(token.display().to_string())?
    };
    let found = find_token(input, format, columns, &token)?;
    let key = if found.unit == "line" { "found_on_lines" } else { "found_in_elements" };
    output::item(global.output, &serde_json::json!({"records": found.records, key: found.at}))?;
    if found.at.is_empty() {
        output::note(
            "no record has this token's digest: the digests may be salted, of another kind, or in another column",
        );
        return Ok(Outcome::Refused);
    }
    Ok(Outcome::Done)
}

/// Reports bad lines and progress on standard error.
struct ImportReporter {
    progress: Progress,
    bytes: Option<u64>,
}

impl ImportReporter {
    fn remark(&self, unit: &'static str, number: u64, what: &str) {
        let fields = serde_json::json!({unit: number});
        self.progress.remark(&format!("{unit} {number}: {what}"), fields);
    }
}

impl ImportObserver for ImportReporter {
    fn bad(&mut self, unit: &'static str, number: u64, reason: &str) {
        self.remark(unit, number, reason);
    }

    fn kept(&mut self, unit: &'static str, number: u64, what: &str) {
        self.remark(unit, number, what);
    }

    fn progress(&mut self, phase: ImportPhase, done: u64, lines: Option<u64>) {
        match phase {
            ImportPhase::Check => self.progress.show("bytes checked", done, self.bytes),
            ImportPhase::Write => self.progress.show("lines written", done, lines),
        }
    }
}

pub(super) async fn export(global: &Global, args: ExportArgs) -> anyhow::Result<()> {
    refuse_token_output(global)?;
    let to_stdout = args.file.as_os_str() == "-";
    let format = if to_stdout && args.format.is_none() {
        TransferFormat::Jsonl
    } else {
        format(args.format, &args.file)?
    };
    if args.all && format == TransferFormat::Csv {
        return Err(UsageError("--all writes JSON lines, not CSV".to_owned()).into());
    }
    if to_stdout && format == TransferFormat::Csv && global.output == Output::Json {
        let text = "CSV on standard output cannot be combined with --output json: write to a file, or leave one of them out";
        return Err(UsageError(text.to_owned()).into());
    }
    let service = open_service(global).await?;
    let workspace = match args.workspace {
        None => None,
        Some(name) => {
            Some(service.get_workspace(&flag("--workspace", WorkspaceName::parse(&name))?).await?)
        }
    };
    let user = match args.user {
        None => None,
        Some(id) => Some(service.get_user(&flag("--user", UserId::parse(&id))?).await?),
    };
    let filter = ExportFilter {
        workspace_id: workspace.map(|workspace| workspace.id),
        user_id: user.map(|user| user.id),
    };
    let mut progress = Progress::new();
    let what = if args.all { "records exported" } else { "credentials exported" };
    let mut show = |done| progress.show(what, done, None);
    let context = operator();
    let written = if to_stdout {
        let mut output = BufWriter::new(output::stdout());
        let exported = if args.all {
            service.export_deployment(&context, &mut output, &mut show).await
        } else {
            service.export(&context, &filter, format, &mut output, &mut show).await
        };
        match exported {
            Ok(_) => output.flush().map_err(|error| PrintError::from(error).into()),
            Err(TransferError::Io { source, .. }) => Err(PrintError::from(source).into()),
            Err(error) => Err(error.into()),
        }
    } else {
        to_file(&args.file, async |output| {
            if args.all {
                return Ok(service.export_deployment(&context, output, &mut show).await?);
            }
            Ok(service.export(&context, &filter, format, output, &mut show).await?)
        })
        .await
    };
    progress.finish();
    service.close().await;
    written
}

/// Writes a new file, which appears only when it is complete. It contains digests, so an interrupted export must leave
/// nothing behind.
async fn to_file(
    path: &Path,
    write: impl AsyncFnOnce(&mut BufWriter<&File>) -> anyhow::Result<u64>,
) -> anyhow::Result<()> {
    let new = NewFile::create(path)?;
    let mut output = BufWriter::new(new.file());
    write(&mut output).await?;
    output.flush()?;
    drop(output);
    new.keep()
}

/// Returns the given format, or the one of the file's extension.
fn format(said: Option<TransferFormatArg>, file: &Path) -> anyhow::Result<TransferFormat> {
    let by_name = || match file.extension()?.to_str()? {
        "csv" => Some(TransferFormatArg::Csv),
        "jsonl" | "ndjson" | "json" => Some(TransferFormatArg::Jsonl),
        _ => None,
    };
    match said.or_else(by_name) {
        Some(TransferFormatArg::Csv) => Ok(TransferFormat::Csv),
        Some(TransferFormatArg::Jsonl) => Ok(TransferFormat::Jsonl),
        None => {
            let text = "the file name does not end in .csv, .jsonl or .json: give --format csv or --format jsonl";
            Err(UsageError(text.to_owned()).into())
        }
    }
}
