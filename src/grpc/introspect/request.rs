//! Decodes `IntrospectRequest` in place, without copying any field.
//!
//! Unusual requests are left to prost and `decoded.rs`, which report what is wrong.

use std::net::IpAddr;

use prost::encoding::{WireType, decode_key, decode_varint};

use crate::model::limits::SCOPES_MAX;
use crate::model::{CallerId, Scope, ScopeSet, parse_client_ip};
use crate::service::IntrospectionRequest;

/// The fields of the message.
#[derive(Default)]
struct Fields<'a> {
    token: &'a str,
    workspace: &'a str,
    client_ip: &'a str,
    fresh: bool,
    at_least_revision: u64,
    scopes: ScopeSet,
    scopes_len: usize,
}

/// Reads a message. `None` if it is invalid or has an unknown field.
pub(super) fn read(message: &[u8], caller_id: CallerId) -> Option<IntrospectionRequest<'_>> {
    let mut rest = message;
    let mut fields = Fields::default();
    while !rest.is_empty() {
        let (number, wire) = decode_key(&mut rest).ok()?;
        match (number, wire) {
            (1, WireType::LengthDelimited) => fields.token = read_text(&mut rest)?,
            (2, WireType::LengthDelimited) => fields.workspace = read_text(&mut rest)?,
            (3, WireType::Varint) => fields.scope(decode_varint(&mut rest).ok()?)?,
            (3, WireType::LengthDelimited) => {
                let mut packed = read_bytes(&mut rest)?;
                while !packed.is_empty() {
                    fields.scope(decode_varint(&mut packed).ok()?)?;
                }
            }
            (4, WireType::LengthDelimited) => fields.client_ip = read_text(&mut rest)?,
            (5, WireType::Varint) => fields.fresh = decode_varint(&mut rest).ok()? != 0,
            (6, WireType::Varint) => fields.at_least_revision = decode_varint(&mut rest).ok()?,
            _ => return None,
        }
    }
    i64::try_from(fields.at_least_revision).ok()?;
    let client_ip: Option<IpAddr> = match fields.client_ip {
        "" => None,
        text => Some(parse_client_ip(text).ok()?),
    };
    Some(IntrospectionRequest {
        token: fields.token,
        workspace: fields.workspace,
        required_scopes: fields.scopes,
        client_ip,
        fresh: fields.fresh,
        at_least_revision: fields.at_least_revision,
        caller_id: Some(caller_id),
    })
}

impl Fields<'_> {
    fn scope(&mut self, number: u64) -> Option<()> {
        let scope = Scope::from_proto(i32::try_from(number).ok()?)?;
        self.scopes = self.scopes.union(scope.into());
        self.scopes_len += 1;
        (self.scopes_len <= SCOPES_MAX).then_some(())
    }
}

fn read_text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    std::str::from_utf8(read_bytes(rest)?).ok()
}

pub(in crate::grpc) fn read_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(decode_varint(rest).ok()?).ok()?;
    let (bytes, behind) = rest.split_at_checked(length)?;
    *rest = behind;
    Some(bytes)
}
