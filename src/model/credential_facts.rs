//! A credential as far as an introspection needs it, in little memory: there is one of these for each that is cached.

use std::fmt;

use parking_lot::Mutex;
use smallvec::SmallVec;

use super::{
    Credential, CredentialId, CredentialKind, Digest, IpAllowlist, LastUse, Owner, Role, ScopeSet,
    Timestamp,
};

/// Bytes of texts beside the rest: ids that are UUIDs, names of some words. More of them are kept elsewhere.
const TEXTS_BYTES: usize = 80;

/// What is read of a credential to introspect it. In this order, what is asked of each is in as few lines of the processor's
/// cache as can be: in a large store each line is a wait for memory.
#[repr(C)]
pub struct CredentialFacts {
    /// Of its token.
    pub digest: Digest,
    /// The owner's watermark when it was made.
    pub generation: i64,
    /// The first instant at which it is dead.
    pub expire_time: Option<Timestamp>,
    /// When it was disabled, if it is.
    pub disable_time: Option<Timestamp>,
    /// When it was itself revoked: what its owner's watermark revokes is not in it.
    pub revoke_time: Option<Timestamp>,
    /// Where it may be presented from.
    pub ip_allowlist: IpAllowlist,
    /// Which rules it is decided by.
    pub kind: CredentialKind,
    /// The downscope: the effective role is never higher. Of a kind that has no role: [`Role::Owner`], which bounds nothing.
    pub max_role: Role,
    /// What it was granted.
    pub scopes: ScopeSet,
    name_at: u16,
    hint_at: u16,
    /// The owner's id, the name and the hint, one behind the other.
    texts: SmallVec<[u8; TEXTS_BYTES]>,
    /// Its latest use that is not written yet.
    unwritten_use: Mutex<Option<LastUse>>,
    /// UUIDv7.
    pub id: CredentialId,
    /// When it was made.
    pub create_time: Timestamp,
}

impl CredentialFacts {
    /// Of the credential that has this digest.
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
        let place = |bytes: usize| u16::try_from(bytes).unwrap_or(u16::MAX);
        Self {
            digest,
            id: credential.id,
            kind: credential.kind,
            max_role,
            scopes: credential.scopes,
            generation: credential.generation,
            create_time: credential.create_time,
            expire_time: credential.expire_time,
            disable_time: credential.disable_time,
            revoke_time: credential.revoke_time,
            ip_allowlist: credential.ip_allowlist.clone(),
            unwritten_use: Mutex::default(),
            texts,
            name_at: place(owner.len()),
            hint_at: place(owner.len() + name.len()),
        }
    }

    /// The id of the workspace or of the user whose it is.
    pub fn owner_id(&self) -> &str {
        self.text(0, self.name_at)
    }

    /// What its maker called it.
    pub fn name(&self) -> &str {
        self.text(self.name_at, self.hint_at)
    }

    /// The prefix and the last four characters of the token's body.
    pub fn hint(&self) -> &str {
        let end = u16::try_from(self.texts.len()).unwrap_or(u16::MAX);
        self.text(self.hint_at, end)
    }

    /// The texts are one another's neighbours, so each is whole.
    fn text(&self, from: u16, to: u16) -> &str {
        let bytes = self.texts.get(from.into()..to.into()).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or_default()
    }

    /// Notes a use, unless a later one is noted; whether none was that is not written yet.
    pub fn note_use(&self, last_use: LastUse) -> bool {
        let mut unwritten = self.unwritten_use.lock();
        let first = unwritten.is_none();
        if unwritten.is_none_or(|noted| noted.time < last_use.time) {
            *unwritten = Some(last_use);
        }
        first
    }

    /// What is noted, to be written; it is noted no longer.
    pub fn take_use(&self) -> Option<LastUse> {
        self.unwritten_use.lock().take()
    }
}

impl Eq for CredentialFacts {}

/// All that the store tells, which a use that is not written yet is no part of.
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
            name_at,
            hint_at,
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
            && *name_at == other.name_at
            && *hint_at == other.hint_at
            && *texts == other.texts
            && *id == other.id
            && *create_time == other.create_time
    }
}

/// Without what anybody wrote into it.
impl fmt::Debug for CredentialFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialFacts").field("id", &self.id).finish_non_exhaustive()
    }
}
