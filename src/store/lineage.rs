//! The history of the store as one process has seen it. A result counts only if a primary returned it, and only if that
//! primary is not behind what the process has already seen. No I/O, so that the simulation in `tests/it/simulation` can
//! run the same code.
//!
//! A statement is checked against what the process knew *before* it sent the statement. The process may learn more
//! while the statement is in flight, but the statement may have been answered before that.

use std::collections::VecDeque;
use std::fmt;

use uuid::Uuid;

use super::IncarnationId;
use crate::model::Revision;

/// Number of superseded incarnations to remember.
const SUPERSEDED_MAX: usize = 64;

/// One incarnation of a store: while all three fields stay the same, the change log continues in the order of its
/// revisions. A restore or a promotion begins another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Incarnation {
    /// Epoch, replaced by a restore and by `new-epoch`.
    pub epoch: Uuid,
    /// Identifier of the database system. Physical copies share it.
    pub system: i64,
    /// Timeline, which a promotion increments.
    pub timeline: u32,
}

impl Incarnation {
    /// Parses the output of [`fmt::Display`]: epoch, system and timeline (in hexadecimal), separated by slashes.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let epoch = Uuid::try_parse(parts.next()?).ok()?;
        let system = parts.next()?.parse().ok()?;
        let timeline = u32::from_str_radix(parts.next()?, 16).ok()?;
        parts.next().is_none().then_some(Self { epoch, system, timeline })
    }

    /// Returns the text form that replicas publish.
    pub fn id(&self) -> IncarnationId {
        IncarnationId(self.to_string())
    }

    /// Returns whether `self` is a later timeline of the same system.
    const fn is_promotion_of(&self, other: &Self) -> bool {
        self.system == other.system && self.timeline > other.timeline
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{:08X}", self.epoch, self.system, self.timeline)
    }
}

/// The server that answered a statement, as reported by the statement itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A server in recovery. It follows a primary, and may be behind it by any length of time.
    Standby,
    /// A primary in this incarnation.
    Primary(Incarnation),
}

/// What a process knew at one moment. It is taken before a statement is sent, and the result of the statement must not
/// be behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Floor {
    /// Newest incarnation and the newest revision confirmed in it. `None` before the first statement.
    newest: Option<(Incarnation, Revision)>,
    /// Number of incarnations superseded by then.
    superseded: u64,
}

impl Floor {
    /// Returns the newest incarnation that was known.
    pub fn incarnation(&self) -> Option<Incarnation> {
        self.newest.map(|(incarnation, _)| incarnation)
    }
}

/// Outcome of an admitted statement or connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admitted {
    /// The origin was already known.
    Unchanged,
    /// The origin is an incarnation that this process had not seen, and it supersedes the previous one. Connections
    /// that lead to the previous one, or may lead there, must be discarded.
    Moved,
}

/// The reason why a result does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StaleOrigin {
    /// A standby answered.
    #[error("it is a standby, not the primary")]
    Standby,
    /// A primary answered that another one has superseded.
    #[error("it is an older primary, on timeline {seen}: timeline {known} is known")]
    OlderTimeline {
        /// Timeline of the server that answered.
        seen: u32,
        /// Newest timeline known to this process.
        known: u32,
    },
    /// The database belongs to an incarnation that another one has superseded.
    #[error("another database has superseded it")]
    Superseded,
    /// The incarnation is current, but its newest changes are missing: the database is a copy, or has lost changes in a
    /// crash.
    #[error(
        "it is behind: it is at revision {seen}, and this process has seen revision {known}; if those changes are lost \
         for good, run sophic-auth new-epoch"
    )]
    Behind {
        /// Revision of the server that answered.
        seen: u64,
        /// Newest revision known to this process.
        known: u64,
    },
}

/// The history of the store as this process has seen it.
#[derive(Debug, Clone, Default)]
pub struct Lineage {
    newest: Option<(Incarnation, Revision)>,
    /// Superseded incarnations, the most recent one last.
    superseded: VecDeque<Incarnation>,
    /// Number of incarnations ever superseded. `superseded` holds the last of them.
    superseded_count: u64,
}

impl Lineage {
    /// Returns what is known now. Call it before sending a statement.
    pub fn floor(&self) -> Floor {
        Floor { newest: self.newest, superseded: self.superseded_count }
    }

    /// Checks the origin and revision of a statement that was sent after `floor` was taken, and follows the origin if
    /// it is a new incarnation.
    ///
    /// # Errors
    /// A [`StaleOrigin`] if the result of the statement does not count.
    pub fn admit(
        &mut self,
        floor: &Floor,
        origin: &Origin,
        revision: Revision,
    ) -> Result<Admitted, StaleOrigin> {
        let Origin::Primary(incarnation) = *origin else { return Err(StaleOrigin::Standby) };
        self.check(floor, incarnation)?;
        if let Some((known, newest)) = floor.newest
            && known == incarnation
            && revision < newest
        {
            return Err(StaleOrigin::Behind { seen: revision.0, known: newest.0 });
        }
        Ok(self.move_to(incarnation))
    }

    /// Checks the origin of a connection that was opened after `floor` was taken and has not reported a revision.
    ///
    /// # Errors
    /// A [`StaleOrigin`] if no result on this connection would count.
    pub fn admit_connection(
        &mut self,
        floor: &Floor,
        origin: &Origin,
    ) -> Result<Admitted, StaleOrigin> {
        let Origin::Primary(incarnation) = *origin else { return Err(StaleOrigin::Standby) };
        self.check(floor, incarnation)?;
        Ok(self.move_to(incarnation))
    }

    /// Records that `revision` is confirmed in this incarnation: a sync has fetched it, or a commit of this process
    /// created it.
    pub fn confirm(&mut self, incarnation: &Incarnation, revision: Revision) {
        if let Some((known, newest)) = &mut self.newest
            && known == incarnation
        {
            *newest = revision.max(*newest);
        }
    }

    /// Checks that this incarnation can be the current one, for a process that knew `floor`.
    fn check(&self, floor: &Floor, incarnation: Incarnation) -> Result<(), StaleOrigin> {
        let Some((known, _)) = floor.newest else { return Ok(()) };
        if incarnation == known {
            return Ok(());
        }
        let since = self.superseded_count.saturating_sub(floor.superseded);
        let since = usize::try_from(since).unwrap_or(usize::MAX);
        let superseded_by_then = self.superseded.iter().rev().skip(since);
        let (mut epoch_seen, mut system_seen) = (incarnation.epoch == known.epoch, false);
        for old in superseded_by_then {
            if *old == incarnation {
                return Err(stale_origin(incarnation, known));
            }
            epoch_seen |= old.epoch == incarnation.epoch;
            system_seen |= old.system == incarnation.system;
        }
        // A promotion, or a new epoch that an operator has declared.
        if incarnation.is_promotion_of(&known) || !epoch_seen {
            return Ok(());
        }
        // A copy under another system, such as an upgrade makes, unless this process has already left that system.
        let is_copy = incarnation.system != known.system && incarnation.epoch == known.epoch;
        if is_copy && !system_seen {
            return Ok(());
        }
        Err(stale_origin(incarnation, known))
    }

    /// Makes this the newest incarnation. Does nothing if a newer one became known while the statement was in flight.
    fn move_to(&mut self, incarnation: Incarnation) -> Admitted {
        let Some((known, _)) = self.newest else {
            self.newest = Some((incarnation, Revision::default()));
            return Admitted::Unchanged;
        };
        if known == incarnation || self.check(&self.floor(), incarnation).is_err() {
            return Admitted::Unchanged;
        }
        self.superseded.push_back(known);
        self.superseded_count += 1;
        if self.superseded.len() > SUPERSEDED_MAX {
            self.superseded.pop_front();
        }
        self.newest = Some((incarnation, Revision::default()));
        Admitted::Moved
    }
}

const fn stale_origin(incarnation: Incarnation, known: Incarnation) -> StaleOrigin {
    if incarnation.system == known.system && incarnation.timeline < known.timeline {
        StaleOrigin::OlderTimeline { seen: incarnation.timeline, known: known.timeline }
    } else {
        StaleOrigin::Superseded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn incarnation(epoch: u128, system: i64, timeline: u32) -> Incarnation {
        Incarnation { epoch: Uuid::from_u128(epoch), system, timeline }
    }

    /// Returns the outcome of a statement that is sent now and answered at once.
    fn answer(
        lineage: &mut Lineage,
        incarnation: Incarnation,
        revision: u64,
    ) -> Result<Admitted, StaleOrigin> {
        let floor = lineage.floor();
        lineage.admit(&floor, &Origin::Primary(incarnation), Revision(revision))
    }

    /// Returns a lineage that has seen this incarnation up to this revision.
    fn lineage_at(incarnation: Incarnation, revision: u64) -> Lineage {
        let mut lineage = Lineage::default();
        assert_eq!(answer(&mut lineage, incarnation, revision), Ok(Admitted::Unchanged));
        lineage.confirm(&incarnation, Revision(revision));
        lineage
    }

    #[test]
    fn an_incarnation_parses_what_it_prints() {
        let incarnation = incarnation(7, i64::MIN, 0xff);
        assert_eq!(Incarnation::parse(&incarnation.to_string()), Some(incarnation));
        let wrong = ["", "/", "x/1/00000001", "00000000-0000-0000-0000-000000000007/1"];
        assert!(wrong.iter().all(|text| Incarnation::parse(text).is_none()));
        assert_eq!(Incarnation::parse(&format!("{incarnation}/1")), None);
    }

    #[test]
    fn a_standby_is_refused_even_by_a_process_that_knows_nothing() {
        let mut lineage = Lineage::default();
        let floor = lineage.floor();
        let refused = lineage.admit(&floor, &Origin::Standby, Revision(9));
        assert_eq!(refused, Err(StaleOrigin::Standby));
        assert_eq!(lineage.admit_connection(&floor, &Origin::Standby), Err(StaleOrigin::Standby));
    }

    #[test]
    fn an_older_revision_of_the_same_incarnation_is_refused() {
        let first = incarnation(1, 1, 1);
        let mut lineage = lineage_at(first, 5);
        assert_eq!(answer(&mut lineage, first, 4), Err(StaleOrigin::Behind { seen: 4, known: 5 }));
        assert_eq!(answer(&mut lineage, first, 5), Ok(Admitted::Unchanged));
        // A revision that was read but not confirmed does not raise the floor.
        assert_eq!(answer(&mut lineage, first, 9), Ok(Admitted::Unchanged));
        assert_eq!(answer(&mut lineage, first, 5), Ok(Admitted::Unchanged));
        // An older revision does not lower what is confirmed.
        lineage.confirm(&first, Revision(3));
        assert_eq!(answer(&mut lineage, first, 4), Err(StaleOrigin::Behind { seen: 4, known: 5 }));
    }

    #[test]
    fn a_promotion_is_followed_and_the_server_it_superseded_is_refused() {
        let (first, second) = (incarnation(1, 1, 1), incarnation(1, 1, 2));
        let mut lineage = lineage_at(first, 5);
        assert_eq!(answer(&mut lineage, second, 3), Ok(Admitted::Moved));
        assert_eq!(answer(&mut lineage, second, 3), Ok(Admitted::Unchanged));
        let older = Err(StaleOrigin::OlderTimeline { seen: 1, known: 2 });
        assert_eq!(answer(&mut lineage, first, 9), older);
        // An older timeline that was never seen is refused as well.
        let mut lineage = lineage_at(incarnation(1, 1, 7), 5);
        let older = Err(StaleOrigin::OlderTimeline { seen: 6, known: 7 });
        assert_eq!(answer(&mut lineage, incarnation(1, 1, 6), 9), older);
    }

    #[test]
    fn a_new_epoch_is_followed_and_the_superseded_one_is_refused() {
        let (first, second) = (incarnation(1, 1, 3), incarnation(2, 1, 1));
        let mut lineage = lineage_at(first, 5);
        assert_eq!(answer(&mut lineage, second, 0), Ok(Admitted::Moved));
        assert_eq!(answer(&mut lineage, first, 9), Err(StaleOrigin::Superseded));
        // It is also refused under another system.
        assert_eq!(answer(&mut lineage, incarnation(1, 4, 1), 9), Err(StaleOrigin::Superseded));
        // A restore of the earlier database is a promotion, and counts.
        assert_eq!(answer(&mut lineage, incarnation(1, 1, 4), 2), Ok(Admitted::Moved));
    }

    #[test]
    fn a_copy_under_another_system_is_followed_once() {
        let (first, copy) = (incarnation(1, 1, 3), incarnation(1, 2, 1));
        let mut lineage = lineage_at(first, 5);
        assert_eq!(answer(&mut lineage, copy, 5), Ok(Admitted::Moved));
        assert_eq!(answer(&mut lineage, first, 9), Err(StaleOrigin::Superseded));
        assert_eq!(answer(&mut lineage, incarnation(1, 1, 4), 9), Err(StaleOrigin::Superseded));
    }

    #[test]
    fn a_statement_is_checked_against_the_floor_taken_before_it_was_sent() {
        let (first, second, third) =
            (incarnation(1, 1, 1), incarnation(1, 1, 2), incarnation(1, 1, 3));
        let mut lineage = lineage_at(first, 5);
        let floor = lineage.floor();
        // Other statements learn more while this one is in flight.
        lineage.confirm(&first, Revision(8));
        let origin = Origin::Primary(first);
        assert_eq!(lineage.admit(&floor, &origin, Revision(6)), Ok(Admitted::Unchanged));
        for incarnation in [second, third] {
            assert_eq!(answer(&mut lineage, incarnation, 9), Ok(Admitted::Moved));
        }
        for incarnation in [first, second] {
            let origin = Origin::Primary(incarnation);
            assert_eq!(lineage.admit(&floor, &origin, Revision(9)), Ok(Admitted::Unchanged));
            // The lineage stays at the newest incarnation.
            assert_eq!(lineage.floor().incarnation(), Some(third));
        }
    }

    #[test]
    fn a_revision_confirmed_in_a_superseded_incarnation_is_ignored() {
        let (first, second) = (incarnation(1, 1, 1), incarnation(1, 1, 2));
        let mut lineage = lineage_at(first, 5);
        assert_eq!(answer(&mut lineage, second, 3), Ok(Admitted::Moved));
        lineage.confirm(&first, Revision(9));
        assert_eq!(answer(&mut lineage, second, 3), Ok(Admitted::Unchanged));
    }

    #[test]
    fn a_bounded_number_of_superseded_incarnations_is_remembered() {
        let mut lineage = lineage_at(incarnation(0, 1, 1), 1);
        let count = SUPERSEDED_MAX as u128 + 1;
        for epoch in 1..=count {
            assert_eq!(answer(&mut lineage, incarnation(epoch, 1, 1), 1), Ok(Admitted::Moved));
        }
        assert_eq!(lineage.superseded.len(), SUPERSEDED_MAX);
        assert_eq!(answer(&mut lineage, incarnation(1, 1, 1), 9), Err(StaleOrigin::Superseded));
        assert_eq!(answer(&mut lineage, incarnation(0, 1, 1), 9), Ok(Admitted::Moved));
    }

    #[test]
    fn a_connection_is_checked_by_its_incarnation_only() {
        let (first, second) = (incarnation(1, 1, 1), incarnation(1, 1, 2));
        let mut lineage = lineage_at(first, 5);
        let floor = lineage.floor();
        let admit = |lineage: &mut Lineage, incarnation| {
            lineage.admit_connection(&floor, &Origin::Primary(incarnation))
        };
        assert_eq!(admit(&mut lineage, first), Ok(Admitted::Unchanged));
        assert_eq!(admit(&mut lineage, second), Ok(Admitted::Moved));
        let floor = lineage.floor();
        let refused = lineage.admit_connection(&floor, &Origin::Primary(first));
        assert_eq!(refused, Err(StaleOrigin::OlderTimeline { seen: 1, known: 2 }));
    }
}
