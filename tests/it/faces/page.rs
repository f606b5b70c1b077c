//! Reads examples from the pages of `docs/`, so that the tests run exactly those.

use std::path::Path;

/// The first code block of this language on the page.
pub(crate) fn block(page: &str, language: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(page);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let (_, after) = text
        .split_once(&format!("```{language}\n"))
        .unwrap_or_else(|| panic!("{page} has no block of {language}"));
    let (block, _) = after.split_once("\n```").expect("the block ends");
    block.to_owned()
}

/// The block with its placeholders replaced. Each placeholder must occur.
pub(crate) fn filled(page: &str, language: &str, replacements: &[(&str, String)]) -> String {
    let mut block = block(page, language);
    for (from, to) in replacements {
        assert!(block.contains(from), "{page} has no {from}");
        block = block.replace(from, to);
    }
    block
}

/// Placeholder of the service token on every page.
pub(crate) const SERVICE_TOKEN: &str = "sophic_svc_00000000000000000000000000000000000000";
