//! The schema's versions: which one a database is at, and how it gets to this program's.
//!
//! Whoever migrates looks first, with rights to read alone: mostly nothing is to be done. Else each database takes its own
//! lock around [`run`], in one transaction, so that processes that start at once wait for each other and a migration that
//! fails leaves nothing behind.

use std::borrow::Cow;
use std::fmt::Write as _;

use sqlx::migrate::{Migrate, MigrateError, Migration, MigrationType, Migrator};
use sqlx::{ColumnIndex, Decode, FromRow, Row, SqlSafeStr as _, Type};

use super::{Result, StoreError};

include!(concat!(env!("OUT_DIR"), "/migrations.rs"));

/// Where a database's schema was and where it is now, or would be; 0 is one without any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationSummary {
    /// The version before.
    pub from: i64,
    /// The version after.
    pub to: i64,
    /// What leads from the one to the other, as `0014_replica_ends`.
    pub names: Vec<String>,
}

impl MigrationSummary {
    /// From one version to another of this listing.
    pub(super) fn between(from: i64, to: i64, list: MigrationList) -> Self {
        let between = list.iter().filter(|(version, ..)| (from + 1..=to).contains(version));
        let names = between.map(|(version, name, _)| format!("{version:04}_{name}")).collect();
        Self { from, to, names }
    }

    /// What would be done to a schema of this version.
    pub(super) fn pending(from: i64, list: MigrationList) -> Result<Self> {
        refuse_newer(from, list)?;
        Ok(Self::between(from, newest_version(list), list))
    }
}

/// One database's migrations: version, name, SQL.
pub(super) type MigrationList = &'static [(i64, &'static str, &'static str)];

/// The newest version of a listing, which is this program's.
pub(super) fn newest_version(list: MigrationList) -> i64 {
    list.iter().map(|(version, ..)| *version).max().unwrap_or(0)
}

/// What a database was found to hold, before anything is done to it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Schema {
    /// Nothing.
    Empty,
    /// Tables of others, and none in the way of a store beside them.
    Shared(Vec<String>),
    /// What others have, where no store can be; and where one can be instead.
    Occupied { names: Vec<String>, advice: &'static str },
    /// A store, of this version; settled: by all of the migrations of this program, and no others.
    Store { version: i64, is_current: bool },
}

impl Schema {
    /// A store by what its migrator has recorded.
    pub(super) fn of_store(applied: &[Applied], list: MigrationList) -> Self {
        let version = applied.last().map_or(0, |last| last.version);
        Self::Store { version, is_current: is_current(applied, list) }
    }

    /// The version of a store in which there is nothing to be done, and nothing to be refused.
    pub(super) fn current_version(&self) -> Option<i64> {
        match self {
            Self::Store { version, is_current: true } => Some(*version),
            _ => None,
        }
    }

    /// The version that it is to be migrated from; 0 without any. `place` is the database, to be shown.
    pub(super) fn version_to_migrate(&self, database: &str, list: MigrationList) -> Result<i64> {
        match self {
            Self::Empty | Self::Shared(_) => Ok(0),
            Self::Occupied { names, advice } => {
                Err(StoreError::InvalidLocation(occupied_text(database, names, advice)))
            }
            Self::Store { version, .. } => refuse_newer(*version, list).map(|()| *version),
        }
    }

    /// The version of a store that is there, and not newer than this program's.
    pub(super) fn existing_version(&self, database: &str, list: MigrationList) -> Result<i64> {
        let missing = |text| Err(StoreError::Missing(text));
        match self {
            Self::Empty => missing(format!(
                "there is no store in {database}, which is empty: `sophic-auth migrate` makes one"
            )),
            Self::Shared(tables) => missing(format!(
                "there is no store in {database}, which has tables of others ({}): if it is the right one, `sophic-auth \
                 migrate` makes a store beside them",
                first_names(tables)
            )),
            Self::Occupied { names, advice } => missing(occupied_text(database, names, advice)),
            Self::Store { version, .. } => refuse_newer(*version, list).map(|()| *version),
        }
    }

    /// Refuses all but a store of this program's version.
    pub(super) fn require_current(&self, database: &str, list: MigrationList) -> Result<()> {
        let (found, needed) = (self.existing_version(database, list)?, newest_version(list));
        if found < needed { Err(StoreError::SchemaTooOld { found, needed }) } else { Ok(()) }
    }
}

fn occupied_text(database: &str, names: &[String], advice: &str) -> String {
    format!(
        "{database} is another program's: it has what is its own ({}), and there is no store of sophic-auth in it; {advice}",
        first_names(names)
    )
}

/// The first few.
fn first_names(tables: &[String]) -> String {
    let more = if tables.len() > 3 { ", …" } else { "" };
    let first: Vec<_> = tables.iter().take(3).map(String::as_str).collect();
    format!("{}{more}", first.join(", "))
}

/// The names that a listing gives to what it makes in a schema, and the migrator's own.
pub(super) fn created_names(list: MigrationList) -> impl Iterator<Item = &'static str> {
    let lines = list.iter().flat_map(|(.., sql)| sql.lines());
    let names = lines.filter_map(|line| {
        let mut words = line.strip_prefix("CREATE ")?.split([' ', '(']);
        words.find(|word| matches!(*word, "TABLE" | "INDEX" | "FUNCTION"))?;
        words.next()
    });
    names.chain(["_sqlx_migrations"])
}

/// What the migrator keeps of a listing's first migration, in hexadecimal: other programs have such a table too.
pub(super) fn first_checksum(list: MigrationList) -> String {
    let checksum = sqlx_migrations(list).next().map(|first| first.checksum).unwrap_or_default();
    checksum.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02X}");
        text
    })
}

/// Refuses a schema that a newer program has made.
pub(super) fn refuse_newer(found: i64, list: MigrationList) -> Result<()> {
    let known = newest_version(list);
    if found > known { Err(StoreError::SchemaTooNew { found, known }) } else { Ok(()) }
}

/// The migrations that the database has recorded, each an [`Applied`].
pub(super) const APPLIED: &str =
    "SELECT version, checksum, success FROM _sqlx_migrations ORDER BY version";

/// A migration as the database has recorded it.
#[derive(Debug)]
pub(super) struct Applied {
    version: i64,
    checksum: Vec<u8>,
    success: bool,
}

impl<'r, R: Row> FromRow<'r, R> for Applied
where
    usize: ColumnIndex<R>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
    Vec<u8>: Decode<'r, R::Database> + Type<R::Database>,
    bool: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> sqlx::Result<Self> {
        let (version, checksum, success) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        Ok(Self { version, checksum, success })
    }
}

/// Whether these are all of a listing, as this program knows them: there is nothing to be done, and nothing to be refused.
fn is_current(applied: &[Applied], list: MigrationList) -> bool {
    let known = || sqlx_migrations(list);
    applied.len() == list.len()
        && known().zip(applied).all(|(known, applied)| {
            applied.success
                && applied.version == known.version
                && *applied.checksum == *known.checksum
        })
}

/// What to say where the schema is to be changed and may not be.
pub(super) fn denied_error(from: i64, list: MigrationList, error: StoreError) -> StoreError {
    let StoreError::Denied(why) = error else { return error };
    let pending = MigrationSummary::between(from, newest_version(list), list).names;
    let (what, count) = (pending.join(", "), pending.len());
    let state = match from {
        0 => "there is no store yet, and none may be made".to_owned(),
        from => format!(
            "the schema is at version {from}, and what leads to this program's ({count} pending: {what}) may not be done"
        ),
    };
    StoreError::Denied(format!(
        "{state} by this user: {why}. Run `sophic-auth migrate` as the owner"
    ))
}

fn sqlx_migrations(list: MigrationList) -> impl Iterator<Item = Migration> {
    list.iter().map(|(version, name, sql)| {
        let kind = MigrationType::Simple;
        Migration::new(*version, Cow::Borrowed(*name), kind, sql.into_sql_str(), false)
    })
}

/// Applies what is missing, on a connection whose transaction holds the lock.
pub(super) async fn run<C: Migrate>(connection: &mut C, list: MigrationList) -> Result<()> {
    let mut migrator = Migrator::with_migrations(sqlx_migrations(list).collect());
    // sqlx's own lock belongs to a session, which a pooler gives to somebody else between transactions.
    migrator.set_locking(false);
    migrator.run_direct(None, connection, false).await.map_err(|error| match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error.into(),
        MigrateError::VersionMissing(found) => {
            StoreError::SchemaTooNew { found, known: newest_version(list) }
        }
        MigrateError::VersionMismatch(version) => StoreError::Unusable(format!(
            "migration {version} of the database is not the one that this program knows"
        )),
        error => StoreError::Unusable(format!("the database cannot be migrated: {error}")),
    })
}
