//! Whose lease must be over: the replicas whose rows have stood still, on the clock of whoever looks. No clock of the
//! wall, and none of the database's, decides anything (CATALOGUE E2).

use std::collections::HashMap;
use std::time::Duration;

use super::patience;
use crate::model::ReplicaId;
use crate::store::Replica;

/// What was seen of each row, and since when it looks so.
#[derive(Debug, Default)]
pub struct Standstill(HashMap<ReplicaId, (i64, Duration)>);

impl Standstill {
    /// Notes the rows, which were read before `now` (since boot); those that may be given up: their lease cannot hold
    /// any more. Were `now` from before the reading, a sync between the two would count as older than it is.
    pub fn look(&mut self, rows: &[Replica], now: Duration) -> Vec<(ReplicaId, i64)> {
        self.0.retain(|id, _| rows.iter().any(|row| row.id == *id));
        let mut over = Vec::new();
        for row in rows {
            let seen = self.0.entry(row.id).or_insert((row.seq, now));
            if seen.0 != row.seq {
                *seen = (row.seq, now);
            }
            if now.saturating_sub(seen.1) >= patience(row.lease) {
                over.push((row.id, row.seq));
            }
        }
        over
    }
}
