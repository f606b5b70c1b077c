//! The clients: a steady load of introspections and changes, and introspections of what has just been changed.

use std::collections::BTreeMap;

use sophic_auth::model::{Facts, Revision};

use super::checker::Floors;
use super::plan::{FAULTS_END, L, MS, US};
use super::process::Key;
use super::store::{Effect, Entity, Mutation, ROLES, SLUGS, USERS, WORKSPACES, digest};
use super::world::{Event, Message, Thread, World};

/// An introspection.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) key: Key,
    pub(super) at_least: Revision,
    pub(super) fresh: bool,
    /// Whether this is the second read, after a joined read was too old.
    pub(super) is_second_read: bool,
    pub(super) process: usize,
    session: usize,
    /// The promise at the time the introspection started.
    pub(super) floors: Floors,
}

/// A change that a client wants to make.
#[derive(Debug)]
pub(super) struct Operation {
    mutation: Mutation,
    /// The current attempt.
    attempt: u64,
    patience: u64,
    tries: u32,
    /// The process of the last attempt.
    process: Option<usize>,
    /// Whether every attempt goes to that process.
    pinned: bool,
}

#[derive(Default)]
pub(super) struct Clients {
    pub(super) operations: BTreeMap<u64, Operation>,
    /// The operation of each attempt.
    attempts: BTreeMap<u64, u64>,
    /// Credentials whose creation has returned.
    created: Vec<usize>,
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
            let process = 1 + self.rng.index(self.plan.servers);
            if let Some(at) = self.some_credential() {
                self.ask(at, process);
            }
            return;
        }
        let mutation = self.mutation();
        self.start_operation(mutation, None);
        // Two clients may ask for the same change at once.
        if mutation.effect() == Effect::Narrows && self.rng.in_thousand(200) {
            self.start_operation(mutation, None);
        }
    }

    /// Starts an operation. If a process is given, every attempt goes to it.
    pub(super) fn start_operation(&mut self, mutation: Mutation, process: Option<usize>) {
        let operation = self.fresh_number();
        let patience = self.plan.deadline;
        let pinned = process.is_some();
        let new = Operation { mutation, attempt: 0, patience, tries: 0, process, pinned };
        self.clients.operations.insert(operation, new);
        self.attempt(operation);
    }

    fn mutation(&mut self) -> Mutation {
        let kind = self.rng.below(100);
        if kind < 30 || self.clients.created.len() < 4 {
            self.clients.next += 1;
            Mutation::Create(self.clients.next)
        } else if kind < 65 {
            let at = self.rng.index(self.clients.created.len());
            let credential = self.clients.created.swap_remove(at);
            self.clients.revoked.push(credential);
            Mutation::Revoke(credential)
        } else if kind < 72 {
            Mutation::PutUser(self.rng.index(USERS), self.rng.in_thousand(500))
        } else if kind < 87 {
            let role = ROLES.get(self.rng.index(6)).copied();
            Mutation::PutRole(self.rng.index(USERS), self.rng.index(WORKSPACES), role)
        } else {
            let (at, slug) = (self.rng.index(WORKSPACES), self.rng.index(SLUGS.len()));
            Mutation::PutWorkspace(at, slug, self.rng.in_thousand(300))
        }
    }

    /// A credential that was created or revoked recently.
    fn some_credential(&mut self) -> Option<usize> {
        let revoked = &self.clients.revoked;
        let late = &revoked[revoked.len().saturating_sub(4)..];
        let created = &self.clients.created;
        let recent = &created[created.len().saturating_sub(8)..];
        let all: Vec<_> = recent.iter().chain(late).copied().collect();
        if all.is_empty() { None } else { Some(all[self.rng.index(all.len())]) }
    }

    /// Sends an introspection of a credential. Its answer must show every change that has returned so far.
    pub(super) fn ask(&mut self, at: usize, process: usize) {
        let workspace = if at.is_multiple_of(2) {
            None
        } else {
            let named = self.rng.index(SLUGS.len() + WORKSPACES);
            let id = || format!("w{}", named - SLUGS.len());
            Some(SLUGS.get(named).map_or_else(id, |slug| (*slug).to_owned()))
        };
        let session = self.rng.index(4);
        let passes = !self.plan.promotions && self.rng.in_thousand(300);
        let at_least = if passes { self.clients.sessions[session] } else { Revision(0) };
        let fresh = self.rng.in_thousand(20);
        let floors = self.checker.floors(&self.store, at);
        let key = (digest(at), workspace);
        let is_second_read = false;
        let request = Request { key, at_least, fresh, is_second_read, process, session, floors };
        let address = self.processes[process].address(process, Thread::Work);
        let delay = self.rng.between(10 * US, MS);
        self.after(delay, Event::At(address, Message::Introspect(request)));
    }

    /// Checks an answer. `None` is UNAVAILABLE.
    pub(super) fn answer(&mut self, request: &Request, facts: Option<&Facts>, remembered: bool) {
        let Some(facts) = facts else { return };
        let session = &mut self.clients.sessions[request.session];
        *session = (*session).max(facts.revision);
        self.checker.check_answer(self.now, &self.store, request, facts, remembered);
    }

    /// Sends an operation to the process of the last attempt or to another.
    pub(super) fn attempt(&mut self, id: u64) {
        let attempt = self.fresh_number();
        let some = self.rng.index(self.processes.len());
        let stays = self.rng.in_thousand(400);
        let more_patient = self.plan.more_patient;
        let Some(operation) = self.clients.operations.get_mut(&id) else { return };
        let process = operation.process.filter(|_| stays || operation.pinned).unwrap_or(some);
        operation.process = Some(process);
        operation.attempt = attempt;
        operation.tries += 1;
        let (mutation, patience) = (operation.mutation, operation.patience);
        if more_patient {
            operation.patience = (2 * patience).min(4 * L);
        }
        self.clients.attempts.insert(attempt, id);
        let address = self.processes[process].address(process, Thread::Work);
        let delay = self.rng.between(10 * US, MS);
        self.after(delay, Event::At(address, Message::Mutate(attempt, mutation)));
        self.after(patience, Event::Late { operation: id, attempt });
    }

    /// DEADLINE_EXCEEDED: the change may be committed, and its barrier may be pending.
    pub(super) fn give_up_attempt(&mut self, operation: u64, attempt: u64) {
        if self.clients.attempts.contains_key(&attempt) {
            debug_assert_eq!(self.clients.attempts[&attempt], operation);
            self.failed(attempt);
        }
    }

    /// Handles an attempt with an unknown outcome.
    pub(super) fn failed(&mut self, attempt: u64) {
        let Some(id) = self.clients.attempts.remove(&attempt) else { return };
        let Some(operation) = self.clients.operations.get(&id) else { return };
        if matches!(operation.mutation, Mutation::Create(_)) {
            // The token is lost, whether it was created or not.
            self.clients.operations.remove(&id);
            return;
        }
        self.checker.retries += 1;
        let pause = self.rng.between(10 * MS, 300 * MS);
        self.after(pause, Event::Retry { operation: id });
    }

    /// Handles an attempt that has returned. From now on every introspection must show it, so clients ask every server
    /// about an affected credential.
    pub(super) fn returned(&mut self, attempt: u64, barrier: Option<Revision>, version: i64) {
        let Some(id) = self.clients.attempts.remove(&attempt) else { return };
        let Some(operation) = self.clients.operations.remove(&id) else { return };
        let entity = operation.mutation.entity();
        if barrier.is_some() || matches!(operation.mutation, Mutation::Create(_)) {
            self.checker.returned(entity, barrier, version);
        }
        if let Mutation::Create(at) = operation.mutation {
            self.clients.created.push(at);
        }
        let asked = match entity {
            Entity::Credential(at) => Some(at),
            Entity::User(user) => {
                self.some_credential_where(|at| !at.is_multiple_of(2) && at / 2 % USERS == user)
            }
            Entity::Workspace(workspace) => self.some_credential_where(|at| {
                !at.is_multiple_of(2) || at / 2 % WORKSPACES == workspace
            }),
        };
        let Some(asked) = asked else { return };
        for process in 1..=self.plan.servers {
            self.ask(asked, process);
        }
    }

    fn some_credential_where(&mut self, suits: impl Fn(usize) -> bool) -> Option<usize> {
        let suitable: Vec<_> =
            self.clients.created.iter().rev().copied().filter(|at| suits(*at)).take(4).collect();
        if suitable.is_empty() { None } else { Some(suitable[self.rng.index(suitable.len())]) }
    }
}
