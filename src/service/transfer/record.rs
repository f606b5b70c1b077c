//! A record of the file: the text in each column, before validation.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};
use zeroize::Zeroizing;

use super::Column;
use crate::model::{Invalid, Owner, WorkspaceSet};
use crate::store::StoredCredential;

/// The text in each column. An empty column is `None`, an empty list or an empty map.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Record {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) workspace: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_role: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) scopes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) digest: Option<String>,
    /// Never serialized.
    #[serde(skip)]
    pub(super) token: Option<Secret>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) hint: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) ip_allowlist: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) annotations: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) create_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) expire_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) disable_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) revoke_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last_use_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last_use_ip: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) creator: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) predecessor_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) family_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_bool")]
    pub(super) limited: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) granted_workspaces: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) barred_workspaces: Vec<String>,
    #[serde(skip)]
    pub(super) revoked: Option<String>,
    #[serde(skip)]
    pub(super) enabled: Option<String>,
}

/// A token in the clear. It is wiped on drop, and `Debug` does not show it.
#[derive(PartialEq, Eq)]
pub(super) struct Secret(pub(super) Zeroizing<String>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

impl Record {
    /// Builds the record that an export writes.
    pub(super) fn of(StoredCredential { credential, digest }: &StoredCredential) -> Self {
        let (workspace, user, max_role) = match &credential.owner {
            Owner::Workspace(id) => (Some(id.to_string()), None, None),
            Owner::User { id, max_role } => {
                (None, Some(id.to_string()), Some(max_role.to_string()))
            }
        };
        let last_use = credential.last_use;
        let ids = |set: &WorkspaceSet| set.iter().map(|entry| entry.id.to_string()).collect();
        let granted = credential.granted_workspaces.as_ref();
        Self {
            id: Some(credential.id.to_string()),
            kind: Some(credential.kind.to_string()),
            workspace,
            user,
            max_role,
            name: Some(credential.name.to_string()),
            scopes: credential.scopes.iter().map(|scope| scope.to_string()).collect(),
            digest: Some(digest.to_hex()),
            token: None,
            hint: Some(credential.hint.clone()),
            ip_allowlist: credential.ip_allowlist.iter().map(ToString::to_string).collect(),
            annotations: credential.annotations.entries().clone(),
            create_time: Some(credential.create_time.to_string()),
            expire_time: credential.expire_time.map(|time| time.to_string()),
            disable_time: credential.disable_time.map(|time| time.to_string()),
            revoke_time: credential.revoke_time.map(|time| time.to_string()),
            last_use_time: last_use.map(|last_use| last_use.time.to_string()),
            last_use_ip: last_use.and_then(|last_use| last_use.ip).map(|ip| ip.to_string()),
            creator: Some(credential.creator.clone()),
            predecessor_id: credential.predecessor_id.map(|id| id.to_string()),
            family_id: Some(credential.family_id.to_string()),
            limited: granted.map(|_| "true".to_owned()),
            granted_workspaces: granted.map(ids).unwrap_or_default(),
            barred_workspaces: ids(&credential.barred_workspaces),
            revoked: None,
            enabled: None,
        }
    }

    /// Returns the field for a column of plain text. `None` for other columns.
    pub(super) const fn plain(&mut self, column: Column) -> Option<&mut Option<String>> {
        Some(match column {
            Column::Id => &mut self.id,
            Column::Kind => &mut self.kind,
            Column::Workspace => &mut self.workspace,
            Column::User => &mut self.user,
            Column::MaxRole => &mut self.max_role,
            Column::Name => &mut self.name,
            Column::Digest => &mut self.digest,
            Column::Hint => &mut self.hint,
            Column::CreateTime => &mut self.create_time,
            Column::ExpireTime => &mut self.expire_time,
            Column::DisableTime => &mut self.disable_time,
            Column::RevokeTime => &mut self.revoke_time,
            Column::LastUseTime => &mut self.last_use_time,
            Column::LastUseIp => &mut self.last_use_ip,
            Column::Creator => &mut self.creator,
            Column::PredecessorId => &mut self.predecessor_id,
            Column::FamilyId => &mut self.family_id,
            Column::Limited => &mut self.limited,
            Column::Revoked => &mut self.revoked,
            Column::Enabled => &mut self.enabled,
            Column::Scopes
            | Column::Token
            | Column::IpAllowlist
            | Column::Annotations
            | Column::GrantedWorkspaces
            | Column::BarredWorkspaces => return None,
        })
    }

    /// Returns the entries for a column that lists several. `None` for other columns.
    pub(super) const fn entries(&mut self, column: Column) -> Option<&mut Vec<String>> {
        Some(match column {
            Column::Scopes => &mut self.scopes,
            Column::IpAllowlist => &mut self.ip_allowlist,
            Column::GrantedWorkspaces => &mut self.granted_workspaces,
            Column::BarredWorkspaces => &mut self.barred_workspaces,
            _ => return None,
        })
    }

    /// Sets a column from text.
    pub(super) fn set(&mut self, column: Column, field: String) -> Result<(), Invalid> {
        if field.is_empty() {
            return Ok(());
        }
        if let Some(entries) = self.entries(column) {
            *entries = list(&field);
            // An empty list is no limit or any address, which a slip must not mean.
            return if entries.is_empty() {
                Err(Invalid::new(format!("{}: must have an entry, or be empty", column.as_str())))
            } else {
                Ok(())
            };
        }
        match column {
            Column::Token => self.token = Some(Secret(Zeroizing::new(field))),
            Column::Annotations => self.annotations = super::json::annotations(&field)?,
            _ => {
                if let Some(text) = self.plain(column) {
                    *text = Some(field);
                }
            }
        }
        Ok(())
    }

    /// Whether the column has a value. `granted_workspaces` of a limited token has one even if it is empty: none.
    fn has(&mut self, column: Column) -> bool {
        if column == Column::GrantedWorkspaces && self.limited.is_some() {
            return true;
        }
        if let Some(entries) = self.entries(column) {
            return !entries.is_empty();
        }
        match column {
            Column::Token => self.token.is_some(),
            Column::Annotations => !self.annotations.is_empty(),
            _ => self.plain(column).is_some_and(|text| text.is_some()),
        }
    }

    /// Sets columns without a value to these.
    pub(super) fn preset(&mut self, preset: &[(Column, String)]) -> Result<(), Invalid> {
        let empty: Vec<_> = preset.iter().filter(|(column, _)| !self.has(*column)).collect();
        for (column, text) in empty {
            self.set(*column, text.clone())?;
        }
        Ok(())
    }

    /// Returns the text for a CSV field.
    pub(super) fn field(&mut self, column: Column) -> String {
        if let Some(entries) = self.entries(column) {
            return entries.join(" ");
        }
        match column {
            Column::Annotations if !self.annotations.is_empty() => {
                super::json::annotations_text(&self.annotations)
            }
            _ => self.plain(column).and_then(Option::take).unwrap_or_default(),
        }
    }

    /// Returns the record as a line of JSON.
    pub(super) fn to_json(&self) -> String {
        // A struct of strings, lists and a map with string keys always serializes.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Writes the text of a boolean as one. The record of an export has no other spelling.
#[expect(clippy::ref_option, reason = "serde passes the field")]
fn as_bool<S: Serializer>(text: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bool(text.as_deref() == Some("true"))
}

/// Splits a list at spaces and commas.
pub(super) fn list(text: &str) -> Vec<String> {
    text.split([' ', ',']).filter(|entry| !entry.is_empty()).map(str::to_owned).collect()
}
