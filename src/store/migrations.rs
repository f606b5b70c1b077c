//! Schema versions: which one a database has, and how to migrate it to this program's.
//!
//! Before it migrates, the program inspects the database with read rights only, because usually there is nothing to do.
//! Otherwise each database takes its own lock around [`run`], in one transaction. So processes that start at the same
//! time wait for each other, and a failed migration leaves nothing behind.

use std::borrow::Cow;
use std::fmt::Write as _;

use sqlx::migrate::{Migrate, MigrateError, Migration, MigrationType, Migrator};
use sqlx::{ColumnIndex, Decode, FromRow, Row, SqlSafeStr as _, Type};

use super::{Result, StoreError};

include!(concat!(env!("OUT_DIR"), "/migrations.rs"));

/// Schema versions before and after a migration, done or pending. Version 0 is a database without a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationSummary {
    /// Version before.
    pub from: i64,
    /// Version after.
    pub to: i64,
    /// Names of the migrations between the two versions, for example `0014_replica_ends`.
    pub names: Vec<String>,
}

impl MigrationSummary {
    /// Summarizes the migrations from one version to another.
    pub(super) fn between(from: i64, to: i64, list: MigrationList) -> Self {
        let between = list.iter().filter(|(version, ..)| (from + 1..=to).contains(version));
        let names = between.map(|(version, name, _)| format!("{version:04}_{name}")).collect();
        Self { from, to, names }
    }

    /// Returns the pending migrations of a schema at this version.
    pub(super) fn pending(from: i64, list: MigrationList) -> Result<Self> {
        refuse_newer(from, list)?;
        Ok(Self::between(from, newest_version(list), list))
    }
}

/// The migrations of one database: version, name and SQL.
pub(super) type MigrationList = &'static [(i64, &'static str, &'static str)];

/// Returns the newest version, which is this program's.
pub(super) fn newest_version(list: MigrationList) -> i64 {
    list.iter().map(|(version, ..)| *version).max().unwrap_or(0)
}

/// Returns the migrations up to this version.
pub(super) fn up_to(newest: i64, list: MigrationList) -> MigrationList {
    let count = list.iter().take_while(|(version, ..)| *version <= newest).count();
    list.get(..count).unwrap_or(list)
}

/// Returns these migrations and later ones. They are never freed: a list of migrations lives as long as the program.
pub(super) fn followed_by(
    later: &[(i64, &'static str, &'static str)],
    list: MigrationList,
) -> MigrationList {
    [list, later].concat().leak()
}

/// Returns the migrations up to the next one after this version; all if there is none, and for a new store.
pub(super) fn up_to_next(version: i64, list: MigrationList) -> MigrationList {
    let next = list.iter().map(|(next, ..)| *next).find(|next| *next > version);
    next.filter(|_| version > 0).map_or(list, |next| up_to(next, list))
}

/// Returns whether the last of these migrations changes this table, or a trigger or an index of it, or refers to it.
pub(super) fn changes_table(list: MigrationList, table: &str) -> bool {
    let Some((.., sql)) = list.last() else { return false };
    let mut words = sql.split([' ', '\n', '(', ';']).filter(|word| !word.is_empty()).peekable();
    let (mut changes, mut creates) = (false, false);
    while let Some(word) = words.next() {
        let before = matches!(word, "TABLE" | "ON" | "REFERENCES");
        let is_it = before && words.peek() == Some(&table);
        changes |= is_it;
        creates |= is_it && sql.contains(&format!("CREATE TABLE {table} "));
    }
    changes && !creates
}

/// The content of a database before anything is done to it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Schema {
    /// No tables.
    Empty,
    /// Tables of other programs, whose names leave room for a store.
    Shared(Vec<String>),
    /// Tables of other programs that leave no room for a store, and advice where to create one instead.
    Occupied { names: Vec<String>, advice: &'static str },
    /// A store of this version. `is_current` means that exactly this program's migrations have been applied.
    Store { version: i64, is_current: bool },
}

impl Schema {
    /// Describes a store by the migrations that it has recorded, without the newer ones that this program may ignore.
    pub(super) fn of_store(applied: &[Applied], list: MigrationList) -> Self {
        let newest = newest_version(list);
        let ignored = applied.iter().rev().take_while(|last| last.expands(newest)).count();
        let applied = &applied[..applied.len() - ignored];
        let version = applied.last().map_or(0, |last| last.version);
        Self::Store { version, is_current: is_current(applied, list) }
    }

    /// Returns the version of a store that needs no migration and is not refused.
    pub(super) fn current_version(&self) -> Option<i64> {
        match self {
            Self::Store { version, is_current: true } => Some(*version),
            _ => None,
        }
    }

    /// Returns the version to migrate from; 0 without a schema. `database` is its name for messages.
    pub(super) fn version_to_migrate(&self, database: &str, list: MigrationList) -> Result<i64> {
        match self {
            Self::Empty | Self::Shared(_) => Ok(0),
            Self::Occupied { names, advice } => {
                Err(StoreError::InvalidLocation(occupied_text(database, names, advice)))
            }
            Self::Store { version, .. } => refuse_newer(*version, list).map(|()| *version),
        }
    }

    /// Returns the version of an existing store that is not newer than this program.
    pub(super) fn existing_version(&self, database: &str, list: MigrationList) -> Result<i64> {
        let missing = |text| Err(StoreError::Missing(text));
        match self {
            Self::Empty => missing(format!(
                "there is no store in {database}, which is empty: `sophic-auth migrate` creates one"
            )),
            Self::Shared(tables) => missing(format!(
                "there is no store in {database}, which has tables of other programs ({}): if it is the right one, `sophic-auth \
                 migrate` creates a store beside them",
                first_names(tables)
            )),
            Self::Occupied { names, advice } => missing(occupied_text(database, names, advice)),
            Self::Store { version, .. } => refuse_newer(*version, list).map(|()| *version),
        }
    }

    /// Refuses everything except a store of this program's version.
    pub(super) fn require_current(&self, database: &str, list: MigrationList) -> Result<()> {
        let (found, needed) = (self.existing_version(database, list)?, newest_version(list));
        if found < needed { Err(StoreError::SchemaTooOld { found, needed }) } else { Ok(()) }
    }
}

fn occupied_text(database: &str, names: &[String], advice: &str) -> String {
    format!(
        "{database} belongs to another program: it contains {}, and no store of sophic-auth; {advice}",
        first_names(names)
    )
}

/// Returns the first three names.
fn first_names(tables: &[String]) -> String {
    let more = if tables.len() > 3 { ", …" } else { "" };
    let first: Vec<_> = tables.iter().take(3).map(String::as_str).collect();
    format!("{}{more}", first.join(", "))
}

/// Returns the names of everything that the migrations create in a schema, and of sqlx's own table.
pub(super) fn created_names(list: MigrationList) -> impl Iterator<Item = &'static str> {
    let lines = list.iter().flat_map(|(.., sql)| sql.lines());
    let names = lines.filter_map(|line| {
        let mut words = line.strip_prefix("CREATE ")?.split([' ', '(']);
        words.find(|word| matches!(*word, "TABLE" | "INDEX" | "FUNCTION"))?;
        words.next()
    });
    names.chain(["_sqlx_migrations"])
}

/// Returns the checksum of the first migration in hexadecimal. It distinguishes our `_sqlx_migrations` table from that
/// of another program.
pub(super) fn first_checksum(list: MigrationList) -> String {
    let checksum = sqlx_migrations(list).next().map(|first| first.checksum).unwrap_or_default();
    checksum.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02X}");
        text
    })
}

/// Refuses a schema that a newer program has migrated.
pub(super) fn refuse_newer(found: i64, list: MigrationList) -> Result<()> {
    let known = newest_version(list);
    if found > known { Err(StoreError::SchemaTooNew { found, known }) } else { Ok(()) }
}

/// Selects the migrations that the database has recorded, each as an [`Applied`].
pub(super) const APPLIED: &str =
    "SELECT version, checksum, success, description FROM _sqlx_migrations ORDER BY version";

/// How the name of a migration begins that only expands the schema: programs that do not know it go on working, and
/// start, so that a release can be rolled out server by server, and back.
const EXPANSION_PREFIX: &str = "expand_";

/// A migration that the database has recorded.
#[derive(Debug)]
pub(super) struct Applied {
    version: i64,
    checksum: Vec<u8>,
    success: bool,
    name: String,
}

impl Applied {
    /// Whether it is newer than this version, and only expands the schema.
    fn expands(&self, newest: i64) -> bool {
        self.version > newest && self.success && self.name.starts_with(EXPANSION_PREFIX)
    }
}

impl<'r, R: Row> FromRow<'r, R> for Applied
where
    usize: ColumnIndex<R>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
    Vec<u8>: Decode<'r, R::Database> + Type<R::Database>,
    bool: Decode<'r, R::Database> + Type<R::Database>,
    String: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> sqlx::Result<Self> {
        let (version, checksum, success) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        Ok(Self { version, checksum, success, name: row.try_get(3)? })
    }
}

/// Returns whether exactly this program's migrations have been applied, unchanged and successfully.
fn is_current(applied: &[Applied], list: MigrationList) -> bool {
    let known = || sqlx_migrations(list);
    applied.len() == list.len()
        && known().zip(applied).all(|(known, applied)| {
            applied.success
                && applied.version == known.version
                && *applied.checksum == *known.checksum
        })
}

/// Explains a failed migration of a read-only database, or to a user who may not change the schema.
pub(super) fn denied_error(from: i64, list: MigrationList, error: StoreError) -> StoreError {
    let StoreError::Denied(why) = error else { return error };
    let pending = MigrationSummary::between(from, newest_version(list), list).names;
    let (names, count) = (pending.join(", "), pending.len());
    if StoreError::is_read_only(&why) {
        let state = match from {
            0 => "there is no store yet, and none can be created".to_owned(),
            from => format!(
                "the schema is at version {from}, and the pending migrations ({count}: {names}) cannot be applied"
            ),
        };
        return StoreError::Denied(format!("{why}; {state} until it is writable"));
    }
    let state = match from {
        0 => "there is no store yet, and this user may not create one".to_owned(),
        from => format!(
            "the schema is at version {from}, and this user may not apply the pending migrations ({count}: {names})"
        ),
    };
    StoreError::Denied(format!("{state}: {why}. Run `sophic-auth migrate` as the owner"))
}

fn sqlx_migrations(list: MigrationList) -> impl Iterator<Item = Migration> {
    list.iter().map(|(version, name, sql)| {
        let kind = MigrationType::Simple;
        Migration::new(*version, Cow::Borrowed(*name), kind, sql.into_sql_str(), false)
    })
}

/// Applies the missing migrations on a connection whose transaction holds the lock.
pub(super) async fn run<C: Migrate>(connection: &mut C, list: MigrationList) -> Result<()> {
    let mut migrator = Migrator::with_migrations(sqlx_migrations(list).collect());
    // sqlx's lock belongs to a session, and a pooler hands the session to another client between transactions.
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
