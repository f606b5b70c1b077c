//! The code in the documentation runs: every block of a page is in the file that the block names, line by line.

use std::path::Path;

use sophic_auth_client::{Client, Presented, Scopes};

use super::stage::Stage;
use crate::stores::on_every_store;

on_every_store! {
    the_rust_example_answers,
}

async fn the_rust_example_answers(stage: Stage) {
    let endpoint = stage.h.running.grpc_url();
    let (caller_token, token) = (stage.caller_token.clone(), stage.pat.clone());
    let answer = ask(endpoint, caller_token, &token).await.expect("an answer");
    assert_eq!(answer, "ada acts in acme");
}

// docs: begin ask
async fn ask(
    endpoint: String,
    caller_token: String,
    token: &str,
) -> Result<String, sophic_auth_client::Error> {
    let client = Client::builder(endpoint).caller_token(caller_token).build()?;
    let presented = Presented::new(token).in_workspace("acme").requiring(Scopes::CAPTURE);
    let answer = client.introspect(&presented).await?;
    Ok(match (answer.denial(), answer.user_id(), answer.workspace()) {
        (None, Some(user), Some(workspace)) => format!("{user} acts in {}", workspace.slug),
        (denial, ..) => format!("refused: {denial:?}, answer with HTTP {}", answer.http_status()),
    })
}
// docs: end

/// Returns the code blocks of a page, each with the file that the comment above it names: `<!-- from: path -->`.
fn blocks(page: &str) -> Vec<(String, Vec<String>)> {
    let text = std::fs::read_to_string(page).expect("the page is there");
    let mut lines = text.lines();
    let mut blocks = Vec::new();
    while let Some(line) = lines.next() {
        let file = line.strip_prefix("<!-- from: ").and_then(|rest| rest.strip_suffix(" -->"));
        let Some(file) = file else { continue };
        let fence = lines.next().expect("a block follows");
        assert!(fence.starts_with("```"), "{page}: no block follows {line}");
        let block = lines.by_ref().take_while(|line| *line != "```");
        blocks.push((file.to_owned(), block.map(str::to_owned).collect()));
    }
    blocks
}

/// Returns a file's lines, without the markers of documented parts.
fn code(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).expect("the file is there");
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with("// docs: "));
    lines.map(str::to_owned).collect()
}

/// The pages, each with its smallest number of blocks.
const PAGES: [(&str, usize); 4] =
    [("README.md", 1), ("docs/rust.md", 6), ("docs/python.md", 2), ("docs/node.md", 2)];

#[test]
fn every_code_block_of_the_pages_is_code_that_runs() {
    for (page, least) in PAGES {
        let blocks = blocks(page);
        assert!(blocks.len() >= least, "{page} shows only {} blocks", blocks.len());
        for (file, block) in blocks {
            let code = code(Path::new(&file));
            let block: Vec<_> = block.iter().map(|line| line.trim().to_owned()).collect();
            let stands = code.windows(block.len()).any(|lines| lines == block);
            assert!(stands, "{page} shows what is not in {file}:\n{}", block.join("\n"));
        }
    }
}
