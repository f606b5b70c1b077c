//! The database, as far as the protocol goes: a counter, a log in the order of commits, the replicas' rows, and what
//! answers are made of. Every method is one transaction. A crash loses what was not made durable; a promotion begins
//! another life.

mod rows;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use sophic_auth::model::{
    Annotations, Credential, CredentialFacts, CredentialId, CredentialKind, Digest, DisplayName,
    Facts, FoundFacts, IpAllowlist, Owner, PrincipalFacts, ReplicaId, Revision, Role, Scope,
    ScopeSet, Slug, Timestamp, User, UserFacts, UserId, Workspace, WorkspaceId,
};
use sophic_auth::store::{Change, ChangedEntity, Incarnation, IncarnationId};

use self::rows::Row;
use super::plan::{Broken, Plan};

/// What an answer is made of. Every change gives it a version of its own, never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Entity {
    Credential(usize),
    User(usize),
    Workspace(usize),
}

/// A change that somebody asks for: how something is to be, so that the same can be asked twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// A key, or a personal access token.
    Create(usize),
    Revoke(usize),
    /// A user, disabled or not.
    PutUser(usize, bool),
    /// A user's role in a workspace; nothing: no member.
    PutRole(usize, usize, Option<Role>),
    /// A workspace's slug, if that is free, and whether it is disabled.
    PutWorkspace(usize, usize, bool),
}

/// What a call does to answers, by what is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    Narrows,
    Widens,
}

impl Wanted {
    pub(super) const fn entity(self) -> Entity {
        match self {
            Self::Create(at) | Self::Revoke(at) => Entity::Credential(at),
            Self::PutUser(at, _) | Self::PutRole(at, ..) => Entity::User(at),
            Self::PutWorkspace(at, ..) => Entity::Workspace(at),
        }
    }

    pub(super) const fn effect(self) -> Effect {
        match self {
            Self::Create(_) | Self::PutUser(_, false) | Self::PutRole(.., Some(Role::Owner)) => {
                Effect::Widens
            }
            Self::Revoke(_) | Self::PutUser(..) | Self::PutRole(..) | Self::PutWorkspace(..) => {
                Effect::Narrows
            }
        }
    }

    pub(super) const fn deletes(self) -> bool {
        matches!(self, Self::PutRole(.., None))
    }
}

/// All that is in tables, and comes back as it was when a standby takes over.
#[derive(Clone)]
struct Tables {
    revision: u64,
    credentials: HashMap<Digest, Arc<Credential>>,
    users: Vec<(User, Vec<(WorkspaceId, Role)>)>,
    workspaces: Vec<Workspace>,
}

/// A commit that may still be lost in a promotion: nobody was told of it.
#[derive(Clone)]
struct Untold {
    call: u64,
    before: Tables,
}

#[derive(Clone)]
pub(super) struct Store {
    tables: Tables,
    changes: BTreeMap<u64, Change>,
    timeline: u32,
    rows: BTreeMap<ReplicaId, Row>,
    /// What is on disk of them.
    kept: BTreeMap<ReplicaId, Row>,
    /// Of every replica that there ever was.
    ids: Vec<ReplicaId>,
    /// By the database's clock, for those who would believe it.
    expiries: BTreeMap<ReplicaId, i64>,
    broken: Option<Broken>,
    /// The next version of anything.
    version: i64,
    promotions: bool,
    /// For a sequence: the next number.
    drawn: u64,
    untold: Vec<Untold>,
    /// Since when each version is, by entity: revision and version, in order.
    pub(super) history: BTreeMap<Entity, Vec<(u64, i64)>>,
    /// Who had a name since which revision.
    pub(super) names: BTreeMap<String, Vec<(u64, Option<usize>)>>,
}

pub(super) const USERS: usize = 3;
pub(super) const WORKSPACES: usize = 3;
pub(super) const SLUGS: [&str; 5] = ["alpha", "beta", "gamma", "delta", "omega"];

pub(super) fn digest(at: usize) -> Digest {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&(at as u64).to_be_bytes());
    Digest::from_bytes(&bytes).expect("32 bytes")
}

pub(super) fn credential_at(digest: &Digest) -> usize {
    let bytes = digest.as_bytes()[..8].try_into().expect("8 bytes");
    usize::try_from(u64::from_be_bytes(bytes)).expect("it was made of one")
}

pub(super) fn workspace_id(at: usize) -> WorkspaceId {
    WorkspaceId::parse(&format!("w{at}")).expect("an id")
}

pub(super) fn at_of(id: &str) -> usize {
    id[1..].parse().expect("a number")
}

pub(super) const ROLES: [Role; 4] = [Role::Viewer, Role::Member, Role::Admin, Role::Owner];

fn time() -> Timestamp {
    Timestamp::from_unix_micros(0).expect("a time")
}

/// Even ones are keys, odd ones personal access tokens.
fn credential(at: usize, version: i64) -> Credential {
    let id = CredentialId(uuid::Uuid::from_u128(at as u128));
    let (kind, owner) = if at.is_multiple_of(2) {
        (CredentialKind::Key, Owner::Workspace(workspace_id(at / 2 % WORKSPACES)))
    } else {
        let user = UserId::parse(&format!("u{}", at / 2 % USERS)).expect("an id");
        (CredentialKind::Pat, Owner::User { id: user, max_role: Role::Owner })
    };
    Credential {
        id,
        kind,
        owner,
        generation: version,
        name: DisplayName::parse("ci").expect("a name"),
        hint: String::new(),
        scopes: ScopeSet::from_scopes(&[Scope::Read]),
        ip_allowlist: IpAllowlist::default(),
        annotations: Annotations::default(),
        create_time: time(),
        expire_time: None,
        disable_time: None,
        revoke_time: None,
        last_use: None,
        creator: String::new(),
        predecessor_id: None,
        family_id: id,
        version: 1,
    }
}

impl Store {
    pub(super) fn new(plan: &Plan) -> Self {
        let user = |at: usize| User {
            id: UserId::parse(&format!("u{at}")).expect("an id"),
            display_name: DisplayName::parse("Somebody").expect("a name"),
            disabled: false,
            generation: 1,
            generation_time: None,
            create_time: time(),
            update_time: time(),
            delete_time: None,
        };
        let workspace = |at: usize| Workspace {
            id: workspace_id(at),
            slug: Slug::parse(SLUGS[at]).expect("a slug"),
            display_name: DisplayName::parse("Something").expect("a name"),
            disabled: false,
            generation: 1,
            generation_time: None,
            create_time: time(),
            update_time: time(),
            delete_time: None,
        };
        let tables = Tables {
            revision: 0,
            credentials: HashMap::new(),
            users: (0..USERS).map(|at| (user(at), Vec::new())).collect(),
            workspaces: (0..WORKSPACES).map(workspace).collect(),
        };
        let holder = |(at, slug): (usize, &&str)| {
            ((*slug).to_owned(), vec![(0, (at < WORKSPACES).then_some(at))])
        };
        Self {
            tables,
            changes: BTreeMap::new(),
            timeline: 1,
            rows: BTreeMap::new(),
            kept: BTreeMap::new(),
            ids: Vec::new(),
            expiries: BTreeMap::new(),
            broken: plan.broken,
            version: 1,
            promotions: plan.promotions,
            drawn: 0,
            untold: Vec::new(),
            history: BTreeMap::new(),
            names: SLUGS.iter().enumerate().map(holder).collect(),
        }
    }

    pub(super) fn incarnation(&self) -> Incarnation {
        Incarnation { epoch: uuid::Uuid::nil(), system: 1, timeline: self.timeline }
    }

    pub(super) fn incarnation_id(&self) -> IncarnationId {
        self.incarnation().id()
    }

    fn revision(&self) -> Revision {
        Revision(self.tables.revision)
    }

    // What answers are made of.

    pub(super) fn look_up(&self, digest: &Digest, workspace: Option<&str>) -> Facts {
        let found = self.tables.credentials.get(digest).map(|credential| {
            let named = |name: &str| {
                let mut all = self.tables.workspaces.iter();
                all.find(|found| found.slug.as_str() == name || found.id.as_str() == name).cloned()
            };
            let (principal, named_workspace) = match &credential.owner {
                Owner::Workspace(id) => {
                    let own = &self.tables.workspaces[at_of(id.as_str())];
                    (PrincipalFacts::Workspace(own.clone().into()), None)
                }
                Owner::User { id, .. } => {
                    let (user, roles) = self.tables.users[at_of(id.as_str())].clone();
                    let facts = UserFacts { user, roles: roles.into() };
                    (PrincipalFacts::User(facts.into()), workspace.and_then(named))
                }
            };
            let credential = CredentialFacts::new(*digest, credential).into();
            let named_workspace = named_workspace.map(Arc::new);
            FoundFacts { credential, principal, named_workspace }
        });
        Facts::new(self.revision(), found)
    }

    /// Draws a number before the commit, as a sequence does.
    pub(super) fn draw(&mut self) -> u64 {
        self.drawn += 1;
        self.drawn
    }

    /// Commits a change, if it changes anything; the revision to wait for, and the version that is there now.
    pub(super) fn commit(
        &mut self,
        wanted: Wanted,
        call: u64,
        drawn: Option<u64>,
    ) -> (Revision, i64, bool) {
        let before = self.promotions.then(|| self.tables.clone());
        let version = self.version + 1;
        let (entity, changed) = match wanted {
            Wanted::Create(at) => {
                let new =
                    self.tables.credentials.insert(digest(at), Arc::new(credential(at, version)));
                assert!(new.is_none(), "made once");
                (ChangedEntity::Credential(digest(at)), true)
            }
            Wanted::Revoke(at) => {
                // Its making may have been lost in a promotion.
                let Some(row) = self.tables.credentials.get_mut(&digest(at)) else {
                    return (self.revision(), 0, false);
                };
                let changed = row.revoke_time.is_none();
                if changed {
                    let row = Arc::make_mut(row);
                    row.revoke_time = Some(time());
                    row.generation = version;
                }
                (ChangedEntity::Credential(digest(at)), changed)
            }
            Wanted::PutUser(at, disabled) => {
                let user = &mut self.tables.users[at].0;
                let changed = user.disabled != disabled;
                user.disabled = disabled;
                (self.touch_user(at, changed, version), changed)
            }
            Wanted::PutRole(at, workspace, role) => {
                let roles = &mut self.tables.users[at].1;
                let id = workspace_id(workspace);
                let before = roles.iter().find(|(of, _)| *of == id).map(|(_, role)| *role);
                roles.retain(|(of, _)| *of != id);
                roles.extend(role.map(|role| (id, role)));
                (self.touch_user(at, before != role, version), before != role)
            }
            Wanted::PutWorkspace(at, slug, disabled) => {
                self.put_workspace(at, SLUGS[slug], disabled, version)
            }
        };
        if changed {
            self.version = version;
            let number = drawn.unwrap_or(self.tables.revision + 1);
            self.tables.revision = self.tables.revision.max(number);
            self.changes.insert(number, Change { revision: Revision(number), entity });
            self.history.entry(wanted.entity()).or_default().push((number, version));
            self.note_names();
        }
        // What changes nothing is recorded too, and waits for the standby like all else.
        self.untold.extend(before.map(|before| Untold { call, before }));
        self.flush();
        if changed {
            return (self.changes_end(drawn), version, true);
        }
        let version = self.version_of(wanted.entity());
        (self.revision(), version, false)
    }

    /// The number that was just given.
    fn changes_end(&self, drawn: Option<u64>) -> Revision {
        Revision(drawn.unwrap_or(self.tables.revision))
    }

    fn touch_user(&mut self, at: usize, changed: bool, version: i64) -> ChangedEntity {
        let user = &mut self.tables.users[at].0;
        if changed {
            user.generation = version;
        }
        ChangedEntity::User(user.id.clone())
    }

    fn put_workspace(
        &mut self,
        at: usize,
        slug: &str,
        disabled: bool,
        version: i64,
    ) -> (ChangedEntity, bool) {
        let mut others = self.tables.workspaces.iter().enumerate();
        let free = others.all(|(other, row)| other == at || row.slug.as_str() != slug);
        let workspace = &mut self.tables.workspaces[at];
        let renamed = free && workspace.slug.as_str() != slug;
        if renamed {
            workspace.slug = Slug::parse(slug).expect("a slug");
        }
        let changed = renamed || workspace.disabled != disabled;
        workspace.disabled = disabled;
        if changed {
            workspace.generation = version;
        }
        (ChangedEntity::Workspace(workspace.id.clone()), changed)
    }

    fn version_of(&self, entity: Entity) -> i64 {
        match entity {
            Entity::Credential(at) => {
                self.tables.credentials.get(&digest(at)).map_or(0, |found| found.generation)
            }
            Entity::User(at) => self.tables.users[at].0.generation,
            Entity::Workspace(at) => self.tables.workspaces[at].generation,
        }
    }

    fn note_names(&mut self) {
        for (name, holders) in &mut self.names {
            let mut all = self.tables.workspaces.iter();
            let holder = all.position(|workspace| workspace.slug.as_str() == name);
            if holders.last().is_none_or(|last| last.1 != holder) {
                holders.push((self.tables.revision, holder));
            }
        }
    }

    /// Whoever made this call knows that it was committed: it is on the standby too.
    pub(super) fn told(&mut self, call: u64) {
        if let Some(at) = self.untold.iter().position(|untold| untold.call == call) {
            self.untold.drain(..=at);
        }
    }

    /// Whoever reads, or is notified, sees what is on the standby: it is committed to nobody before.
    pub(super) fn seen(&mut self) {
        self.untold.clear();
    }

    /// Forgets what was not kept.
    pub(super) fn crash(&mut self) {
        self.rows = self.kept.clone();
    }

    /// What was written long enough ago is on disk.
    pub(super) fn write_behind(&mut self) {
        self.flush();
    }

    /// Begins another life, without the last `lost` commits that nobody was told of: the calls that made them.
    pub(super) fn promote(&mut self, lost: usize) -> Vec<u64> {
        self.timeline += 1;
        let lost = lost.min(self.untold.len());
        let gone = self.untold.split_off(self.untold.len() - lost);
        if let Some(first) = gone.first() {
            self.tables = first.before.clone();
            let newest = self.tables.revision;
            self.changes.retain(|number, _| *number <= newest);
            for versions in self.history.values_mut() {
                versions.retain(|(number, _)| *number <= newest);
            }
            self.note_names();
        }
        gone.iter().map(|untold| untold.call).collect()
    }
}
