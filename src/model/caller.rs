//! Services that call this one.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::{CallerId, Digest, Invalid, RotationId, Timestamp};

/// What a caller may do (DESIGN §5). The number is its bit in the store too: never reuse one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u16)]
pub enum Permission {
    /// Introspection through every face, and revoking by token.
    Introspect = 1,
    /// Reading credentials.
    CredentialsRead = 2,
    /// Managing credentials on behalf of an acting user.
    CredentialsWrite = 4,
    /// Managing credentials as the system itself.
    CredentialsAdmin = 8,
    /// Reading the directory.
    DirectoryRead = 16,
    /// Changing the directory.
    DirectoryWrite = 32,
    /// Reading the audit log.
    AuditRead = 64,
    /// Managing callers.
    CallersAdmin = 128,
}

impl Permission {
    /// All of them, in ascending order.
    pub const ALL: [Self; 8] = [
        Self::Introspect,
        Self::CredentialsRead,
        Self::CredentialsWrite,
        Self::CredentialsAdmin,
        Self::DirectoryRead,
        Self::DirectoryWrite,
        Self::AuditRead,
        Self::CallersAdmin,
    ];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Introspect => "introspect",
            Self::CredentialsRead => "credentials.read",
            Self::CredentialsWrite => "credentials.write",
            Self::CredentialsAdmin => "credentials.admin",
            Self::DirectoryRead => "directory.read",
            Self::DirectoryWrite => "directory.write",
            Self::AuditRead => "audit.read",
            Self::CallersAdmin => "callers.admin",
        }
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Permission {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::ALL.into_iter().find(|permission| permission.as_str() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::as_str).join(", ");
            Invalid::new(format!("must be one of {names}"))
        })
    }
}

/// A set of permissions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct PermissionSet(u16);

impl PermissionSet {
    /// All of them.
    pub const ALL: Self = Self(0xff);

    /// From the store's number; `None` if it has a bit of no permission.
    pub fn from_bits(bits: i64) -> Option<Self> {
        u16::try_from(bits).ok().filter(|bits| bits & !Self::ALL.0 == 0).map(Self)
    }

    /// The store's number.
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether some are in both.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether `permission` is among them.
    pub const fn contains(self, permission: Permission) -> bool {
        self.0 & permission as u16 != 0
    }

    /// Those not in `other`.
    #[must_use]
    pub const fn difference(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// In ascending order.
    pub fn iter(self) -> impl Iterator<Item = Permission> {
        Permission::ALL.into_iter().filter(move |permission| self.contains(*permission))
    }
}

impl FromIterator<Permission> for PermissionSet {
    fn from_iter<I: IntoIterator<Item = Permission>>(permissions: I) -> Self {
        Self(permissions.into_iter().fold(0, |bits, permission| bits | permission as u16))
    }
}

impl fmt::Display for PermissionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, permission) in self.iter().enumerate() {
            f.write_str(if i == 0 { "" } else { ", " })?;
            f.write_str(permission.as_str())?;
        }
        Ok(())
    }
}

/// A caller's name: 1 to 63 of `[a-z0-9.-]`, beginning and ending with a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallerName(Box<str>);

impl CallerName {
    /// Checks the spelling.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let bytes = text.as_bytes();
        let ends_fit =
            bytes.first().is_some_and(|b| plain(*b)) && bytes.last().is_some_and(|b| plain(*b));
        if ends_fit
            && bytes.len() <= 63
            && bytes.iter().all(|b| plain(*b) || *b == b'-' || *b == b'.')
        {
            Ok(Self(text.into()))
        } else {
            Err(Invalid::new(
                "must be 1 to 63 of a-z, 0-9, '.' and '-', beginning and ending with a letter or digit",
            ))
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CallerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The subject alternative name (DNS name or URI) of a client certificate: 1 to 255 printable ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CertificateSan(Box<str>);

impl CertificateSan {
    /// Checks the spelling.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if (1..=255).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(Self(text.into()))
        } else {
            Err(Invalid::new(
                "must be a DNS name or URI of 1 to 255 printable ASCII characters without spaces",
            ))
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// How a caller proves who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallerIdentity {
    /// The digest of its service token; of a caller that has just proved who it is, of the token that it did so by.
    Token(Digest),
    /// The subject alternative name of its client certificate.
    Certificate(CertificateSan),
}

/// A caller's service token from before its last rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PreviousToken {
    /// Its digest.
    pub digest: Digest,
    /// The first instant at which it is dead.
    pub expire_time: Timestamp,
}

/// A service that calls this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// UUIDv7.
    pub id: CallerId,
    /// Unique among callers that are not revoked.
    pub name: CallerName,
    /// What it may do.
    pub permissions: PermissionSet,
    /// How it proves who it is.
    pub identity: CallerIdentity,
    /// The service token's prefix and last four characters; empty with a certificate.
    pub hint: String,
    /// When it was made.
    pub create_time: Timestamp,
    /// When it was revoked, if it was.
    pub revoke_time: Option<Timestamp>,
    /// Its token from before the last rotation.
    pub previous: Option<PreviousToken>,
    /// The last rotation.
    pub rotation: Option<RotationId>,
}

impl Caller {
    /// Whether its token, or the one from before, has this digest; in a time that tells nothing.
    pub fn has_token(&self, digest: &Digest) -> bool {
        let current =
            matches!(&self.identity, CallerIdentity::Token(found) if found.equals(digest));
        let previous = self.previous.is_some_and(|previous| previous.digest.equals(digest));
        current | previous
    }

    /// The caller that proves by the token of this digest who it is, unless that is dead at `now`.
    pub fn proven_by(self: Arc<Self>, digest: &Digest, now: Timestamp) -> Option<Arc<Self>> {
        if matches!(&self.identity, CallerIdentity::Token(found) if found.equals(digest)) {
            return Some(self);
        }
        let previous = self.previous.filter(|previous| previous.digest.equals(digest))?;
        let identity = CallerIdentity::Token(previous.digest);
        (now < previous.expire_time).then(|| Arc::new(Self { identity, ..(*self).clone() }))
    }

    /// Of a caller that has proved who it is: the first instant at which that proof is good no longer, if there is one.
    pub fn proof_end(&self) -> Option<Timestamp> {
        let CallerIdentity::Token(proof) = &self.identity else { return None };
        let previous = self.previous.filter(|previous| previous.digest.equals(proof));
        previous.map(|previous| previous.expire_time)
    }
}
