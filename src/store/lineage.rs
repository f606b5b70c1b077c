//! Which store a process has seen, and how far: what is read counts only from a primary that is not behind that. No I/O,
//! so that the simulation in `tests/it/simulation` runs this too.
//!
//! A statement is judged by what was known *before* it was sent. What others learn while it is under way says nothing
//! about it: it may well have been answered before that was so.

use std::collections::VecDeque;
use std::fmt;

use uuid::Uuid;

use super::IncarnationId;
use crate::model::Revision;

/// Lives that were left and are remembered.
const SUPERSEDED_MAX: usize = 64;

/// One life of a store: its log goes on in the order of its revisions as long as all three stay the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Incarnation {
    /// A restore renews it, and so does `new-epoch`.
    pub epoch: Uuid,
    /// The database system, which its copies share.
    pub system: i64,
    /// What a promotion counts on.
    pub timeline: u32,
}

impl Incarnation {
    /// Reads what [`fmt::Display`] writes: epoch, system and timeline (in hexadecimal), with a slash between each.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let epoch = Uuid::try_parse(parts.next()?).ok()?;
        let system = parts.next()?.parse().ok()?;
        let timeline = u32::from_str_radix(parts.next()?, 16).ok()?;
        parts.next().is_none().then_some(Self { epoch, system, timeline })
    }

    /// As replicas publish it.
    pub fn id(&self) -> IncarnationId {
        IncarnationId(self.to_string())
    }

    /// Whether it comes later in the history of one and the same system.
    const fn is_promotion_of(&self, other: &Self) -> bool {
        self.system == other.system && self.timeline > other.timeline
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{:08X}", self.epoch, self.system, self.timeline)
    }
}

/// Where a statement was answered, as the same statement says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A server in recovery: it follows another, and may be behind it by any length of time.
    Standby,
    /// A primary, in this life.
    Primary(Incarnation),
}

/// What a process knew at one moment. Taken before a statement is sent, it is what the statement's result must not be
/// behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Floor {
    /// The newest life, and the newest revision confirmed in it; nothing before the first statement.
    newest: Option<(Incarnation, Revision)>,
    /// Lives left by then.
    superseded: u64,
}

impl Floor {
    /// The newest life that was known.
    pub fn incarnation(&self) -> Option<Incarnation> {
        self.newest.map(|(incarnation, _)| incarnation)
    }
}

/// What was admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admitted {
    /// Nothing new.
    Unchanged,
    /// It is of a life that this process had not seen, and another one is left for it: what leads to that one, or may
    /// lead there, is to be thrown away.
    Moved,
}

/// Why what was read does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StaleOrigin {
    /// A standby answered.
    #[error("it is a standby, not the primary")]
    Standby,
    /// A primary answered that another one has succeeded.
    #[error("it is an older primary: timeline {seen}, and timeline {known} is known")]
    OlderTimeline {
        /// That of who answered.
        seen: u32,
        /// The newest.
        known: u32,
    },
    /// The database is, or was, of a life that this process has gone on from.
    #[error("it is a database that another one has taken the place of")]
    Superseded,
    /// The right life, but not all of it: a copy, or what a crash has left of it.
    #[error(
        "it is behind what this process has seen: revision {seen}, and revision {known} is known; if it lost that for \
         good, run sophic-auth new-epoch"
    )]
    Behind {
        /// That of who answered.
        seen: u64,
        /// The newest.
        known: u64,
    },
}

/// What this process has seen of its store.
#[derive(Debug, Clone, Default)]
pub struct Lineage {
    newest: Option<(Incarnation, Revision)>,
    /// Lives left, the last one at the end.
    superseded: VecDeque<Incarnation>,
    /// How many there were ever: `left` is the last of them.
    superseded_count: u64,
}

impl Lineage {
    /// What is known now. To be taken before a statement is sent.
    pub fn floor(&self) -> Floor {
        Floor { newest: self.newest, superseded: self.superseded_count }
    }

    /// Takes in where a statement was answered that was sent after `floor` was taken, at which revision.
    ///
    /// # Errors
    /// If its result does not count.
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

    /// Takes in where a connection leads that was made after `floor` was taken, and that says nothing of a revision.
    ///
    /// # Errors
    /// If nothing that it would say counts.
    pub fn admit_connection(
        &mut self,
        floor: &Floor,
        origin: &Origin,
    ) -> Result<Admitted, StaleOrigin> {
        let Origin::Primary(incarnation) = *origin else { return Err(StaleOrigin::Standby) };
        self.check(floor, incarnation)?;
        Ok(self.move_to(incarnation))
    }

    /// Notes that `revision` is confirmed in this incarnation: a sync has fetched it, or a commit of this process made it.
    pub fn confirm(&mut self, incarnation: &Incarnation, revision: Revision) {
        if let Some((known, newest)) = &mut self.newest
            && known == incarnation
        {
            *newest = revision.max(*newest);
        }
    }

    /// Whether this life can be the store's, for a process that knew as much as `floor`.
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
        // A promotion, or what somebody has declared to be another life.
        if incarnation.is_promotion_of(&known) || !epoch_seen {
            return Ok(());
        }
        // A copy under another system, as an upgrade makes one. But not one that was gone on from.
        let is_copy = incarnation.system != known.system && incarnation.epoch == known.epoch;
        if is_copy && !system_seen {
            return Ok(());
        }
        Err(stale_origin(incarnation, known))
    }

    /// Makes it the newest life, unless that is newer: it may have come while the statement was under way.
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

    /// What a statement gives that is sent now, and answered at once.
    fn answer(
        lineage: &mut Lineage,
        incarnation: Incarnation,
        revision: u64,
    ) -> Result<Admitted, StaleOrigin> {
        let floor = lineage.floor();
        lineage.admit(&floor, &Origin::Primary(incarnation), Revision(revision))
    }

    /// One that has seen this life up to this revision.
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
        // What was read and not confirmed is no measure.
        assert_eq!(answer(&mut lineage, first, 9), Ok(Admitted::Unchanged));
        assert_eq!(answer(&mut lineage, first, 5), Ok(Admitted::Unchanged));
        // Nothing is taken back.
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
        // One that was never seen, too.
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
        // Nor under another system.
        assert_eq!(answer(&mut lineage, incarnation(1, 4, 1), 9), Err(StaleOrigin::Superseded));
        // A restore of what was before it is a promotion, and counts.
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
        // Others learn of more while it is under way.
        lineage.confirm(&first, Revision(8));
        let origin = Origin::Primary(first);
        assert_eq!(lineage.admit(&floor, &origin, Revision(6)), Ok(Admitted::Unchanged));
        for incarnation in [second, third] {
            assert_eq!(answer(&mut lineage, incarnation, 9), Ok(Admitted::Moved));
        }
        for incarnation in [first, second] {
            let origin = Origin::Primary(incarnation);
            assert_eq!(lineage.admit(&floor, &origin, Revision(9)), Ok(Admitted::Unchanged));
            // And takes nobody back.
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
