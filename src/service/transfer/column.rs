//! The format of import and export: every column, and what may stand in it. `sophic-auth import --help` prints this.

use crate::model::{Role, Scope};

macro_rules! columns {
    ($($variant:ident, $name:literal, $meaning:literal;)+) => {
        /// A column of CSV, and a field of JSON lines.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Column {
            $(#[doc = concat!("`", $name, "`.")] $variant,)+
        }

        impl Column {
            /// All of them, in the order in which they are exported.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$variant),+];

            /// Its name.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What may stand in it.
            pub fn meaning(self) -> String {
                let meaning = match self { $(Self::$variant => $meaning,)+ };
                meaning
                    .replace("{scopes}", &Scope::join_names(", "))
                    .replace("{roles}", &Role::join_names(" or "))
            }
        }
    };
}

columns! {
    Id, "id", "UUID in lower case; empty: a new one";
    Kind, "kind", "key or pat; empty: by which of workspace and user there is";
    Workspace, "workspace", "of a key: its workspace, by slug or id; exported as id";
    User, "user", "of a pat: its user, by id";
    MaxRole, "max_role", "of a pat: {roles}; empty: owner";
    Name, "name", "1 to 256 characters";
    Scopes, "scopes", "one or more of {scopes}, with spaces between; in JSON an array";
    Digest, "digest", "SHA-256 of the token, in hexadecimal (\\x before it or not), base64 or base64url; this or token";
    Token, "token", "the token itself, of 20 to 512 bytes; only its digest is stored, and it is never exported";
    Hint, "hint", "what to recognise the token by, up to 32 bytes; empty: made of the token, or 'imported'";
    IpAllowlist, "ip_allowlist", "CIDRs with spaces between, in JSON an array; empty: anywhere";
    Annotations, "annotations", "an object of strings, in JSON; empty: none";
    CreateTime, "create_time", "a time, see below; empty: now";
    ExpireTime, "expire_time", "a time; empty or infinity: never";
    DisableTime, "disable_time", "a time; empty: it is not disabled";
    RevokeTime, "revoke_time", "a time; empty: it is not revoked";
    LastUseTime, "last_use_time", "a time; empty: not that anybody knew";
    LastUseIp, "last_use_ip", "an address; only with last_use_time";
    Creator, "creator", "who made it, as user:ada; empty: whoever imports";
    PredecessorId, "predecessor_id", "what it succeeded by rotation; only with family_id";
    FamilyId, "family_id", "the first of its chain of rotations; empty: its own id";
    Revoked, "revoked", "true: it is revoked as of now, unless revoke_time says when; not exported";
    Enabled, "enabled", "false: it is disabled as of now, unless disable_time says when; not exported";
}

impl Column {
    /// The column of this name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|column| column.as_str() == text)
    }

    /// Those that are exported: all but the token, which nobody has any longer, and those that others stand for.
    pub(super) fn exported() -> impl Iterator<Item = Self> {
        Self::ALL
            .into_iter()
            .filter(|column| !matches!(column, Self::Token | Self::Revoked | Self::Enabled))
    }

    /// Whether a number of JSON may stand in it, beside text.
    pub(super) const fn takes_numbers(self) -> bool {
        matches!(
            self,
            Self::Workspace
                | Self::User
                | Self::CreateTime
                | Self::ExpireTime
                | Self::DisableTime
                | Self::RevokeTime
                | Self::LastUseTime
        ) || self.takes_booleans()
    }

    /// Whether true and false may.
    pub(super) const fn takes_booleans(self) -> bool {
        matches!(self, Self::Revoked | Self::Enabled)
    }
}
