//! Import, export, backup and a new epoch, through the use cases and through the program.

mod backup;
mod columns;
mod deployment;
mod documented;
mod export;
mod import;
mod injection;
mod killed;
mod program;
mod restricted;

use std::sync::Arc;

use sophic_auth::model::{DisplayName, Slug, UserId, WorkspaceId};
use sophic_auth::server;
use sophic_auth::service::{
    ColumnOptions, Context, Import, ImportObserver, ImportOptions, ImportPhase, ImportReport,
    Options, PutUser, PutWorkspace, Service, TransferError, TransferFormat,
};
use sophic_auth::store::{self, ExportFilter};

use crate::stores::{Database, Fixture};

/// The use cases over a store with a workspace `w` (slug `acme`) and a user `ada`.
pub(crate) struct Over {
    pub(crate) database: Arc<Database>,
    pub(crate) service: Arc<Service>,
}

impl Fixture for Over {
    async fn set_up(database: Arc<Database>) -> Self {
        let options = Options { accept_imported_tokens: true, ..Options::default() };
        store::migrate(&database.location()).await.expect("it can be migrated");
        let service =
            server::open_uncached_service(&database.location(), options).await.expect("it opens");
        let over = Self { database, service };
        over.put_owners().await;
        over
    }

    async fn tear_down(_: &Database) {}
}

/// What an import reported.
#[derive(Default)]
pub(crate) struct ImportRecorder {
    pub(crate) bad: Vec<(u64, String)>,
    pub(crate) phases: Vec<ImportPhase>,
}

impl ImportObserver for ImportRecorder {
    fn bad(&mut self, _: &'static str, line: u64, reason: &str) {
        self.bad.push((line, reason.to_owned()));
    }

    fn progress(&mut self, phase: ImportPhase, _: u64, _: Option<u64>) {
        self.phases.push(phase);
    }
}

impl ImportRecorder {
    /// Returns the numbers of the bad lines.
    pub(crate) fn lines(&self) -> Vec<u64> {
        self.bad.iter().map(|(line, _)| *line).collect()
    }
}

pub(crate) const ALL_OR_NOTHING: ImportOptions =
    ImportOptions { all_or_nothing: true, dry_run: false, create_missing: false };
pub(crate) const EACH: ImportOptions =
    ImportOptions { all_or_nothing: false, dry_run: false, create_missing: false };

impl Over {
    async fn put_owners(&self) {
        let context = || Context::operator("test");
        let id = WorkspaceId::parse("w").expect("an id");
        let slug = Slug::parse("acme").expect("a slug");
        let name = || DisplayName::parse("Acme").expect("a name");
        let (slug, display_name) = (Some(slug), Some(name()));
        let put =
            PutWorkspace { id, slug, display_name, disabled: None, policy: None, pat_policy: None };
        let put = self.service.put_workspace(context(), put).await;
        put.expect("a workspace");
        let id = UserId::parse("ada").expect("an id");
        let put = PutUser { id, display_name: Some(name()), disabled: None };
        self.service.put_user(context(), put).await.expect("a user");
    }

    pub(crate) async fn import(
        &self,
        text: &str,
        format: TransferFormat,
        options: ImportOptions,
    ) -> (Result<ImportReport, TransferError>, ImportRecorder) {
        self.import_as(text, format, options, ColumnOptions::default()).await
    }

    pub(crate) async fn import_as(
        &self,
        text: &str,
        format: TransferFormat,
        options: ImportOptions,
        columns: ColumnOptions,
    ) -> (Result<ImportReport, TransferError>, ImportRecorder) {
        let mut recorded = ImportRecorder::default();
        let import = Import { input: text.as_bytes(), format, columns, options };
        let report = self.service.import(&Context::operator("test"), import, &mut recorded).await;
        (report, recorded)
    }

    pub(crate) async fn import_csv(&self, text: &str) -> (ImportReport, ImportRecorder) {
        let (report, recorded) = self.import(text, TransferFormat::Csv, EACH).await;
        (report.expect("a report"), recorded)
    }

    pub(crate) async fn export(&self, format: TransferFormat) -> String {
        let mut output = Vec::new();
        let context = Context::operator("test");
        let filter = ExportFilter::default();
        let export = self.service.export(&context, &filter, format, &mut output, &mut |_| {}).await;
        export.expect("an export");
        String::from_utf8(output).expect("UTF-8")
    }
}

/// Returns the nth token of another system.
pub(crate) fn legacy(n: usize) -> String {
    format!("legacy-{n:06}-5f2c9a71d03b4e86")
}

/// Returns a CSV of keys of `acme` with tokens of another system.
pub(crate) fn keys(numbers: impl IntoIterator<Item = usize>) -> String {
    let lines = numbers.into_iter().map(|n| format!("acme,key {n},read,{}\n", legacy(n)));
    format!("workspace,name,scopes,token\n{}", lines.collect::<String>())
}
