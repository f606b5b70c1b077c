//! The fields of a credential that an introspection needs, laid out compactly, since each cached credential is one of
//! these.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use smallvec::SmallVec;

use super::{
    Credential, CredentialId, CredentialKind, Digest, IpAllowlist, LastUse, NotedUse, Owner, Role,
    ScopeSet, Timestamp, Workspace, WorkspaceSet,
};

/// Bytes of text kept inline: enough for an id that is a UUID, a name of a few words, and the hint. Longer text is
/// allocated on the heap.
const TEXTS_BYTES: usize = 80;

/// Restrictions of a personal access token to workspaces. Few tokens have any.
#[derive(Debug, Clone, PartialEq, Eq)]
struct WorkspaceRestrictions {
    /// The workspaces to which the token is limited. `None` if it is not limited.
    granted: Option<WorkspaceSet>,
    /// The workspaces from which it is barred.
    barred: WorkspaceSet,
}

/// The fields of a credential that an introspection reads. They are ordered so that an introspection touches as few
/// cache lines as possible. In a large store each cache line costs a memory access.
#[repr(C)]
pub struct CredentialFacts {
    /// Digest of its token.
    pub digest: Digest,
    /// Generation of the owner when the credential was created.
    pub generation: i64,
    /// First instant at which it is expired. `None` if it does not expire.
    pub expire_time: Option<Timestamp>,
    /// When it was disabled. `None` if it is enabled.
    pub disable_time: Option<Timestamp>,
    /// When it was itself revoked. Revocation by its owner's generation does not set it.
    pub revoke_time: Option<Timestamp>,
    /// Addresses from which it may be presented.
    pub ip_allowlist: IpAllowlist,
    /// Its kind, which selects the rules of the decision.
    pub kind: CredentialKind,
    /// Downscope: upper bound of the effective role. [`Role::Owner`], which bounds nothing, for a kind that has no
    /// role.
    pub max_role: Role,
    /// The granted scopes.
    pub scopes: ScopeSet,
    /// `None` if the credential has no restrictions, so that most credentials pay one word for them.
    restrictions: Option<Box<WorkspaceRestrictions>>,
    name_offset: u16,
    hint_offset: u16,
    /// The owner's id, the name and the hint, concatenated.
    texts: SmallVec<[u8; TEXTS_BYTES]>,
    /// Its latest uses that are not yet in the store.
    unwritten_use: Mutex<Option<NotedUse>>,
    /// UUIDv7.
    pub id: CredentialId,
    /// When it was created.
    pub create_time: Timestamp,
}

impl CredentialFacts {
    /// Creates the facts of the credential that has this digest.
    pub fn new(digest: Digest, credential: &Credential) -> Self {
        let (owner, max_role) = match &credential.owner {
            Owner::Workspace(id) => (id.as_str(), Role::Owner),
            Owner::User { id, max_role } => (id.as_str(), *max_role),
        };
        let name = credential.name.as_str();
        let mut texts = SmallVec::new();
        for text in [owner, name, &credential.hint] {
            texts.extend_from_slice(text.as_bytes());
        }
        // Ids and names are short (`model::limits`).
        let offset = |bytes: usize| u16::try_from(bytes).unwrap_or(u16::MAX);
        Self {
            digest,
            id: credential.id,
            kind: credential.kind,
            max_role,
            scopes: credential.scopes,
            restrictions: restrictions(credential),
            generation: credential.generation,
            create_time: credential.create_time,
            expire_time: credential.expire_time,
            disable_time: credential.disable_time,
            revoke_time: credential.revoke_time,
            ip_allowlist: credential.ip_allowlist.clone(),
            unwritten_use: Mutex::default(),
            texts,
            name_offset: offset(owner.len()),
            hint_offset: offset(owner.len() + name.len()),
        }
    }

    /// Whether it is not limited to workspaces, or `workspace` is one of them.
    pub fn is_granted(&self, workspace: &Workspace) -> bool {
        let granted =
            self.restrictions.as_ref().and_then(|restrictions| restrictions.granted.as_ref());
        granted.is_none_or(|granted| granted.contains(workspace))
    }

    /// Whether the owners of `workspace` have barred it from there.
    pub fn is_barred(&self, workspace: &Workspace) -> bool {
        self.restrictions
            .as_ref()
            .is_some_and(|restrictions| restrictions.barred.contains(workspace))
    }

    /// Returns the id of the workspace or user that owns it.
    pub fn owner_id(&self) -> &str {
        self.text(0, self.name_offset)
    }

    /// Returns the name that its creator chose.
    pub fn name(&self) -> &str {
        self.text(self.name_offset, self.hint_offset)
    }

    /// Returns the prefix, and the last four characters of the token's body.
    pub fn hint(&self) -> &str {
        let end = u16::try_from(self.texts.len()).unwrap_or(u16::MAX);
        self.text(self.hint_offset, end)
    }

    /// Returns a part of the concatenated texts. The offsets lie between them, so the part is always valid UTF-8.
    fn text(&self, from: u16, to: u16) -> &str {
        let bytes = self.texts.get(from.into()..to.into()).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or_default()
    }

    /// Notes a use, unless a later one is already noted. `workspace` is the one in which a personal access token was
    /// allowed. Returns whether it is the first since uses were last taken.
    pub fn note_use(&self, last_use: LastUse, workspace: Option<&Arc<Workspace>>) -> bool {
        let mut unwritten = self.unwritten_use.lock();
        let first = unwritten.is_none();
        let noted = unwritten.get_or_insert_with(|| NotedUse::new(last_use));
        if noted.last_use.time < last_use.time {
            noted.last_use = last_use;
        }
        if let Some(workspace) = workspace {
            noted.note_workspace(workspace, last_use.time);
        }
        first
    }

    /// Takes the noted uses, to be written to the store.
    pub fn take_use(&self) -> Option<NotedUse> {
        self.unwritten_use.lock().take()
    }
}

fn restrictions(credential: &Credential) -> Option<Box<WorkspaceRestrictions>> {
    if credential.granted_workspaces.is_none() && credential.barred_workspaces.is_empty() {
        return None;
    }
    Some(Box::new(WorkspaceRestrictions {
        granted: credential.granted_workspaces.clone(),
        barred: credential.barred_workspaces.clone(),
    }))
}

impl Eq for CredentialFacts {}

/// Compares everything that comes from the store. A use that is not yet written does not.
impl PartialEq for CredentialFacts {
    fn eq(&self, other: &Self) -> bool {
        let Self {
            digest,
            generation,
            expire_time,
            disable_time,
            revoke_time,
            ip_allowlist,
            kind,
            max_role,
            scopes,
            restrictions,
            name_offset,
            hint_offset,
            texts,
            unwritten_use: _,
            id,
            create_time,
        } = self;
        *digest == other.digest
            && *generation == other.generation
            && *expire_time == other.expire_time
            && *disable_time == other.disable_time
            && *revoke_time == other.revoke_time
            && *ip_allowlist == other.ip_allowlist
            && *kind == other.kind
            && *max_role == other.max_role
            && *scopes == other.scopes
            && *restrictions == other.restrictions
            && *name_offset == other.name_offset
            && *hint_offset == other.hint_offset
            && *texts == other.texts
            && *id == other.id
            && *create_time == other.create_time
    }
}

/// Leaves out all text that a user wrote.
impl fmt::Debug for CredentialFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialFacts").field("id", &self.id).finish_non_exhaustive()
    }
}
