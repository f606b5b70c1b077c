//! Validation of records. All errors of a record are collected. An error never repeats a value from the file.

use std::fmt::Display;

use super::names::ColumnOptions;
use super::record::Record;
use super::{digest_text, time_text};
use crate::model::limits::{HINT_BYTES_MAX, IMPORT_CLOCK_SKEW};
use crate::model::{
    Annotations, Credential, CredentialId, CredentialKind, Digest, DisplayName, Invalid,
    IpAllowlist, LastUse, Owner, OwnerKind, ReasonText, Role, Scope, ScopeSet, Timestamp, UserId,
    WorkspaceEntry, WorkspaceId, WorkspaceSet, parse_client_ip,
};
use crate::store::StoredCredential;
use crate::token::{contains_token, digest_imported, is_placeholder, may_be_token};

/// Why a line is rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LineError {
    /// Description of the errors, with the names of the columns.
    pub(super) reason: String,
    /// Why the whole file must be refused, if it must.
    pub(super) refuses_file: Option<FileRefusal>,
}

/// Reason to refuse the whole file instead of one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileRefusal {
    /// A column that is stored unchanged may contain a token in the clear.
    ExposesToken,
    /// The token column may contain digests.
    DigestAsToken,
}

impl From<Invalid> for LineError {
    fn from(Invalid(reason): Invalid) -> Self {
        Self { reason, refuses_file: None }
    }
}

/// Values for the fields that a record leaves out.
pub(super) struct Defaults<'a> {
    pub(super) now: Timestamp,
    pub(super) creator: &'a str,
    /// Randomness for a new id.
    pub(super) random: [u8; 10],
    pub(super) columns: &'a ColumnOptions,
}

/// Builds the credential of a record. Its owner and the workspaces of its restrictions are as the record names them,
/// possibly by slug, and their generations are not yet known. `ExistingRows::resolve` sets them.
pub(super) fn check(
    record: &Record,
    defaults: &Defaults<'_>,
) -> Result<StoredCredential, LineError> {
    let mut problems =
        Problems { columns: defaults.columns, reasons: Vec::new(), refuses_file: None };
    problems.refuse_tokens(record);
    let kind = problems.kind(record);
    let owner = kind.and_then(|kind| problems.owner(record, kind));
    let secret = problems.digest(record, owner.as_ref().and(kind));
    let name = problems.required("name", record.name.as_deref(), DisplayName::parse);
    let scopes = problems.scopes(&record.scopes);
    let networks = record.ip_allowlist.iter().map(String::as_str);
    let ip_allowlist = problems.note("ip_allowlist", IpAllowlist::parse(networks));
    let annotations = problems.note("annotations", Annotations::parse(record.annotations.clone()));
    let (granted_workspaces, barred_workspaces) = problems.restrictions(record, kind);
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
        problems.add("predecessor_id", "must be empty without family_id");
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
                granted_workspaces,
                barred_workspaces,
                annotations,
                create_time: times.create,
                expire_time: times.expire,
                disable_time: times.disable,
                revoke_time: times.revoke,
                last_use: times.last_use,
                end_at_once: false,
                creator,
                predecessor_id,
                family_id: family.unwrap_or(id),
                version: 1,
            };
            Ok(StoredCredential { credential, digest })
        }
        (.., Err(bad)) => Err(bad),
        // The missing field has already been reported.
        (.., Ok(())) => Err(Invalid::new("it is incomplete").into()),
    }
}

/// Times of a credential.
struct Times {
    create: Timestamp,
    expire: Option<Timestamp>,
    disable: Option<Timestamp>,
    revoke: Option<Timestamp>,
    last_use: Option<LastUse>,
}

/// The errors so far.
struct Problems<'r> {
    columns: &'r ColumnOptions,
    reasons: Vec<String>,
    refuses_file: Option<FileRefusal>,
}

impl Problems<'_> {
    fn add(&mut self, column: &str, what: impl Display) {
        self.reasons.push(format!("{}: {what}", self.columns.shown(column)));
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

    fn finish(self) -> Result<(), LineError> {
        if self.reasons.is_empty() {
            return Ok(());
        }
        Err(LineError { reason: self.reasons.join("; "), refuses_file: self.refuses_file })
    }

    /// Rejects tokens in columns other than `token`, because those are stored in the clear.
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
        let granted = record.granted_workspaces.iter().map(|text| ("granted_workspaces", text));
        let barred = record.barred_workspaces.iter().map(|text| ("barred_workspaces", text));
        let all = all.chain(granted).chain(barred);
        let token = record.token.as_ref().map(|token| token.0.as_str());
        for (column, text) in all {
            if contains_token(text) || token.is_some_and(|token| text.contains(token)) {
                self.add(column, "contains a token in the clear");
                self.refuses_file = Some(FileRefusal::ExposesToken);
            }
        }
        let is_token = |text: &str| {
            let known = digest_text::parse(text).is_some() || digest_text::is_password_hash(text);
            contains_token(text) || (!known && may_be_token(text.trim_start_matches("\\x")))
        };
        if record.digest.as_deref().is_some_and(is_token) {
            self.add("digest", "is not a digest, and may be a token in the clear");
            self.refuses_file = Some(FileRefusal::ExposesToken);
        }
    }

    /// Without a kind, a workspace means a key, and a user means a personal access token.
    fn kind(&mut self, record: &Record) -> Option<CredentialKind> {
        let Some(name) = record.kind.as_deref() else {
            let kind = match (&record.workspace, &record.user) {
                (Some(_), None) => Some(CredentialKind::Key),
                (None, Some(_)) => Some(CredentialKind::Pat),
                (None, None) | (Some(_), Some(_)) => None,
            };
            if kind.is_none() {
                self.add(
                    "kind",
                    "is missing, and must be given unless exactly one of workspace and user is",
                );
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
        let foreign_columns = match kind.owner_kind() {
            OwnerKind::Workspace => [("user", &record.user), ("max_role", &record.max_role)],
            OwnerKind::User => [("workspace", &record.workspace), ("max_role", &None)],
        };
        for (column, _) in foreign_columns.into_iter().filter(|(_, text)| text.is_some()) {
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

    /// Returns the workspaces to which a personal access token is limited, and those from which it is barred, as the
    /// record names them. Their generations are not yet known.
    fn restrictions(
        &mut self,
        record: &Record,
        kind: Option<CredentialKind>,
    ) -> (Option<WorkspaceSet>, WorkspaceSet) {
        let (granted, barred) = (&record.granted_workspaces, &record.barred_workspaces);
        if let Some(kind) = kind.filter(|kind| kind.owner_kind() == OwnerKind::Workspace) {
            for (column, is_given) in [
                ("limited", record.limited.is_some()),
                ("granted_workspaces", !granted.is_empty()),
                ("barred_workspaces", !barred.is_empty()),
            ] {
                if is_given {
                    self.add(column, format_args!("does not go with a {kind}"));
                }
            }
        }
        let limited = self.optional("limited", record.limited.as_deref(), parse_bool);
        if limited == Some(false) && !granted.is_empty() {
            self.add("limited", "contradicts granted_workspaces");
        }
        self.note("granted_workspaces", WorkspaceSet::check_count(granted.len()));
        let is_limited = limited == Some(true) || !granted.is_empty();
        let granted = self.workspaces("granted_workspaces", granted);
        (is_limited.then_some(granted), self.workspaces("barred_workspaces", barred))
    }

    fn workspaces(&mut self, column: &str, names: &[String]) -> WorkspaceSet {
        let entries: Result<Vec<_>, Invalid> = names
            .iter()
            .map(|name| Ok(WorkspaceEntry { id: WorkspaceId::parse(name)?, generation: 0 }))
            .collect();
        WorkspaceSet::new(self.note(column, entries).unwrap_or_default())
    }

    /// Returns the digest and the hint.
    fn digest(
        &mut self,
        record: &Record,
        kind: Option<CredentialKind>,
    ) -> Option<(Digest, String)> {
        let (digest, own_hint) = match (&record.digest, &record.token) {
            (Some(_), Some(_)) => {
                self.add("token", "must be empty if digest is given");
                return None;
            }
            (None, None) => {
                self.add("digest", "is missing: give digest or token");
                return None;
            }
            (Some(text), None) => {
                let digest = digest_text::parse(text)
                    .ok_or_else(|| Invalid::new(digest_text::describe_mismatch(text)));
                (self.note("digest", digest)?, "imported".to_owned())
            }
            (None, Some(token)) => {
                if !self.columns.tokens_look_like_digests
                    && digest_text::looks_like_digest(&token.0)
                {
                    self.add(
                        "token",
                        "looks like a digest: a SHA-256 belongs in the column digest (--rename token=digest). If these are \
                         the tokens themselves, use --tokens-look-like-digests",
                    );
                    self.refuses_file = self.refuses_file.or(Some(FileRefusal::DigestAsToken));
                    return None;
                }
                self.note("token", digest_imported(&token.0, kind?.into()))?
            }
        };
        if is_placeholder(&digest) {
            let column = if record.token.is_some() { "token" } else { "digest" };
            self.add(
                column,
                "is not a token, but empty text or a placeholder, or the digest of one",
            );
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
            let time = self.optional(column, text.as_deref(), time_text::parse)?;
            if time > latest {
                self.add(column, "must not be in the future");
            }
            Some(time)
        };
        let create = past("create_time", &record.create_time).unwrap_or(now);
        let disable = past("disable_time", &record.disable_time);
        let revoke = past("revoke_time", &record.revoke_time);
        let last_use = past("last_use_time", &record.last_use_time);
        let revoked = self.optional("revoked", record.revoked.as_deref(), parse_bool);
        let enabled = self.optional("enabled", record.enabled.as_deref(), parse_bool);
        for (column, contradicts) in [
            ("revoked", revoked == Some(false) && revoke.is_some()),
            ("enabled", enabled == Some(true) && disable.is_some()),
        ] {
            if contradicts {
                self.add(column, "contradicts the time in revoke_time or disable_time");
            }
        }
        let revoke = revoke.or((revoked == Some(true)).then_some(now.max(create)));
        let disable = disable.or((enabled == Some(false)).then_some(now.max(create)));
        let expires = record.expire_time.as_deref().filter(|text| *text != "infinity");
        let expire = self.optional("expire_time", expires, time_text::parse);
        if expire.is_some_and(|time| time <= create) {
            self.add("expire_time", "must be after create_time");
        }
        let ip = self.optional("last_use_ip", record.last_use_ip.as_deref(), parse_client_ip);
        if ip.is_some() && last_use.is_none() {
            self.add("last_use_ip", "must be empty without last_use_time");
        }
        let last_use = last_use.map(|time| LastUse { time, ip });
        Times { create, expire, disable, revoke, last_use }
    }
}

/// Accepts the spellings that databases write.
fn parse_bool(text: &str) -> Result<bool, Invalid> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "1" | "yes" => Ok(true),
        "false" | "f" | "0" | "no" => Ok(false),
        _ => Err(Invalid::new("must be true or false")),
    }
}
