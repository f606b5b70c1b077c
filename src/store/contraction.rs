//! Migrations that remove what servers of earlier releases use. One runs only when no such server does.
//!
//! The name of such a migration says which release no longer needs what it removes: `contract_0_3_drop_hint` waits until
//! every server is of 0.3 or later. A server of an earlier release that starts afterwards refuses the schema.

use std::time::Duration;

use uuid::Uuid;

use super::column_reader::{ColumnReader, Columns};
use super::migrations::MigrationList;
use super::{OldReplica, Result, StoreError};

/// How the name of a migration begins that removes what earlier releases use.
const PREFIX: &str = "contract_";
/// Version of the schema from which on a replica states its release.
const STATES_RELEASE: i64 = 17;
/// Interval between two looks at the rows of old replicas.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// Additional wait, for a sync on its way.
const MARGIN: Duration = Duration::from_millis(500);

/// Selects the live replicas of a store, each as a [`LiveReplica`].
const LIVE: &str = "SELECT replica_id, seq, lease, host, version \
     FROM replicas WHERE end_time IS NULL ORDER BY replica_id";
/// The same for a schema in which no replica states its release.
const LIVE_BEFORE: &str = "SELECT replica_id, seq, lease, host, CAST(NULL AS text) \
     FROM replicas WHERE end_time IS NULL ORDER BY replica_id";

/// Returns the statement that selects the live replicas of a schema of this version.
pub(super) const fn select_live(version: i64) -> &'static str {
    if version < STATES_RELEASE { LIVE_BEFORE } else { LIVE }
}

/// A release: its major and minor version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release(pub u32, pub u32);

impl Release {
    fn parse(text: &str, separator: char) -> Option<Self> {
        let mut parts = text.split(separator).map(|part| part.parse().ok());
        Some(Self(parts.next()??, parts.next()??))
    }

    /// Returns the release that all servers must have before the migrations after this version may run, if one of them
    /// contracts the schema. A name without a release waits for all servers.
    pub(super) fn required(from: i64, list: MigrationList) -> Option<Self> {
        let pending = list.iter().filter(|(version, ..)| *version > from);
        let names = pending.filter_map(|(_, name, _)| name.strip_prefix(PREFIX));
        names.map(|name| Self::parse(name, '_').unwrap_or(Self(u32::MAX, 0))).max()
    }
}

/// A replica that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LiveReplica {
    /// Its id.
    pub(super) id: Uuid,
    /// Number of its last sync.
    pub(super) seq: i64,
    lease: Duration,
    replica: OldReplica,
}

impl LiveReplica {
    /// Reads a row of [`select_live`].
    pub(super) fn read(row: &impl Columns) -> Result<Self> {
        let mut columns = ColumnReader::new(row, "replicas");
        let id = columns.uuid("replica_id")?;
        let seq = columns.int("seq")?;
        let micros = columns.number("lease", |micros| u64::try_from(micros).ok())?;
        let (host, version) = (columns.text("host")?, columns.maybe_text("version")?);
        let replica = OldReplica { host, version };
        Ok(Self { id, seq, lease: Duration::from_micros(micros), replica })
    }

    fn is_before(&self, release: Release) -> bool {
        let version = self.replica.version.as_deref();
        version.and_then(|version| Release::parse(version, '.')) < Some(release)
    }
}

/// Refuses if one of these live replicas is of an earlier release.
pub(super) fn refuse_before(release: Release, live: &[LiveReplica]) -> Result<()> {
    let Some(LiveReplica { replica: OldReplica { host, version }, .. }) =
        live.iter().find(|replica| replica.is_before(release))
    else {
        return Ok(());
    };
    let version = version.as_deref().unwrap_or("0.1");
    let Release(major, minor) = release;
    Err(StoreError::Unusable(format!(
        "a pending migration removes what servers before release {major}.{minor} use, and one of them is running \
         ({host}, release {version}): upgrade or stop it first; nothing was migrated"
    )))
}

/// A wait until no server of an earlier release is live. It lasts as long as the leases of those servers and 7 %: one
/// whose row has not changed by then has crashed.
#[derive(Debug)]
pub(super) struct ReleaseWait {
    release: Release,
    begin: tokio::time::Instant,
    first: Option<Vec<LiveReplica>>,
}

impl ReleaseWait {
    /// Begins to wait.
    pub(super) fn begin(release: Release) -> Self {
        Self { release, begin: tokio::time::Instant::now(), first: None }
    }

    /// Judges the live replicas. Refuses as soon as one of an earlier release is seen to live. Returns those that have
    /// crashed once the wait is over.
    pub(super) fn look(&mut self, live: Vec<LiveReplica>) -> Result<Option<Vec<LiveReplica>>> {
        let mut old = live;
        old.retain(|replica| replica.is_before(self.release));
        let first = self.first.get_or_insert_with(|| old.clone());
        let (_, moved): (Vec<_>, Vec<_>) =
            old.iter().cloned().partition(|replica| first.contains(replica));
        refuse_before(self.release, &moved)?;
        let lease = old.iter().map(|replica| replica.lease).max().unwrap_or_default();
        let is_over = old.is_empty() || self.begin.elapsed() > lease + lease * 7 / 100 + MARGIN;
        Ok(is_over.then_some(old))
    }

    /// Pauses before the next look.
    pub(super) async fn pause(&self) {
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contraction_requires_the_release_in_its_name() {
        const LIST: MigrationList = &[
            (1, "directory", ""),
            (2, "expand_hints", ""),
            (3, "contract_0_3_drop_hint", ""),
            (4, "contract_0_10", ""),
            (5, "contract_everything", ""),
        ];
        assert_eq!(Release::required(0, &LIST[..2]), None);
        assert_eq!(Release::required(2, &LIST[..3]), Some(Release(0, 3)));
        assert_eq!(Release::required(2, &LIST[..4]), Some(Release(0, 10)));
        assert_eq!(Release::required(4, LIST), Some(Release(u32::MAX, 0)));
        assert_eq!(Release::required(5, LIST), None);
    }

    #[test]
    fn a_replica_without_a_release_or_with_an_unreadable_one_is_an_old_one() {
        let of = |version: Option<&str>| LiveReplica {
            id: Uuid::nil(),
            seq: 0,
            lease: Duration::ZERO,
            replica: OldReplica { host: "h".to_owned(), version: version.map(str::to_owned) },
        };
        for old in [None, Some("0.2.9"), Some("new")] {
            assert!(of(old).is_before(Release(0, 3)), "{old:?}");
        }
        for new in ["0.3.0", "0.10.0-rc.1", "1.0.0"] {
            assert!(!of(Some(new)).is_before(Release(0, 3)), "{new}");
        }
    }
}
