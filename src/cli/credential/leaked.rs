//! `leaked`: finds tokens in the output of a secret scanner, or in any text, and revokes those that exist. Prints the
//! revoked credentials and the number of candidates, but never a token.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};

use super::leaked_input::{Input, for_each_candidate};
use crate::cli::args::record::LeakedArgs;
use crate::cli::args::{Global, Output};
use crate::cli::output::{PrintError, PrintResult};
use crate::cli::{Outcome, files, open_service, operator, output, refuse_token_output};
use crate::model::Digest;
use crate::model::limits::LEAKED_TOKENS_MAX;
use crate::service::{LeakedToken, Service, view};
use crate::token::TokenKind;

/// Maximum number of places that are reported for one token.
const PLACES_MAX: u8 = 20;

pub(in crate::cli) async fn run(global: &Global, args: LeakedArgs) -> anyhow::Result<Outcome> {
    refuse_token_output(global)?;
    let mut input = open_input(args.file)?;
    files::refuse_binary(&mut input)?;
    let mut input = Input::new(input)?;
    let service = open_service(global).await?;
    let mut candidates = Candidates::default();
    let mut revoked = Revoked::default();
    let mut batch = Vec::new();
    while let Some(piece) = input.next()? {
        let line = piece.line;
        for_each_candidate(&piece, &args.reason, |leaked| {
            if candidates.insert(&leaked) {
                batch.push((line, leaked));
            }
        });
        while batch.len() >= LEAKED_TOKENS_MAX {
            let rest = batch.split_off(LEAKED_TOKENS_MAX);
            revoked.revoke(&service, std::mem::replace(&mut batch, rest)).await?;
        }
    }
    if !batch.is_empty() {
        revoked.revoke(&service, batch).await?;
    }
    service.close().await;
    report(global, &candidates, &revoked)
}

fn open_input(file: Option<PathBuf>) -> anyhow::Result<Box<dyn BufRead>> {
    match file.filter(|path| path.as_os_str() != "-") {
        Some(path) => Ok(Box::new(BufReader::new(files::open(&path)?))),
        None => Ok(Box::new(BufReader::new(std::io::stdin()))),
    }
}

/// The candidates found so far, by digest.
#[derive(Default)]
struct Candidates {
    places: HashMap<Digest, Vec<Digest>>,
    service_tokens: usize,
}

impl Candidates {
    /// Records a candidate. Returns whether the token or its place is new.
    fn insert(&mut self, leaked: &LeakedToken) -> bool {
        let place = Digest::of(&leaked.url);
        match self.places.entry(Digest::of(&leaked.token)) {
            Entry::Vacant(new) => {
                new.insert(vec![place]);
                let of_caller = TokenKind::parse(&leaked.token) == Some(TokenKind::Service);
                self.service_tokens += usize::from(of_caller);
                true
            }
            Entry::Occupied(mut known) => {
                let places = known.get_mut();
                let news = !leaked.url.is_empty()
                    && places.len() < usize::from(PLACES_MAX)
                    && !places.contains(&place);
                if news {
                    places.push(place);
                }
                news
            }
        }
    }
}

/// The credentials that exist, each once.
#[derive(Default)]
struct Revoked {
    rows: Vec<Value>,
    by_id: HashMap<String, usize>,
}

impl Revoked {
    async fn revoke(
        &mut self,
        service: &Arc<Service>,
        batch: Vec<(u64, LeakedToken)>,
    ) -> anyhow::Result<()> {
        let (lines, tokens): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        let results = service.revoke_leaked(operator(), tokens).await?;
        let now = service.now();
        for (line, result) in lines.into_iter().zip(results) {
            let Some(credential) = result.credential else { continue };
            let known = self.by_id.entry(credential.id.to_string());
            let Entry::Vacant(new) = known else { continue };
            new.insert(self.rows.len());
            let mut shown = view::credential(&credential, now);
            if let Value::Object(fields) = &mut shown {
                fields.insert("line".to_owned(), json!(line));
                fields.insert("revoked_now".to_owned(), json!(result.revoked_now));
            }
            self.rows.push(shown);
        }
        Ok(())
    }
}

/// Prints the result. The exit code reports it even if the reader closes the pipe early.
fn report(global: &Global, candidates: &Candidates, revoked: &Revoked) -> anyhow::Result<Outcome> {
    // A leaked service token is not ended here, so the exit code must not be 0.
    let refused = candidates.places.is_empty() || candidates.service_tokens > 0;
    match print(global, candidates, revoked) {
        Err(PrintError::Closed) if refused => Ok(Outcome::Refused),
        said => {
            said?;
            Ok(if refused { Outcome::Refused } else { Outcome::Done })
        }
    }
}

fn print(global: &Global, candidates: &Candidates, revoked: &Revoked) -> PrintResult {
    let count = candidates.places.len();
    if global.output == Output::Json {
        output::item(
            global.output,
            &json!({"candidates": count, "service_tokens": candidates.service_tokens, "real": revoked.rows}),
        )?;
    } else {
        let columns = ["line", "id", "kind", "name", "hint", "revoked_now"];
        output::list(global.output, "real", &columns, &revoked.rows)?;
        output::note(&format!("{count} candidates, of which {} are real", revoked.rows.len()));
    }
    if candidates.service_tokens > 0 {
        output::note(&format!(
            "{} of the candidates look like service tokens of callers, which this command does not revoke: use `caller rotate` \
            or `caller revoke`",
            candidates.service_tokens
        ));
    }
    if count == 0 {
        output::note(
            "nothing in it looks like a token: tokens of sophic-auth are found in any text, and those of other systems alone on \
             a line or in a field `token`",
        );
    }
    Ok(())
}
