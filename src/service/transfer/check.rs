//! Is a record a credential? Gathers all that is wrong with it, and never repeats a value.

use std::fmt::Display;

use super::names::Reading;
use super::record::Record;
use super::{digest_text, when};
use crate::model::limits::{HINT_BYTES_MAX, IMPORT_CLOCK_SKEW};
use crate::model::{
    Annotations, Credential, CredentialId, CredentialKind, Digest, DisplayName, Invalid,
    IpAllowlist, LastUse, Owner, OwnerKind, ReasonText, Role, Scope, ScopeSet, Timestamp, UserId,
    WorkspaceId, parse_client_ip,
};
use crate::store::StoredCredential;
use crate::token::{contains_token, digest_imported, is_placeholder, may_be_token};

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bad {
    /// In words, with the columns.
    pub(super) reason: String,
    /// Why nothing of the file is to be imported, if that.
    pub(super) stops: Option<Stop>,
}

/// What is not to happen by half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// A token may stand in the clear where none must.
    ExposesToken,
    /// Digests may stand where tokens must.
    DigestAsToken,
}

impl From<Invalid> for Bad {
    fn from(Invalid(reason): Invalid) -> Self {
        Self { reason, stops: None }
    }
}

/// What stands in for what a record leaves out.
pub(super) struct Defaults<'a> {
    pub(super) now: Timestamp,
    pub(super) creator: &'a str,
    /// For an id.
    pub(super) random: [u8; 10],
    pub(super) reading: &'a Reading,
}

/// The credential that a record is of. The owner is as it is named there, which may be by slug, and its generation is
/// not known yet: see `resolve`.
pub(super) fn check(record: &Record, defaults: &Defaults<'_>) -> Result<StoredCredential, Bad> {
    let mut problems = Problems { reading: defaults.reading, reasons: Vec::new(), stops: None };
    problems.refuse_tokens(record);
    let kind = problems.kind(record);
    let owner = kind.and_then(|kind| problems.owner(record, kind));
    let secret = problems.digest(record, owner.as_ref().and(kind));
    let name = problems.required("name", record.name.as_deref(), DisplayName::parse);
    let scopes = problems.scopes(&record.scopes);
    let networks = record.ip_allowlist.iter().map(String::as_str);
    let ip_allowlist = problems.note("ip_allowlist", IpAllowlist::parse(networks));
    let annotations = problems.note("annotations", Annotations::parse(record.annotations.clone()));
    let times = problems.times(record, defaults.now);
    let creator = problems
        .optional("creator", record.creator.as_deref(), DisplayName::parse)
        .map_or_else(|| defaults.creator.to_owned(), |creator| creator.to_string());
    let id = problems
        .optional("id", record.id.as_deref(), CredentialId::parse)
        .unwrap_or_else(|| CredentialId::new(times.create, defaults.random));
    let family = problems.optional("family_id", record.family_id.as_deref(), CredentialId::parse);
    let predecessor_id =
        problems.optional("predecessor_id", record.predecessor_id.as_deref(), CredentialId::parse);
    if predecessor_id.is_some() && family.is_none() {
        problems.add("predecessor_id", "goes only with family_id");
    }
    match (kind.zip(owner), secret, name, scopes, ip_allowlist, annotations, problems.finish()) {
        (
            Some((kind, owner)),
            Some((digest, hint)),
            Some(name),
            Some(scopes),
            Some(ip_allowlist),
            Some(annotations),
            Ok(()),
        ) => {
            let credential = Credential {
                id,
                kind,
                owner,
                generation: 0,
                name,
                hint,
                scopes,
                ip_allowlist,
                annotations,
                create_time: times.create,
                expire_time: times.expire,
                disable_time: times.disable,
                revoke_time: times.revoke,
                last_use: times.last_use,
                creator,
                predecessor_id,
                family_id: family.unwrap_or(id),
                version: 1,
            };
            Ok(StoredCredential { credential, digest })
        }
        (.., Err(bad)) => Err(bad),
        // What is missing has been noted.
        (.., Ok(())) => Err(Invalid::new("it is incomplete").into()),
    }
}

/// The times of a credential.
struct Times {
    create: Timestamp,
    expire: Option<Timestamp>,
    disable: Option<Timestamp>,
    revoke: Option<Timestamp>,
    last_use: Option<LastUse>,
}

/// What is wrong so far.
struct Problems<'r> {
    reading: &'r Reading,
    reasons: Vec<String>,
    stops: Option<Stop>,
}

impl Problems<'_> {
    fn add(&mut self, column: &str, what: impl Display) {
        self.reasons.push(format!("{}: {what}", self.reading.shown(column)));
    }

    fn note<T>(&mut self, column: &str, parsed: Result<T, Invalid>) -> Option<T> {
        parsed.map_err(|invalid| self.add(column, invalid)).ok()
    }

    fn optional<T>(
        &mut self,
        column: &str,
        text: Option<&str>,
        parse: impl FnOnce(&str) -> Result<T, Invalid>,
    ) -> Option<T> {
        self.note(column, parse(text?))
    }

    fn required<T>(
        &mut self,
        column: &str,
        text: Option<&str>,
        parse: impl FnOnce(&str) -> Result<T, Invalid>,
    ) -> Option<T> {
        if text.is_none() {
            self.add(column, "is missing");
        }
        self.optional(column, text, parse)
    }

    fn finish(self) -> Result<(), Bad> {
        if self.reasons.is_empty() {
            return Ok(());
        }
        Err(Bad { reason: self.reasons.join("; "), stops: self.stops })
    }

    /// A token in any column but its own would be stored as it stands.
    fn refuse_tokens(&mut self, record: &Record) {
        let plain = [
            ("id", &record.id),
            ("workspace", &record.workspace),
            ("user", &record.user),
            ("name", &record.name),
            ("hint", &record.hint),
            ("creator", &record.creator),
        ];
        let plain = plain.into_iter().filter_map(|(column, text)| Some((column, text.as_ref()?)));
        let entries = record.annotations.iter().flat_map(|(key, value)| [key, value]);
        let all = plain.chain(entries.map(|text| ("annotations", text)));
        let token = record.token.as_ref().map(|token| token.0.as_str());
        for (column, text) in all {
            if contains_token(text) || token.is_some_and(|token| text.contains(token)) {
                self.add(column, "a token stands in it in the clear");
                self.stops = Some(Stop::ExposesToken);
            }
        }
        let is_token = |text: &str| {
            let known = digest_text::parse(text).is_some() || digest_text::is_password_hash(text);
            contains_token(text) || (!known && may_be_token(text.trim_start_matches("\\x")))
        };
        if record.digest.as_deref().is_some_and(is_token) {
            self.add("digest", "is no digest, and may be a token in the clear");
            self.stops = Some(Stop::ExposesToken);
        }
    }

    /// Without one, a workspace's is a key, and a user's a personal access token.
    fn kind(&mut self, record: &Record) -> Option<CredentialKind> {
        let Some(name) = record.kind.as_deref() else {
            let kind = match (&record.workspace, &record.user) {
                (Some(_), None) => Some(CredentialKind::Key),
                (None, Some(_)) => Some(CredentialKind::Pat),
                (None, None) | (Some(_), Some(_)) => None,
            };
            if kind.is_none() {
                self.add("kind", "is missing, and not clear from workspace and user");
            }
            return kind;
        };
        let kind = CredentialKind::ALL.into_iter().find(|kind| kind.as_str() == name);
        if kind.is_none() {
            let names = CredentialKind::ALL.map(CredentialKind::as_str);
            self.add("kind", format_args!("must be {}", names.join(" or ")));
        }
        kind
    }

    fn owner(&mut self, record: &Record, kind: CredentialKind) -> Option<Owner> {
        let strangers = match kind.owner_kind() {
            OwnerKind::Workspace => [("user", &record.user), ("max_role", &record.max_role)],
            OwnerKind::User => [("workspace", &record.workspace), ("max_role", &None)],
        };
        for (column, _) in strangers.into_iter().filter(|(_, text)| text.is_some()) {
            self.add(column, format_args!("does not go with a {kind}"));
        }
        match kind.owner_kind() {
            OwnerKind::Workspace => self
                .required("workspace", record.workspace.as_deref(), WorkspaceId::parse)
                .map(Owner::Workspace),
            OwnerKind::User => {
                let max_role = record.max_role.as_deref().unwrap_or(Role::Owner.as_str());
                let max_role = self.note("max_role", max_role.parse());
                let id = self.required("user", record.user.as_deref(), UserId::parse);
                id.zip(max_role).map(|(id, max_role)| Owner::User { id, max_role })
            }
        }
    }

    /// The digest and the hint.
    fn digest(
        &mut self,
        record: &Record,
        kind: Option<CredentialKind>,
    ) -> Option<(Digest, String)> {
        let (digest, own_hint) = match (&record.digest, &record.token) {
            (Some(_), Some(_)) => {
                self.add("token", "goes only without digest");
                return None;
            }
            (None, None) => {
                self.add("digest", "is missing, and token too");
                return None;
            }
            (Some(text), None) => {
                let digest = digest_text::parse(text)
                    .ok_or_else(|| Invalid::new(digest_text::instead(text)));
                (self.note("digest", digest)?, "imported".to_owned())
            }
            (None, Some(token)) => {
                if !self.reading.tokens_look_like_digests && digest_text::looks_like_one(&token.0) {
                    self.add(
                        "token",
                        "looks like a digest: a SHA-256 belongs into the column digest (--rename token=digest), and if these \
                         are the tokens themselves, say --tokens-look-like-digests",
                    );
                    self.stops = self.stops.or(Some(Stop::DigestAsToken));
                    return None;
                }
                self.note("token", digest_imported(&token.0, kind?.into()))?
            }
        };
        if is_placeholder(&digest) {
            let column = if record.token.is_some() { "token" } else { "digest" };
            self.add(column, "is that of no token, but of nothing, or of a word in its place");
            return None;
        }
        let Some(hint) = &record.hint else { return Some((digest, own_hint)) };
        if hint.len() > HINT_BYTES_MAX {
            self.add("hint", format_args!("must be at most {HINT_BYTES_MAX} bytes"));
        }
        let hint = self.note("hint", ReasonText::parse(hint))?;
        Some((digest, hint.as_str().to_owned()))
    }

    fn scopes(&mut self, texts: &[String]) -> Option<ScopeSet> {
        let scopes: Result<ScopeSet, Invalid> =
            texts.iter().map(|text| text.parse::<Scope>()).collect();
        let scopes = self.note("scopes", scopes)?;
        self.note("scopes", scopes.require_non_empty());
        Some(scopes)
    }

    fn times(&mut self, record: &Record, now: Timestamp) -> Times {
        let latest = now.checked_add(IMPORT_CLOCK_SKEW).unwrap_or(now);
        let mut past = |column: &str, text: &Option<String>| {
            let time = self.optional(column, text.as_deref(), when::parse)?;
            if time > latest {
                self.add(column, "must not be in the future");
            }
            Some(time)
        };
        let create = past("create_time", &record.create_time).unwrap_or(now);
        let disable = past("disable_time", &record.disable_time);
        let revoke = past("revoke_time", &record.revoke_time);
        let last_use = past("last_use_time", &record.last_use_time);
        let revoked = self.optional("revoked", record.revoked.as_deref(), truth);
        let enabled = self.optional("enabled", record.enabled.as_deref(), truth);
        for (column, contradicts) in [
            ("revoked", revoked == Some(false) && revoke.is_some()),
            ("enabled", enabled == Some(true) && disable.is_some()),
        ] {
            if contradicts {
                self.add(column, "contradicts the time of its end");
            }
        }
        let revoke = revoke.or((revoked == Some(true)).then_some(now.max(create)));
        let disable = disable.or((enabled == Some(false)).then_some(now.max(create)));
        let expires = record.expire_time.as_deref().filter(|text| *text != "infinity");
        let expire = self.optional("expire_time", expires, when::parse);
        if expire.is_some_and(|time| time <= create) {
            self.add("expire_time", "must be after create_time");
        }
        let ip = self.optional("last_use_ip", record.last_use_ip.as_deref(), parse_client_ip);
        if ip.is_some() && last_use.is_none() {
            self.add("last_use_ip", "goes only with last_use_time");
        }
        let last_use = last_use.map(|time| LastUse { time, ip });
        Times { create, expire, disable, revoke, last_use }
    }
}

/// As databases write it.
fn truth(text: &str) -> Result<bool, Invalid> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "1" | "yes" => Ok(true),
        "false" | "f" | "0" | "no" => Ok(false),
        _ => Err(Invalid::new("must be true or false")),
    }
}
