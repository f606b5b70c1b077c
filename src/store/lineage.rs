//! Which store a process has seen, and how far: what is read counts only from a primary that is not behind that. No I/O,
//! so that the simulation in `tests/it/simulation` runs this too.
//!
//! A statement is judged by what was known *before* it was sent. What others learn while it is under way says nothing
//! about it: it may well have been answered before that was so.

use std::collections::VecDeque;
use std::fmt;

use uuid::Uuid;

use super::Incarnation;
use crate::model::Revision;

/// Lives that were left and are remembered.
const LEFT_MAX: usize = 64;

/// One life of a store: its log goes on in the order of its revisions as long as all three stay the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Life {
    /// A restore renews it, and so does `new-epoch`.
    pub epoch: Uuid,
    /// The database system, which its copies share.
    pub system: i64,
    /// What a promotion counts on.
    pub timeline: u32,
}

impl Life {
    /// Reads what [`fmt::Display`] writes: epoch, system and timeline (in hexadecimal), with a slash between each.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let epoch = Uuid::try_parse(parts.next()?).ok()?;
        let system = parts.next()?.parse().ok()?;
        let timeline = u32::from_str_radix(parts.next()?, 16).ok()?;
        parts.next().is_none().then_some(Self { epoch, system, timeline })
    }

    /// As replicas publish it.
    pub fn incarnation(&self) -> Incarnation {
        Incarnation(self.to_string())
    }

    /// Whether it comes later in the history of one and the same system.
    const fn is_promotion_of(&self, other: &Self) -> bool {
        self.system == other.system && self.timeline > other.timeline
    }
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{:08X}", self.epoch, self.system, self.timeline)
    }
}

/// Where a statement was answered, as the same statement says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A server in recovery: it follows another, and may be behind it by any length of time.
    Standby,
    /// A primary, in this life.
    Primary(Life),
}

/// What a process knew at one moment. Taken before a statement is sent, it is what the statement's result must not be
/// behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Floor {
    /// The newest life, and the newest revision confirmed in it; nothing before the first statement.
    newest: Option<(Life, Revision)>,
    /// Lives left by then.
    left: u64,
}

impl Floor {
    /// The newest life that was known.
    pub fn life(&self) -> Option<Life> {
        self.newest.map(|(life, _)| life)
    }
}

/// What was admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admitted {
    /// Nothing new.
    AsKnown,
    /// It is of a life that this process had not seen, and another one is left for it: what leads to that one, or may
    /// lead there, is to be thrown away.
    Moved,
}

/// Why what was read does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
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
    Left,
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
    newest: Option<(Life, Revision)>,
    /// Lives left, the last one at the end.
    left: VecDeque<Life>,
    /// How many there were ever: `left` is the last of them.
    left_count: u64,
}

impl Lineage {
    /// What is known now. To be taken before a statement is sent.
    pub fn floor(&self) -> Floor {
        Floor { newest: self.newest, left: self.left_count }
    }

    /// Takes in where a statement was answered that was sent after `floor` was taken, at which revision.
    ///
    /// # Errors
    /// If its result does not count.
    pub fn admit(
        &mut self,
        floor: &Floor,
        place: &Place,
        revision: Revision,
    ) -> Result<Admitted, Refused> {
        let Place::Primary(life) = *place else { return Err(Refused::Standby) };
        self.judge(floor, life)?;
        if let Some((known, newest)) = floor.newest
            && known == life
            && revision < newest
        {
            return Err(Refused::Behind { seen: revision.0, known: newest.0 });
        }
        Ok(self.join(life))
    }

    /// Takes in where a connection leads that was made after `floor` was taken, and that says nothing of a revision.
    ///
    /// # Errors
    /// If nothing that it would say counts.
    pub fn admit_connection(&mut self, floor: &Floor, place: &Place) -> Result<Admitted, Refused> {
        let Place::Primary(life) = *place else { return Err(Refused::Standby) };
        self.judge(floor, life)?;
        Ok(self.join(life))
    }

    /// Notes that `revision` is confirmed in this life: a sync has fetched it, or a commit of this process made it.
    pub fn confirm(&mut self, life: &Life, revision: Revision) {
        if let Some((known, newest)) = &mut self.newest
            && known == life
        {
            *newest = revision.max(*newest);
        }
    }

    /// Whether this life can be the store's, for a process that knew as much as `floor`.
    fn judge(&self, floor: &Floor, life: Life) -> Result<(), Refused> {
        let Some((known, _)) = floor.newest else { return Ok(()) };
        if life == known {
            return Ok(());
        }
        let since = self.left_count.saturating_sub(floor.left);
        let since = usize::try_from(since).unwrap_or(usize::MAX);
        let left_by_then = self.left.iter().rev().skip(since);
        let (mut epoch_seen, mut system_seen) = (life.epoch == known.epoch, false);
        for left in left_by_then {
            if *left == life {
                return Err(refuse_older(life, known));
            }
            epoch_seen |= left.epoch == life.epoch;
            system_seen |= left.system == life.system;
        }
        // A promotion, or what somebody has declared to be another life.
        if life.is_promotion_of(&known) || !epoch_seen {
            return Ok(());
        }
        // A copy under another system, as an upgrade makes one. But not one that was gone on from.
        let is_copy = life.system != known.system && life.epoch == known.epoch;
        if is_copy && !system_seen {
            return Ok(());
        }
        Err(refuse_older(life, known))
    }

    /// Makes it the newest life, unless that is newer: it may have come while the statement was under way.
    fn join(&mut self, life: Life) -> Admitted {
        let Some((known, _)) = self.newest else {
            self.newest = Some((life, Revision::default()));
            return Admitted::AsKnown;
        };
        if known == life || self.judge(&self.floor(), life).is_err() {
            return Admitted::AsKnown;
        }
        self.left.push_back(known);
        self.left_count += 1;
        if self.left.len() > LEFT_MAX {
            self.left.pop_front();
        }
        self.newest = Some((life, Revision::default()));
        Admitted::Moved
    }
}

const fn refuse_older(life: Life, known: Life) -> Refused {
    if life.system == known.system && life.timeline < known.timeline {
        Refused::OlderTimeline { seen: life.timeline, known: known.timeline }
    } else {
        Refused::Left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(epoch: u128, system: i64, timeline: u32) -> Life {
        Life { epoch: Uuid::from_u128(epoch), system, timeline }
    }

    /// What a statement gives that is sent now, and answered at once.
    fn ask(lineage: &mut Lineage, life: Life, revision: u64) -> Result<Admitted, Refused> {
        let floor = lineage.floor();
        lineage.admit(&floor, &Place::Primary(life), Revision(revision))
    }

    /// One that has seen this life up to this revision.
    fn at(life: Life, revision: u64) -> Lineage {
        let mut lineage = Lineage::default();
        assert_eq!(ask(&mut lineage, life, revision), Ok(Admitted::AsKnown));
        lineage.confirm(&life, Revision(revision));
        lineage
    }

    #[test]
    fn a_life_reads_as_it_is_written() {
        let life = life(7, i64::MIN, 0xff);
        assert_eq!(Life::parse(&life.to_string()), Some(life));
        let wrong = ["", "/", "x/1/00000001", "00000000-0000-0000-0000-000000000007/1"];
        assert!(wrong.iter().all(|text| Life::parse(text).is_none()));
        assert_eq!(Life::parse(&format!("{life}/1")), None);
    }

    #[test]
    fn a_standby_is_refused_even_by_a_process_that_knows_nothing() {
        let mut lineage = Lineage::default();
        let floor = lineage.floor();
        let refused = lineage.admit(&floor, &Place::Standby, Revision(9));
        assert_eq!(refused, Err(Refused::Standby));
        assert_eq!(lineage.admit_connection(&floor, &Place::Standby), Err(Refused::Standby));
    }

    #[test]
    fn what_is_behind_in_the_same_life_is_refused() {
        let first = life(1, 1, 1);
        let mut lineage = at(first, 5);
        assert_eq!(ask(&mut lineage, first, 4), Err(Refused::Behind { seen: 4, known: 5 }));
        assert_eq!(ask(&mut lineage, first, 5), Ok(Admitted::AsKnown));
        // What was read and not confirmed is no measure.
        assert_eq!(ask(&mut lineage, first, 9), Ok(Admitted::AsKnown));
        assert_eq!(ask(&mut lineage, first, 5), Ok(Admitted::AsKnown));
        // Nothing is taken back.
        lineage.confirm(&first, Revision(3));
        assert_eq!(ask(&mut lineage, first, 4), Err(Refused::Behind { seen: 4, known: 5 }));
    }

    #[test]
    fn a_promotion_is_moved_to_and_what_it_succeeded_is_refused() {
        let (first, second) = (life(1, 1, 1), life(1, 1, 2));
        let mut lineage = at(first, 5);
        assert_eq!(ask(&mut lineage, second, 3), Ok(Admitted::Moved));
        assert_eq!(ask(&mut lineage, second, 3), Ok(Admitted::AsKnown));
        let older = Err(Refused::OlderTimeline { seen: 1, known: 2 });
        assert_eq!(ask(&mut lineage, first, 9), older);
        // One that was never seen, too.
        let mut lineage = at(life(1, 1, 7), 5);
        let older = Err(Refused::OlderTimeline { seen: 6, known: 7 });
        assert_eq!(ask(&mut lineage, life(1, 1, 6), 9), older);
    }

    #[test]
    fn another_epoch_is_moved_to_and_the_one_that_was_left_is_refused() {
        let (first, second) = (life(1, 1, 3), life(2, 1, 1));
        let mut lineage = at(first, 5);
        assert_eq!(ask(&mut lineage, second, 0), Ok(Admitted::Moved));
        assert_eq!(ask(&mut lineage, first, 9), Err(Refused::Left));
        // Nor under another system.
        assert_eq!(ask(&mut lineage, life(1, 4, 1), 9), Err(Refused::Left));
        // A restore of what was before it is a promotion, and counts.
        assert_eq!(ask(&mut lineage, life(1, 1, 4), 2), Ok(Admitted::Moved));
    }

    #[test]
    fn a_copy_under_another_system_is_moved_to_once() {
        let (first, copy) = (life(1, 1, 3), life(1, 2, 1));
        let mut lineage = at(first, 5);
        assert_eq!(ask(&mut lineage, copy, 5), Ok(Admitted::Moved));
        assert_eq!(ask(&mut lineage, first, 9), Err(Refused::Left));
        assert_eq!(ask(&mut lineage, life(1, 1, 4), 9), Err(Refused::Left));
    }

    #[test]
    fn a_statement_is_judged_by_what_was_known_before_it_was_sent() {
        let (first, second, third) = (life(1, 1, 1), life(1, 1, 2), life(1, 1, 3));
        let mut lineage = at(first, 5);
        let floor = lineage.floor();
        // Others learn of more while it is under way.
        lineage.confirm(&first, Revision(8));
        let place = Place::Primary(first);
        assert_eq!(lineage.admit(&floor, &place, Revision(6)), Ok(Admitted::AsKnown));
        for life in [second, third] {
            assert_eq!(ask(&mut lineage, life, 9), Ok(Admitted::Moved));
        }
        for life in [first, second] {
            let place = Place::Primary(life);
            assert_eq!(lineage.admit(&floor, &place, Revision(9)), Ok(Admitted::AsKnown));
            // And takes nobody back.
            assert_eq!(lineage.floor().life(), Some(third));
        }
    }

    #[test]
    fn what_is_confirmed_of_a_life_that_was_left_is_no_measure() {
        let (first, second) = (life(1, 1, 1), life(1, 1, 2));
        let mut lineage = at(first, 5);
        assert_eq!(ask(&mut lineage, second, 3), Ok(Admitted::Moved));
        lineage.confirm(&first, Revision(9));
        assert_eq!(ask(&mut lineage, second, 3), Ok(Admitted::AsKnown));
    }

    #[test]
    fn so_many_lives_are_remembered_and_no_more() {
        let mut lineage = at(life(0, 1, 1), 1);
        let lives = LEFT_MAX as u128 + 1;
        for epoch in 1..=lives {
            assert_eq!(ask(&mut lineage, life(epoch, 1, 1), 1), Ok(Admitted::Moved));
        }
        assert_eq!(lineage.left.len(), LEFT_MAX);
        assert_eq!(ask(&mut lineage, life(1, 1, 1), 9), Err(Refused::Left));
        assert_eq!(ask(&mut lineage, life(0, 1, 1), 9), Ok(Admitted::Moved));
    }

    #[test]
    fn a_connection_is_judged_by_its_life_alone() {
        let (first, second) = (life(1, 1, 1), life(1, 1, 2));
        let mut lineage = at(first, 5);
        let floor = lineage.floor();
        let admit =
            |lineage: &mut Lineage, life| lineage.admit_connection(&floor, &Place::Primary(life));
        assert_eq!(admit(&mut lineage, first), Ok(Admitted::AsKnown));
        assert_eq!(admit(&mut lineage, second), Ok(Admitted::Moved));
        let floor = lineage.floor();
        let refused = lineage.admit_connection(&floor, &Place::Primary(first));
        assert_eq!(refused, Err(Refused::OlderTimeline { seen: 1, known: 2 }));
    }
}
