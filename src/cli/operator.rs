//! Who works at the command line, for the audit log: the user of the operating system, which nobody can pretend to be. What
//! else is said of who it is, by `--operator` or by sudo, stands beside that in parentheses.

use std::sync::OnceLock;

use super::args::Global;
use super::{TOKEN_SHOWN_WITHIN, Usage};
use crate::service::Context;

/// Characters of `--operator`.
const CLAIM_MAX: usize = 64;

/// One process has one operator.
static NAME: OnceLock<String> = OnceLock::new();

/// Finds out who it is; to be called before anything is done.
pub(super) fn init(global: &Global) -> Result<(), Usage> {
    let claim = global.operator.as_deref();
    if claim.is_some_and(|claim| !is_plain(claim) || claim.chars().count() > CLAIM_MAX) {
        return Err(Usage(format!(
            "--operator must be 1 to {CLAIM_MAX} letters, digits, '.', '-', '_', '@' and '+'"
        )));
    }
    let uid = rustix::process::getuid();
    // Only root can have come by sudo.
    let sudo = std::env::var("SUDO_USER").ok().filter(|name| uid.is_root() && is_plain(name));
    let user = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid.as_raw()));
    let user = user.ok().flatten().map(|user| user.name);
    // The first is the one.
    let _ = NAME.set(spell(user.as_deref(), uid.as_raw(), sudo.as_deref(), claim));
    Ok(())
}

/// The operator of this process.
pub(super) fn operator() -> Context {
    Context::operator(NAME.get().map_or("unknown", String::as_str))
}

/// The operator, for a rotation: where the wait for other servers takes longer than this, the new token is shown first, so
/// that no Ctrl-C during the wait loses it.
pub(super) fn operator_who_rotates() -> Context {
    let deadline = Some(tokio::time::Instant::now() + TOKEN_SHOWN_WITHIN);
    Context { deadline, ..operator() }
}

/// `root(sudo:ada,night-shift)`: only what stands before the parenthesis is known, and no claim can hold one. A user
/// without a name, or with one that could be mistaken, is known by number, as `#1000`.
fn spell(user: Option<&str>, uid: u32, sudo: Option<&str>, claim: Option<&str>) -> String {
    let user = user.filter(|name| is_plain(name));
    let user = user.map_or_else(|| format!("#{uid}"), str::to_owned);
    let sudo = sudo.map(|name| format!("sudo:{name}"));
    let claims: Vec<_> = sudo.into_iter().chain(claim.map(str::to_owned)).collect();
    if claims.is_empty() { user } else { format!("{user}({})", claims.join(",")) }
}

/// Letters, digits, and what names and addresses of people hold.
fn is_plain(name: &str) -> bool {
    let plain = |c: char| c.is_alphanumeric() || ".-_@+".contains(c);
    !name.is_empty() && name.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::spell;

    #[test]
    fn only_what_stands_before_the_parenthesis_is_known() {
        let cases = [
            ((Some("ada"), None, None), "ada"),
            ((Some("ada"), None, Some("bob")), "ada(bob)"),
            ((Some("root"), Some("ada"), None), "root(sudo:ada)"),
            ((Some("root"), Some("ada"), Some("night-shift")), "root(sudo:ada,night-shift)"),
            ((None, None, None), "#1000"),
            ((None, None, Some("bob")), "#1000(bob)"),
            ((Some("root(ada)"), None, None), "#1000"),
            ((Some(""), None, None), "#1000"),
        ];
        for ((user, sudo, claim), expected) in cases {
            assert_eq!(spell(user, 1000, sudo, claim), expected);
        }
    }
}
