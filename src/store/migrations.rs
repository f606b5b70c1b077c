//! The schema's versions: which one a database is at, and how it gets to this program's.
//!
//! Whoever migrates looks first, with rights to read alone: mostly nothing is to be done. Else each database takes its own
//! lock around [`run`], in one transaction, so that processes that start at once wait for each other and a migration that
//! fails leaves nothing behind.

use std::borrow::Cow;

use sqlx::SqlSafeStr as _;
use sqlx::migrate::{Migrate, MigrateError, Migration, MigrationType, Migrator};

use super::{Result, StoreError};

include!(concat!(env!("OUT_DIR"), "/migrations.rs"));

/// Where a database's schema was and where it is now, or would be; 0 is one without any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrated {
    /// The version before.
    pub from: i64,
    /// The version after.
    pub to: i64,
    /// What leads from the one to the other, as `0014_replica_ends`.
    pub names: Vec<String>,
}

impl Migrated {
    /// From one version to another of this listing.
    pub(super) fn between(from: i64, to: i64, listing: Listing) -> Self {
        let between = listing.iter().filter(|(version, ..)| (from + 1..=to).contains(version));
        let names = between.map(|(version, name, _)| format!("{version:04}_{name}")).collect();
        Self { from, to, names }
    }

    /// What would be done to a schema of this version.
    pub(super) fn pending(from: i64, listing: Listing) -> Result<Self> {
        refuse_newer(from, listing)?;
        Ok(Self::between(from, newest(listing), listing))
    }
}

/// One database's migrations: version, name, SQL.
pub(super) type Listing = &'static [(i64, &'static str, &'static str)];

/// The newest version of a listing, which is this program's.
pub(super) fn newest(listing: Listing) -> i64 {
    listing.iter().map(|(version, ..)| *version).max().unwrap_or(0)
}

/// Refuses a schema that a newer program has made.
pub(super) fn refuse_newer(found: i64, listing: Listing) -> Result<()> {
    let known = newest(listing);
    if found > known { Err(StoreError::SchemaTooNew { found, known }) } else { Ok(()) }
}

/// Refuses every schema but this program's.
pub(super) fn refuse_other(found: i64, listing: Listing) -> Result<()> {
    refuse_newer(found, listing)?;
    let known = newest(listing);
    if found == 0 {
        let text = "there is no store yet in this database: `sophic-auth migrate` makes one";
        return Err(StoreError::Missing(text.to_owned()));
    }
    if found < known {
        return Err(StoreError::SchemaTooOld { found, needed: known });
    }
    Ok(())
}

/// Whether a recorded first migration, by its checksum, is that of a listing: other programs keep theirs in a table of the
/// same name.
pub(super) fn is_ours(first: &[u8], listing: Listing) -> bool {
    migrations(listing).next().is_some_and(|ours| *ours.checksum == *first)
}

/// The names that a listing gives, in a schema, to what is to be made there.
pub(super) fn made_names(listing: Listing) -> Vec<String> {
    let lines = listing.iter().flat_map(|(.., sql)| sql.lines());
    let names = lines.filter_map(|line| {
        let mut words = line.strip_prefix("CREATE ")?.split([' ', '(']);
        words
            .find(|word| matches!(*word, "TABLE" | "INDEX" | "FUNCTION" | "TRIGGER"))
            .filter(|kind| *kind != "TRIGGER")?;
        words.next().map(str::to_owned)
    });
    // What sqlx notes them in.
    names.chain(["_sqlx_migrations".to_owned()]).collect()
}

/// A migration as the database has recorded it.
#[derive(Debug)]
pub(super) struct Applied {
    pub(super) version: i64,
    pub(super) checksum: Vec<u8>,
    pub(super) success: bool,
}

/// Whether these are all of a listing, as this program knows them: there is nothing to be done, and nothing to be refused.
pub(super) fn is_settled(applied: &[Applied], listing: Listing) -> bool {
    let known = || migrations(listing);
    applied.len() == listing.len()
        && known().zip(applied).all(|(known, applied)| {
            applied.success
                && applied.version == known.version
                && *applied.checksum == *known.checksum
        })
}

/// What to say where the schema is to be changed and may not be.
pub(super) fn denied(from: i64, listing: Listing, error: StoreError) -> StoreError {
    let StoreError::Denied(why) = error else { return error };
    let pending = Migrated::between(from, newest(listing), listing).names;
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

fn migrations(listing: Listing) -> impl Iterator<Item = Migration> {
    listing.iter().map(|(version, name, sql)| {
        let kind = MigrationType::Simple;
        Migration::new(*version, Cow::Borrowed(*name), kind, sql.into_sql_str(), false)
    })
}

/// Applies what is missing, on a connection whose transaction holds the lock.
pub(super) async fn run<C: Migrate>(connection: &mut C, listing: Listing) -> Result<()> {
    let mut migrator = Migrator::with_migrations(migrations(listing).collect());
    // sqlx's own lock belongs to a session, which a pooler gives to somebody else between transactions.
    migrator.set_locking(false);
    migrator.run_direct(None, connection, false).await.map_err(|error| match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error.into(),
        MigrateError::VersionMissing(found) => {
            StoreError::SchemaTooNew { found, known: newest(listing) }
        }
        MigrateError::VersionMismatch(version) => StoreError::Unusable(format!(
            "migration {version} of the database is not the one that this program knows"
        )),
        error => StoreError::Unusable(format!("the database cannot be migrated: {error}")),
    })
}
