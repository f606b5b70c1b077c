//! The format of import and export: every column, and what may stand in it. `sophic-auth import --help` prints this.

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
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)+ }
            }
        }
    };
}

columns! {
    Id, "id", "UUID in lower case; empty: a new one";
    Kind, "kind", "key or pat; empty: by which of workspace and user there is";
    Workspace, "workspace", "of a key: its workspace, by slug or id; exported as id";
    User, "user", "of a pat: its user, by id";
    MaxRole, "max_role", "of a pat: viewer, member, admin or owner; empty: owner";
    Name, "name", "1 to 256 characters";
    Scopes, "scopes", "one or more of read, capture, admin, with spaces between; in JSON an array";
    Digest, "digest", "SHA-256 of the token, 64 hexadecimal digits in lower case; this or token";
    Token, "token", "the token itself, of 20 to 512 bytes; only its digest is stored, and it is never exported";
    Hint, "hint", "what to recognise the token by, up to 32 bytes; empty: made of the token, or 'imported'";
    IpAllowlist, "ip_allowlist", "CIDRs with spaces between, in JSON an array; empty: anywhere";
    Annotations, "annotations", "an object of strings, in JSON; empty: none";
    CreateTime, "create_time", "RFC 3339; empty: now";
    ExpireTime, "expire_time", "RFC 3339; empty: never";
    DisableTime, "disable_time", "RFC 3339; empty: it is not disabled";
    RevokeTime, "revoke_time", "RFC 3339; empty: it is not revoked";
    LastUseTime, "last_use_time", "RFC 3339; empty: not that anybody knew";
    LastUseIp, "last_use_ip", "an address; only with last_use_time";
    Creator, "creator", "who made it, as user:ada; empty: whoever imports";
    PredecessorId, "predecessor_id", "what it succeeded by rotation; only with family_id";
    FamilyId, "family_id", "the first of its chain of rotations; empty: its own id";
}

impl Column {
    /// The column of this name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|column| column.as_str() == text)
    }
}
