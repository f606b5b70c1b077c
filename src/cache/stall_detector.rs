//! Detects replicas that can no longer answer from memory, because their rows have stood still for longer than a lease
//! can hold. Only the clock of the observing process counts, never a wall clock or the clock of the database.

use std::collections::HashMap;
use std::time::Duration;

use super::stall_timeout;
use crate::model::{ReplicaId, Revision};
use crate::store::{IncarnationId, Replica, Replicas};

/// After a gap between two reads longer than this fraction of a lease, a row is observed afresh before its replica
/// is given up. After an outage of the store all rows have stood still, and most replicas are about to sync. The
/// minimum applies to very short leases.
const GAP_PARTS: u32 = 4;
const GAP_MIN: Duration = Duration::from_millis(200);
/// How long the row is observed afresh, as a fraction of a lease.
const GRACE_PARTS: u32 = 10;

/// A row, and the time since which it is unchanged.
#[derive(Debug, Clone)]
struct ObservedRow {
    row: Replica,
    since: Duration,
    /// The time since which the row was observed without a gap.
    watched_since: Duration,
}

/// The observations of each row.
#[derive(Debug, Default)]
pub struct StallDetector {
    observed: HashMap<ReplicaId, ObservedRow>,
    /// Replicas whose rows vanished, with the time at which that was noticed. Each may answer for a lease from then on.
    vanished: Vec<(Replica, Duration)>,
    incarnation: Option<IncarnationId>,
    last_observed: Duration,
}

impl StallDetector {
    /// Records the rows, and returns the replicas that may be given up because their lease cannot hold any more. `now`
    /// is the time since boot. Read it after the rows: otherwise a sync in between would seem older than it is.
    ///
    /// A row that has vanished without a mark counts as a replica that no longer syncs. It is added to the rows for as
    /// long as its lease can hold.
    pub fn observe(&mut self, rows: &mut Replicas, now: Duration) -> Vec<(ReplicaId, i64)> {
        if self.incarnation.as_ref() != Some(&rows.incarnation) {
            self.incarnation = Some(rows.incarnation.clone());
            // A revision applied in another incarnation does not count in this one.
            let all = self.observed.values_mut().map(|observed| &mut observed.row);
            let all = all.chain(self.vanished.iter_mut().map(|(row, _)| row));
            all.for_each(|row| row.applied = Revision::default());
        }
        self.track_vanished(rows, now);
        // No replica can have applied a revision that does not exist. It was written by hand.
        let head = rows.revision;
        for row in rows.replicas.iter_mut().filter(|row| row.applied > head) {
            row.applied = Revision::default();
        }
        let gap = now.saturating_sub(self.last_observed);
        self.last_observed = now;
        let mut stalled = Vec::new();
        for row in &rows.replicas {
            let new = ObservedRow { row: row.clone(), since: now, watched_since: now };
            let observed = self.observed.entry(row.id).or_insert_with(|| new.clone());
            if observed.row.seq != row.seq {
                *observed = new;
            } else if gap > (row.lease / GAP_PARTS).max(GAP_MIN) {
                observed.watched_since = now;
            }
            observed.row.applied = row.applied;
            let is_stalled = now.saturating_sub(observed.since) >= stall_timeout(row.lease);
            if is_stalled && now.saturating_sub(observed.watched_since) >= row.lease / GRACE_PARTS {
                stalled.push((row.id, row.seq));
            }
        }
        rows.replicas.extend(self.vanished.iter().map(|(row, _)| row.clone()));
        stalled
    }

    fn track_vanished(&mut self, rows: &Replicas, now: Duration) {
        let (observed, vanished) = (&mut self.observed, &mut self.vanished);
        vanished.retain(|(row, since)| {
            let back = rows.ended.contains(&row.id) || rows.replicas.iter().any(|r| r.id == row.id);
            !back && now.saturating_sub(*since) < stall_timeout(row.lease)
        });
        observed.retain(|id, observed| {
            let there = rows.replicas.iter().any(|row| row.id == *id);
            if !there && !rows.ended.contains(id) {
                tracing::error!(
                    replica = %id,
                    "the row of a replica vanished without being marked as ended: waiting until its lease has expired"
                );
                vanished.push((observed.row.clone(), now));
            }
            there
        });
    }

    /// The shortest lease of the observed rows.
    pub fn shortest_lease(&self) -> Option<Duration> {
        self.observed.values().map(|observed| observed.row.lease).min()
    }
}
