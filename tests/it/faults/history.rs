//! A history of calls and answers, with the start and end time of each call taken in this process, and a check for
//! answers that break the promise.

use std::collections::HashMap;
use std::time::Instant;

use parking_lot::Mutex;

/// The time from the start to the end of a call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) started: Instant,
    pub(super) ended: Instant,
}

/// A call. Keys are identified by number.
#[derive(Debug, Clone, Copy)]
pub(super) enum Event {
    /// `CreateKey` returned this key.
    Created { key: usize, span: Span },
    /// An answer of a server.
    Asked { key: usize, server: usize, span: Span, active: bool },
    /// An attempt to revoke. `returned` is false if its outcome is unknown.
    Revoked { key: usize, span: Span, returned: bool },
}

/// All calls, in the order in which they ended.
#[derive(Debug, Default)]
pub(super) struct History(Mutex<Vec<Event>>);

/// What the history says about a key.
#[derive(Debug, Default, Clone, Copy)]
struct KeyHistory {
    created: Option<Instant>,
    /// Start of the first attempt to revoke it.
    revoke_started: Option<Instant>,
    /// End of the first Revoke that returned.
    revoked: Option<Instant>,
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

fn histories(events: &[Event]) -> HashMap<usize, KeyHistory> {
    let mut histories: HashMap<usize, KeyHistory> = HashMap::new();
    for event in events {
        match *event {
            Event::Created { key, span } => {
                earlier(&mut histories.entry(key).or_default().created, span.ended)
            }
            Event::Revoked { key, span, returned } => {
                let history = histories.entry(key).or_default();
                earlier(&mut history.revoke_started, span.started);
                if returned {
                    earlier(&mut history.revoked, span.ended);
                }
            }
            Event::Asked { .. } => {}
        }
    }
    histories
}

/// Returns the answers that break the promise: active after a Revoke has returned (I1), or inactive before a call
/// revoked the key (I2, I6).
pub(super) fn violations(events: &[Event]) -> Vec<Event> {
    let histories = histories(events);
    let wrong = |event: &&Event| {
        let Event::Asked { key, span, active, .. } = **event else { return false };
        let Some(history) = histories.get(&key) else { return false };
        if active {
            history.revoked.is_some_and(|revoked| span.started > revoked)
        } else {
            let known = history.created.is_some_and(|created| span.started > created);
            known && history.revoke_started.is_none_or(|revoke_started| span.ended < revoke_started)
        }
    };
    events.iter().filter(wrong).copied().collect()
}

/// Counts the calls of each kind: creations, active answers, inactive answers, revocations that returned, and
/// revocations with an unknown outcome.
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

/// Checks the checker: takes a good history, and moves one answer of each kind to a time at which it would be wrong.
pub(super) fn assert_that_moved_answers_are_noticed(events: &[Event]) {
    assert_eq!(violations(events).len(), 0);
    let histories = histories(events);
    let mut late = None;
    let mut early = None;
    for event in events {
        let Event::Asked { key, server, span, active } = *event else { continue };
        let Some(history) = histories.get(&key) else { continue };
        let (Some(created), Some(revoke_started), Some(revoked)) =
            (history.created, history.revoke_started, history.revoked)
        else {
            continue;
        };
        let long = span.ended - span.started;
        let tick = std::time::Duration::from_nanos(1);
        if active && span.ended < revoked {
            let started = revoked + tick;
            let span = Span { started, ended: started + long };
            late = Some(Event::Asked { key, server, span, active });
        } else if !active && revoke_started - created > 2 * tick {
            let span = Span { started: created + tick, ended: revoke_started - tick };
            early = Some(Event::Asked { key, server, span, active });
        }
    }
    for moved in [late.expect("somebody asked before"), early.expect("somebody asked after")] {
        let mut events = events.to_vec();
        events.push(moved);
        assert_eq!(violations(&events).len(), 1, "{moved:?} went unnoticed");
    }
}
