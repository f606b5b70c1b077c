//! The operator at the command line, for the audit log. It is the user of the operating system, which cannot be forged.
//! Claims by `--operator` or sudo follow in parentheses.

use std::sync::OnceLock;

use super::args::Global;
use super::{TOKEN_SHOWN_WITHIN, UsageError};
use crate::service::Context;

/// Maximum length of `--operator`, in characters.
const CLAIM_MAX: usize = 64;

/// Operator of this process.
static NAME: OnceLock<String> = OnceLock::new();

/// Determines the operator. Call it before anything is written.
pub(super) fn init(global: &Global) -> Result<(), UsageError> {
    let claim = global.operator.as_deref();
    if claim.is_some_and(|claim| !is_plain(claim) || claim.chars().count() > CLAIM_MAX) {
        return Err(UsageError(format!(
            "--operator must be 1 to {CLAIM_MAX} letters, digits, '.', '-', '_', '@' and '+'"
        )));
    }
    let uid = rustix::process::getuid();
    // Other users could set SUDO_USER themselves.
    let sudo = std::env::var("SUDO_USER").ok().filter(|name| uid.is_root() && is_plain(name));
    let user = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid.as_raw()));
    let user = user.ok().flatten().map(|user| user.name);
    // Set once per process.
    let _ = NAME.set(spell(user.as_deref(), uid.as_raw(), sudo.as_deref(), claim));
    Ok(())
}

/// Returns the context of this process's operator.
pub(super) fn operator() -> Context {
    Context::operator(NAME.get().map_or("unknown", String::as_str))
}

/// Returns the operator's context for a rotation. Its deadline is short: if the wait for other servers takes longer, the new
/// token is printed first, so that Ctrl-C during the wait does not lose it.
pub(super) fn operator_for_rotation() -> Context {
    let deadline = Some(tokio::time::Instant::now() + TOKEN_SHOWN_WITHIN);
    Context { deadline, ..operator() }
}

/// Spells an operator, as in `root(sudo:ada,night-shift)`. Only the part before the parenthesis is verified. A claim cannot
/// contain a parenthesis. A user without a plain name is spelled as a number, as in `#1000`.
fn spell(user: Option<&str>, uid: u32, sudo: Option<&str>, claim: Option<&str>) -> String {
    let user = user.filter(|name| is_plain(name));
    let user = user.map_or_else(|| format!("#{uid}"), str::to_owned);
    let sudo = sudo.map(|name| format!("sudo:{name}"));
    let claims: Vec<_> = sudo.into_iter().chain(claim.map(str::to_owned)).collect();
    if claims.is_empty() { user } else { format!("{user}({})", claims.join(",")) }
}

/// Whether a name has only letters, digits and `.-_@+`.
fn is_plain(name: &str) -> bool {
    let plain = |c: char| c.is_alphanumeric() || ".-_@+".contains(c);
    !name.is_empty() && name.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::spell;

    #[test]
    fn claims_follow_the_verified_user_in_parentheses() {
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
