//! `src/cache/cached.rs` and `flights.rs`: to be read beside them. The mirror and the lease are the real ones; what is
//! modelled is that a read takes time, and that a process may stop between any two steps.

use sophic_auth::cache::{Facts, Question, Term};

use super::client::Request;
use super::plan::{Broken, L, US};
use super::process::Key;
use super::world::{Address, Arrival, Event, Query, Reply, World};

/// A read under way.
#[derive(Debug)]
pub(super) struct Fill {
    key: Key,
    /// `mirror.life()`, from before it.
    life: u64,
    waiters: Vec<Request>,
    /// For one who asked by themselves: what it finds is the answer, whatever it is.
    alone: bool,
}

impl World {
    /// `Service::introspect`: memory first.
    pub(super) fn introspect(&mut self, me: Address, request: Request) {
        let process = &self.processes[me.process];
        let (digest, workspace) = &request.key;
        let question = Question {
            digest,
            workspace: workspace.as_deref(),
            at_least: request.at_least,
            fresh: request.fresh,
        };
        if question.fresh {
            return self.read(me, request, true);
        }
        // `Cached::recall`.
        let term = process.lease.term();
        let recalled =
            process.mirror.recall(question.digest, question.workspace, question.at_least);
        match recalled {
            Some(facts) => {
                // Now and then its thread is not given the processor for long.
                let longest = if self.rng.in_thousand(5) { 2 * L } else { 20 * US };
                let moment = self.rng.below(longest);
                self.after(moment, Event::At(me, Arrival::Believe(request, facts, term)));
            }
            None => self.look_up(me, request),
        }
    }

    /// The rest of `Cached::recall`: the lease, after the reading.
    pub(super) fn believe(&mut self, me: Address, request: Request, facts: &Facts, term: Term) {
        let process = &self.processes[me.process];
        let later = self.plan.is(Broken::LaterLease);
        let term = if later { process.lease.term() } else { term };
        if process.lease.has_held(term, process.boot(self.now)) {
            self.answer(&request, Some(facts), true);
        } else {
            self.look_up(me, request);
        }
    }

    fn is_current(&self, me: Address) -> bool {
        let process = &self.processes[me.process];
        process.is_current(self.now)
    }

    /// `Cached::look_up`, and `Flights::board`.
    fn look_up(&mut self, me: Address, request: Request) {
        let may_join = self.is_current(me) || self.plan.is(Broken::JoinedWithoutLease);
        let process = &mut self.processes[me.process];
        let under_way = process.board.lock().expect("one thread").get(&request.key).copied();
        match under_way.filter(|_| may_join).and_then(|number| process.fills.get_mut(&number)) {
            Some(fill) => fill.waiters.push(request),
            None => self.read(me, request, false),
        }
    }

    /// `Cached::read`.
    fn read(&mut self, me: Address, request: Request, alone: bool) {
        let key = request.key.clone();
        let number = self.call(me, Query::LookUp(key.0, key.1.clone()));
        // The pool's time limit, or the statement's.
        self.after(3 * L, Event::At(me, Arrival::Time(number)));
        let process = &mut self.processes[me.process];
        if !alone {
            process.board.lock().expect("one thread").insert(key.clone(), number);
        }
        let life = process.mirror.life();
        process.fills.insert(number, Fill { key, life, waiters: vec![request], alone });
    }

    /// The rest of it.
    pub(super) fn filled(&mut self, me: Address, number: u64, reply: Reply) {
        let unchecked = self.plan.is(Broken::FillUnchecked);
        let process = &mut self.processes[me.process];
        let Some(fill) = process.fills.remove(&number) else { return };
        {
            let mut board = process.board.lock().expect("one thread");
            if board.get(&fill.key) == Some(&number) {
                board.remove(&fill.key);
            }
        }
        let facts = match reply {
            Reply::LookedUp(looked_up) => Facts::of(fill.key.0, *looked_up),
            _ => {
                for request in fill.waiters {
                    self.answer(&request, None, false);
                }
                return;
            }
        };
        let (digest, workspace) = (&fill.key.0, fill.key.1.as_deref());
        if unchecked {
            let revision = facts.revision.max(process.mirror.applied());
            let forged = Facts { revision, ..facts.clone() };
            process.mirror.remember(digest, workspace, &forged, process.mirror.life());
        } else {
            process.mirror.remember(digest, workspace, &facts, fill.life);
        }
        for request in fill.waiters {
            if facts.revision >= request.at_least {
                self.answer(&request, Some(&facts), false);
            } else if fill.alone {
                // RevisionNotReached.
                self.answer(&request, None, false);
            } else {
                self.read(me, request, true);
            }
        }
    }
}
