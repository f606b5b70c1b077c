//! Who asks: a steady load of introspections, of changes, and of introspections of what has just been changed.

use std::collections::BTreeMap;

use sophic_auth::model::{Facts, Revision};

use super::checker::Floors;
use super::plan::{FAULTS_END, L, MS, US};
use super::process::Key;
use super::store::{Effect, Entity, ROLES, SLUGS, USERS, WORKSPACES, Wanted, digest};
use super::world::{Arrival, Event, Thread, World};

/// An introspection.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) key: Key,
    pub(super) at_least: Revision,
    pub(super) fresh: bool,
    /// A read that it joined was too old for it.
    pub(super) again: bool,
    pub(super) process: usize,
    session: usize,
    /// What was promised when it started.
    pub(super) floors: Floors,
}

/// A change that somebody wants made.
#[derive(Debug)]
pub(super) struct Operation {
    wanted: Wanted,
    /// The try that is waited for.
    attempt: u64,
    patience: u64,
    tries: u32,
    /// The process of the last try.
    process: Option<usize>,
    /// Whether every try goes to that process.
    pinned: bool,
}

#[derive(Default)]
pub(super) struct Clients {
    pub(super) operations: BTreeMap<u64, Operation>,
    /// Whose attempt it is.
    attempts: BTreeMap<u64, u64>,
    /// Credentials whose making has returned.
    made: Vec<usize>,
    revoked: Vec<usize>,
    next: usize,
    sessions: [Revision; 4],
}

impl Clients {
    pub(super) fn is_waited_for(&self, attempt: u64) -> bool {
        self.attempts.contains_key(&attempt)
    }
}

impl World {
    pub(super) fn load(&mut self, changes: bool) {
        let mean = if changes { 70 * MS } else { 10 * MS };
        let next = self.rng.between(mean / 10, 2 * mean);
        if self.now < FAULTS_END + L {
            self.after(next, Event::Load { changes });
        }
        if !changes {
            let process = 1 + self.rng.place(self.plan.servers);
            if let Some(at) = self.some_credential() {
                self.ask(at, process);
            }
            return;
        }
        let wanted = self.wanted();
        self.want(wanted, None);
        // Two may ask for the same at once.
        if wanted.effect() == Effect::Narrows && self.rng.in_thousand(200) {
            self.want(wanted, None);
        }
    }

    /// Somebody wants this done: by this process, if one is given, and by no other.
    pub(super) fn want(&mut self, wanted: Wanted, process: Option<usize>) {
        let operation = self.fresh_number();
        let patience = self.plan.deadline;
        let pinned = process.is_some();
        let new = Operation { wanted, attempt: 0, patience, tries: 0, process, pinned };
        self.clients.operations.insert(operation, new);
        self.attempt(operation);
    }

    fn wanted(&mut self) -> Wanted {
        let kind = self.rng.below(100);
        if kind < 30 || self.clients.made.len() < 4 {
            self.clients.next += 1;
            Wanted::Create(self.clients.next)
        } else if kind < 65 {
            let at = self.rng.place(self.clients.made.len());
            let credential = self.clients.made.swap_remove(at);
            self.clients.revoked.push(credential);
            Wanted::Revoke(credential)
        } else if kind < 72 {
            Wanted::PutUser(self.rng.place(USERS), self.rng.in_thousand(500))
        } else if kind < 87 {
            let role = ROLES.get(self.rng.place(6)).copied();
            Wanted::PutRole(self.rng.place(USERS), self.rng.place(WORKSPACES), role)
        } else {
            let (at, slug) = (self.rng.place(WORKSPACES), self.rng.place(SLUGS.len()));
            Wanted::PutWorkspace(at, slug, self.rng.in_thousand(300))
        }
    }

    /// One that lives, or has died lately.
    fn some_credential(&mut self) -> Option<usize> {
        let revoked = &self.clients.revoked;
        let late = &revoked[revoked.len().saturating_sub(4)..];
        let made = &self.clients.made;
        let recent = &made[made.len().saturating_sub(8)..];
        let all: Vec<_> = recent.iter().chain(late).copied().collect();
        if all.is_empty() { None } else { Some(all[self.rng.place(all.len())]) }
    }

    /// Asks about a credential; what has returned until now is to be seen.
    pub(super) fn ask(&mut self, at: usize, process: usize) {
        let workspace = if at.is_multiple_of(2) {
            None
        } else {
            let named = self.rng.place(SLUGS.len() + WORKSPACES);
            let id = || format!("w{}", named - SLUGS.len());
            Some(SLUGS.get(named).map_or_else(id, |slug| (*slug).to_owned()))
        };
        let session = self.rng.place(4);
        let passes = !self.plan.promotions && self.rng.in_thousand(300);
        let at_least = if passes { self.clients.sessions[session] } else { Revision(0) };
        let fresh = self.rng.in_thousand(20);
        let floors = self.checker.floors(&self.store, at);
        let key = (digest(at), workspace);
        let again = false;
        let request = Request { key, at_least, fresh, again, process, session, floors };
        let address = self.processes[process].address(process, Thread::Work);
        let delay = self.rng.between(10 * US, MS);
        self.after(delay, Event::At(address, Arrival::Ask(request)));
    }

    /// An answer, or none: UNAVAILABLE.
    pub(super) fn answer(&mut self, request: &Request, facts: Option<&Facts>, remembered: bool) {
        let Some(facts) = facts else { return };
        let session = &mut self.clients.sessions[request.session];
        *session = (*session).max(facts.revision);
        self.checker.answered(self.now, &self.store, request, facts, remembered);
    }

    /// Sends an operation to some process: the same as before, or another.
    pub(super) fn attempt(&mut self, id: u64) {
        let attempt = self.fresh_number();
        let some = self.rng.place(self.processes.len());
        let stays = self.rng.in_thousand(400);
        let more_patient = self.plan.more_patient;
        let Some(operation) = self.clients.operations.get_mut(&id) else { return };
        let process = operation.process.filter(|_| stays || operation.pinned).unwrap_or(some);
        operation.process = Some(process);
        operation.attempt = attempt;
        operation.tries += 1;
        let (wanted, patience) = (operation.wanted, operation.patience);
        if more_patient {
            operation.patience = (2 * patience).min(4 * L);
        }
        self.clients.attempts.insert(attempt, id);
        let address = self.processes[process].address(process, Thread::Work);
        let delay = self.rng.between(10 * US, MS);
        self.after(delay, Event::At(address, Arrival::Operate(attempt, wanted)));
        self.after(patience, Event::Late { operation: id, attempt });
    }

    /// DEADLINE_EXCEEDED: committed perhaps, and the barrier pending.
    pub(super) fn give_up_attempt(&mut self, operation: u64, attempt: u64) {
        if self.clients.attempts.contains_key(&attempt) {
            debug_assert_eq!(self.clients.attempts[&attempt], operation);
            self.failed(attempt);
        }
    }

    /// The outcome is unknown.
    pub(super) fn failed(&mut self, attempt: u64) {
        let Some(id) = self.clients.attempts.remove(&attempt) else { return };
        let Some(operation) = self.clients.operations.get(&id) else { return };
        if matches!(operation.wanted, Wanted::Create(_)) {
            // Its token is lost, whether it was made or not.
            self.clients.operations.remove(&id);
            return;
        }
        self.checker.retries += 1;
        let pause = self.rng.between(10 * MS, 300 * MS);
        self.after(pause, Event::Retry { operation: id });
    }

    /// It has returned: from here on every introspection has to know. Those who would be the first to notice ask.
    pub(super) fn returned(&mut self, attempt: u64, barrier: Option<Revision>, version: i64) {
        let Some(id) = self.clients.attempts.remove(&attempt) else { return };
        let Some(operation) = self.clients.operations.remove(&id) else { return };
        let entity = operation.wanted.entity();
        if barrier.is_some() || matches!(operation.wanted, Wanted::Create(_)) {
            self.checker.returned(entity, barrier, version);
        }
        if let Wanted::Create(at) = operation.wanted {
            self.clients.made.push(at);
        }
        let asked = match entity {
            Entity::Credential(at) => Some(at),
            Entity::User(user) => self.one_of(|at| !at.is_multiple_of(2) && at / 2 % USERS == user),
            Entity::Workspace(workspace) => {
                self.one_of(|at| !at.is_multiple_of(2) || at / 2 % WORKSPACES == workspace)
            }
        };
        let Some(asked) = asked else { return };
        for process in 1..=self.plan.servers {
            self.ask(asked, process);
        }
    }

    fn one_of(&mut self, suits: impl Fn(usize) -> bool) -> Option<usize> {
        let suitable: Vec<_> =
            self.clients.made.iter().rev().copied().filter(|at| suits(*at)).take(4).collect();
        if suitable.is_empty() { None } else { Some(suitable[self.rng.place(suitable.len())]) }
    }
}
