//! Tokens that were found where they do not belong: those that are real are ended, and the audit log keeps where they
//! were found. A candidate's text goes in, and neither it nor its digest comes out anywhere.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::json;
use zeroize::Zeroizing;

use super::bulk_revoke::Many;
use crate::model::limits::{LEAKED_TEXT_BYTES_MAX, LEAKED_TOKENS_MAX, URL_BYTES_MAX};
use crate::model::{AuditAction, Credential, CredentialId, Digest, Invalid, ReasonText};
use crate::service::commit::Effect;
use crate::service::{Attempt, Context, Result, Service, Violations};
use crate::token::{digest_of_presented, digest_to_revoke, redact_tokens, scan};

/// Candidates shorter than this are cut out of no other text: every word would be one.
const CUT_BYTES_MIN: usize = 8;
/// Of one token, so many of the places where it was found are kept.
const WHYS_MAX: usize = 20;

/// A text that looks like a token, and where it was found.
pub struct LeakedToken {
    /// The text, exactly, or a text in which tokens of ours stand.
    pub token: Zeroizing<String>,
    /// Where it was found; empty: not said.
    pub url: String,
    /// How it was found; empty: not said.
    pub reason: String,
}

/// What became of it.
#[derive(Debug, Clone)]
pub struct LeakedTokenResult {
    /// The credential that it is the token of, dead now; nothing if it is no credential's.
    pub credential: Option<Credential>,
    /// Whether it was this call that ended it.
    pub revoked_now: bool,
}

impl Service {
    /// Ends those of these that are real; an answer for each, in their order.
    ///
    /// Text of any shape is looked up, whether or not imported tokens are accepted today, and so is every token of ours that
    /// stands anywhere in it, as in `KEY=…`: all of them are ended, and the answer names the first. Callers' service tokens are no
    /// credentials: whoever finds one has its caller rotated or revoked.
    pub async fn revoke_leaked(
        self: &Arc<Self>,
        context: Context,
        tokens: Vec<LeakedToken>,
    ) -> Result<Vec<LeakedTokenResult>> {
        let this = Arc::clone(self);
        let attempt = Attempt::new(&context, AuditAction::CredentialRevokeLeaked);
        self.run(attempt, Effect::Narrows, async move {
            check(&tokens)?;
            let mut ids = Vec::with_capacity(tokens.len());
            let mut whys: HashMap<CredentialId, Vec<String>> = HashMap::new();
            for leaked in &tokens {
                let mut first = None;
                for digest in digests(leaked) {
                    let found = this.store.look_up(&digest, None).await?.found;
                    let Some(id) = found.map(|found| found.credential.id) else { continue };
                    first = first.or(Some(id));
                    let known = whys.entry(id).or_default();
                    let why = why(leaked);
                    known.extend(why.filter(|why| !known.contains(why) && known.len() < WHYS_MAX));
                }
                ids.push(first);
            }
            let real: Vec<_> = whys.keys().copied().collect();
            let many = Many {
                action: AuditAction::CredentialRevokeLeaked,
                asked: json!({"candidate_count": tokens.len(), "real_count": real.len()}),
                acting_user: None,
                ids: &real,
                also_revoked: true,
            };
            let why =
                |id| whys.get(&id).filter(|whys| !whys.is_empty()).map(|whys| whys.join("; "));
            let (committed, revoked) = this.revoke_many(&context, many, why).await?;
            let mut told = HashSet::new();
            let result = |id: Option<CredentialId>| {
                let found = id.and_then(|id| revoked.get(&id));
                LeakedTokenResult {
                    credential: found.map(|(credential, _)| credential.clone()),
                    // Where a token was found twice, the first answer has it.
                    revoked_now: found.is_some_and(|(found, now)| told.insert(found.id) && *now),
                }
            };
            Ok(committed.done(ids.into_iter().map(result).collect()))
        })
        .await
    }
}

/// Of the text itself, and of each token that stands in it.
fn digests(leaked: &LeakedToken) -> Vec<Digest> {
    let mut digests = vec![digest_to_revoke(&leaked.token)];
    scan(leaked.token.as_bytes(), |found| {
        let digest = digest_of_presented(found, false);
        digests.extend(digest.filter(|digest| !digests.contains(digest)));
    });
    digests
}

fn check(tokens: &[LeakedToken]) -> Result<()> {
    let mut violations = Violations::default();
    if tokens.len() > LEAKED_TOKENS_MAX {
        violations.add("tokens", format!("must have at most {LEAKED_TOKENS_MAX} entries"));
        return violations.finish();
    }
    for (i, leaked) in tokens.iter().enumerate() {
        if leaked.token.len() > LEAKED_TEXT_BYTES_MAX {
            let most = format!("must be at most {LEAKED_TEXT_BYTES_MAX} bytes");
            violations.add(&format!("tokens[{i}].token"), most);
        }
        let fits = leaked.url.len() <= URL_BYTES_MAX
            && leaked.url.bytes().all(|byte| byte.is_ascii_graphic());
        let described =
            || Invalid::new(format!("must be at most {URL_BYTES_MAX} printable ASCII characters"));
        violations.check(&format!("tokens[{i}].url"), fits.then_some(()).ok_or_else(described));
        violations.check(&format!("tokens[{i}].reason"), ReasonText::parse(&leaked.reason));
    }
    violations.finish()
}

/// How and where it was found, in one text, without the token, which URLs of searches carry.
fn why(leaked: &LeakedToken) -> Option<String> {
    let text = match (leaked.reason.as_str(), leaked.url.as_str()) {
        ("", "") => return None,
        (reason, "") => reason.to_owned(),
        ("", url) => format!("leaked: {url}"),
        (reason, url) => format!("{reason}: {url}"),
    };
    let text = redact_tokens(&text).into_owned();
    let cut = leaked.token.len() >= CUT_BYTES_MIN && text.contains(leaked.token.as_str());
    Some(if cut { text.replace(leaked.token.as_str(), "[redacted]") } else { text })
}
