//! `leaked`: what a secret scanner found, one token or one JSON object a line; those that are real are ended. Prints which
//! lines those were, and never a token.

use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::{Zeroize as _, Zeroizing};

use super::args::Global;
use super::record_args::LeakedArgs;
use super::{Outcome, open, operator, output, refuse_token_output};
use crate::model::limits::LEAKED_TOKENS_MAX;
use crate::service::{LeakedToken, Service, view};

/// Bytes of a line: a token, a URL and a reason, and room to spare. What is longer is no candidate.
const LINE_BYTES_MAX: u64 = 64 * 1024;

/// A line that is a JSON object; what else a scanner says is passed over.
#[derive(Deserialize)]
struct Line {
    token: String,
    #[serde(default)]
    url: String,
    #[serde(default)]
    reason: String,
}

pub(super) async fn run(global: &Global, args: LeakedArgs) -> anyhow::Result<Outcome> {
    refuse_token_output(global)?;
    let mut input = open_input(args.file)?;
    let service = open(global).await?;
    let (mut real, mut bad, mut number) = (Vec::new(), Vec::new(), 0);
    loop {
        let batch = read(&mut input, &mut number, &args.reason, &mut bad)?;
        if batch.is_empty() {
            break;
        }
        real.extend(revoke(&service, batch).await?);
    }
    let columns = ["line", "id", "kind", "name", "hint", "revoked_now"];
    output::list(global.output, "real", &columns, &real)?;
    for line in &bad {
        output::note(&format!("line {line} is no JSON object with a token"));
    }
    service.store.close().await;
    Ok(if bad.is_empty() { Outcome::Done } else { Outcome::Refused })
}

fn open_input(file: Option<PathBuf>) -> anyhow::Result<Box<dyn BufRead>> {
    match file.filter(|path| path.as_os_str() != "-") {
        Some(path) => {
            let file = File::open(&path).with_context(|| format!("cannot read {}", path.display()));
            Ok(Box::new(BufReader::new(file?)))
        }
        None => Ok(Box::new(BufReader::new(std::io::stdin()))),
    }
}

/// The next candidates with the numbers of their lines, as many as one call takes; none at the end.
fn read(
    input: &mut impl BufRead,
    number: &mut u64,
    reason: &str,
    bad: &mut Vec<u64>,
) -> anyhow::Result<Vec<(u64, LeakedToken)>> {
    let mut batch = Vec::new();
    while batch.len() < LEAKED_TOKENS_MAX {
        let mut bytes = Zeroizing::new(Vec::new());
        if input.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes)? == 0 {
            break;
        }
        if !bytes.ends_with(b"\n") && bytes.len() as u64 == LINE_BYTES_MAX {
            input.skip_until(b'\n')?;
        }
        *number += 1;
        let text = std::str::from_utf8(&bytes).unwrap_or_default().trim_end_matches(['\n', '\r']);
        if text.starts_with('{') {
            match serde_json::from_str::<Line>(text) {
                Ok(mut line) => {
                    let reason = if line.reason.is_empty() { reason } else { &line.reason };
                    let reason = reason.to_owned();
                    let token = Zeroizing::new(line.token.clone());
                    line.token.zeroize();
                    batch.push((*number, LeakedToken { token, url: line.url, reason }));
                }
                // Its own text would show the line.
                Err(_) => bad.push(*number),
            }
        } else if !text.is_empty() {
            let token = Zeroizing::new(text.to_owned());
            let reason = reason.to_owned();
            batch.push((*number, LeakedToken { token, url: String::new(), reason }));
        }
    }
    Ok(batch)
}

async fn revoke(
    service: &Arc<Service>,
    batch: Vec<(u64, LeakedToken)>,
) -> anyhow::Result<Vec<Value>> {
    let (numbers, tokens): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
    let results = service.revoke_leaked(operator(), tokens).await?;
    let now = service.clock.now();
    let real = numbers.into_iter().zip(results).filter_map(|(line, result)| {
        let mut shown = view::credential(&result.credential?, now);
        if let Value::Object(fields) = &mut shown {
            fields.insert("line".to_owned(), json!(line));
            fields.insert("revoked_now".to_owned(), json!(result.revoked_now));
        }
        Some(shown)
    });
    Ok(real.collect())
}
