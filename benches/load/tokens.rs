//! The population, computed from an index so that no file of tokens is needed. Even indexes are keys, odd ones personal
//! access tokens, spread over a thousand workspaces and as many users.
//!
//! All texts have the same length, so that all requests and all answers of a kind have the same size.

use sha2::{Digest as _, Sha256};
use sophic_auth_protocol::token::{
    BASE62, BODY_LENGTH, PREFIX_LENGTH, TOKEN_LENGTH, check_characters,
};

/// Number of workspaces, and of users.
pub(crate) const OWNERS: u64 = 1_000;
/// Length of a token.
pub(crate) const TOKEN: usize = TOKEN_LENGTH;
const BODY_END: usize = PREFIX_LENGTH + BODY_LENGTH;

/// First index of tokens that are revoked in the store.
pub(crate) const REVOKED: u64 = 1 << 36;
/// First index of tokens that are in no store.
pub(crate) const UNKNOWN: u64 = 1 << 40;
/// First index of made-up tokens for a flood. Each is sent once.
pub(crate) const FLOOD: u64 = 1 << 44;

/// Returns whether this index is a key, rather than a personal access token.
pub(crate) const fn is_key(index: u64) -> bool {
    index.is_multiple_of(2)
}

/// Returns the number of the workspace that this key belongs to, or that this personal access token acts in. It is also
/// the number of the user.
pub(crate) const fn owner(index: u64) -> u64 {
    (index / 2) % OWNERS
}

/// Returns the token. It is well-formed, whether or not a store has it.
pub(crate) fn token(index: u64) -> [u8; TOKEN] {
    let mut text = [0; TOKEN];
    text[..PREFIX_LENGTH].copy_from_slice(if is_key(index) {
        b"sophic_key_"
    } else {
        b"sophic_pat_"
    });
    let mut seed = index.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(0x5eed);
    for part in text[PREFIX_LENGTH..BODY_END].chunks_mut(8) {
        let mut bits = mixed(&mut seed);
        for place in part {
            *place = BASE62[usize::try_from(bits % 62).unwrap_or_default()];
            bits /= 62;
        }
    }
    let check = check_characters(&text[..BODY_END]);
    text[BODY_END..].copy_from_slice(&check);
    text
}

/// Advances `SplitMix64` by one step.
pub(crate) fn mixed(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *seed;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Returns the digest that the store keeps.
pub(crate) fn digest(index: u64) -> [u8; 32] {
    Sha256::digest(token(index)).into()
}

/// Returns the hint that answers contain. Its last four characters are those of [`tail`].
pub(crate) fn hint(index: u64) -> String {
    let text = token(index);
    let shown = |part: &[u8]| String::from_utf8_lossy(part).into_owned();
    format!("{}...{}", shown(&text[..PREFIX_LENGTH]), shown(&tail(&text)))
}

/// Returns the last four characters of the body.
pub(crate) fn tail(text: &[u8; TOKEN]) -> [u8; 4] {
    [text[39], text[40], text[41], text[42]]
}

/// Returns the slug of a workspace.
pub(crate) fn slug(owner: u64) -> String {
    format!("bench-{owner:04}")
}

/// Returns the id of a credential: a UUIDv7. All have the same time, and sort in the order of the indexes.
pub(crate) fn id(index: u64) -> [u8; 16] {
    let mut id = [0x01, 0x93, 0xe0, 0, 0, 0, 0x70, 0, 0x80, 0, 0, 0, 0, 0, 0, 0];
    id[10..].copy_from_slice(&index.to_be_bytes()[2..]);
    id
}

/// Returns an encoded `IntrospectRequest` as a gateway sends it: the token, the workspace, the scope `read` and the
/// client's address.
pub(crate) fn request(index: u64) -> Vec<u8> {
    const CLIENT_IP: &[u8] = b"203.0.113.27";
    let slug = slug(owner(index));
    let mut message = Vec::with_capacity(96);
    message.extend([0x0a, byte(TOKEN)]);
    message.extend(token(index));
    message.extend([0x12, byte(slug.len())]);
    message.extend(slug.as_bytes());
    message.extend([0x1a, 1, 1]);
    message.extend([0x22, byte(CLIENT_IP.len())]);
    message.extend(CLIENT_IP);
    message
}

/// Returns a length below 128 as the single byte that protobuf and HPACK encode it in.
pub(crate) fn byte(length: usize) -> u8 {
    u8::try_from(length).unwrap_or(u8::MAX)
}
