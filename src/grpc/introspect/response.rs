//! Encodes `IntrospectResponse` straight from the facts, without an intermediate message.
//!
//! `tests.rs` compares the result with that of `convert::introspection` and prost.

use bytes::{BufMut as _, BytesMut};
use prost::encoding::{WireType, encode_key, encode_varint};

use crate::grpc::convert::{pb_kind, pb_role_cap};
use crate::model::{
    CredentialFacts, FoundFacts, PrincipalFacts, Role, ScopeSet, Timestamp, Workspace,
};
use crate::service::Introspection;

/// Appends the encoded response.
pub(super) fn write(answer: &Introspection, buffer: &mut BytesMut) {
    let decision = &answer.decision;
    let active = decision.is_active();
    flag(buffer, 1, active);
    flag(buffer, 2, decision.is_allowed());
    if let Some(denial) = decision.denial {
        number(buffer, 3, i32::from(denial.to_proto()).unsigned_abs().into());
    }
    number(buffer, 4, decision.http_status().into());
    text(buffer, 5, answer.www_authenticate);
    let found = answer.found.as_ref().filter(|_| active);
    if let Some(found) = found {
        principal(buffer, found);
    }
    if let Some(acted_in) = answer.workspace() {
        workspace(buffer, acted_in);
    }
    if let Some((effective, cap)) = decision.role {
        number(buffer, 9, role_number(effective));
        number(buffer, 10, i32::from(pb_role_cap(cap)).unsigned_abs().into());
    }
    scopes(buffer, 11, decision.scopes);
    scopes(buffer, 12, decision.missing_scopes);
    scopes(buffer, 13, decision.token_lacks);
    scopes(buffer, 14, decision.role_lacks);
    if let Some(found) = found {
        credential(buffer, &found.credential);
    }
    message(buffer, 16, |buffer| {
        number(buffer, 1, answer.cache_ttl.as_secs());
        number(buffer, 2, answer.cache_ttl.subsec_nanos().into());
    });
    number(buffer, 17, answer.revision);
    flag(buffer, 18, answer.stale);
    flag(buffer, 19, answer.identity_only);
}

fn principal(buffer: &mut BytesMut, found: &FoundFacts) {
    match &found.principal {
        PrincipalFacts::Workspace(own) => message(buffer, 6, |buffer| {
            text(buffer, 1, own.id.as_str());
            id(buffer, 2, found.credential.id.0);
            text(buffer, 3, found.credential.name());
        }),
        PrincipalFacts::User(facts) => message(buffer, 7, |buffer| {
            text(buffer, 1, facts.user.id.as_str());
            text(buffer, 2, facts.user.display_name.as_str());
        }),
    }
}

fn workspace(buffer: &mut BytesMut, workspace: &Workspace) {
    message(buffer, 8, |buffer| {
        text(buffer, 1, workspace.id.as_str());
        text(buffer, 2, workspace.slug.as_str());
        text(buffer, 3, workspace.display_name.as_str());
    });
}

fn credential(buffer: &mut BytesMut, credential: &CredentialFacts) {
    message(buffer, 15, |buffer| {
        id(buffer, 1, credential.id.0);
        number(buffer, 2, i32::from(pb_kind(credential.kind)).unsigned_abs().into());
        text(buffer, 3, credential.name());
        text(buffer, 4, credential.hint());
        time(buffer, 5, credential.create_time);
        if let Some(expire_time) = credential.expire_time {
            time(buffer, 6, expire_time);
        }
    });
}

fn role_number(role: Role) -> u64 {
    i32::from(role.to_proto()).unsigned_abs().into()
}

fn flag(buffer: &mut BytesMut, field: u32, value: bool) {
    number(buffer, field, value.into());
}

/// Writes a number field, unless it is 0 (proto3).
fn number(buffer: &mut BytesMut, field: u32, value: u64) {
    if value != 0 {
        encode_key(field, WireType::Varint, buffer);
        encode_varint(value, buffer);
    }
}

fn text(buffer: &mut BytesMut, field: u32, value: &str) {
    if !value.is_empty() {
        encode_key(field, WireType::LengthDelimited, buffer);
        encode_varint(value.len() as u64, buffer);
        buffer.put_slice(value.as_bytes());
    }
}

fn id(buffer: &mut BytesMut, field: u32, value: uuid::Uuid) {
    let mut spelling = uuid::Uuid::encode_buffer();
    text(buffer, field, value.hyphenated().encode_lower(&mut spelling));
}

fn scopes(buffer: &mut BytesMut, field: u32, scopes: ScopeSet) {
    if !scopes.is_empty() {
        encode_key(field, WireType::LengthDelimited, buffer);
        encode_varint(scopes.iter().count() as u64, buffer);
        for scope in scopes.iter() {
            encode_varint(i32::from(scope.to_proto()).unsigned_abs().into(), buffer);
        }
    }
}

fn time(buffer: &mut BytesMut, field: u32, time: Timestamp) {
    let micros = time.unix_micros();
    message(buffer, field, |buffer| {
        // proto3 encodes a negative int64 as its two's complement.
        number(buffer, 1, micros.div_euclid(1_000_000).cast_unsigned());
        number(buffer, 2, (micros.rem_euclid(1_000_000) * 1_000).unsigned_abs());
    });
}

/// Writes a nested message, and inserts its length once that is known.
pub(super) fn message(buffer: &mut BytesMut, field: u32, write: impl FnOnce(&mut BytesMut)) {
    encode_key(field, WireType::LengthDelimited, buffer);
    let place = buffer.len();
    buffer.put_u8(0);
    write(buffer);
    let length = buffer.len() - place - 1;
    if let Ok(short @ 0..=127) = u8::try_from(length) {
        buffer[place] = short;
        return;
    }
    let mut spelling = [0_u8; 10];
    let mut rest = &mut spelling[..];
    encode_varint(length as u64, &mut rest);
    let more = 10 - rest.len() - 1;
    buffer.put_bytes(0, more);
    let end = buffer.len();
    buffer.copy_within(place + 1..end - more, place + 1 + more);
    buffer[place..=place + more].copy_from_slice(&spelling[..=more]);
}
