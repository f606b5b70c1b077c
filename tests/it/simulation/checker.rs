//! Checks the promise. An introspection that starts after a change has returned never answers as before the change. A
//! key that CreateKey has returned is never unknown. No part of an answer is older than the revision that the answer
//! claims, and that revision is not older than the requested one.

use std::collections::BTreeMap;

use sophic_auth::model::{Facts, PrincipalFacts, Revision};

use super::client::Request;
use super::store::{Entity, Store, USERS, WORKSPACES, index_of_digest, index_of_id};

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Violation {
    pub(super) at: u64,
    pub(super) what: String,
}

/// The oldest version of each entity that an answer may contain.
#[derive(Debug, Clone)]
pub(super) struct Floors {
    revision: u64,
    credential: i64,
    users: [i64; USERS],
    workspaces: [i64; WORKSPACES],
}

pub(super) struct Checker {
    pub(super) violation: Option<Violation>,
    /// Whether the store keeps one incarnation, so that revisions are comparable throughout the run.
    single_incarnation: bool,
    /// The newest revision whose barrier has returned. Later answers must show every change up to it.
    revision: u64,
    /// Versions of changes that returned without a barrier.
    without_barrier: BTreeMap<Entity, i64>,
    pub(super) answers: u64,
    pub(super) from_memory: u64,
    pub(super) barriers: u64,
    pub(super) retries: u64,
}

impl Checker {
    pub(super) const fn new(promotions: bool) -> Self {
        Self {
            violation: None,
            single_incarnation: !promotions,
            revision: 0,
            without_barrier: BTreeMap::new(),
            answers: 0,
            from_memory: 0,
            barriers: 0,
            retries: 0,
        }
    }

    pub(super) fn fail(&mut self, at: u64, what: String) {
        self.violation.get_or_insert(Violation { at, what });
    }

    /// Records that a change has returned.
    pub(super) fn returned(&mut self, entity: Entity, barrier: Option<Revision>, version: i64) {
        if let Some(revision) = barrier {
            self.barriers += 1;
            self.revision = self.revision.max(revision.0);
        }
        let floor = self.without_barrier.entry(entity).or_default();
        *floor = (*floor).max(version);
    }

    fn floor(&self, store: &Store, entity: Entity) -> i64 {
        let without_barrier = self.without_barrier.get(&entity).copied().unwrap_or(0);
        without_barrier.max(version_at(store, entity, self.revision))
    }

    /// The promise to an introspection that starts now.
    pub(super) fn floors(&self, store: &Store, credential: usize) -> Floors {
        Floors {
            revision: self.revision,
            credential: self.floor(store, Entity::Credential(credential)),
            users: std::array::from_fn(|at| self.floor(store, Entity::User(at))),
            workspaces: std::array::from_fn(|at| self.floor(store, Entity::Workspace(at))),
        }
    }

    pub(super) fn check_answer(
        &mut self,
        now: u64,
        store: &Store,
        request: &Request,
        facts: &Facts,
        remembered: bool,
    ) {
        self.answers += 1;
        self.from_memory += u64::from(remembered);
        if facts.revision < request.at_least {
            let text = format!("revision {:?} for {:?}", facts.revision, request.at_least);
            self.fail(now, text);
        }
        let credential = index_of_digest(&request.key.0);
        for (entity, version) in parts(credential, facts) {
            let floor = match entity {
                Entity::Credential(_) => request.floors.credential,
                Entity::User(at) => request.floors.users[at],
                Entity::Workspace(at) => request.floors.workspaces[at],
            };
            if version < floor {
                let process = request.process;
                let what = format!(
                    "{entity:?} of version {version} at process {process}, and {floor} had returned \
                     (from memory: {remembered}, revision {}, barrier {})",
                    facts.revision.0, request.floors.revision,
                );
                self.fail(now, what);
            }
            let claimed = version_at(store, entity, facts.revision.0);
            if self.single_incarnation && version < claimed {
                let revision = facts.revision.0;
                let what = format!("{entity:?} of version {version} in an answer of {revision}");
                self.fail(now, what);
            }
        }
        self.check_name(now, store, request, facts);
    }

    /// An answer may say that no workspace has a name only while that is true.
    fn check_name(&mut self, now: u64, store: &Store, request: &Request, facts: &Facts) {
        let Some(found) = &facts.found else { return };
        let (PrincipalFacts::User(_), None) = (&found.principal, &found.named_workspace) else {
            return;
        };
        let Some(holders) = request.key.1.as_ref().and_then(|name| store.names.get(name)) else {
            return;
        };
        let since = request.floors.revision;
        let before = holders.iter().rposition(|(revision, _)| *revision <= since).unwrap_or(0);
        let free = holders[before..].iter().any(|(_, holder)| holder.is_none());
        if self.single_incarnation && !free {
            self.fail(now, format!("answered that no workspace is called {:?}", request.key.1));
        }
    }
}

/// The entities in an answer, with their versions.
fn parts(credential: usize, facts: &Facts) -> Vec<(Entity, i64)> {
    let Some(found) = &facts.found else { return vec![(Entity::Credential(credential), 0)] };
    let workspace = |workspace: &sophic_auth::model::Workspace| {
        (Entity::Workspace(index_of_id(workspace.id.as_str())), workspace.generation)
    };
    let mut parts = vec![(Entity::Credential(credential), found.credential.generation)];
    parts.push(match &found.principal {
        PrincipalFacts::Workspace(own) => workspace(own),
        PrincipalFacts::User(facts) => {
            (Entity::User(index_of_id(facts.user.id.as_str())), facts.user.generation)
        }
    });
    parts.extend(found.named_workspace.as_deref().map(workspace));
    parts
}

/// The version of an entity at a revision.
fn version_at(store: &Store, entity: Entity, revision: u64) -> i64 {
    let versions = store.history.get(&entity).map_or(&[][..], Vec::as_slice);
    let newest = versions.iter().rev().find(|(number, _)| *number <= revision);
    newest.map_or(0, |(_, version)| *version)
}
