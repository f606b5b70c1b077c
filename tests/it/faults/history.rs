//! What was asked and answered, with the times at which each call began and ended, taken in this one process; and what
//! must never be found in it.

use std::collections::HashMap;
use std::time::Instant;

use parking_lot::Mutex;

/// From when to when a call took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) begun: Instant,
    pub(super) ended: Instant,
}

/// A call. Keys have numbers.
#[derive(Debug, Clone, Copy)]
pub(super) enum Event {
    /// `CreateKey` has returned it.
    Created { key: usize, span: Span },
    /// What a server said.
    Asked { key: usize, server: usize, span: Span, active: bool },
    /// A try to revoke; whether it returned, or nobody knows what became of it.
    Revoked { key: usize, span: Span, returned: bool },
}

/// All of it, as it comes.
#[derive(Debug, Default)]
pub(super) struct History(Mutex<Vec<Event>>);

/// What is known of a key.
#[derive(Debug, Default, Clone, Copy)]
struct Life {
    created: Option<Instant>,
    /// The first try to revoke it began.
    doomed: Option<Instant>,
    /// A Revoke has returned.
    dead: Option<Instant>,
}

impl History {
    pub(super) fn add(&self, event: Event) {
        self.0.lock().push(event);
    }

    pub(super) fn events(&self) -> Vec<Event> {
        self.0.lock().clone()
    }
}

fn earlier(known: &mut Option<Instant>, other: Instant) {
    *known = Some(known.map_or(other, |known| known.min(other)));
}

fn lives(events: &[Event]) -> HashMap<usize, Life> {
    let mut lives: HashMap<usize, Life> = HashMap::new();
    for event in events {
        match *event {
            Event::Created { key, span } => {
                earlier(&mut lives.entry(key).or_default().created, span.ended)
            }
            Event::Revoked { key, span, returned } => {
                let life = lives.entry(key).or_default();
                earlier(&mut life.doomed, span.begun);
                if returned {
                    earlier(&mut life.dead, span.ended);
                }
            }
            Event::Asked { .. } => {}
        }
    }
    lives
}

/// The answers that break the promise: alive after a Revoke has returned (I1), or dead with nobody having revoked it
/// (I2, I6).
pub(super) fn violations(events: &[Event]) -> Vec<Event> {
    let lives = lives(events);
    let wrong = |event: &&Event| {
        let Event::Asked { key, span, active, .. } = **event else { return false };
        let Some(life) = lives.get(&key) else { return false };
        if active {
            life.dead.is_some_and(|dead| span.begun > dead)
        } else {
            let known = life.created.is_some_and(|created| span.begun > created);
            known && life.doomed.is_none_or(|doomed| span.ended < doomed)
        }
    };
    events.iter().filter(wrong).copied().collect()
}

/// How many calls of each kind there were: creations, answers that say active, others, revocations that returned, tries
/// whose outcome nobody knows.
pub(super) fn counts(events: &[Event]) -> [usize; 5] {
    let mut counts = [0; 5];
    for event in events {
        let kind = match event {
            Event::Created { .. } => 0,
            Event::Asked { active: true, .. } => 1,
            Event::Asked { active: false, .. } => 2,
            Event::Revoked { returned: true, .. } => 3,
            Event::Revoked { returned: false, .. } => 4,
        };
        counts[kind] += 1;
    }
    counts
}

/// The control: a good history, in which one answer of each kind is moved to where it would be wrong.
pub(super) fn assert_that_moved_answers_are_noticed(events: &[Event]) {
    assert_eq!(violations(events).len(), 0);
    let lives = lives(events);
    let mut late = None;
    let mut early = None;
    for event in events {
        let Event::Asked { key, server, span, active } = *event else { continue };
        let Some(life) = lives.get(&key) else { continue };
        let (Some(created), Some(doomed), Some(dead)) = (life.created, life.doomed, life.dead)
        else {
            continue;
        };
        let long = span.ended - span.begun;
        let tick = std::time::Duration::from_nanos(1);
        if active && span.ended < dead {
            let begun = dead + tick;
            let span = Span { begun, ended: begun + long };
            late = Some(Event::Asked { key, server, span, active });
        } else if !active && doomed - created > 2 * tick {
            let span = Span { begun: created + tick, ended: doomed - tick };
            early = Some(Event::Asked { key, server, span, active });
        }
    }
    for moved in [late.expect("somebody asked before"), early.expect("somebody asked after")] {
        let mut events = events.to_vec();
        events.push(moved);
        assert_eq!(violations(&events).len(), 1, "{moved:?} went unnoticed");
    }
}
