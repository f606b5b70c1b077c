//! Which replicas can no longer answer from memory, because their rows have stood still for longer than a lease can hold.
//! Only the clock of the process that looks decides, never a wall clock and never the database's.

use std::collections::HashMap;
use std::time::Duration;

use super::patience;
use crate::model::{ReplicaId, Revision};
use crate::store::{IncarnationId, Replica, Replicas};

/// After a gap between two looks of more than this part of a lease, a row is looked at anew for a while before it is given
/// up: when the store comes back after an outage, all rows have stood still, and most replicas are about to sync. Of a lease
/// too short to be true the gap is so long.
const GAP_PARTS: u32 = 4;
const GAP_MIN: Duration = Duration::from_millis(200);
/// How long that is, as a part of a lease.
const GRACE_PARTS: u32 = 10;

/// A row, and since when it looks so.
#[derive(Debug, Clone)]
struct Seen {
    row: Replica,
    since: Duration,
    /// Since when it has been looked at without a gap.
    watched_since: Duration,
}

/// What was seen of each row.
#[derive(Debug, Default)]
pub struct Standstill {
    seen: HashMap<ReplicaId, Seen>,
    /// Replicas whose rows vanished, and since when at the latest: each may answer for a lease from then on.
    vanished: Vec<(Replica, Duration)>,
    incarnation: Option<IncarnationId>,
    looked: Duration,
}

impl Standstill {
    /// Notes the rows, which were read before `now` (since boot); those that may be given up: their lease cannot hold
    /// any more. Were `now` from before the reading, a sync between the two would count as older than it is.
    ///
    /// A row that has vanished without a mark counts as a replica that syncs no more, so it is added to the rows for as
    /// long as its lease can hold.
    pub fn look(&mut self, rows: &mut Replicas, now: Duration) -> Vec<(ReplicaId, i64)> {
        if self.incarnation.as_ref() != Some(&rows.incarnation) {
            self.incarnation = Some(rows.incarnation.clone());
            // What was applied in another life says nothing of this one.
            let all = self.seen.values_mut().map(|seen| &mut seen.row);
            let all = all.chain(self.vanished.iter_mut().map(|(row, _)| row));
            all.for_each(|row| row.applied = Revision::default());
        }
        self.note_vanished(rows, now);
        // Nobody can have applied what is not there: such a number was written by hand.
        let head = rows.revision;
        for row in rows.replicas.iter_mut().filter(|row| row.applied > head) {
            row.applied = Revision::default();
        }
        let gap = now.saturating_sub(self.looked);
        self.looked = now;
        let mut over = Vec::new();
        for row in &rows.replicas {
            let new = Seen { row: row.clone(), since: now, watched_since: now };
            let seen = self.seen.entry(row.id).or_insert_with(|| new.clone());
            if seen.row.seq != row.seq {
                *seen = new;
            } else if gap > (row.lease / GAP_PARTS).max(GAP_MIN) {
                seen.watched_since = now;
            }
            seen.row.applied = row.applied;
            let still = now.saturating_sub(seen.since) >= patience(row.lease);
            if still && now.saturating_sub(seen.watched_since) >= row.lease / GRACE_PARTS {
                over.push((row.id, row.seq));
            }
        }
        rows.replicas.extend(self.vanished.iter().map(|(row, _)| row.clone()));
        over
    }

    fn note_vanished(&mut self, rows: &Replicas, now: Duration) {
        let (seen, vanished) = (&mut self.seen, &mut self.vanished);
        vanished.retain(|(row, since)| {
            let back = rows.ended.contains(&row.id) || rows.replicas.iter().any(|r| r.id == row.id);
            !back && now.saturating_sub(*since) < patience(row.lease)
        });
        seen.retain(|id, seen| {
            let there = rows.replicas.iter().any(|row| row.id == *id);
            if !there && !rows.ended.contains(id) {
                tracing::error!(
                    replica = %id,
                    "the row of a replica is gone, and it was not seen to leave: waiting out its lease"
                );
                vanished.push((seen.row.clone(), now));
            }
            there
        });
    }

    /// The shortest lease of those seen.
    pub fn shortest_lease(&self) -> Option<Duration> {
        self.seen.values().map(|seen| seen.row.lease).min()
    }
}
