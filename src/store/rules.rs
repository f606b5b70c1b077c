//! Rules of the decision that a server of an earlier release would ignore. One may be set only while every live replica
//! knows it. While one is set, the database refuses the registration of a replica that does not, and programs of earlier
//! releases do not open the store (migration 0017).

use async_trait::async_trait;

use super::Result;
use super::column_reader::{ColumnReader, Columns};

/// The rules that this program knows, as its row in `replicas` states them. 0 are those of release 0.1. A release whose
/// decision has a new rule raises the number.
pub const RULES: i32 = 1;

/// The release of this program, as its row in `replicas` states it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A live replica that does not know all rules of this program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OldReplica {
    /// Its host and process, as it registered them.
    pub host: String,
    /// Its release. `None` for 0.1, which does not state it.
    pub version: Option<String>,
}

/// Checks that every replica knows the rules of this program.
#[async_trait]
pub trait RulesTx: Send {
    /// Returns a live replica that does not know all of [`RULES`], if there is one. Until this transaction ends, none
    /// can register. If it commits, no program of an earlier release opens the store any more, until
    /// [`RulesStore::release_rules`].
    async fn require_rules(&mut self) -> Result<Option<OldReplica>>;
}

/// Lets programs of earlier releases open the store again.
#[async_trait]
pub trait RulesStore: Send + Sync {
    /// Lets programs of earlier releases open the store again, if no rule is in use that they would ignore.
    async fn release_rules(&self) -> Result<()>;
}

/// Reads a replica's host and version.
pub(super) fn old_replica(row: &impl Columns) -> Result<OldReplica> {
    let mut columns = ColumnReader::new(row, "replicas");
    Ok(OldReplica { host: columns.text("host")?, version: columns.maybe_text("version")? })
}
