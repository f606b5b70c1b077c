//! Revocation of leaked tokens. Candidates that are real tokens are revoked, and the audit log records where each was
//! found. Neither the text of a candidate nor its digest appears in any output.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::json;
use zeroize::Zeroizing;

use super::bulk_revoke::RevocationBatch;
use crate::model::limits::{LEAKED_TEXT_BYTES_MAX, LEAKED_TOKENS_MAX, URL_BYTES_MAX};
use crate::model::{AuditAction, Credential, CredentialId, Digest, Invalid, ReasonText};
use crate::service::commit::Effect;
use crate::service::{Attempt, Context, Result, Service, Violations};
use crate::token::{digest_of_presented, digest_to_revoke, redact_tokens, scan};

/// Minimum length of a candidate for redacting it from its reason and URL. A shorter one would match common words.
const CUT_BYTES_MIN: usize = 8;
/// Maximum number of places recorded for one token.
const WHYS_MAX: usize = 20;

/// Text that may be or contain a token, and where it was found.
pub struct LeakedToken {
    /// The exact text.
    pub token: Zeroizing<String>,
    /// URL where it was found. Empty if not known.
    pub url: String,
    /// How it was found. Empty if not known.
    pub reason: String,
}

/// Result for one candidate.
#[derive(Debug, Clone)]
pub struct LeakedTokenResult {
    /// The credential of the token, now revoked. `None` if no credential has this token.
    pub credential: Option<Credential>,
    /// Whether this call revoked the credential.
    pub revoked_now: bool,
}

impl Service {
    /// Revokes the credentials of these tokens. Returns a result for each candidate, in the same order.
    ///
    /// The whole text is looked up, even if it is not in our format and imported tokens are not accepted. Every token
    /// in our format that the text contains, as in `KEY=…`, is looked up too. All of them are revoked, and the result
    /// names the first. Service tokens of callers are not credentials: rotate or revoke the caller instead.
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
            let batch = RevocationBatch {
                action: AuditAction::CredentialRevokeLeaked,
                summary: json!({"candidate_count": tokens.len(), "real_count": real.len()}),
                acting_user: None,
                scope: None,
                ids: &real,
                include_revoked: true,
            };
            let why =
                |id| whys.get(&id).filter(|whys| !whys.is_empty()).map(|whys| whys.join("; "));
            let (committed, revoked) = this.revoke_many(&context, batch, why).await?;
            let mut reported = HashSet::new();
            let result = |id: Option<CredentialId>| {
                let found = id.and_then(|id| revoked.get(&id));
                LeakedTokenResult {
                    credential: found.map(|(credential, _)| credential.clone()),
                    // If a credential was found twice, only the first result reports the revocation.
                    revoked_now: found
                        .is_some_and(|(found, now)| reported.insert(found.id) && *now),
                }
            };
            Ok(committed.done(ids.into_iter().map(result).collect()))
        })
        .await
    }
}

/// Returns the digests of the whole text and of each token in it.
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

/// Joins the reason and the URL, without the token, which may be part of a URL.
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
